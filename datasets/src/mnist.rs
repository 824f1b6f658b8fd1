//! MNIST and the data sets that come in files of the same names.

use std::path::Path;

use crate::{
    dataset::{Dataset, DatasetError},
    idx::{self, IdxError, Values},
    samples::{Pixels, Samples, SamplesError},
};

const CLASSES: usize = 10;

/// Reads both halves from `folder`.
pub(crate) fn read(folder: &Path) -> Result<Dataset, DatasetError> {
    Dataset::new(
        half(folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte")?,
        half(folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")?,
    )
}

fn half(folder: &Path, images: &str, labels: &str) -> Result<Samples, DatasetError> {
    let images = idx::find(folder, images)?;
    let labels = idx::find(folder, labels)?;
    let ([image_count, height, width], pixels) = bytes(&images)?;
    let ([label_count], label_bytes) = bytes(&labels)?;
    if image_count != label_count {
        return Err(DatasetError::Counts { images, image_count, labels, label_count });
    }
    let label_values = label_bytes.into_iter().map(u32::from).collect();
    Samples::new([1, height, width], Pixels::U8(pixels), label_values, CLASSES).map_err(|source| {
        let path = if matches!(source, SamplesError::Label { .. }) { labels } else { images };
        DatasetError::Samples { path, source }
    })
}

/// The dimensions and the bytes of an IDX file.
fn bytes<const RANK: usize>(path: &Path) -> Result<([usize; RANK], Vec<u8>), IdxError> {
    let file = idx::read(path)?;
    match file.values {
        Values::U8(bytes) => Ok((file.dims, bytes)),
        other => Err(other.refused(path, "unsigned byte")),
    }
}
