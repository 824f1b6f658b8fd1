//! A convolution's three directions, on slices: images outermost, then channels, rows, columns.
//!
//! They work on the rayon workers of the thread that calls them, and panic if a slice is not as long as a
//! valid shape says.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::across_images::{AcrossImages, Direction};
use super::correlate::Correlate;
use super::fresh::fresh;
use super::geometry::ConvShape;
use super::lanes::Lanes;

pub use super::weight_gradient::weight_gradient;

/// Weights that are worth a thread of their own when they are reordered.
const WEIGHTS_PER_THREAD: usize = 1 << 16;

/// The output, from the input, the weights `[out, in / groups, kernel, kernel]` and the bias `[out]`.
///
/// # Panics
/// If a slice is not as long as the shape says.
pub fn output(shape: &ConvShape, input: &[f32], weights: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    output_of(shape, input, weights, bias, false)
}

/// As [`output`], rectified if asked.
pub(super) fn output_of(
    shape: &ConvShape,
    input: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    rectify: bool,
) -> Vec<f32> {
    if AcrossImages::serves(shape) {
        let direction = Direction::Output;
        return AcrossImages { shape, direction, source: input, weights, bias, rectify }.run(Arch::new());
    }
    let (correlation, weights) = (&shape.forward(), &[weights]);
    Correlate { correlation, source: input, weights, bias, rectify }.run()
}

/// The input's gradient, from the weights and the output's gradient.
///
/// # Panics
/// If a slice is not as long as the shape says.
pub fn input_gradient(shape: &ConvShape, weights: &[f32], gradient: &[f32]) -> Vec<f32> {
    assert_eq!(weights.len(), shape.lens()[1], "the weights' length");
    if AcrossImages::serves(shape) {
        let direction = Direction::InputGradient;
        return AcrossImages { shape, direction, source: gradient, weights, bias: None, rectify: false }
            .run(Arch::new());
    }
    let (correlation, taps) = shape.backward();
    let weights: Vec<Vec<f32>> = taps.iter().map(|taps| turned(shape, weights, taps)).collect();
    let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
    let (correlation, weights) = (&correlation, weights.as_slice());
    Correlate { correlation, source: gradient, weights, bias: None, rectify: false }.run()
}

/// Weights of some taps with input and output channels swapped:
/// `[in, out / groups, taps]` of `[out, in / groups, kernel, kernel]`.
fn turned(shape: &ConvShape, weights: &[f32], taps: &[usize]) -> Vec<f32> {
    let (inputs, outputs) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let row = outputs * taps.len();
    fresh(shape.in_channels * row, row, |rows| {
        let rows = rows.into_par_iter().with_min_len(WEIGHTS_PER_THREAD.div_ceil(row)).enumerate();
        rows.for_each(|(channel, row)| {
            let (group, input) = (channel / inputs, channel % inputs);
            for (output, result) in row.clear().chunks_exact_mut(taps.len()).enumerate() {
                let kernel = ((group * outputs + output) * inputs + input) * shape.taps();
                let kernel = &weights[kernel..][..shape.taps()];
                for (result, tap) in result.iter_mut().zip(taps) {
                    *result = kernel[*tap];
                }
            }
        });
    })
}

/// The bias's gradient: the sum of the output's gradient over images and places, channel by channel.
///
/// # Panics
/// If the slice is not as long as the shape says.
pub fn bias_gradient(shape: &ConvShape, gradient: &[f32]) -> Vec<f32> {
    let [height, width] = shape.output();
    let plane = height * width;
    assert_eq!(gradient.len(), shape.lens()[2], "the gradient's length");
    let arch = Arch::new();
    let channels = (0..shape.out_channels).into_par_iter().with_min_len(8);
    channels.map(|channel| arch.dispatch(BiasGradient { shape, plane, gradient, channel })).collect()
}

/// One channel's bias.
struct BiasGradient<'a> {
    shape: &'a ConvShape,
    plane: usize,
    gradient: &'a [f32],
    channel: usize,
}

impl NullaryFnOnce for BiasGradient<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let Self { shape, plane, gradient, channel } = self;
        let mut sum = Lanes::ZERO;
        for image in 0..shape.batch {
            sum.add(&gradient[(image * shape.out_channels + channel) * plane..][..plane], |value| value);
        }
        sum.total()
    }
}
