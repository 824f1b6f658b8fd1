//! Reads, partitions and batches training data.
//!
//! [`from_config`] yields the [`Dataset`] that a configuration names, [`own::load`] what any file or folder
//! holds; [`partition::partition`] says which edge gets which training samples; [`shard`] writes an edge's
//! part to a folder of its own. An edge opens nothing but such a folder, or data that it has had before
//! ([`own::load_for_edge`]). [`BatchOrder`] says which samples make up a step.
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
pub mod cifar;
pub mod classes;
pub mod configured;
pub mod csv;
pub mod dataset;
pub mod held_out;
pub mod idx;
pub mod images;
mod mnist;
pub mod npz;
pub mod own;
pub mod partition;
pub mod samples;
pub mod shard;
mod standardized;
pub mod synthetic;

pub use batches::BatchOrder;
pub use configured::{from_config, partition_among, partition_for, test_set};
pub use dataset::{Dataset, DatasetError, Halves};
pub use partition::{Partition, PartitionError, partition};
pub use samples::{Pixels, Samples, SamplesError};
pub use shard::ShardError;
pub use synthetic::{Split, Synthetic, SyntheticError};
