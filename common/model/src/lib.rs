//! Builds a model from its spec on burn, trains ranges of its layers, and calibrates a device.
//!
//! A [`Half`] is a run of layers with its weights, buffers and optimizer moments: the client-side
//! model `[0, c)`, the server-side model `[c, L)`, or the whole. One split step is
//!
//! ```text
//! edge                                    cloud
//! (pending, activations) = forward(x) --> finish_step(activations, labels)
//! backward(pending, gradient)         <-- outcome.gradient
//! ```
//!
//! and [`Half::local_step`] is the same step without a cut. Both run the same operations on the same
//! bits, so that split training equals unsplit training exactly; `tests/exactness.rs` holds that.
//!
//! Nothing else here is state: a half is built from a [`partway_core::model::LayerState`] and gives
//! one back, so a moved cut, an aggregation and a checkpoint are slices of flat arrays. This crate
//! knows nothing of networks, files or rounds.

mod activation;
mod batch;
mod calibrate;
mod device;
mod evaluate;
mod half;
mod layers;
mod loss;
pub mod memory;
mod optimize;
mod step;
mod tape;

pub use batch::BatchError;
pub use calibrate::{LayerTiming, calibrate, measure};
pub use device::{Compute, ComputeError, Spent};
pub use evaluate::Evaluation;
pub use half::{Half, HalfError};
pub use step::{Outcome, Pending, StepContext, StepError};
