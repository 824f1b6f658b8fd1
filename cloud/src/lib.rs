//! The coordinator daemon.

mod atomic_file;
pub mod checkpoint;
pub mod memory;
pub mod model_file;
pub mod record;
