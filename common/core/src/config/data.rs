//! `[data]`: what it is trained on, and how the samples are spread over the edges.

use std::path::PathBuf;

use super::{
    label::{ClassNames, Column},
    model::{ImageSize, SampleShape},
    number::{AtLeastOne, Fraction, NonNegativeF64, Whole, literal},
    partition::Partition,
    reader::section,
    setting::named,
};

section! {
    /// The `[data]` table.
    pub struct DataConfig {
        /// The data set. Required. Example: `dataset = "mnist"`.
        pub dataset: Dataset,
        /// The folder or file that holds it. Default: `datasets/` and the data set's name; required for
        /// `csv`, `images` and `npz`, unless nothing but a test set is needed (a coordinator whose edges
        /// are not described); not allowed for `synthetic`. Example: `path = "datasets/mnist"`.
        pub path: Option<PathBuf>,
        /// A test set of its own for `csv`, `images` or `npz`, in the same format; with `evaluate = "cloud"`
        /// only. Default: the data's own (`test/` beside `train/`, `x_test` beside `x_train`), or else
        /// `test_share`. Example: `test_path = "flowers-test.csv"`.
        pub test_path: Option<PathBuf>,
        /// The share of each class that is held out to test on, above 0 and below 1, where `csv`, `images`
        /// or `npz` data has no test set; the seed says which samples. With `evaluate = "cloud"` only.
        /// Default 0.2. Example: `test_share = 0.1`.
        pub test_share: Option<Fraction>,
        /// The label column of a `csv`, by its name in the header or its number from 0. Default: the one
        /// called `label`, `class` or `target`, or else the last. Example: `label = "species"`.
        pub label: Option<Column>,
        /// The classes of `csv` or `images` labels that are names, in the order of their numbers. Default:
        /// the names that occur, sorted. Example: `class_names = ["cat", "dog"]`.
        pub class_names: Option<ClassNames>,
        /// What the pictures of `images` are resized to, `[height, width]`, each from 1 to 4096. Default:
        /// not at all, so that they must have one size. Example: `resize = [32, 32]`.
        pub resize: Option<ImageSize>,
        /// The generated data set's size and shape; allowed with `dataset = "synthetic"` only, where each
        /// key has a default. Example: `synthetic = { shape = [3, 32, 32], classes = 10 }`.
        pub synthetic: Option<SyntheticConfig>,
        /// Only the first so many training samples, at least 1. Default: all. Example: `train_limit = 12000`.
        pub train_limit: Option<AtLeastOne>,
        /// Only the first so many test samples, at least 1; with `evaluate = "cloud"` only. Default: all.
        /// Example: `test_limit = 2000`.
        pub test_limit: Option<AtLeastOne>,
        /// Zero pixels added on each side of each image, from 0 to 256. Default 0. Example: `pad = 2`.
        pub pad: Whole<0, 256> = literal(Whole::new(0)),
        /// How the training samples are spread over the edges. Default
        /// `{ kind = "dirichlet", alpha = 0.5 }`. Example: `partition = "iid"`.
        pub partition: Partition = Partition::default(),
        /// The least number of samples that an edge gets, at least 1; with `evaluate = "edges"` at least
        /// 2, what it holds out among them. Default 64. Example: `min_samples = 64`.
        pub min_samples: AtLeastOne = literal(AtLeastOne::new(64)),
        /// How samples are standardized. Default `"zscore"`. Example: `standardize = "min-max"`.
        pub standardize: StandardizeMethod = StandardizeMethod::Zscore,
        /// Whose samples measure the accuracy. Default `"cloud"`. Example: `evaluate = "edges"`.
        pub evaluate: EvaluateAt = EvaluateAt::Cloud,
        /// The share of its samples, above 0 and below 1, that each edge keeps to evaluate on and never
        /// trains on, at least one sample; the seed says which. With `evaluate = "edges"` only, where it
        /// is 0.1 by default. Example: `holdout = 0.2`.
        pub holdout: Option<Fraction>,
        /// Whether raw samples may leave an edge: permits cut 0. Default false. Example:
        /// `allow_raw_data = true`.
        pub allow_raw_data: bool = false,
    }
}

section! {
    /// The `data.synthetic` table: one texture per class, under noise.
    pub struct SyntheticConfig {
        /// Shape of one sample, `[channels, height, width]`, each from 1 to 4096. Default `[1, 28, 28]`.
        /// Example: `shape = [3, 32, 32]`.
        pub shape: SampleShape = literal(SampleShape::new([1, 28, 28])),
        /// Number of classes, from 2 to 65536. Default 10. Example: `classes = 4`.
        pub classes: Whole<2, 65_536> = literal(Whole::new(10)),
        /// Number of training samples, from 1 to 10 million. Default 4096. Example: `train_samples = 512`.
        pub train_samples: Whole<1, 10_000_000> = literal(Whole::new(4096)),
        /// Number of test samples, from 1 to 10 million. Default 1024. Example: `test_samples = 128`.
        pub test_samples: Whole<1, 10_000_000> = literal(Whole::new(1024)),
        /// Standard deviation of the noise over the texture's root mean square: 0 is clean, 2 hard.
        /// At least 0. Default 0.5. Example: `difficulty = 1.0`.
        pub difficulty: NonNegativeF64 = literal(NonNegativeF64::new(0.5)),
    }
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self {
            shape: literal(SampleShape::new([1, 28, 28])),
            classes: literal(Whole::new(10)),
            train_samples: literal(Whole::new(4096)),
            test_samples: literal(Whole::new(1024)),
            difficulty: literal(NonNegativeF64::new(0.5)),
        }
    }
}

named! {
    /// The data sets.
    pub enum Dataset {
        /// Handwritten digits, 1x28x28, 10 classes (`LeCun` et al. 1998).
        Mnist = "mnist",
        /// Articles of clothing, 1x28x28, 10 classes (Xiao et al. 2017).
        FashionMnist = "fashion-mnist",
        /// Photographs, 3x32x32, 10 classes (Krizhevsky 2009).
        Cifar10 = "cifar10",
        /// Photographs, 3x32x32, 100 classes, the fine labels (Krizhevsky 2009).
        Cifar100 = "cifar100",
        /// A table with a label column.
        Csv = "csv",
        /// A folder of PNG and JPEG images per class.
        Images = "images",
        /// `NumPy` arrays.
        Npz = "npz",
        /// Generated from the seed: `data.synthetic`.
        Synthetic = "synthetic",
    }
}

impl Dataset {
    /// Whether it is a user's own: without a default path, and perhaps without a test set.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Csv | Self::Images | Self::Npz)
    }
}

named! {
    /// How samples are standardized, with parameters fitted over all edges' samples.
    pub enum StandardizeMethod {
        /// Mean 0 and variance 1 per channel.
        Zscore = "zscore",
        /// Smallest value 0 and largest 1 per channel.
        MinMax = "min-max",
        /// `log1p` of the value over the channel's smallest, then z-score; a value below the smallest that
        /// was trained on counts as that.
        Log = "log",
        /// L2 norm 1 per sample; a sample of zeros stays one.
        UnitNorm = "unit-norm",
        /// As it is.
        None = "none",
    }
}

named! {
    /// Whose samples measure the accuracy.
    pub enum EvaluateAt {
        /// The cloud's test set.
        Cloud = "cloud",
        /// Each edge's own held-out part.
        Edges = "edges",
    }
}
