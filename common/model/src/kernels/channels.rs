//! What batch norm does to each channel of a batch, on slices. A channel's sums are made by one thread, image
//! after image.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::fresh::{Part, fresh};
use super::lanes::Lanes;
use super::relu::rectified;

/// Values that are worth a thread of their own.
const VALUES_PER_THREAD: usize = 1 << 15;

/// Sizes of a batch of feature maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maps {
    batch: usize,
    pub(super) channels: usize,
    sides: [usize; 2],
}

/// Of one channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Statistics {
    pub(super) mean: f32,
    /// Biased.
    pub(super) variance: f32,
    /// One over the root of the variance and epsilon.
    inverse: f32,
}

/// What follows normalization.
#[derive(Clone, Copy)]
pub(super) struct Scaling<'a> {
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) epsilon: f32,
    pub(super) rectify: bool,
}

impl Maps {
    pub(super) fn new([batch, channels, height, width]: [usize; 4]) -> Self {
        Self { batch, channels, sides: [height, width] }
    }

    pub(super) fn dims(&self) -> [usize; 4] {
        [self.batch, self.channels, self.sides[0], self.sides[1]]
    }

    fn plane(&self) -> usize {
        self.sides[0] * self.sides[1]
    }

    /// Channels that make one piece of work.
    fn at_once(&self) -> usize {
        VALUES_PER_THREAD.div_ceil(self.batch * self.plane()).min(self.channels)
    }

    /// Values of one image.
    fn image(&self) -> usize {
        self.channels * self.plane()
    }

    /// Values of one image in a piece of work; its last piece may have fewer.
    fn piece(&self) -> usize {
        self.at_once() * self.plane()
    }

    /// From images in pieces to pieces of images: of every image the planes of some channels.
    fn by_channels<P>(&self, images: impl Iterator<Item = impl Iterator<Item = P>>) -> Vec<Vec<P>> {
        let mut pieces: Vec<Vec<P>> =
            (0..self.channels.div_ceil(self.at_once())).map(|_| Vec::with_capacity(self.batch)).collect();
        for image in images {
            for (piece, planes) in pieces.iter_mut().zip(image) {
                piece.push(planes);
            }
        }
        pieces
    }

    /// The planes of one channel.
    fn planes<'a>(&self, values: &'a [f32], channel: usize) -> impl Iterator<Item = &'a [f32]> + Clone {
        values.chunks_exact(self.plane()).skip(channel).step_by(self.channels)
    }

    /// The normalized maps and each channel's statistics.
    pub(super) fn normalize(&self, input: &[f32], scaling: Scaling) -> (Vec<f32>, Vec<Statistics>) {
        let mut statistics = Vec::new();
        let arch = Arch::new();
        let output = fresh(input.len(), self.image(), |images| {
            let pieces = self.by_channels(images.into_iter().map(|image| image.divide(self.piece())));
            let all = pieces.into_par_iter().enumerate().flat_map_iter(|(piece, planes)| {
                let first = piece * self.at_once();
                let output = planes.into_iter().map(Part::clear).collect();
                arch.dispatch(Normalize { maps: self, first, input, scaling, output })
            });
            statistics = all.collect();
        });
        (output, statistics)
    }

    /// The gradients of gamma and beta; `gradient` at the output becomes that at the input.
    pub(super) fn gradients(
        &self,
        input: &[f32],
        gamma: &[f32],
        statistics: &[Statistics],
        gradient: &mut [f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let arch = Arch::new();
        let images = gradient.chunks_exact_mut(self.image());
        let pieces = self.by_channels(images.map(|image| image.chunks_mut(self.piece())));
        let both = pieces.into_par_iter().enumerate().flat_map_iter(|(piece, planes)| {
            let first = piece * self.at_once();
            arch.dispatch(Differentiate { maps: self, first, input, gamma, statistics, gradient: planes })
        });
        both.collect::<Vec<_>>().into_iter().unzip()
    }

    /// `values * factor + shift` of the channel each.
    pub(super) fn scale_and_shift(&self, values: &mut [f32], factors: &[f32], shifts: &[f32]) {
        let arch = Arch::new();
        let planes = values.par_chunks_mut(self.plane()).enumerate();
        planes.with_min_len(VALUES_PER_THREAD.div_ceil(self.plane())).for_each(|(plane, values)| {
            let (factor, shift) = (factors[plane % self.channels], shifts[plane % self.channels]);
            arch.dispatch(ScaleAndShift { values, factor, shift });
        });
    }
}

/// One plane.
struct ScaleAndShift<'a> {
    values: &'a mut [f32],
    factor: f32,
    shift: f32,
}

impl NullaryFnOnce for ScaleAndShift<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { values, factor, shift } = self;
        for value in values {
            *value = *value * factor + shift;
        }
    }
}

/// Some channels forward.
struct Normalize<'a> {
    maps: &'a Maps,
    first: usize,
    input: &'a [f32],
    scaling: Scaling<'a>,
    output: Vec<&'a mut [f32]>,
}

impl NullaryFnOnce for Normalize<'_> {
    type Output = Vec<Statistics>;

    #[inline(always)]
    fn call(self) -> Vec<Statistics> {
        let Self { maps, first, input, scaling, mut output } = self;
        let Scaling { gamma, beta, epsilon, rectify } = scaling;
        let plane = maps.plane();
        let count = (maps.batch * plane) as f32;
        let channels = output.first().map_or(0, |planes| planes.len() / plane);
        let mut all = Vec::with_capacity(channels);
        for nth in 0..channels {
            let planes = maps.planes(input, first + nth);
            let mut sum = Lanes::ZERO;
            for plane in planes.clone() {
                sum.add(plane, |value| value);
            }
            let mean = sum.total() / count;
            let mut squares = Lanes::ZERO;
            for plane in planes.clone() {
                squares.add(plane, |value| (value - mean) * (value - mean));
            }
            let variance = squares.total() / count;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            let factor = gamma[first + nth] * inverse;
            let shift = beta[first + nth];
            for (input, output) in planes.zip(&mut output) {
                let values = input.iter().zip(&mut output[nth * plane..][..plane]);
                for (value, output) in values {
                    let value = (value - mean) * factor + shift;
                    *output = if rectify { rectified(value) } else { value };
                }
            }
            all.push(Statistics { mean, variance, inverse });
        }
        all
    }
}

/// Some channels backward.
struct Differentiate<'a> {
    maps: &'a Maps,
    first: usize,
    input: &'a [f32],
    gamma: &'a [f32],
    statistics: &'a [Statistics],
    gradient: Vec<&'a mut [f32]>,
}

impl NullaryFnOnce for Differentiate<'_> {
    type Output = Vec<(f32, f32)>;

    #[inline(always)]
    fn call(self) -> Vec<(f32, f32)> {
        let Self { maps, first, input, gamma, statistics, mut gradient } = self;
        let plane = maps.plane();
        let count = (maps.batch * plane) as f32;
        let channels = gradient.first().map_or(0, |planes| planes.len() / plane);
        let mut all = Vec::with_capacity(channels);
        for nth in 0..channels {
            let Statistics { mean, inverse, .. } = statistics[first + nth];
            let planes = maps.planes(input, first + nth);
            let (mut sum, mut product) = (Lanes::ZERO, Lanes::ZERO);
            for (input, gradient) in planes.clone().zip(&gradient) {
                let gradient = &gradient[nth * plane..][..plane];
                sum.add(gradient, |gradient| gradient);
                product.add_pairs(gradient, input, |gradient, value| gradient * (value - mean));
            }
            let (for_beta, for_gamma) = (sum.total(), product.total() * inverse);
            // The input moves the mean and the variance, too.
            let factor = gamma[first + nth] * inverse;
            let (shift, slope) = (for_beta / count, for_gamma * inverse / count);
            for (input, gradient) in planes.zip(&mut gradient) {
                for (value, gradient) in input.iter().zip(&mut gradient[nth * plane..][..plane]) {
                    *gradient = factor * (*gradient - shift - (value - mean) * slope);
                }
            }
            all.push((for_gamma, for_beta));
        }
        all
    }
}
