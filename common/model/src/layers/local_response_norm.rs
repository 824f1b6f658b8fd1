//! Local response normalization (Krizhevsky et al. 2012), with the conventions of `PyTorch`.

use burn::tensor::{Tensor, module, ops::AvgPoolOptions};

/// Sizes of a local response normalization.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response {
    /// Neighbouring channels, odd.
    pub(super) size: usize,
    pub(super) alpha: f32,
    pub(super) beta: f32,
    pub(super) k: f32,
}

/// `x / (k + alpha * mean of x^2 over size channels around)^beta`; channels beyond the ends are zero.
///
/// # Shapes
/// `input` and result `[batch, channels, h, w]`.
pub(super) fn local_response_norm(input: Tensor<4>, response: Response) -> Tensor<4> {
    let Response { size, alpha, beta, k } = response;
    let dims @ [batch, channels, height, width] = input.dims();
    // The mean over neighbouring channels is an average pool down a plane whose rows are the channels.
    let window = AvgPoolOptions::new([size, 1]).with_stride([1, 1]).with_padding([size / 2, 0]);
    let squares = (input.clone() * input.clone()).reshape([batch, 1, channels, height * width]);
    let means = module::avg_pool2d(squares, window).reshape(dims);
    input / means.mul_scalar(alpha).add_scalar(k).powf_scalar(beta)
}
