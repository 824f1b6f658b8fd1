//! What burn makes of the same values, and how far two results are apart.

use burn::tensor::{Device, Tensor, TensorData, module, ops::ConvOptions};
use partway_core::random::{self, unit_f32};
use partway_model::kernels::ConvShape;

/// Uniform over `[-1, 1)`.
pub(crate) fn uniform(len: usize, purpose: &str) -> Vec<f32> {
    let mut stream = random::stream(11, &["test", purpose]);
    (0..len).map(|_| 2.0 * unit_f32(&mut stream) - 1.0).collect()
}

pub(crate) fn tensor<const D: usize>(values: &[f32], dims: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), dims), &Device::flex())
}

/// As [`tensor`], with its gradient wanted.
pub(crate) fn leaf<const D: usize>(values: &[f32], dims: [usize; D]) -> Tensor<D> {
    tensor(values, dims).autodiff().require_grad()
}

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("tensors are f32")
}

/// Norm below which a gradient counts as vanished: it comes from scores so far apart that the last bits of these
/// decide more of it than is compared.
const VANISHED: f64 = 1e-3;

/// Checks that the difference's norm is at most `1e-5` of the expected one's.
#[track_caller]
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], what: &str) {
    assert_within(actual, expected, 0.0, what);
}

/// As [`assert_close`], for gradients of a loss.
#[track_caller]
pub(crate) fn assert_gradients_close(actual: &[f32], expected: &[f32], what: &str) {
    assert_within(actual, expected, VANISHED, what);
}

/// As [`assert_close`], for sums of so many terms of either sign: where these cancel, what is rounded is as large as if
/// they did not.
#[track_caller]
pub(crate) fn assert_sums_close(actual: &[f32], expected: &[f32], terms: usize, what: &str) {
    // Products of two uniform values deviate by 1/3, and sums of them by as much as the root of their number.
    assert_within(actual, expected, ((terms * expected.len()) as f64).sqrt() / 10.0, what);
}

/// Checks that the difference's norm is at most `1e-5` of the expected one's, or of `least`.
#[track_caller]
fn assert_within(actual: &[f32], expected: &[f32], least: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let pairs = actual.iter().zip(expected);
    let difference = norm(&mut pairs.map(|(a, e)| f64::from(*a) - f64::from(*e)));
    let size = norm(&mut expected.iter().map(|value| f64::from(*value))).max(least);
    assert!(difference <= 1e-5 * size, "{what}: off by {difference} of {size}");
}

/// Output, and the gradients of input, weights and bias.
pub(crate) struct Convolved {
    pub(crate) output: Vec<f32>,
    pub(crate) input: Vec<f32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// burn's convolution, with `gradient` at its output.
pub(crate) fn convolution(shape: &ConvShape, [input, weights, bias, gradient]: [&[f32]; 4]) -> Convolved {
    let ConvShape {
        batch,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        groups,
        input: [height, width],
    } = *shape;
    let input = leaf(input, [batch, in_channels, height, width]);
    let weights = leaf(weights, [out_channels, in_channels / groups, kernel, kernel]);
    let bias = leaf(bias, [out_channels]);
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
    let output = module::conv2d(input.clone(), weights.clone(), Some(bias.clone()), options);
    let mut gradients = (output.clone() * tensor(gradient, output.dims())).backward();
    Convolved {
        output: values(output.inner()),
        input: values(input.grad_remove(&mut gradients).expect("a gradient")),
        weights: values(weights.grad_remove(&mut gradients).expect("a gradient")),
        bias: values(bias.grad_remove(&mut gradients).expect("a gradient")),
    }
}
