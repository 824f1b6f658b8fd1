//! What a convolution reads where: the forward pass and the input gradient are the same kind of sum over
//! displaced maps.

use std::ops::Range;

use thiserror::Error;

/// Sizes of a convolution with a square kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Pixels from one place of the kernel to the next, in both directions.
    pub stride: usize,
    /// Zeros on each side of the input.
    pub padding: usize,
    /// Groups, of which each takes its own share of the input's channels to its own of the output's.
    pub groups: usize,
    /// Height and width of the input's planes.
    pub input: [usize; 2],
}

/// There is no such convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConvShapeError {
    /// A size of zero.
    #[error("a convolution needs sizes above zero: {0:?}")]
    Zero(ConvShape),
    /// Channels that cannot be divided into the groups.
    #[error("{0:?}: the groups must divide both numbers of channels")]
    Groups(ConvShape),
    /// A kernel that does not fit.
    #[error("{0:?}: the kernel must fit into the padded input")]
    Kernel(ConvShape),
}

impl ConvShape {
    /// The same sizes, if there is such a convolution.
    pub fn checked(self) -> Result<Self, ConvShapeError> {
        let Self { batch, in_channels, out_channels, kernel, stride, padding, groups, input } = self;
        let sizes = [batch, in_channels, out_channels, kernel, stride, groups, input[0], input[1]];
        if sizes.contains(&0) {
            return Err(ConvShapeError::Zero(self));
        }
        if !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            return Err(ConvShapeError::Groups(self));
        }
        if input.iter().any(|side| side + 2 * padding < kernel) {
            return Err(ConvShapeError::Kernel(self));
        }
        Ok(self)
    }

    /// Height and width of the output's planes: `(side + 2 padding - kernel) / stride + 1`.
    pub fn output(&self) -> [usize; 2] {
        self.input.map(|side| (side + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Values in the input, the weights and the output.
    pub fn lens(&self) -> [usize; 3] {
        let plane = |[height, width]: [usize; 2]| height * width;
        [
            self.batch * self.in_channels * plane(self.input),
            self.out_channels * (self.in_channels / self.groups) * self.taps(),
            self.batch * self.out_channels * plane(self.output()),
        ]
    }

    /// Every place of the output along an axis with each place of the input that it depends on.
    pub(super) fn meetings(&self, axis: usize) -> impl Iterator<Item = Meeting> {
        let (shape, side) = (*self, self.output()[axis]);
        (0..side).flat_map(move |output| {
            (0..shape.kernel).filter_map(move |tap| {
                let input = (output * shape.stride + tap).checked_sub(shape.padding)?;
                (input < shape.input[axis]).then_some(Meeting { input, output, tap })
            })
        })
    }

    /// The forward pass: input to output.
    pub(super) fn forward(&self) -> Correlation {
        let displacement = |tap: usize| tap as isize - self.padding as isize;
        Correlation {
            batch: self.batch,
            groups: self.groups,
            sources: self.in_channels / self.groups,
            results: self.out_channels / self.groups,
            source: self.input,
            result: self.output(),
            grid: self.output(),
            stride: self.stride,
            taps: (0..self.taps())
                .map(|tap| [displacement(tap / self.kernel), displacement(tap % self.kernel)])
                .collect(),
            spread: 1,
            classes: vec![Class { first: [0, 0], grid: self.output(), taps: 0..self.taps() }],
        }
    }

    /// The input gradient: output's gradient to input's. With a stride, input pixels fall into
    /// `stride * stride` classes, each of which meets taps of its own. With each class's taps as they are
    /// numbered in the kernel; no class at all if no pixel meets any.
    pub(super) fn backward(&self) -> (Correlation, Vec<Vec<usize>>) {
        let mut correlation = Correlation {
            batch: self.batch,
            groups: self.groups,
            sources: self.out_channels / self.groups,
            results: self.in_channels / self.groups,
            source: self.output(),
            result: self.input,
            grid: [0, 0],
            stride: 1,
            taps: Vec::new(),
            spread: self.stride,
            classes: Vec::new(),
        };
        let mut indices = Vec::new();
        for class in 0..self.stride * self.stride {
            let first = [class / self.stride, class % self.stride];
            let grid = [0, 1].map(|axis| self.input[axis].saturating_sub(first[axis]).div_ceil(self.stride));
            // Input pixel y meets output pixel (y + padding - tap) / stride, where that is whole.
            let displacement = |axis: usize, tap: usize| {
                let (distance, stride) =
                    ((first[axis] + self.padding) as isize - tap as isize, self.stride as isize);
                (distance.rem_euclid(stride) == 0).then(|| distance.div_euclid(stride))
            };
            let met: Vec<(usize, [isize; 2])> = (0..self.taps())
                .filter_map(|tap| {
                    let [y, x] = [tap / self.kernel, tap % self.kernel];
                    Some((tap, [displacement(0, y)?, displacement(1, x)?]))
                })
                .collect();
            if grid.contains(&0) || met.is_empty() {
                continue;
            }
            let begin = correlation.taps.len();
            correlation.grid = [0, 1].map(|axis| correlation.grid[axis].max(grid[axis]));
            correlation.taps.extend(met.iter().map(|(_, displacement)| displacement));
            correlation.classes.push(Class { first, grid, taps: begin..correlation.taps.len() });
            indices.push(met.into_iter().map(|(tap, _)| tap).collect());
        }
        (correlation, indices)
    }
}

/// Along an axis: a place of the input, one of the output, and the one in the kernel of the weights that they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meeting {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) tap: usize,
}

/// For every class, group, image, result channel and place `(y, x)` of the class's grid:
///
/// ```text
/// result[first + spread * (y, x)] = sum over channels, taps of weight * source[stride * (y, x) + tap]
/// ```
///
/// with zeros around the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Correlation {
    pub(super) batch: usize,
    pub(super) groups: usize,
    /// Channels of the source per group.
    pub(super) sources: usize,
    /// Channels of the result per group.
    pub(super) results: usize,
    /// Height and width of the source's planes.
    pub(super) source: [usize; 2],
    /// Height and width of the result's planes.
    pub(super) result: [usize; 2],
    /// The largest of the classes' grids.
    pub(super) grid: [usize; 2],
    pub(super) stride: usize,
    /// Of all classes, one after the other.
    pub(super) taps: Vec<[isize; 2]>,
    pub(super) spread: usize,
    pub(super) classes: Vec<Class>,
}

/// Every `spread`-th pixel of the result in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) first: [usize; 2],
    /// Places to compute.
    pub(super) grid: [usize; 2],
    /// Of the correlation's.
    pub(super) taps: Range<usize>,
}

impl Correlation {
    /// Factors of each sum, of all classes.
    pub(super) fn depth(&self) -> usize {
        self.sources * self.taps.len()
    }

    /// Places of the largest grid.
    pub(super) fn places(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    pub(super) fn source_plane(&self) -> usize {
        self.source[0] * self.source[1]
    }

    pub(super) fn result_plane(&self) -> usize {
        self.result[0] * self.result[1]
    }

    /// Values of one image, all groups.
    pub(super) fn source_image(&self) -> usize {
        self.groups * self.sources * self.source_plane()
    }

    /// As [`Correlation::source_image`].
    pub(super) fn result_image(&self) -> usize {
        self.groups * self.results * self.result_plane()
    }
}
