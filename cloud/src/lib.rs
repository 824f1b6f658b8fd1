//! The coordinator daemon: drives the coordinator's state machine with a real clock, QUIC and tensors,
//! and keeps the run's record.
//!
//! [`serve`] is the event loop, [`record`] what a run leaves behind. Apart from it stand the parts that a
//! virtual clock drives as well: [`replica`] and [`global_model`] compute, [`outputs`] writes. [`workers`] are the threads that train replicas.

mod atomic_file;
pub mod checkpoint;
pub mod global_model;
pub mod identity;
pub mod model_file;
pub mod outputs;
pub mod record;
pub mod replica;
mod serve;
pub mod state_folder;
pub mod workers;

pub use outputs::Ended;
pub use serve::{ServeError, ServeOptions, serve};
