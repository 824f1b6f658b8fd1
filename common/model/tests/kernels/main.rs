//! The kernels against burn's own operations, over shapes that nobody chose.

mod against_burn;
mod convolution;
mod layers;
