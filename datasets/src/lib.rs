//! Reads, partitions and batches training data.
//!
//! A reader ([`dataset::load`], [`synthetic::Synthetic`]) yields a [`Dataset`]; [`partition::partition`]
//! says which edge gets which training samples; [`shard`] writes an edge's part to a folder of its own,
//! the only data that this edge ever opens; [`BatchOrder`] says which samples make up a step.
//!
//! ```
//! use partway_datasets::{BatchOrder, Partition, Split, Synthetic, partition};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let train = Synthetic::new([1, 28, 28], 10, 0.5, 42)?.samples(Split::Train, 100)?;
//! let method = Partition::Dirichlet { alpha: 0.5 };
//! let parts = partition(train.labels(), train.classes(), 4, method, 8, 42)?;
//! let shard = train.take(&parts[0]);
//! let step = BatchOrder::new(42, "camera-0", shard.len())?.indices(0, 16);
//! let mut batch = Vec::new();
//! shard.gather(&step, &mut batch);
//! assert_eq!(batch.len(), 16 * 28 * 28);
//! # Ok(())
//! # }
//! ```

pub mod batches;
pub mod configured;
pub mod dataset;
pub mod idx;
mod mnist;
pub mod partition;
pub mod samples;
pub mod shard;
mod standardized;
pub mod synthetic;

pub use batches::BatchOrder;
pub use configured::{from_config, partition_for};
pub use dataset::{Dataset, DatasetError, DatasetKind, load};
pub use partition::{Partition, PartitionError, partition};
pub use samples::{Pixels, Samples, SamplesError};
pub use shard::ShardError;
pub use synthetic::{Split, Synthetic, SyntheticError};
