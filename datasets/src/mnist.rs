//! MNIST and the data sets that come in files of the same names, and single pairs of such files.

use std::path::{Path, PathBuf};

use crate::{
    dataset::{Dataset, DatasetError, Halves},
    idx::{self, IdxError, Values},
    samples::{Pixels, Samples, SamplesError},
};

/// The first of the four files, without `.gz`.
pub(crate) const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";

/// Reads the training half from `folder`, and the other if it is asked for, in `classes` classes; by default in as
/// many as the labels show.
pub(crate) fn read(folder: &Path, classes: Option<usize>, halves: Halves) -> Result<Dataset, DatasetError> {
    let train = files(idx::find(folder, TRAIN_IMAGES)?, idx::find(folder, "train-labels-idx1-ubyte")?)?;
    let test = halves.test(|| test_files(folder))?;
    let shown = || train.classes().max(test.as_ref().map_or(0, Files::classes));
    let classes = classes.unwrap_or_else(shown);
    let train = train.in_classes(classes)?;
    Dataset::new(train, test.map(|test| test.in_classes(classes)).transpose()?)
}

/// Reads the test half alone.
pub(crate) fn read_test(folder: &Path, classes: usize) -> Result<Samples, DatasetError> {
    test_files(folder)?.in_classes(classes)
}

fn test_files(folder: &Path) -> Result<Files, DatasetError> {
    files(idx::find(folder, "t10k-images-idx3-ubyte")?, idx::find(folder, "t10k-labels-idx1-ubyte")?)
}

/// Reads a file of images and the file of their labels, which has the same name but for `labels` instead of
/// `images` and `idx1` instead of `idx3`.
pub(crate) fn read_pair(images: &Path) -> Result<Samples, DatasetError> {
    let name = images.file_name().unwrap_or_default().to_string_lossy();
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    let pair = files(images.to_owned(), images.with_file_name(labels))?;
    let classes = pair.classes();
    pair.in_classes(classes)
}

/// Images with their labels, and the files that they are from.
struct Files {
    images: PathBuf,
    labels: PathBuf,
    shape: [usize; 3],
    pixels: Vec<u8>,
    ids: Vec<u32>,
}

fn files(images: PathBuf, labels: PathBuf) -> Result<Files, DatasetError> {
    let ([image_count, height, width], pixels) = bytes(&images)?;
    let ([label_count], label_bytes) = bytes(&labels)?;
    if image_count != label_count {
        return Err(DatasetError::Counts { images, image_count, labels, label_count });
    }
    let ids = label_bytes.into_iter().map(u32::from).collect();
    Ok(Files { images, labels, shape: [1, height, width], pixels, ids })
}

impl Files {
    /// As many as the largest label asks for.
    fn classes(&self) -> usize {
        self.ids.iter().max().map_or(1, |largest| *largest as usize + 1)
    }

    fn in_classes(self, classes: usize) -> Result<Samples, DatasetError> {
        let Self { images, labels, shape, pixels, ids } = self;
        Samples::new(shape, Pixels::U8(pixels), ids, classes).map_err(|source| {
            let path = if matches!(source, SamplesError::Label { .. }) { labels } else { images };
            DatasetError::Samples { path, source }
        })
    }
}

/// The dimensions and the bytes of an IDX file.
fn bytes<const RANK: usize>(path: &Path) -> Result<([usize; RANK], Vec<u8>), IdxError> {
    let file = idx::read(path)?;
    match file.values {
        Values::U8(bytes) => Ok((file.dims, bytes)),
        other => Err(other.refused(path, "unsigned byte")),
    }
}
