//! Builds a model from its spec on burn, trains ranges of its layers, and calibrates a device.
//!
//! A [`Half`] is a run of layers with its weights, buffers and optimizer moments: the client-side
//! model `[0, c)`, the server-side model `[c, L)`, layers between, or the whole. One split step is
//!
//! ```text
//! edge                                    cloud
//! (pending, activations) = forward(x) --> finish_step(activations, labels)
//! backward(pending, gradient)         <-- outcome.gradient
//! ```
//!
//! or, where the labels stay on the edge, which then keeps the last layers too (a U-shaped split),
//!
//! ```text
//! edge                                    cloud
//! (pending, activations) = forward(x) --> (passed, activations) = forward(activations)
//! tail.finish_step(activations, labels) <--
//! outcome.gradient                    --> gradient = backward(passed, gradient)
//! backward(pending, gradient)         <--
//! ```
//!
//! and [`Half::local_step`] is the same step without a cut. A step's batch may be split into micro-batches, which go
//! this way one after the other ([`StepContext::micro_batch`]); the optimizer steps after the last. All run the same operations on the same
//! bits, so that split training equals unsplit training exactly; `tests/training/exactness.rs` holds that.
//!
//! Nothing else here is state: a half is built from a [`partway_core::model::LayerState`] and gives
//! one back, so a moved cut, an aggregation and a checkpoint are slices of flat arrays. This crate
//! knows nothing of networks, files or rounds.

mod accumulated;
mod activation;
mod batch;
mod calibrate;
mod device;
mod evaluate;
mod given_gradient;
mod half;
pub mod kernels;
mod layers;
mod loss;
pub mod memory;
mod optimize;
mod processors;
mod step;
mod tape;
mod warm_up;

pub use batch::BatchError;
pub use calibrate::{LayerTiming, calibrate, measure};
pub use device::{Compute, ComputeError, Spent};
pub use evaluate::Evaluation;
pub use half::{Half, HalfError};
pub use kernels::Kernels;
pub use processors::{PinError, check_processors, pin_to};
pub use step::{Outcome, Pending, StepContext, StepError};
