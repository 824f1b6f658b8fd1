//! This crate's own kernels for training on the CPU.
//!
//! They are operations of burn's tape over its CPU tensors, and stand in for burn's own, which remain the
//! reference in tests and do the work on every other device. Vector instructions (AVX-512, AVX2, NEON) are
//! chosen when the program runs. A result is the same bits for any number of threads: either one thread
//! makes the whole sum, or it is divided in a way that follows from the shape alone.

#![allow(
    clippy::inline_always,
    reason = "only what is inlined into a vectorized function is compiled for its vectors"
)]
#![allow(clippy::cast_possible_wrap, reason = "sides of feature maps are far below the half of a word")]

mod across_images;
#[cfg(test)]
mod archs;
mod batch_norm;
mod blocks;
mod channel_panel;
mod channels;
mod conv2d;
pub mod convolution;
mod correlate;
mod depthwise;
mod dots;
mod flex;
mod frame;
mod fresh;
mod geometry;
mod lanes;
mod lattice;
mod linear;
mod max_pool;
mod optimizer;
mod panel;
mod relu;
mod scratch;
mod thin_out;
mod tile;
mod weight_gradient;
mod weight_part;

pub(crate) use batch_norm::{Normalized, batch_norm, batch_norm_train};
pub(crate) use conv2d::conv2d;
pub(crate) use linear::linear;
pub(crate) use max_pool::{PoolShape, max_pool2d};
pub(crate) use optimizer::optimizer_step;
pub(crate) use relu::{add_relu, relu};

pub use geometry::{ConvShape, ConvShapeError};

/// Whose kernels do the work on the CPU. On other devices burn's always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// This crate's, where it has any for the operation and its shape.
    #[default]
    Own,
    /// burn's: to compare with.
    Burn,
}
