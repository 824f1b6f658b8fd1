//! The edge worker: drives the participant's state machine with a real clock, QUIC and tensors.
//!
//! [`join`] is the whole worker. `session` is its event loop, `worker` its compute thread, and
//! `state_folder` what it keeps across a crash.

mod client_model;
mod emulation;
mod evaluation;
pub mod profile;
mod reading;
mod session;
mod state_folder;
mod worker;

pub use emulation::Emulation;
pub use reading::ReadingArgs;
pub use session::{JoinError, JoinOptions, join};
pub use state_folder::FolderError;
