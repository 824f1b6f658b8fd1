//! A data set: what is trained on and what is tested on.

use std::path::PathBuf;

use thiserror::Error;

use crate::{
    cifar::CifarError,
    classes::LabelError,
    csv::CsvError,
    idx::IdxError,
    images::ImagesError,
    npz::NpzError,
    own::UnknownFormat,
    samples::{Samples, SamplesError},
    shard::ShardError,
    synthetic::SyntheticError,
};

/// A data set that cannot be loaded.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Samples that cannot be padded or reshaped.
    #[error(transparent)]
    Shape(SamplesError),
    /// A published data set is not where it was looked for.
    #[error("{source}, or download it with `partway data fetch {dataset}`")]
    NotFetched {
        /// Its name.
        dataset: &'static str,
        /// What is not there.
        source: Box<DatasetError>,
    },
    /// There is something to train on, and nothing to test on.
    #[error(
        "{source}; or let the edges evaluate on what they hold out, which needs no test set: \
         `data.evaluate = \"edges\"`"
    )]
    NoTestSet {
        /// What is not there.
        source: Box<DatasetError>,
    },
    /// Nothing that is known.
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    /// An IDX file cannot be read.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// CIFAR's files cannot be read.
    #[error(transparent)]
    Cifar(#[from] CifarError),
    /// A table cannot be read.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// Pictures cannot be read.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// Arrays cannot be read.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// A shard cannot be read.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Labels that make no classes.
    #[error("`{}`: {source}", path.display())]
    Labels {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with them.
        source: LabelError,
    },
    /// One class cannot be told from any other.
    #[error("`{}`: every label is the same, so that there is nothing to learn", path.display())]
    OneClass {
        /// The file or folder.
        path: PathBuf,
    },
    /// Test data was named, and no training data.
    #[error("`data.path` is missing: without it there is a test set, but nothing to train on")]
    NoTrainingData,
    /// Two files that belong together hold different numbers of samples.
    #[error(
        "`{}` holds {image_count} images, but `{}` holds {label_count} labels: they do not belong together",
        images.display(),
        labels.display()
    )]
    Counts {
        /// The file of images.
        images: PathBuf,
        /// How many it holds.
        image_count: usize,
        /// The file of labels.
        labels: PathBuf,
        /// How many it holds.
        label_count: usize,
    },
    /// The files can be read, but not used.
    #[error("the samples of `{}`: {source}", path.display())]
    Samples {
        /// The file, or the folder.
        path: PathBuf,
        /// What is wrong with them.
        source: SamplesError,
    },
    /// Synthetic samples cannot be made.
    #[error(transparent)]
    Synthetic(#[from] SyntheticError),
    /// There is nothing to train or to test on.
    #[error("the {half} set has no samples")]
    Empty {
        /// `training` or `test`.
        half: &'static str,
    },
    /// A model for the one half cannot read the other.
    #[error(
        "training samples are {train:?} in {train_classes} classes, but test samples {test:?} in {test_classes}"
    )]
    Halves {
        /// Shape of a training sample.
        train: [usize; 3],
        /// Classes of the training set.
        train_classes: usize,
        /// Shape of a test sample.
        test: [usize; 3],
        /// Classes of the test set.
        test_classes: usize,
    },
}

impl DatasetError {
    /// Whether a file of a published data set is not where it was looked for.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Idx(IdxError::Missing { .. }) | Self::Cifar(CifarError::Missing { .. }))
    }
}

/// How much of a data set is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// What is trained on and what is tested on.
    Both,
    /// What is trained on, and the test set if there is one.
    Available,
    /// What is trained on: where there is a test set, it is left alone.
    Training,
}

impl Halves {
    /// The test half of a published data set, as far as it is asked for.
    pub(crate) fn test<T>(
        self,
        read: impl FnOnce() -> Result<T, DatasetError>,
    ) -> Result<Option<T>, DatasetError> {
        if self == Self::Training {
            return Ok(None);
        }
        match read() {
            Err(error) if error.is_absence() && self == Self::Available => Ok(None),
            Err(error) if error.is_absence() => Err(DatasetError::NoTestSet { source: Box::new(error) }),
            read => read.map(Some),
        }
    }
}

/// Training and test samples of one shape and the same classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// What the edges share among them.
    pub train: Samples,
    /// What the cloud measures accuracy on; none where nobody asked for it.
    pub test: Option<Samples>,
}

impl Dataset {
    /// Both halves, neither of them empty.
    pub fn new(train: Samples, test: Option<Samples>) -> Result<Self, DatasetError> {
        for (half, samples) in [("training", Some(&train)), ("test", test.as_ref())] {
            if samples.is_some_and(Samples::is_empty) {
                return Err(DatasetError::Empty { half });
            }
        }
        if let Some(test) = &test
            && (train.shape(), train.classes()) != (test.shape(), test.classes())
        {
            return Err(DatasetError::Halves {
                train: train.shape(),
                train_classes: train.classes(),
                test: test.shape(),
                test_classes: test.classes(),
            });
        }
        Ok(Self { train, test })
    }
}
