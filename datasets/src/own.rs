//! Data as its owner has it: what a file or folder is, and how it becomes samples.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use partway_core::config::Column;
use thiserror::Error;

use crate::{
    cifar::{self, Cifar},
    classes::{self, Classes, Labels},
    csv::{self, Columns},
    dataset::{Dataset, DatasetError, Halves},
    images, mnist,
    npz::{self, Arrays},
    samples::{Pixels, Samples, SamplesError},
    shard,
};

/// Formats of files and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder that Partway has written for one edge.
    Shard,
    /// The four IDX files of MNIST and its successors, in a folder.
    IdxFolder,
    /// A file of images in IDX format, with a file of labels beside it.
    IdxFile,
    /// CIFAR-10's or CIFAR-100's binary files, in a folder.
    Cifar(Cifar),
    /// A table.
    Csv,
    /// A folder of pictures per class.
    Images,
    /// Arrays of `NumPy`.
    Npz,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shard => "an edge's shard",
            Self::IdxFolder => "IDX files as MNIST's",
            Self::IdxFile => "a pair of IDX files",
            Self::Cifar(Cifar::Ten) => "CIFAR-10's binary files",
            Self::Cifar(Cifar::Hundred) => "CIFAR-100's binary files",
            Self::Csv => "a table (CSV)",
            Self::Images => "a folder of pictures per class",
            Self::Npz => "NumPy arrays (.npz)",
        })
    }
}

/// A file or folder whose format is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnknownFormat {
    /// There is nothing.
    #[error("`{}` is not there: give the path of a file or folder of data", path.display())]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// Several shards.
    #[error(
        "`{}` holds the shards of {shards} edges: give the folder of one of them, such as `{}`",
        path.display(),
        one.display()
    )]
    Shards {
        /// The path.
        path: PathBuf,
        /// How many.
        shards: usize,
        /// The first of them.
        one: PathBuf,
    },
    /// There is something else.
    #[error(
        "`{}` is no data that is known: a .csv, .tsv or .npz file, a file of IDX images with `images` in its name, \
         or a folder that is a shard, holds MNIST's or CIFAR's files, or has a folder of pictures for each class",
        path.display()
    )]
    Other {
        /// The path.
        path: PathBuf,
    },
}

impl Format {
    /// What `path` looks like, by the names of the files.
    pub fn detect(path: &Path) -> Result<Self, UnknownFormat> {
        let other = || UnknownFormat::Other { path: path.to_owned() };
        if path.is_dir() {
            let shards = shards_within(path);
            return match shards.first() {
                Some(one) => Err(UnknownFormat::Shards {
                    path: path.to_owned(),
                    shards: shards.len(),
                    one: one.clone(),
                }),
                None => Self::detect_folder(path).ok_or_else(other),
            };
        }
        if !path.exists() {
            return Err(UnknownFormat::Absent { path: path.to_owned() });
        }
        let has = |extension: &str| path.extension().is_some_and(|it| it.eq_ignore_ascii_case(extension));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if has("csv") || has("tsv") {
            Ok(Self::Csv)
        } else if has("npz") {
            Ok(Self::Npz)
        } else if name.contains("images") && name.contains("idx") {
            Ok(Self::IdxFile)
        } else {
            Err(other())
        }
    }

    fn detect_folder(folder: &Path) -> Option<Self> {
        if folder.join(shard::INFO).exists() {
            return Some(Self::Shard);
        }
        if crate::idx::find(folder, mnist::TRAIN_IMAGES).is_ok() {
            return Some(Self::IdxFolder);
        }
        let has_cifar = |cifar: &Cifar| {
            let first = cifar.files().0[0];
            folder.join(first).exists() || folder.join(cifar.subfolder()).join(first).exists()
        };
        if let Some(cifar) = [Cifar::Ten, Cifar::Hundred].into_iter().find(has_cifar) {
            return Some(Self::Cifar(cifar));
        }
        let mut entries = folder.read_dir().ok()?.filter_map(Result::ok);
        entries.any(|entry| entry.path().is_dir()).then_some(Self::Images)
    }
}

/// The shards in a folder that is none itself, by name.
fn shards_within(folder: &Path) -> Vec<PathBuf> {
    if folder.join(shard::INFO).exists() {
        return Vec::new();
    }
    let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
    let mut shards: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join(shard::INFO).exists()).collect();
    shards.sort();
    shards
}

/// How files are to be read, where they leave it open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The label column of a table.
    pub label: Option<Column>,
    /// The classes of labels that are names, in the order of their numbers.
    pub class_names: Option<Vec<String>>,
    /// `[height, width]` that pictures are resized to.
    pub resize: Option<[usize; 2]>,
    /// `[C, H, W]` that tables' rows and arrays are taken for, where they have as many values.
    pub shape: Option<[usize; 3]>,
    /// Zero pixels added on each side.
    pub pad: usize,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The samples, or those to train on if some are to test on.
    pub train: Samples,
    /// The data's own test set.
    pub test: Option<Samples>,
    /// A table's columns.
    pub columns: Option<Columns>,
}

impl Loaded {
    fn of(train: Samples, test: Option<Samples>) -> Self {
        Self { train, test, columns: None }
    }

    /// With every sample changed in the same way.
    fn map(self, change: impl Fn(Samples) -> Result<Samples, SamplesError>) -> Result<Self, DatasetError> {
        Ok(Self {
            train: change(self.train).map_err(DatasetError::Shape)?,
            test: self.test.map(change).transpose().map_err(DatasetError::Shape)?,
            ..self
        })
    }
}

impl From<Dataset> for Loaded {
    fn from(dataset: Dataset) -> Self {
        Self::of(dataset.train, dataset.test)
    }
}

/// Reads what is at `path`; if the test set is wanted, from `test_path` instead of the data's own if that is given.
pub fn load(
    format: Format,
    path: &Path,
    test_path: Option<&Path>,
    halves: Halves,
    reading: &Reading,
) -> Result<Loaded, DatasetError> {
    let is_tested = halves != Halves::Training;
    let test_path = test_path.filter(|_| is_tested);
    let loaded = match format {
        Format::Shard => Loaded::of(shard::read(path)?, None),
        Format::IdxFolder => mnist::read(path, None, halves)?.into(),
        Format::IdxFile => Loaded::of(mnist::read_pair(path)?, None),
        Format::Cifar(cifar) => cifar::read(cifar, path, halves)?.into(),
        Format::Csv => {
            let (train, columns) = table(path, reading)?;
            let test = test_path.map(|path| table(path, reading)).transpose()?;
            if let Some((test, test_columns)) = &test
                && *test_columns != columns
            {
                let reason = format!("its columns are not those of `{}` in the same order", path.display());
                Err(csv::CsvError::Header { path: test.path.clone(), reason })?;
            }
            let labelled = label(train, test.map(|(test, _)| test), reading)?;
            Loaded { columns: Some(columns), ..labelled }
        }
        Format::Images => {
            let (train, own_test) = images::halves(path);
            let test = test_path.map(Path::to_owned).or(own_test.filter(|_| is_tested));
            let test = test.map(|folder| pictures(&folder, reading)).transpose()?;
            label(pictures(&train, reading)?, test, reading)?
        }
        Format::Npz => {
            let (train, own_test) = npz::read(path)?;
            let test = match test_path {
                // Of arrays made for training and testing, those for testing.
                Some(path) => {
                    let (whole, test) = npz::read(path)?;
                    Some(unlabelled_arrays(path, test.unwrap_or(whole)))
                }
                None => own_test.filter(|_| is_tested).map(|test| unlabelled_arrays(path, test)),
            };
            label(unlabelled_arrays(path, train), test, reading)?
        }
    };
    let loaded = match (format, reading.shape) {
        (Format::Csv | Format::Npz, Some(shape)) if fits(&loaded.train, shape) => {
            loaded.map(|samples| samples.reshaped(shape))?
        }
        _ => loaded,
    };
    match reading.pad {
        0 => Ok(loaded),
        pad => loaded.map(|samples| samples.padded(pad)),
    }
}

/// Whether samples can be taken for `shape`; if they cannot, whoever needs that shape says so.
fn fits(samples: &Samples, shape: [usize; 3]) -> bool {
    shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side)) == Some(samples.sample_len())
}

/// Samples whose labels are as they stand in the files.
struct Unlabelled {
    path: PathBuf,
    shape: [usize; 3],
    pixels: Pixels,
    labels: Found,
}

/// Labels in files.
enum Found {
    Texts(Labels),
    Numbers(Vec<u32>),
}

fn table(path: &Path, reading: &Reading) -> Result<(Unlabelled, Columns), DatasetError> {
    let rows = csv::read(path, reading.label.as_ref())?;
    let shape = [rows.columns.features.len(), 1, 1];
    let (pixels, labels) = (Pixels::F32(rows.values), Found::Texts(rows.labels));
    Ok((Unlabelled { path: path.to_owned(), shape, pixels, labels }, rows.columns))
}

fn pictures(folder: &Path, reading: &Reading) -> Result<Unlabelled, DatasetError> {
    let read = images::read(folder, reading.resize)?;
    let (pixels, labels) = (Pixels::U8(read.bytes), Found::Texts(read.labels));
    Ok(Unlabelled { path: folder.to_owned(), shape: read.shape, pixels, labels })
}

fn unlabelled_arrays(path: &Path, arrays: Arrays) -> Unlabelled {
    let Arrays { shape, pixels, labels } = arrays;
    Unlabelled { path: path.to_owned(), shape, pixels, labels: Found::Numbers(labels) }
}

/// Gives both halves the same classes.
fn label(train: Unlabelled, test: Option<Unlabelled>, reading: &Reading) -> Result<Loaded, DatasetError> {
    let halves: Vec<&Unlabelled> = [Some(&train), test.as_ref()].into_iter().flatten().collect();
    let texts: Vec<&Labels> = halves
        .iter()
        .filter_map(|half| match &half.labels {
            Found::Texts(labels) => Some(labels),
            Found::Numbers(_) => None,
        })
        .collect();
    let mut classes = Classes::of(&texts, reading.class_names.as_deref())
        .map_err(|source| DatasetError::Labels { path: train.path.clone(), source })?;
    for half in halves {
        if let Found::Numbers(labels) = &half.labels {
            classes.count = labels.iter().fold(classes.count, |count, label| count.max(*label as usize + 1));
        }
    }
    let samples = |half: Unlabelled| {
        let labels = match half.labels {
            Found::Texts(labels) => classes.ids(&labels),
            Found::Numbers(labels) => labels,
        };
        Samples::new(half.shape, half.pixels, labels, classes.count.max(1))
            .map(|samples| samples.named(classes.names.clone()))
            .map_err(|source| DatasetError::Samples { path: half.path, source })
    };
    Ok(Loaded::of(samples(train)?, test.map(samples).transpose()?))
}

/// Data that one edge alone sees, and that its labels keep from being trained on with others'.
#[derive(Debug, Error)]
pub enum EdgeDataError {
    /// It cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Names that other edges may number otherwise.
    #[error(
        "`{}` has labels that are names ({}), and every edge must number them alike: give all of the classes' names \
         in the order of the coordinator's `data.class_names` with --class-names, or use the classes' numbers as \
         labels",
        path.display(),
        classes::shown(names)
    )]
    Unlisted {
        /// The file or folder.
        path: PathBuf,
        /// The names.
        names: Vec<String>,
    },
}

/// Reads an edge's own data, a shard or any other format, to train on: without the test set if it has one.
///
/// # Errors
/// Besides what cannot be read, labels that are names without `reading.class_names`: no edge sees the others'
/// names, so nobody could number them.
pub fn load_for_edge(path: &Path, reading: &Reading) -> Result<Samples, EdgeDataError> {
    let format = Format::detect(path).map_err(DatasetError::from)?;
    let loaded = load(format, path, None, Halves::Training, reading)?;
    if loaded.train.is_empty() {
        return Err(DatasetError::Empty { half: "training" }.into());
    }
    let names = loaded.train.class_names();
    // A shard's were numbered when it was dealt out.
    if reading.class_names.is_none() && format != Format::Shard && !names.is_empty() {
        return Err(EdgeDataError::Unlisted { path: path.to_owned(), names: names.to_vec() });
    }
    Ok(loaded.train)
}
