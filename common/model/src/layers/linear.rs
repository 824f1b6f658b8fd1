//! Fully connected layer.

use burn::tensor::Tensor;

use crate::kernels::{self, Kernels};

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
    kernels: Kernels,
) -> Tensor<2> {
    let weight = weight.clone().reshape([outputs, inputs]);
    if kernels == Kernels::Own {
        return kernels::linear(input, weight, bias.cloned());
    }
    let product = input.matmul(weight.transpose());
    match bias {
        Some(bias) => product + bias.clone().reshape([1, outputs]),
        None => product,
    }
}
