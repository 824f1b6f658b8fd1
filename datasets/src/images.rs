//! Pictures in a folder for each class.
//!
//! The folders' names are the labels. Pictures are PNG or JPEG, all grey or all RGB with 8 bits a channel,
//! and of one size unless they are resized. Names that begin with a point are passed over.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits, imageops::FilterType};
use thiserror::Error;

use crate::{
    classes::{LabelError, Labels},
    samples::{SamplesError, volume},
};

/// The largest side of a picture that is decoded.
const MAX_SIDE: u32 = 8192;

/// Memory that decoding one picture may take: the largest in RGB, and some.
const MAX_DECODE_BYTES: u64 = 4 * MAX_SIDE as u64 * MAX_SIDE as u64;

/// Pictures that cannot be read.
#[derive(Debug, Error)]
pub enum ImagesError {
    /// A file or folder cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No folder of a class.
    #[error(
        "`{}` has no folders: put the pictures of each class in a folder there with the class's name",
        folder.display()
    )]
    NoClasses {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder without pictures.
    #[error("`{}` has no pictures: add some, or remove the folder", folder.display())]
    EmptyClass {
        /// The class's folder.
        folder: PathBuf,
    },
    /// Something that is not where it should be.
    #[error("`{}`: {reason}", path.display())]
    Misplaced {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// A picture that is damaged or too large.
    #[error("`{}` is no PNG or JPEG that can be read: {source}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: ImageError,
    },
    /// Other colours than the other pictures have, or than can be used.
    #[error("`{}` is {found}, expected {expected}: convert it", path.display())]
    Colour {
        /// The file.
        path: PathBuf,
        /// Its colours.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// Another size than the other pictures have.
    #[error(
        "`{}` is {found:?} pixels, [height, width], but those before it are {expected:?}: set a size for all with \
         `data.resize`",
        path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its height and width.
        found: [usize; 2],
        /// The first picture's.
        expected: [usize; 2],
    },
    /// A folder's name that is no label.
    #[error("`{}`: {source}", folder.display())]
    Label {
        /// The folder of classes.
        folder: PathBuf,
        /// What is wrong with it.
        source: LabelError,
    },
    /// More than fits in memory.
    #[error("`{}`: {source}", folder.display())]
    TooLarge {
        /// The folder of classes.
        folder: PathBuf,
        /// How much too large.
        source: SamplesError,
    },
}

/// Pictures of one shape.
#[derive(Debug)]
pub(crate) struct Pictures {
    /// `[channels, height, width]`.
    pub(crate) shape: [usize; 3],
    /// Picture after picture, channel after channel.
    pub(crate) bytes: Vec<u8>,
    pub(crate) labels: Labels,
}

/// The folders of the training and of the test pictures: `train` and `test` in `folder`, or all of it.
pub(crate) fn halves(folder: &Path) -> (PathBuf, Option<PathBuf>) {
    let [train, test] = ["train", "test"].map(|half| folder.join(half));
    if train.is_dir() && test.is_dir() { (train, Some(test)) } else { (folder.to_owned(), None) }
}

/// Reads all pictures below `folder`, in the order of the classes' and the files' names, and resizes them to
/// `resize` = `[height, width]` if there is one.
pub(crate) fn read(folder: &Path, resize: Option<[usize; 2]>) -> Result<Pictures, ImagesError> {
    let mut shape = None;
    let (mut bytes, mut labels) = (Vec::new(), Labels::default());
    let classes = entries(folder)?;
    if classes.is_empty() {
        return Err(ImagesError::NoClasses { folder: folder.to_owned() });
    }
    for class in classes {
        if !class.is_dir() {
            let reason = "only the classes' folders may be there: move this file into one, or remove it";
            return Err(ImagesError::Misplaced { path: class, reason });
        }
        let Some(name) = class.file_name().and_then(|name| name.to_str()) else {
            let reason = "the name is not UTF-8: rename the folder to the name of its class";
            return Err(ImagesError::Misplaced { path: class, reason });
        };
        let files = entries(&class)?;
        if files.is_empty() {
            return Err(ImagesError::EmptyClass { folder: class });
        }
        for file in &files {
            let picture = picture(file, resize, shape)?;
            shape = Some(picture.shape);
            labels
                .push(name, || format!("folder `{name}`"))
                .map_err(|source| ImagesError::Label { folder: folder.to_owned(), source })?;
            volume(labels.len(), picture.shape)
                .map_err(|source| ImagesError::TooLarge { folder: folder.to_owned(), source })?;
            bytes.extend(picture.planes());
        }
    }
    Ok(Pictures { shape: shape.unwrap_or_default(), bytes, labels })
}

/// What is in a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImagesError> {
    let io_error = |source| ImagesError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// One picture.
struct Picture {
    shape: [usize; 3],
    /// Row after row, the channels of a pixel side by side.
    pixels: Vec<u8>,
}

impl Picture {
    /// Channel after channel.
    fn planes(&self) -> impl Iterator<Item = u8> {
        let channels = self.shape[0];
        (0..channels).flat_map(move |channel| self.pixels.iter().skip(channel).step_by(channels).copied())
    }
}

/// Decodes `path`, which must have the shape `expected` if there is one.
fn picture(
    path: &Path,
    resize: Option<[usize; 2]>,
    expected: Option<[usize; 3]>,
) -> Result<Picture, ImagesError> {
    if path.is_dir() {
        let reason = "pictures must lie in the class's folder itself: move them up";
        return Err(ImagesError::Misplaced { path: path.to_owned(), reason });
    }
    let io_error = |source| ImagesError::Io { path: path.to_owned(), source };
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(io_error)?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        let reason = "this is no PNG or JPEG: convert it, or remove it";
        return Err(ImagesError::Misplaced { path: path.to_owned(), reason });
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    reader.limits(limits);
    let decoded = reader.decode().map_err(|source| ImagesError::Picture { path: path.to_owned(), source })?;
    let channels = match (&decoded, expected.map(|[channels, ..]| channels)) {
        (DynamicImage::ImageLuma8(_), None | Some(1)) => 1,
        (DynamicImage::ImageRgb8(_), None | Some(3)) => 3,
        (_, channels) => {
            let expected = match channels {
                Some(1) => "grey with 8 bits as the first picture",
                Some(_) => "RGB with 8 bits a channel as the first picture",
                None => "grey or RGB with 8 bits a channel",
            };
            return Err(ImagesError::Colour {
                path: path.to_owned(),
                found: format!("{:?}", decoded.color()),
                expected,
            });
        }
    };
    let decoded = match resize {
        Some([height, width]) if size(&decoded) != [height, width] => {
            decoded.resize_exact(width as u32, height as u32, FilterType::Triangle)
        }
        _ => decoded,
    };
    let [height, width] = size(&decoded);
    if let Some([_, rows, columns]) = expected
        && [height, width] != [rows, columns]
    {
        let expected = [rows, columns];
        return Err(ImagesError::Size { path: path.to_owned(), found: [height, width], expected });
    }
    Ok(Picture { shape: [channels, height, width], pixels: decoded.into_bytes() })
}

/// Height and width.
fn size(image: &DynamicImage) -> [usize; 2] {
    [image.height() as usize, image.width() as usize]
}
