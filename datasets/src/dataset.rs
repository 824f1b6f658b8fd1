//! A data set: what is trained on and what is tested on.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{
    idx::IdxError,
    mnist,
    samples::{Samples, SamplesError},
    synthetic::SyntheticError,
};

/// Data sets that are read from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// Handwritten digits (`LeCun`, Cortes & Burges): 28x28 grey, 10 classes, IDX files.
    Mnist,
    /// Articles of clothing (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747), in MNIST's files.
    FashionMnist,
}

/// A data set that cannot be loaded.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Samples that cannot be padded.
    #[error(transparent)]
    Padding(SamplesError),
    /// A data set that this version has no reader for.
    #[error("data sets of kind `{dataset}` cannot be read by this version")]
    NotReadable {
        /// Its name in the configuration.
        dataset: &'static str,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Idx(#[from] IdxError),
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

/// Training and test samples of one shape and the same classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// What the edges share among them.
    pub train: Samples,
    /// What accuracy is measured on.
    pub test: Samples,
}

impl Dataset {
    /// Both halves, neither of them empty.
    pub fn new(train: Samples, test: Samples) -> Result<Self, DatasetError> {
        for (half, samples) in [("training", &train), ("test", &test)] {
            if samples.is_empty() {
                return Err(DatasetError::Empty { half });
            }
        }
        if (train.shape(), train.classes()) != (test.shape(), test.classes()) {
            return Err(DatasetError::Halves {
                train: train.shape(),
                train_classes: train.classes(),
                test: test.shape(),
                test_classes: test.classes(),
            });
        }
        Ok(Self { train, test })
    }

    /// The first `train` and `test` samples of each half; `None` keeps all.
    #[must_use]
    pub fn limit(mut self, train: Option<usize>, test: Option<usize>) -> Self {
        if let Some(count) = train {
            self.train = self.train.limit(count);
        }
        if let Some(count) = test {
            self.test = self.test.limit(count);
        }
        self
    }
}

/// Reads the data set of `kind` from the folder `path`.
pub fn load(kind: DatasetKind, path: &Path) -> Result<Dataset, DatasetError> {
    match kind {
        DatasetKind::Mnist | DatasetKind::FashionMnist => mnist::read(path),
    }
}
