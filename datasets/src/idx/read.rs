//! Reading: no more memory than the header claims, and no more than the file can hold.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;

use super::{Element, Idx, IdxError, Values};
use crate::samples::MAX_VALUES;

/// Deflate never expands a byte to more than this (258 bytes from 2 bits).
const MAX_DEFLATE_RATIO: u64 = 1032;

/// How far past the expected end a file is read, to say how much too long it is.
const MAX_EXCESS: u64 = 1 << 20;

/// Reads the IDX file at `path`, compressed if its name ends in `.gz`, which must have `RANK` dimensions
/// and not a byte more or less than its header claims.
pub fn read<const RANK: usize>(path: &Path) -> Result<Idx<RANK>, IdxError> {
    let io_error = |source| IdxError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io_error)?;
    let stored = file.metadata().map_err(io_error)?.len();
    let file = BufReader::with_capacity(1 << 16, file);
    if path.extension().is_some_and(|extension| extension == "gz") {
        decode(MultiGzDecoder::new(file), path, stored.saturating_mul(MAX_DEFLATE_RATIO))
    } else {
        decode(file, path, stored)
    }
}

/// Decodes uncompressed IDX bytes; `path` names them in errors. Whatever the header claims, at most
/// `reserve` bytes are reserved before they have been seen.
pub fn decode<const RANK: usize>(bytes: impl Read, path: &Path, reserve: u64) -> Result<Idx<RANK>, IdxError> {
    let mut source = Source { bytes, path, taken: 0, reserve };
    let start = source.section(4)?;
    let (element, found) = match start[..] {
        [0, 0, code, rank] => Element::from_code(code).map(|element| (element, rank)),
        _ => None,
    }
    .ok_or_else(|| IdxError::Magic { path: path.to_owned(), found: start })?;
    if usize::from(found) != RANK {
        return Err(IdxError::Rank { path: path.to_owned(), expected: RANK, found });
    }
    let sides = source.section(4 * RANK as u64)?;
    let mut dims = [0; RANK];
    for (side, bytes) in dims.iter_mut().zip(sides.as_chunks().0) {
        *side = u32::from_be_bytes(*bytes) as usize;
    }
    let count = dims.iter().try_fold(1u64, |product, side| product.checked_mul(*side as u64));
    let Some(count) = count.filter(|count| *count <= MAX_VALUES) else {
        return Err(IdxError::TooLarge { path: path.to_owned(), dims: dims.to_vec(), limit: MAX_VALUES });
    };
    let values = source.section(count * element.size())?;
    source.end()?;
    let words = values.as_chunks().0.iter();
    Ok(Idx {
        dims,
        values: match element {
            Element::U8 => Values::U8(values),
            Element::I32 => Values::I32(words.map(|word| i32::from_be_bytes(*word)).collect()),
            Element::F32 => Values::F32(words.map(|word| f32::from_be_bytes(*word)).collect()),
        },
    })
}

/// The uncompressed bytes of a file, and how far they were read.
struct Source<'a, R> {
    bytes: R,
    path: &'a Path,
    taken: u64,
    reserve: u64,
}

impl<R: Read> Source<'_, R> {
    /// The next `length` bytes.
    fn section(&mut self, length: u64) -> Result<Vec<u8>, IdxError> {
        let mut section = Vec::new();
        usize::try_from(length.min(self.reserve))
            .map_err(io::Error::other)
            .and_then(|capacity| section.try_reserve_exact(capacity).map_err(io::Error::other))
            .map_err(|source| self.io_error(source))?;
        let read = self.bytes.by_ref().take(length).read_to_end(&mut section);
        let expected = self.taken + length;
        self.taken += section.len() as u64;
        match read {
            // A compressed stream that ends early is an error, a plain file that does is not.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(self.io_error(error)),
            _ if self.taken == expected => Ok(section),
            _ => Err(IdxError::Truncated { path: self.path.to_owned(), expected, actual: self.taken }),
        }
    }

    /// Refuses whatever follows; a compressed stream checks its checksum here.
    fn end(self) -> Result<(), IdxError> {
        match io::copy(&mut self.bytes.take(MAX_EXCESS), &mut io::sink()) {
            Ok(0) => Ok(()),
            Ok(excess) => Err(IdxError::TooLong {
                path: self.path.to_owned(),
                expected: self.taken,
                actual: self.taken + excess,
                more: excess == MAX_EXCESS,
            }),
            Err(source) => Err(IdxError::Io { path: self.path.to_owned(), source }),
        }
    }

    fn io_error(&self, source: io::Error) -> IdxError {
        IdxError::Io { path: self.path.to_owned(), source }
    }
}
