//! The weight gradient where a group has few output channels: as dot products along rows of the map,
//! since there are no channels to fill a vector with.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::frame::Frame;
use super::geometry::Correlation;
use super::lanes::Lanes;
use super::scratch::Scratch;

/// Output channels per group from which the matrix product is faster.
const MOST_RESULTS: usize = 3;

/// The forward correlation with the input and the output's gradient.
#[derive(Clone, Copy)]
pub(super) struct Depthwise<'a> {
    pub(super) correlation: &'a Correlation,
    pub(super) input: &'a [f32],
    pub(super) gradient: &'a [f32],
}

impl Depthwise<'_> {
    pub(super) fn serves(correlation: &Correlation) -> bool {
        correlation.groups > 1 && correlation.results <= MOST_RESULTS
    }

    /// `[groups * results, depth]`; a group is summed by one thread, image after image.
    pub(super) fn weight_gradient(self) -> Vec<f32> {
        let shape = self.correlation;
        let per_group = shape.results * shape.depth();
        let mut weights = vec![0.0; shape.groups * per_group];
        let arch = Arch::new();
        weights.par_chunks_mut(per_group).enumerate().for_each(|(group, weights)| {
            arch.dispatch(Group { work: self, nth: group, weights });
        });
        weights
    }
}

struct Group<'a> {
    work: Depthwise<'a>,
    nth: usize,
    weights: &'a mut [f32],
}

impl NullaryFnOnce for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { work: Depthwise { correlation: shape, input, gradient }, nth: group, weights } = self;
        let [height, width] = shape.grid;
        let frame = Frame::new(shape, 1, 0..height);
        let (taps, runs) = (frame.tap_starts(shape.sources), frame.runs());
        let mut sums = vec![Lanes::ZERO; weights.len()];
        let mut scratch = Scratch::take([frame.len(shape.sources), 0, 0]);
        let [values, ..] = scratch.buffers();
        for image in 0..shape.batch {
            let channels = group * shape.sources..(group + 1) * shape.sources;
            frame.fill(shape, input, image, channels, values);
            for (result, sums) in sums.chunks_exact_mut(taps.len()).enumerate() {
                let plane = (image * shape.groups + group) * shape.results + result;
                let plane = &gradient[plane * height * width..][..height * width];
                for (sum, tap) in sums.iter_mut().zip(&taps) {
                    for (run, row) in runs.iter().zip(plane.chunks_exact(width)) {
                        sum.add_pairs(row, &values[tap + run.start..], |a, b| a * b);
                    }
                }
            }
        }
        for (weight, sum) in weights.iter_mut().zip(sums) {
            *weight = sum.total();
        }
    }
}
