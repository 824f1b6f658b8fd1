//! The data that an experiment's configuration names.

use std::path::PathBuf;

use partway_core::{
    config::{self, AtLeastOne, ClassNames, Config, Fraction, ImageSize, SampleShape},
    random::{shuffle, stream},
};

use crate::{
    Dataset, DatasetError, Partition, PartitionError, Samples, Synthetic,
    cifar::{self, Cifar, CifarError},
    held_out,
    idx::IdxError,
    mnist,
    own::{self, Format, Loaded, Reading},
    partition,
};

/// Classes of MNIST and Fashion-MNIST.
const MNIST_CLASSES: usize = 10;

/// Reads or generates the data set of `[data]`, limited, shaped and padded as that and `model.input` say.
///
/// A user's own data (`csv`, `images`, `npz`) is put in a random order by the seed, so that a limit takes a bit
/// of every class; where it has no test set, `data.test_share` of it is held out.
pub fn from_config(config: &Config) -> Result<Dataset, DatasetError> {
    let data = &config.data;
    let path = || data.path.clone().unwrap_or_else(|| PathBuf::from("datasets").join(data.dataset.name()));
    let fetched = |dataset| fetchable(data.dataset.name(), dataset);
    let dataset = match data.dataset {
        config::Dataset::Mnist | config::Dataset::FashionMnist => {
            fetched(mnist::read(&path(), Some(MNIST_CLASSES)))?
        }
        config::Dataset::Cifar10 => fetched(cifar::read(Cifar::Ten, &path()))?,
        config::Dataset::Cifar100 => fetched(cifar::read(Cifar::Hundred, &path()))?,
        config::Dataset::Synthetic => {
            let synthetic = data.synthetic.clone().unwrap_or_default();
            let difficulty = synthetic.difficulty.get() as f32;
            let task =
                Synthetic::new(synthetic.shape.get(), synthetic.classes.get(), difficulty, config.seed)?;
            task.dataset(synthetic.train_samples.get(), synthetic.test_samples.get())?
        }
        config::Dataset::Csv | config::Dataset::Images | config::Dataset::Npz => own_data(config)?,
    };
    Ok(Dataset {
        train: finished(dataset.train, data.train_limit, data.pad.get())?,
        test: finished(dataset.test, data.test_limit, data.pad.get())?,
        ..dataset
    })
}

/// The test set alone, which is all that a coordinator opens. With `data.test_path` there need be nothing else.
pub fn test_set(config: &Config) -> Result<Samples, DatasetError> {
    let data = &config.data;
    match (own_format(data.dataset), &data.path, &data.test_path) {
        (Some(format), None, Some(path)) => {
            let loaded = own::load(format, path, None, &reading(config))?;
            let test = in_random_order(&loaded.test.unwrap_or(loaded.train), "test", config.seed);
            finished(test, data.test_limit, data.pad.get())
        }
        _ => Ok(from_config(config)?.test),
    }
}

/// The first `limit` samples with `pad` pixels on each side.
fn finished(samples: Samples, limit: Option<AtLeastOne>, pad: usize) -> Result<Samples, DatasetError> {
    let limited = match limit {
        Some(limit) => samples.limit(limit.get()),
        None => samples,
    };
    if pad == 0 { Ok(limited) } else { limited.padded(pad).map_err(DatasetError::Shape) }
}

/// Says how to get a published data set that is not there.
fn fetchable(name: &'static str, read: Result<Dataset, DatasetError>) -> Result<Dataset, DatasetError> {
    read.map_err(|error| match error {
        DatasetError::Idx(IdxError::Missing { .. }) | DatasetError::Cifar(CifarError::Missing { .. }) => {
            DatasetError::NotFetched { dataset: name, source: Box::new(error) }
        }
        other => other,
    })
}

/// The format of a user's own data.
fn own_format(dataset: config::Dataset) -> Option<Format> {
    match dataset {
        config::Dataset::Csv => Some(Format::Csv),
        config::Dataset::Images => Some(Format::Images),
        config::Dataset::Npz => Some(Format::Npz),
        _ => None,
    }
}

/// How the files of `[data]` are to be read; padding is left to be done.
fn reading(config: &Config) -> Reading {
    Reading {
        label: config.data.label.clone(),
        class_names: config.data.class_names.as_ref().map(|names: &ClassNames| names.get().to_vec()),
        resize: config.data.resize.map(ImageSize::get),
        shape: config.model.input.map(SampleShape::get),
        pad: 0,
    }
}

fn own_data(config: &Config) -> Result<Dataset, DatasetError> {
    let (data, seed) = (&config.data, config.seed);
    let (Some(format), Some(path)) = (own_format(data.dataset), &data.path) else {
        return Err(DatasetError::NoTrainingData);
    };
    let loaded = own::load(format, path, data.test_path.as_deref(), &reading(config))?;
    let Loaded { train, test, class_names, .. } = loaded;
    if train.classes() < 2 {
        return Err(DatasetError::OneClass { path: path.clone() });
    }
    let dataset = match test {
        Some(test) => {
            Dataset::new(in_random_order(&train, "train", seed), in_random_order(&test, "test", seed))?
        }
        None => {
            let share = data.test_share.map_or(0.0, Fraction::get);
            let (kept, held_out) = held_out::split(train.labels(), share, seed);
            Dataset::new(train.take(&kept), train.take(&held_out))?
        }
    };
    Ok(Dataset { class_names, ..dataset })
}

fn in_random_order(samples: &Samples, half: &str, seed: u64) -> Samples {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    shuffle(&mut stream(seed, &["order of the data", half]), &mut order);
    samples.take(&order)
}

/// Which training samples each edge of the experiment gets, in name order.
pub fn partition_for(config: &Config, train: &Samples) -> Result<Vec<(String, Vec<usize>)>, PartitionError> {
    let names: Vec<String> = config.edges().iter().map(|edge| edge.name.as_str().to_owned()).collect();
    partition_among(config, &names, train)
}

/// Which training samples each of the edges with these names would get, in that order.
pub fn partition_among(
    config: &Config,
    names: &[String],
    train: &Samples,
) -> Result<Vec<(String, Vec<usize>)>, PartitionError> {
    let method = match config.data.partition {
        config::Partition::Iid => Partition::Iid,
        config::Partition::Dirichlet { alpha } => Partition::Dirichlet { alpha: alpha.get() },
        config::Partition::Shards { per_edge } => Partition::Shards { per_edge: per_edge.get() },
        config::Partition::ByLabel => Partition::ByLabel,
    };
    let (labels, min_samples) = (train.labels(), config.data.min_samples.get());
    let parts = partition(labels, train.classes(), names.len(), method, min_samples, config.seed)?;
    Ok(names.iter().cloned().zip(parts).collect())
}
