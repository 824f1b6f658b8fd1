//! The coordinator daemon: drives the coordinator's state machine with a real clock, QUIC and tensors,
//! and keeps the run's record.
//!
//! [`serve`] is the event loop, [`record`] what a run leaves behind.

mod atomic_file;
pub mod checkpoint;
mod global_model;
pub mod model_file;
pub mod record;
mod serve;
pub mod state_folder;
mod workers;

pub use serve::{Ended, ServeError, ServeOptions, serve};
