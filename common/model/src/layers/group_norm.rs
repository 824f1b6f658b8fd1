//! Group normalization (Wu & He 2018, arXiv 1803.08494), with the conventions of `PyTorch`.

use burn::tensor::Tensor;

/// Added to the variance before its root.
const EPSILON: f64 = 1e-5;

/// Normalizes each sample's groups of channels by their own mean and biased variance, in training as in
/// inference, then scales and shifts each channel.
///
/// # Shapes
/// `input` and result `[batch, channels, h, w]`; `tensors` are gamma and beta, each `[channels]`.
pub(super) fn group_norm(input: Tensor<4>, tensors: &[Tensor<1>], groups: usize) -> Tensor<4> {
    let dims @ [batch, channels, height, width] = input.dims();
    let [gamma, beta] = [0, 1].map(|slot: usize| tensors[slot].clone().reshape([1, channels, 1, 1]));
    let grouped = input.reshape([batch, groups, channels / groups * height * width]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normalized = centred / variance.add_scalar(EPSILON).sqrt();
    normalized.reshape(dims) * gamma + beta
}
