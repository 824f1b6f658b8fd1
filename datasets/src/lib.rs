//! Reads, partitions and batches training data.
//!
//! A reader ([`dataset::load`], [`synthetic::Synthetic`]) yields a [`Dataset`]; [`partition::partition`]
//! says which edge gets which training samples; [`shard`] writes an edge's part to a folder of its own,
//! the only data that this edge ever opens; [`BatchOrder`] says which samples make up a step.

pub mod batches;
pub mod configured;
pub mod dataset;
pub mod idx;
mod mnist;
pub mod partition;
pub mod samples;
pub mod shard;
pub mod synthetic;

pub use batches::BatchOrder;
pub use configured::{from_config, partition_for};
pub use dataset::{Dataset, DatasetError, DatasetKind, load};
pub use partition::{Partition, PartitionError, partition};
pub use samples::{Pixels, Samples, SamplesError};
pub use shard::ShardError;
pub use synthetic::{Split, Synthetic, SyntheticError};
