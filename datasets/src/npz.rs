//! Arrays of `NumPy`, as `numpy.savez` and `numpy.savez_compressed` write them.
//!
//! `x_train` and `y_train`, with `x_test` and `y_test` if there is a test set, or just `x` and `y`. An `x` has
//! its samples along the first axis: `[N, features]`, `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]` with 1 or 3
//! channels; bytes are pixels, of which 255 stands for 1.0. A `y` has a class's number for each.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use thiserror::Error;
use zip::{ZipArchive, result::ZipError};

use crate::samples::{Pixels, volume};

mod npy;

use npy::{Array, Numbers};

/// Arrays that cannot be read.
#[derive(Debug, Error)]
pub enum NpzError {
    /// The file cannot be opened.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no archive, or a damaged one.
    #[error("`{}` is no .npz file that can be read: {reason}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no such array.
    #[error(
        "`{}` has no array `{array}`: it must have x_train and y_train, perhaps x_test and y_test, or x and y; it has \
         {}",
        path.display(),
        crate::classes::shown(there)
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The array.
        array: &'static str,
        /// The arrays there are.
        there: Vec<String>,
    },
    /// An array that is damaged or cannot be used.
    #[error("`{}`, array `{array}`: {reason}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The array.
        array: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// Samples with their classes' numbers.
#[derive(Debug)]
pub(crate) struct Arrays {
    pub(crate) shape: [usize; 3],
    pub(crate) pixels: Pixels,
    pub(crate) labels: Vec<u32>,
}

/// Reads the training arrays and, if there are any, the test arrays.
pub(crate) fn read(path: &Path) -> Result<(Arrays, Option<Arrays>), NpzError> {
    let file = File::open(path).map_err(|source| NpzError::Io { path: path.to_owned(), source })?;
    let length = file.metadata().map_err(|source| NpzError::Io { path: path.to_owned(), source })?.len();
    let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| archive_error(path, &error))?;
    let mut files = Vec::new();
    for name in archive.file_names() {
        files.push(name.map_err(|error| archive_error(path, &error))?.into_owned());
    }
    files.sort();
    let mut npz = Npz { path, length, archive, files };
    if npz.has("x_train") {
        let test = if npz.has("x_test") { Some(npz.half("x_test", "y_test")?) } else { None };
        Ok((npz.half("x_train", "y_train")?, test))
    } else {
        Ok((npz.half("x", "y")?, None))
    }
}

fn archive_error(path: &Path, error: &ZipError) -> NpzError {
    NpzError::Archive { path: path.to_owned(), reason: error.to_string() }
}

struct Npz<'a> {
    path: &'a Path,
    /// Bytes of the file.
    length: u64,
    archive: ZipArchive<BufReader<File>>,
    /// The names of the files in it.
    files: Vec<String>,
}

impl Npz<'_> {
    /// The file of an array, whose name may have capital letters.
    fn file(&self, array: &str) -> Option<String> {
        let wanted = format!("{array}.npy");
        self.files.iter().find(|name| name.eq_ignore_ascii_case(&wanted)).cloned()
    }

    fn has(&self, array: &str) -> bool {
        self.file(array).is_some()
    }

    fn wrong(&self, array: &str, reason: impl Into<String>) -> NpzError {
        NpzError::Array { path: self.path.to_owned(), array: array.to_owned(), reason: reason.into() }
    }

    fn array(&mut self, array: &'static str) -> Result<Array, NpzError> {
        let Some(name) = self.file(array) else {
            let there = self.files.clone();
            return Err(NpzError::Missing { path: self.path.to_owned(), array, there });
        };
        let entry = self.archive.by_name(&name).map_err(|error| archive_error(self.path, &error))?;
        // What it says of itself need not be so.
        let stored = entry.compressed_size().min(self.length);
        npy::decode(entry, stored).map_err(|reason| self.wrong(array, reason))
    }

    fn half(&mut self, x: &'static str, y: &'static str) -> Result<Arrays, NpzError> {
        let labels = self.labels(y)?;
        let (count, shape, pixels) = self.samples(x)?;
        if labels.len() != count {
            let reason = format!("it has {} labels, but `{x}` has {count} samples", labels.len());
            return Err(self.wrong(y, reason));
        }
        Ok(Arrays { shape, pixels, labels })
    }

    /// How many samples, their shape, and their values.
    fn samples(&mut self, name: &'static str) -> Result<(usize, [usize; 3], Pixels), NpzError> {
        let Array { dims, numbers } = self.array(name)?;
        let (count, shape, channels_last) = match dims[..] {
            [count, features] => (count, [features, 1, 1], false),
            [count, height, width] => (count, [1, height, width], false),
            [count, height, width, channels @ (1 | 3)] if !matches!(height, 1 | 3) => {
                (count, [channels, height, width], true)
            }
            [count, channels, height, width] => (count, [channels, height, width], false),
            _ => {
                let reason = format!(
                    "shape {dims:?}: samples must be [N, features], [N, H, W], [N, C, H, W] or [N, H, W, C]"
                );
                return Err(self.wrong(name, reason));
            }
        };
        volume(count, shape).map_err(|error| self.wrong(name, error.to_string()))?;
        let pixels = match numbers {
            Numbers::Bytes(bytes) => Pixels::U8(if channels_last { planes(&bytes, shape) } else { bytes }),
            Numbers::Integers(integers) => {
                let floats: Vec<f32> = integers.into_iter().map(|integer| integer as f32).collect();
                Pixels::F32(if channels_last { planes(&floats, shape) } else { floats })
            }
            Numbers::Floats(floats) => {
                Pixels::F32(if channels_last { planes(&floats, shape) } else { floats })
            }
        };
        Ok((count, shape, pixels))
    }

    fn labels(&mut self, name: &'static str) -> Result<Vec<u32>, NpzError> {
        let Array { dims, numbers } = self.array(name)?;
        if !matches!(dims[..], [_] | [_, 1]) {
            let reason = format!("shape {dims:?}: labels must be [N], the number of a class for each sample");
            return Err(self.wrong(name, reason));
        }
        let whole = |index: usize, label: Option<u32>, shown: String| {
            label.ok_or_else(|| {
                let reason = format!(
                    "sample {index} has label {shown}, which is no class's number: it must be 0, 1, 2, ..."
                );
                self.wrong(name, reason)
            })
        };
        match numbers {
            Numbers::Bytes(bytes) => Ok(bytes.into_iter().map(u32::from).collect()),
            Numbers::Integers(integers) => integers
                .into_iter()
                .enumerate()
                .map(|(index, label)| whole(index, u32::try_from(label).ok(), label.to_string()))
                .collect(),
            Numbers::Floats(floats) => floats
                .into_iter()
                .enumerate()
                .map(|(index, label)| {
                    let exact = label.fract() == 0.0 && (0.0..1e6).contains(&label);
                    whole(index, exact.then_some(label as u32), label.to_string())
                })
                .collect(),
        }
    }
}

/// Samples of `shape` = `[C, H, W]` that lie `[H, W, C]`, as `[C, H, W]`.
fn planes<T: Copy>(values: &[T], shape: [usize; 3]) -> Vec<T> {
    let channels = shape[0];
    let samples = values.chunks_exact(shape.iter().product::<usize>().max(1));
    samples
        .flat_map(|sample| {
            (0..channels).flat_map(move |channel| sample.iter().skip(channel).step_by(channels).copied())
        })
        .collect()
}
