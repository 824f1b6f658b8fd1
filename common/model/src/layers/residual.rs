//! The basic block of `ResNet` (He et al. 2016, arXiv 1512.03385).

use burn::tensor::Tensor;
use partway_core::model::tensors::residual_projects;

use super::Pass;
use super::conv::{Convolution, NORMED_CONV, normed_conv};
use super::relu::add_relu;

/// `relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`, where the shortcut is a 1x1 convolution with
/// batch norm if the shape changes and `x` itself otherwise.
///
/// # Shapes
/// `input` `[batch, in, h, w]`; the result is `[batch, out, (h - 1) / stride + 1, ...]`.
pub(super) fn residual(
    input: Tensor<4>,
    tensors: &[Tensor<1>],
    [in_channels, out_channels]: [usize; 2],
    stride: usize,
    pass: &mut Pass,
) -> Tensor<4> {
    let first = Convolution { in_channels, out_channels, kernel: 3, stride, padding: 1, groups: 1 };
    let second = Convolution { in_channels: out_channels, stride: 1, ..first };
    let projection = Convolution { kernel: 1, padding: 0, ..first };

    let x = normed_conv(input.clone(), tensors, first, true, pass);
    let x = normed_conv(x, &tensors[NORMED_CONV..], second, false, pass);
    let shortcut = if residual_projects(in_channels, out_channels, stride) {
        normed_conv(input, &tensors[2 * NORMED_CONV..], projection, false, pass)
    } else {
        input
    };
    add_relu(x, shortcut, pass.kernels)
}
