//! The inverted residual block of `MobileNetV2` (Sandler et al. 2018, arXiv 1801.04381).

use burn::tensor::{Tensor, activation::relu6};
use partway_core::model::tensors::inverted_residual_adds;

use super::Pass;
use super::conv::{Convolution, NORMED_CONV, normed_conv};

/// `bn(project(relu6(bn(depthwise(relu6(bn(expand(x))))))))`, without expand where `expansion` is 1,
/// plus `x` where the shape stays the same.
///
/// # Shapes
/// `input` `[batch, in, h, w]`; the result is `[batch, out, (h - 1) / stride + 1, ...]`.
pub(super) fn inverted_residual(
    input: Tensor<4>,
    tensors: &[Tensor<1>],
    [in_channels, out_channels]: [usize; 2],
    stride: usize,
    expansion: usize,
    pass: &mut Pass,
) -> Tensor<4> {
    let hidden = in_channels * expansion;
    let pointwise = |in_channels, out_channels| Convolution {
        in_channels,
        out_channels,
        kernel: 1,
        stride: 1,
        padding: 0,
        groups: 1,
    };
    let depthwise =
        Convolution { kernel: 3, stride, padding: 1, groups: hidden, ..pointwise(hidden, hidden) };

    let (mut x, mut rest) = (input.clone(), tensors);
    if expansion != 1 {
        x = relu6(normed_conv(x, rest, pointwise(in_channels, hidden), false, pass));
        rest = &rest[NORMED_CONV..];
    }
    let x = relu6(normed_conv(x, rest, depthwise, false, pass));
    let x = normed_conv(x, &rest[NORMED_CONV..], pointwise(hidden, out_channels), false, pass);
    if inverted_residual_adds(in_channels, out_channels, stride) { x + input } else { x }
}
