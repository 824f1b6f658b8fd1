//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their binary version: 3x32x32, red, green and blue planes.
//!
//! ```text
//! CIFAR-10    label                 3072 pixels    data_batch_1.bin to data_batch_5.bin, test_batch.bin
//! CIFAR-100   coarse label   label  3072 pixels    train.bin, test.bin
//! ```

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    dataset::{Dataset, DatasetError, Halves},
    samples::{MAX_VALUES, Pixels, Samples},
};

const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cifar {
    /// 10 classes.
    Ten,
    /// 100 classes: the fine labels.
    Hundred,
}

/// Files that are not CIFAR's.
#[derive(Debug, Error)]
pub enum CifarError {
    /// One is not there.
    #[error("neither `{}` nor its folder `{subfolder}` holds `{file}`", folder.display())]
    Missing {
        /// The folder that was named.
        folder: PathBuf,
        /// The folder that the archive unpacks to.
        subfolder: &'static str,
        /// The file.
        file: &'static str,
    },
    /// The archive itself was named.
    #[error("`{}` is an archive: unpack it and name the folder", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
    },
    /// One cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a whole number of images, or none, or more than fit in memory.
    #[error("`{}` has {bytes} bytes, expected a multiple of {record}: copy it again", path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// Bytes that it has.
        bytes: u64,
        /// Bytes of an image with its labels.
        record: usize,
    },
}

impl Cifar {
    /// The folder in the archive.
    pub(crate) fn subfolder(self) -> &'static str {
        match self {
            Self::Ten => "cifar-10-batches-bin",
            Self::Hundred => "cifar-100-binary",
        }
    }

    /// The training files and the test file.
    pub(crate) fn files(self) -> (&'static [&'static str], &'static str) {
        const BATCHES: [&str; 5] = [
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ];
        match self {
            Self::Ten => (&BATCHES, "test_batch.bin"),
            Self::Hundred => (&["train.bin"], "test.bin"),
        }
    }

    fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    /// Bytes before the pixels; the last of them is the label.
    fn label_bytes(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }
}

/// Reads the training half, and the other if it is asked for, from `folder` or from the folder in it that the
/// archive unpacks to.
pub(crate) fn read(cifar: Cifar, folder: &Path, halves: Halves) -> Result<Dataset, DatasetError> {
    Dataset::new(half(cifar, folder, cifar.files().0)?, halves.test(|| read_test(cifar, folder))?)
}

/// Reads the test half alone.
pub(crate) fn read_test(cifar: Cifar, folder: &Path) -> Result<Samples, DatasetError> {
    half(cifar, folder, &[cifar.files().1])
}

fn half(cifar: Cifar, folder: &Path, files: &[&'static str]) -> Result<Samples, DatasetError> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        let bytes = records(cifar, folder, file)?;
        for record in bytes.chunks_exact(cifar.label_bytes() + PIXELS) {
            let (label, image) = record.split_at(cifar.label_bytes());
            labels.extend(label.last().map(|label| u32::from(*label)));
            pixels.extend_from_slice(image);
        }
    }
    Samples::new(SHAPE, Pixels::U8(pixels), labels, cifar.classes())
        .map_err(|source| DatasetError::Samples { path: folder.join(files.join(", ")), source })
}

/// The bytes of a file, which are whole records.
fn records(cifar: Cifar, folder: &Path, file: &'static str) -> Result<Vec<u8>, CifarError> {
    if folder.is_file() {
        return Err(CifarError::Archive { path: folder.to_owned() });
    }
    let places = [folder.join(file), folder.join(cifar.subfolder()).join(file)];
    let Some(path) = places.into_iter().find(|path| path.exists()) else {
        let subfolder = cifar.subfolder();
        return Err(CifarError::Missing { folder: folder.to_owned(), subfolder, file });
    };
    let record = cifar.label_bytes() + PIXELS;
    let io_error = |source| CifarError::Io { path: path.clone(), source };
    let length = fs::metadata(&path).map_err(io_error)?.len();
    if length == 0 || length % record as u64 != 0 || length > MAX_VALUES {
        return Err(CifarError::Length { path, bytes: length, record });
    }
    let mut bytes = Vec::new();
    File::open(&path).map_err(io_error)?.take(length).read_to_end(&mut bytes).map_err(io_error)?;
    Ok(bytes)
}
