//! The data that an experiment's configuration names.

use std::path::PathBuf;

use partway_core::{
    config::{self, AtLeastOne, ClassNames, Config, Fraction, ImageSize, SampleShape},
    random::{shuffle, stream},
};

use crate::{
    Dataset, DatasetError, Halves, Partition, PartitionError, Samples, Split, Synthetic,
    cifar::{self, Cifar},
    held_out, mnist,
    own::{self, Format, Loaded, Reading},
    partition,
};

/// Classes of MNIST and Fashion-MNIST.
const MNIST_CLASSES: usize = 10;

/// Reads or generates the data set of `[data]`, limited, shaped and padded as that and `model.input` say.
///
/// A user's own data (`csv`, `images`, `npz`) is put in a random order by the seed, so that a limit takes a bit
/// of every class; where it has no test set, `data.test_share` of it is held out. Where the edges evaluate, there is
/// no test set, and all of it is to train on.
pub fn from_config(config: &Config) -> Result<Dataset, DatasetError> {
    let data = &config.data;
    let halves = halves(config);
    let path = path(config);
    let fetched = |dataset| fetchable(data.dataset, dataset);
    let dataset = match data.dataset {
        config::Dataset::Mnist | config::Dataset::FashionMnist => {
            fetched(mnist::read(&path, Some(MNIST_CLASSES), halves))?
        }
        config::Dataset::Cifar10 => fetched(cifar::read(Cifar::Ten, &path, halves))?,
        config::Dataset::Cifar100 => fetched(cifar::read(Cifar::Hundred, &path, halves))?,
        config::Dataset::Synthetic => {
            let (task, [train, test]) = synthetic(config)?;
            let test = halves.test(|| Ok(task.samples(Split::Test, test)?))?;
            Dataset::new(task.samples(Split::Train, train)?, test)?
        }
        config::Dataset::Csv | config::Dataset::Images | config::Dataset::Npz => own_data(config)?,
    };
    Ok(Dataset {
        train: finished(dataset.train, data.train_limit, data.pad.get())?,
        test: dataset.test.map(|test| finished(test, data.test_limit, data.pad.get())).transpose()?,
    })
}

/// The test set, and of published and generated data nothing else: it is all that a coordinator opens. None where
/// the edges evaluate. A user's own data needs `data.test_path` for that; without it, the whole is read and split.
pub fn test_set(config: &Config) -> Result<Option<Samples>, DatasetError> {
    let data = &config.data;
    if halves(config) == Halves::Training {
        return Ok(None);
    }
    let path = path(config);
    let fetched = |test| fetchable(data.dataset, Halves::Both.test(|| test));
    let test = match data.dataset {
        config::Dataset::Mnist | config::Dataset::FashionMnist => {
            fetched(mnist::read_test(&path, MNIST_CLASSES))?
        }
        config::Dataset::Cifar10 => fetched(cifar::read_test(Cifar::Ten, &path))?,
        config::Dataset::Cifar100 => fetched(cifar::read_test(Cifar::Hundred, &path))?,
        config::Dataset::Synthetic => {
            let (task, [_, test]) = synthetic(config)?;
            Some(task.samples(Split::Test, test)?)
        }
        config::Dataset::Csv | config::Dataset::Images | config::Dataset::Npz => {
            match (own_format(data.dataset), &data.path, &data.test_path) {
                (Some(format), None, Some(path)) => {
                    let loaded = own::load(format, path, None, Halves::Available, &reading(config))?;
                    Some(in_random_order(&loaded.test.unwrap_or(loaded.train), "test", config.seed))
                }
                _ => own_data(config)?.test,
            }
        }
    };
    if test.as_ref().is_some_and(Samples::is_empty) {
        return Err(DatasetError::Empty { half: "test" });
    }
    test.map(|test| finished(test, data.test_limit, data.pad.get())).transpose()
}

fn halves(config: &Config) -> Halves {
    match config.data.evaluate {
        config::EvaluateAt::Cloud => Halves::Both,
        config::EvaluateAt::Edges => Halves::Training,
    }
}

/// Where published data is.
fn path(config: &Config) -> PathBuf {
    let data = &config.data;
    data.path.clone().unwrap_or_else(|| PathBuf::from("datasets").join(data.dataset.name()))
}

/// The generated task, and how many samples to train and to test on it has.
fn synthetic(config: &Config) -> Result<(Synthetic, [usize; 2]), DatasetError> {
    let synthetic = config.data.synthetic.clone().unwrap_or_default();
    let difficulty = synthetic.difficulty.get() as f32;
    let task = Synthetic::new(synthetic.shape.get(), synthetic.classes.get(), difficulty, config.seed)?;
    Ok((task, [synthetic.train_samples.get(), synthetic.test_samples.get()]))
}

/// The first `limit` samples with `pad` pixels on each side.
fn finished(samples: Samples, limit: Option<AtLeastOne>, pad: usize) -> Result<Samples, DatasetError> {
    let limited = match limit {
        Some(limit) => samples.limit(limit.get()),
        None => samples,
    };
    if pad == 0 { Ok(limited) } else { limited.padded(pad).map_err(DatasetError::Shape) }
}

/// Says how to get published data that is not there.
fn fetchable<T>(dataset: config::Dataset, read: Result<T, DatasetError>) -> Result<T, DatasetError> {
    let not_fetched = |source| DatasetError::NotFetched { dataset: dataset.name(), source };
    read.map_err(|error| match error {
        DatasetError::NoTestSet { source } => {
            DatasetError::NoTestSet { source: Box::new(not_fetched(source)) }
        }
        error if error.is_absence() => not_fetched(Box::new(error)),
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
    let halves = halves(config);
    let loaded = own::load(format, path, data.test_path.as_deref(), halves, &reading(config))?;
    let Loaded { train, test, .. } = loaded;
    if train.classes() < 2 {
        return Err(DatasetError::OneClass { path: path.clone() });
    }
    match test {
        Some(test) => {
            Dataset::new(in_random_order(&train, "train", seed), Some(in_random_order(&test, "test", seed)))
        }
        None if halves == Halves::Training => Dataset::new(in_random_order(&train, "train", seed), None),
        None => {
            let share = data.test_share.map_or(0.0, Fraction::get);
            let (kept, held_out) = held_out::split(train.labels(), share, seed);
            Dataset::new(train.take(&kept), Some(train.take(&held_out)))
        }
    }
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
