//! The layers once more, as plain loops in f64 over `[batch, channels, height, width]`.

/// A batch of feature maps.
#[derive(Clone, Debug)]
pub(crate) struct Maps {
    pub(crate) dims: [usize; 4],
    pub(crate) values: Vec<f64>,
}

impl Maps {
    pub(crate) fn new(dims: [usize; 4], values: &[f32]) -> Self {
        assert_eq!(values.len(), dims.iter().product::<usize>());
        Self { dims, values: values.iter().map(|x| f64::from(*x)).collect() }
    }

    fn at(&self, [n, c, y, x]: [usize; 4]) -> f64 {
        let [_, channels, height, width] = self.dims;
        self.values[((n * channels + c) * height + y) * width + x]
    }

    /// A new batch, whose value at each place is `value(place)`.
    fn build(dims: [usize; 4], value: impl Fn([usize; 4]) -> f64) -> Self {
        let mut values = Vec::with_capacity(dims.iter().product());
        for n in 0..dims[0] {
            for c in 0..dims[1] {
                for y in 0..dims[2] {
                    for x in 0..dims[3] {
                        values.push(value([n, c, y, x]));
                    }
                }
            }
        }
        Self { dims, values }
    }

    pub(crate) fn conv(
        &self,
        weight: &Maps,
        bias: &[f64],
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Maps {
        let [batch, _, height, width] = self.dims;
        let [out, per_group, kernel, _] = weight.dims;
        let side = |side: usize| (side + 2 * padding - kernel) / stride + 1;
        Self::build([batch, out, side(height), side(width)], |[n, o, y, x]| {
            let first = o / (out / groups) * per_group;
            let mut sum = bias.get(o).copied().unwrap_or(0.0);
            for c in 0..per_group {
                for dy in 0..kernel {
                    for dx in 0..kernel {
                        let (py, px) = (y * stride + dy, x * stride + dx);
                        let inside = (padding..height + padding).contains(&py)
                            && (padding..width + padding).contains(&px);
                        if inside {
                            sum += self.at([n, first + c, py - padding, px - padding])
                                * weight.at([o, c, dy, dx]);
                        }
                    }
                }
            }
            sum
        })
    }

    /// Mean and biased variance of each channel.
    pub(crate) fn statistics(&self) -> Vec<(f64, f64)> {
        let [batch, channels, height, width] = self.dims;
        let plane = height * width;
        (0..channels)
            .map(|c| {
                let values: Vec<f64> = (0..batch)
                    .flat_map(|n| {
                        let start = (n * channels + c) * plane;
                        self.values[start..start + plane].iter().copied()
                    })
                    .collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
                (mean, squares / values.len() as f64)
            })
            .collect()
    }

    /// Normalized by `statistics`, then scaled and shifted.
    pub(crate) fn normalized(&self, statistics: &[(f64, f64)], gamma: &[f32], beta: &[f32]) -> Maps {
        Self::build(self.dims, |place| {
            let c = place[1];
            let (mean, variance) = statistics[c];
            (self.at(place) - mean) / (variance + 1e-5).sqrt() * f64::from(gamma[c]) + f64::from(beta[c])
        })
    }

    pub(crate) fn relu(&self) -> Maps {
        Self::build(self.dims, |place| self.at(place).max(0.0))
    }

    pub(crate) fn plus(&self, other: &Maps) -> Maps {
        Self::build(self.dims, |place| self.at(place) + other.at(place))
    }

    /// Each value by itself.
    pub(crate) fn map(&self, value: impl Fn(f64) -> f64) -> Maps {
        Self::build(self.dims, |place| value(self.at(place)))
    }

    /// Each sample's groups of channels normalized by themselves, then scaled and shifted.
    pub(crate) fn group_normalized(&self, groups: usize, gamma: &[f32], beta: &[f32]) -> Maps {
        let [batch, channels, height, width] = self.dims;
        let size = channels / groups * height * width;
        let statistics: Vec<(f64, f64)> = (0..batch * groups)
            .map(|group| {
                let values = &self.values[group * size..(group + 1) * size];
                let mean = values.iter().sum::<f64>() / size as f64;
                (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size as f64)
            })
            .collect();
        Self::build(self.dims, |place| {
            let [n, c, ..] = place;
            let (mean, variance) = statistics[n * groups + c / (channels / groups)];
            (self.at(place) - mean) / (variance + 1e-5).sqrt() * f64::from(gamma[c]) + f64::from(beta[c])
        })
    }

    /// Over the root of the squares around, across channels: `x / (offset + alpha / size * sum)^beta`.
    pub(crate) fn response_normalized(&self, size: usize, [alpha, beta, offset]: [f64; 3]) -> Maps {
        Self::build(self.dims, |place| {
            let [n, c, y, x] = place;
            let neighbours = c.saturating_sub(size / 2)..(c + size / 2 + 1).min(self.dims[1]);
            let sum: f64 = neighbours.map(|c| self.at([n, c, y, x]).powi(2)).sum();
            self.at(place) / (offset + alpha / size as f64 * sum).powf(beta)
        })
    }

    /// With a border of `value` around each plane.
    pub(crate) fn padded(&self, padding: usize, value: f64) -> Maps {
        let [batch, channels, height, width] = self.dims;
        Self::build([batch, channels, height + 2 * padding, width + 2 * padding], |[n, c, y, x]| {
            let inside = (padding..height + padding).contains(&y) && (padding..width + padding).contains(&x);
            if inside { self.at([n, c, y - padding, x - padding]) } else { value }
        })
    }

    /// `fold` over each window, from `start`.
    pub(crate) fn pool(&self, kernel: usize, stride: usize, start: f64, fold: fn(f64, f64) -> f64) -> Maps {
        let [batch, channels, height, width] = self.dims;
        let side = |side: usize| (side - kernel) / stride + 1;
        Self::build([batch, channels, side(height), side(width)], |[n, c, y, x]| {
            let mut folded = start;
            for dy in 0..kernel {
                for dx in 0..kernel {
                    folded = fold(folded, self.at([n, c, y * stride + dy, x * stride + dx]));
                }
            }
            folded
        })
    }

    pub(crate) fn scaled(&self, by: f64) -> Maps {
        Self::build(self.dims, |place| self.at(place) * by)
    }
}
