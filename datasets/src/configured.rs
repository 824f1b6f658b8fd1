//! The data that an experiment's configuration names.

use std::path::PathBuf;

use partway_core::config::{self, Config, DataConfig};

use crate::{
    Dataset, DatasetError, DatasetKind, Partition, PartitionError, Samples, Synthetic, load, partition,
};

/// Reads or generates the data set of `[data]`, limited and padded as that says.
pub fn from_config(data: &DataConfig, seed: u64) -> Result<Dataset, DatasetError> {
    let path = || data.path.clone().unwrap_or_else(|| PathBuf::from("datasets").join(data.dataset.name()));
    let dataset = match data.dataset {
        config::Dataset::Mnist => load(DatasetKind::Mnist, &path())?,
        config::Dataset::FashionMnist => load(DatasetKind::FashionMnist, &path())?,
        config::Dataset::Synthetic => {
            let synthetic = data.synthetic.clone().unwrap_or_default();
            let difficulty = synthetic.difficulty.get() as f32;
            let task = Synthetic::new(synthetic.shape.get(), synthetic.classes.get(), difficulty, seed)?;
            task.dataset(synthetic.train_samples.get(), synthetic.test_samples.get())?
        }
        config::Dataset::Cifar10 | config::Dataset::Csv | config::Dataset::Images | config::Dataset::Npz => {
            return Err(DatasetError::NotReadable { dataset: data.dataset.name() });
        }
    };
    let dataset = dataset
        .limit(data.train_limit.map(config::AtLeastOne::get), data.test_limit.map(config::AtLeastOne::get));
    match data.pad.get() {
        0 => Ok(dataset),
        pad => {
            let padded = |samples: &Samples| samples.padded(pad).map_err(DatasetError::Padding);
            Dataset::new(padded(&dataset.train)?, padded(&dataset.test)?)
        }
    }
}

/// Which training samples each edge of the experiment gets, in name order.
pub fn partition_for(config: &Config, train: &Samples) -> Result<Vec<(String, Vec<usize>)>, PartitionError> {
    let edges = config.edges();
    let method = match config.data.partition {
        config::Partition::Iid => Partition::Iid,
        config::Partition::Dirichlet { alpha } => Partition::Dirichlet { alpha: alpha.get() },
        config::Partition::Shards { per_edge } => Partition::Shards { per_edge: per_edge.get() },
        config::Partition::ByLabel => Partition::ByLabel,
    };
    let parts = partition(
        train.labels(),
        train.classes(),
        edges.len(),
        method,
        config.data.min_samples.get(),
        config.seed,
    )?;
    Ok(edges.iter().map(|edge| edge.name.as_str().to_owned()).zip(parts).collect())
}
