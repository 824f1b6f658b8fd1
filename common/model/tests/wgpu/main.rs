//! Training on a graphics processor: as on the CPU up to rounding, and split as unsplit bit for bit.
//!
//! Needs an adapter; `scripts/test-wgpu` provides one in software.

mod adapter;
mod agreement;
mod layers;
mod split;
mod steps;
