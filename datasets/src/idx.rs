//! The IDX format of the MNIST files, plain or gzip-compressed.
//!
//! ```text
//! byte  0  1  2        3     4 ..          4 + 4 * rank ..
//!       0  0  element  rank  dims (u32)    values, the last dimension fastest; all big-endian
//! ```

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

mod read;
mod write;

pub use read::{decode, read};
pub use write::encode;

/// What one value of an IDX file is; the number is the format's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// An unsigned byte.
    U8 = 0x08,
    /// A signed 32-bit integer.
    I32 = 0x0c,
    /// A 32-bit float.
    F32 = 0x0d,
}

impl Element {
    fn from_code(code: u8) -> Option<Self> {
        [Self::U8, Self::I32, Self::F32].into_iter().find(|element| *element as u8 == code)
    }

    /// Bytes of one value.
    fn size(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::I32 | Self::F32 => 4,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "unsigned byte",
            Self::I32 => "32-bit integer",
            Self::F32 => "32-bit float",
        })
    }
}

/// The values of an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of [`Element::U8`].
    U8(Vec<u8>),
    /// Of [`Element::I32`].
    I32(Vec<i32>),
    /// Of [`Element::F32`].
    F32(Vec<f32>),
}

impl Values {
    /// The error that the file at `path` holds these values where only `expected` ones will do.
    pub fn refused(&self, path: &Path, expected: &'static str) -> IdxError {
        let found = match self {
            Self::U8(_) => Element::U8,
            Self::I32(_) => Element::I32,
            Self::F32(_) => Element::F32,
        };
        IdxError::WrongElement { path: path.to_owned(), expected, found }
    }
}

/// Borrowed values, to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValuesRef<'a> {
    /// Of [`Element::U8`].
    U8(&'a [u8]),
    /// Of [`Element::I32`].
    I32(&'a [i32]),
    /// Of [`Element::F32`].
    F32(&'a [f32]),
}

/// An IDX file's content: as many values as the product of `dims`.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx<const RANK: usize> {
    /// The dimensions, outermost first.
    pub dims: [usize; RANK],
    /// The values, the last dimension fastest.
    pub values: Values,
}

/// An IDX file that cannot be read. Bytes are counted uncompressed, the header included.
#[derive(Debug, Error)]
pub enum IdxError {
    /// Neither name is there.
    #[error("`{}` holds neither `{name}.gz` nor `{name}`: put one there or name another folder", folder.display())]
    Missing {
        /// Where both were looked for.
        folder: PathBuf,
        /// The name without `.gz`.
        name: String,
    },
    /// The file cannot be opened or read, or its compression is broken.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system or the decompression said.
        source: io::Error,
    },
    /// The first bytes are not those of an IDX file.
    #[error(
        "`{}` is no IDX file: it begins with {found:02x?}, but the first two bytes must be 0 and the third \
         a known type",
        path.display()
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// Its first four bytes.
        found: Vec<u8>,
    },
    /// Another kind of value than is needed.
    #[error("`{}` holds values of type {found}, expected {expected}", path.display())]
    WrongElement {
        /// The file.
        path: PathBuf,
        /// What would do.
        expected: &'static str,
        /// The file's type.
        found: Element,
    },
    /// Another number of dimensions than asked for.
    #[error("`{}` has {found} dimensions, expected {expected}", path.display())]
    Rank {
        /// The file.
        path: PathBuf,
        /// Dimensions asked for.
        expected: usize,
        /// The file's.
        found: u8,
    },
    /// The header claims more than any data set that fits in memory.
    #[error("`{}` claims dimensions {dims:?}, more than {limit} values: the file is damaged or too large", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The dimensions it claims.
        dims: Vec<usize>,
        /// Most values accepted.
        limit: u64,
    },
    /// The file ends early.
    #[error(
        "`{}` is cut off: expected {expected} bytes uncompressed, it ends after {actual}; copy it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The file goes on after its last value.
    #[error(
        "`{}` is too long: expected {expected} bytes uncompressed, it has {actual}{}; copy it again",
        path.display(),
        if *more { " or more" } else { "" }
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that were counted.
        actual: u64,
        /// Whether counting stopped before the end.
        more: bool,
    },
}

/// The path of `name` in `folder`, compressed (`name.gz`) or plain; the compressed one if both are there.
pub fn find(folder: &Path, name: &str) -> Result<PathBuf, IdxError> {
    for candidate in [format!("{name}.gz"), name.to_owned()] {
        let path = folder.join(candidate);
        if path.try_exists().map_err(|source| IdxError::Io { path: path.clone(), source })? {
            return Ok(path);
        }
    }
    Err(IdxError::Missing { folder: folder.to_owned(), name: name.to_owned() })
}
