//! The crate as its users see it: properties that hold for any input, and real files.

mod batches;
mod idx;
mod mnist;
mod partition;
mod shard;
mod synthetic;
