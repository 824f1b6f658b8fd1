//! Convolution. Everything that convolves comes through [`conv2d`].

use burn::tensor::{Tensor, module, ops::ConvOptions};

use crate::kernels::{self, ConvShape, Kernels};

use super::Pass;
use super::batch_norm::batch_norm;
use super::relu::relu;

/// Tensors of one convolution without bias and the batch norm after it.
pub(super) const NORMED_CONV: usize = 5;

/// Sizes of a convolution with a square kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) groups: usize,
}

/// Cross-correlation, as every framework means by convolution, rectified if asked.
///
/// # Shapes
/// `input` `[batch, in, h, w]`, `weight` flat `[out, in / groups, k, k]`, `bias` `[out]`; the result is
/// `[batch, out, (h + 2 padding - k) / stride + 1, ...]`.
pub(super) fn conv2d(
    input: Tensor<4>,
    weight: &Tensor<1>,
    bias: Option<&Tensor<1>>,
    shape: Convolution,
    rectify: bool,
    kernels: Kernels,
) -> Tensor<4> {
    let Convolution { in_channels, out_channels, kernel, stride, padding, groups } = shape;
    let weight = weight.clone().reshape([out_channels, in_channels / groups, kernel, kernel]);
    if kernels == Kernels::Own {
        let [batch, _, height, width] = input.dims();
        let sides = [height, width];
        let shape =
            ConvShape { batch, in_channels, out_channels, kernel, stride, padding, groups, input: sides };
        if let Ok(shape) = shape.checked() {
            return kernels::conv2d(input, weight, bias.cloned(), shape, rectify);
        }
    }
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
    let output = module::conv2d(input, weight, bias.cloned(), options);
    if rectify { relu(output, kernels) } else { output }
}

/// A convolution without bias, then batch norm, rectified if asked; `tensors` starts with their five.
pub(super) fn normed_conv(
    input: Tensor<4>,
    tensors: &[Tensor<1>],
    shape: Convolution,
    rectify: bool,
    pass: &mut Pass,
) -> Tensor<4> {
    let maps = conv2d(input, &tensors[0], None, shape, false, pass.kernels);
    batch_norm(maps, &tensors[1..NORMED_CONV], rectify, pass)
}
