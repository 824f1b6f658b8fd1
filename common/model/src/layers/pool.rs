//! Pooling; incomplete windows are dropped.

use burn::tensor::{Tensor, module, ops::AvgPoolOptions, ops::MaxPoolOptions};

use crate::kernels::{self, Kernels, PoolShape};

/// Largest value under each window, beside a padding of minus infinity: `[batch, c, h, w]` to
/// `[batch, c, (h + 2 padding - kernel) / stride + 1, ...]`.
pub(super) fn max_pool2d(
    input: Tensor<4>,
    [kernel, stride, padding]: [usize; 3],
    kernels: Kernels,
) -> Tensor<4> {
    if kernels == Kernels::Own
        && let Some(shape) = PoolShape::new(kernel, stride, padding, input.dims())
    {
        return kernels::max_pool2d(input, shape);
    }
    let window = MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]);
    module::max_pool2d(input, window)
}

/// Mean under each window, a padding of zeros included, shaped as [`max_pool2d`].
pub(super) fn avg_pool2d(input: Tensor<4>, kernel: usize, stride: usize, padding: usize) -> Tensor<4> {
    let window = AvgPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]);
    module::avg_pool2d(input, window)
}

/// Mean over each plane: `[batch, c, h, w]` to `[batch, c, 1, 1]`.
pub(super) fn global_avg_pool(input: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = input.dims();
    input.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels, 1, 1])
}
