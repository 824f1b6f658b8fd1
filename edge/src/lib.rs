//! The edge worker: drives the participant's state machine with a real clock, QUIC and tensors.
//!
//! [`join`] is the whole worker. `session` is its event loop, [`Worker`] what its compute thread does, and
//! `state_folder` what it keeps across a crash. A virtual clock drives [`Worker::in_memory`].

mod client_model;
mod connecting;
mod emulation;
mod evaluation;
pub mod profile;
mod reading;
mod round_start;
mod rounds;
mod session;
mod state_folder;
mod tapes;
mod training;
mod worker;

pub use emulation::Emulation;
pub use reading::ReadingArgs;
pub use session::{JoinError, JoinOptions, join, training_request};
pub use state_folder::FolderError;
pub use tapes::TapeBudget;
pub use worker::Worker;
