//! Fully connected layer.

use burn::tensor::Tensor;

/// `x W^T + b`.
///
/// # Shapes
/// `input` `[batch, inputs]`, `weight` flat `[outputs, inputs]`, `bias` `[outputs]`; the result is
/// `[batch, outputs]`.
pub(super) fn linear(
    input: Tensor<2>,
    weight: &Tensor<1>,
    bias: Option<&Tensor<1>>,
    inputs: usize,
    outputs: usize,
) -> Tensor<2> {
    let product = input.matmul(weight.clone().reshape([outputs, inputs]).transpose());
    match bias {
        Some(bias) => product + bias.clone().reshape([1, outputs]),
        None => product,
    }
}
