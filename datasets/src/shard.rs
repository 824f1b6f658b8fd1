//! One edge's samples in a folder of its own: the only data that an edge ever opens.
//!
//! `images.idx` (bytes or floats, `[N, C, H, W]`) and `labels.idx` (32-bit integers, `[N]`) are plain IDX
//! files. `shard.toml` says `classes = 10` and, if they have any, the classes' names in the order of their
//! numbers; it is written last, so a folder that has it is whole.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    idx::{self, IdxError, Values, ValuesRef},
    samples::{Pixels, Samples, SamplesError},
};

const IMAGES: &str = "images.idx";
const LABELS: &str = "labels.idx";
/// The file that makes a folder a shard.
pub(crate) const INFO: &str = "shard.toml";

/// No `shard.toml` is longer than this.
const MAX_INFO_BYTES: u64 = 16 << 20;

/// What an error shows of another file.
const SHOWN_CHARS: usize = 200;

/// `shard.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    classes: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    class_names: Vec<String>,
}

/// A shard that cannot be written or read.
#[derive(Debug, Error)]
pub enum ShardError {
    /// The folder was never written, or not to the end.
    #[error("`{}` is no shard, or one that was not written to the end: it has no {INFO}; write it again", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file that says how many classes there are.
    #[error(
        "`{}` holds {found:?}, expected `classes = 10` and perhaps as many `class_names`: write the shard again",
        path.display()
    )]
    Info {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// One of the two IDX files.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// Images and labels of different shards.
    #[error("`{}`: {images} images, but {labels} labels: write the shard again", folder.display())]
    Counts {
        /// The folder.
        folder: PathBuf,
        /// How many images.
        images: usize,
        /// How many labels.
        labels: usize,
    },
    /// A label below 0, or too large for the format.
    #[error("`{}`: sample {index} has label {label}, which no label can be", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// Which sample.
        index: usize,
        /// Its label.
        label: i64,
    },
    /// Whole files of samples that do not fit together.
    #[error("the samples of `{}`: {source}", folder.display())]
    Samples {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with them.
        source: SamplesError,
    },
}

/// Writes `samples` to `folder`, which is made if need be; a shard that is there is replaced. Each file
/// appears whole or not at all.
pub fn write(folder: &Path, samples: &Samples) -> Result<(), ShardError> {
    let labels_path = folder.join(LABELS);
    let labels = samples
        .labels()
        .iter()
        .enumerate()
        .map(|(index, label)| {
            i32::try_from(*label).map_err(|_| label_error(&labels_path, index, i64::from(*label)))
        })
        .collect::<Result<Vec<i32>, _>>()?;
    fs::create_dir_all(folder).map_err(io_error("make", folder))?;
    // Without this file the folder is no shard: neither the old nor the new one, until both are in place.
    let info = folder.join(INFO);
    match fs::remove_file(&info) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("replace", &info)(error))?,
        _ => {}
    }
    let [channels, height, width] = samples.shape();
    let pixels = match samples.pixels() {
        Pixels::U8(values) => ValuesRef::U8(values),
        Pixels::F32(values) => ValuesRef::F32(values),
    };
    replace(folder, IMAGES, |out| idx::encode(out, &[samples.len(), channels, height, width], pixels))?;
    replace(folder, LABELS, |out| idx::encode(out, &[labels.len()], ValuesRef::I32(&labels)))?;
    let about = Info { classes: samples.classes(), class_names: samples.class_names().to_vec() };
    let about = toml::to_string(&about).map_err(|error| io_error("write", &info)(io::Error::other(error)))?;
    replace(folder, INFO, |out| out.write_all(about.as_bytes()))
}

/// Reads the shard in `folder`.
pub fn read(folder: &Path) -> Result<Samples, ShardError> {
    let Info { classes, class_names } = read_info(folder)?;
    let (images_path, labels_path) = (folder.join(IMAGES), folder.join(LABELS));
    let images = idx::read::<4>(&images_path)?;
    let pixels = match images.values {
        Values::U8(values) => Pixels::U8(values),
        Values::F32(values) => Pixels::F32(values),
        other @ Values::I32(_) => Err(other.refused(&images_path, "unsigned byte or 32-bit float"))?,
    };
    let labels = match idx::read::<1>(&labels_path)?.values {
        Values::I32(values) => values,
        other => Err(other.refused(&labels_path, "32-bit integer"))?,
    };
    let [count, channels, height, width] = images.dims;
    if count != labels.len() {
        return Err(ShardError::Counts { folder: folder.to_owned(), images: count, labels: labels.len() });
    }
    let labels = labels
        .into_iter()
        .enumerate()
        .map(|(index, label)| {
            u32::try_from(label).map_err(|_| label_error(&labels_path, index, label.into()))
        })
        .collect::<Result<Vec<u32>, _>>()?;
    Samples::new([channels, height, width], pixels, labels, classes)
        .map(|samples| samples.named(class_names))
        .map_err(|source| ShardError::Samples { folder: folder.to_owned(), source })
}

fn read_info(folder: &Path) -> Result<Info, ShardError> {
    let path = folder.join(INFO);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ShardError::Missing { folder: folder.to_owned() });
        }
        file => file.map_err(io_error("read", &path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_INFO_BYTES).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
    let text = String::from_utf8_lossy(&bytes);
    match toml::from_str::<Info>(&text) {
        Ok(info) if info.class_names.is_empty() || info.class_names.len() == info.classes => Ok(info),
        _ => Err(ShardError::Info { path, found: text.chars().take(SHOWN_CHARS).collect() }),
    }
}

/// Writes the file `name` beside where it belongs and, once the disk has it, moves it there.
fn replace(
    folder: &Path,
    name: &str,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), ShardError> {
    let path = folder.join(name);
    let unfinished = folder.join(format!(".{name}.unfinished"));
    let written = File::create(&unfinished).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        content(&mut out)?;
        out.into_inner()?.sync_all()?;
        fs::rename(&unfinished, &path)
    });
    written.map_err(io_error("write", &path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShardError {
    move |source| ShardError::Io { action, path: path.to_owned(), source }
}

fn label_error(path: &Path, index: usize, label: i64) -> ShardError {
    ShardError::Label { path: path.to_owned(), index, label }
}
