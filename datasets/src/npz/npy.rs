//! One array: the format of `.npy` files, versions 1 to 3.
//!
//! ```text
//! byte  0 .. 5       6      7      8 ..                10 or 12 ..
//!       \x93NUMPY    major  minor  length (u16 / u32)  header: {'descr': '<f4', 'fortran_order': False,
//!                                                               'shape': (60000, 28, 28), }
//! ```

use std::io::{self, Read};

use crate::samples::MAX_VALUES;

/// Deflate never expands a byte to more than this (258 bytes from 2 bits).
const MAX_DEFLATE_RATIO: u64 = 1032;

/// No header of an array of numbers is longer than this.
const MAX_HEADER_BYTES: u64 = 1 << 16;

const DTYPES: &str = "bool, (u)int8, (u)int16, (u)int32, (u)int64, float32 or float64, little- or big-endian, such as `.astype(\"float32\")` gives";

/// An array of numbers.
#[derive(Debug)]
pub(super) struct Array {
    /// The shape.
    pub(super) dims: Vec<usize>,
    /// The values, the last axis fastest; as many as the product of `dims`.
    pub(super) numbers: Numbers,
}

/// An array's values.
#[derive(Debug)]
pub(super) enum Numbers {
    /// Of `uint8`.
    Bytes(Vec<u8>),
    /// Of any other integer type or `bool`.
    Integers(Vec<i64>),
    /// Of a floating-point type.
    Floats(Vec<f32>),
}

/// Decodes an array of which `stored` bytes are in the archive; the error is a reason in words.
pub(super) fn decode(mut bytes: impl Read, stored: u64) -> Result<Array, String> {
    let mut start = [0; 8];
    bytes.read_exact(&mut start).map_err(|error| read_error(&error))?;
    let [b'\x93', b'N', b'U', b'M', b'P', b'Y', major @ 1..=3, _] = start else {
        return Err("it is no array: it does not begin as a .npy file".into());
    };
    let mut length = [0; 4];
    let length_bytes = if major == 1 { 2 } else { 4 };
    bytes.read_exact(&mut length[..length_bytes]).map_err(|error| read_error(&error))?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > MAX_HEADER_BYTES {
        return Err(format!("a header of {length} bytes is not one of numbers"));
    }
    let header = section(&mut bytes, length, length)?;
    let header = String::from_utf8(header).map_err(|_| "the header is not text".to_owned())?;
    let Header { dtype, fortran, dims } = Header::parse(&header)?;
    if fortran {
        return Err("its first axis is the fastest (Fortran order): save `numpy.ascontiguousarray(a)`".into());
    }
    let count = dims.iter().try_fold(1u64, |product, side| product.checked_mul(*side as u64));
    let count = count.filter(|count| *count <= MAX_VALUES).ok_or_else(|| {
        format!("shape {dims:?} is more than {MAX_VALUES} values: use fewer or smaller samples")
    })?;
    let expected = count * dtype.size as u64;
    let values = section(&mut bytes, expected, stored.saturating_mul(MAX_DEFLATE_RATIO))?;
    // An archive's checksum is checked where it ends.
    match io::copy(&mut bytes.take(1), &mut io::sink()) {
        Ok(0) => Ok(Array { dims, numbers: dtype.numbers(values) }),
        Ok(_) => Err("it goes on after its last value: save it again".into()),
        Err(error) => Err(read_error(&error)),
    }
}

fn read_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off: save it again".into(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// The next `length` bytes; at most `reserve` are reserved before they have been seen.
fn section(bytes: &mut impl Read, length: u64, reserve: u64) -> Result<Vec<u8>, String> {
    let mut section = Vec::new();
    usize::try_from(length.min(reserve))
        .map_err(|error| error.to_string())
        .and_then(|capacity| section.try_reserve_exact(capacity).map_err(|error| error.to_string()))?;
    bytes.by_ref().take(length).read_to_end(&mut section).map_err(|error| read_error(&error))?;
    if section.len() as u64 == length { Ok(section) } else { Err("it is cut off: save it again".into()) }
}

/// A type of numbers.
struct Dtype {
    /// As `NumPy` has it: b, u, i or f.
    kind: char,
    /// Bytes of a value.
    size: usize,
    big_endian: bool,
}

impl Dtype {
    fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let (order, kind) = (letters.next()?, letters.next()?);
        let size = letters.as_str();
        let known = match kind {
            'b' => size == "1",
            'u' | 'i' => matches!(size, "1" | "2" | "4" | "8"),
            'f' => matches!(size, "4" | "8"),
            _ => false,
        };
        let size = size.parse().ok()?;
        (known && matches!(order, '<' | '>' | '|')).then_some(Self { kind, size, big_endian: order == '>' })
    }

    /// The values that lie in `bytes`, a multiple of the size.
    fn numbers(&self, bytes: Vec<u8>) -> Numbers {
        if (self.kind, self.size) == ('u', 1) {
            return Numbers::Bytes(bytes);
        }
        let words = bytes.chunks_exact(self.size).map(|word| self.word(word));
        match (self.kind, self.size) {
            ('f', 4) => Numbers::Floats(words.map(|word| f32::from_bits(word as u32)).collect()),
            ('f', _) => Numbers::Floats(words.map(|word| f64::from_bits(word) as f32).collect()),
            ('i', size) => {
                // Moved to the top and back, which brings the sign along.
                let unused = 64 - 8 * size as u32;
                Numbers::Integers(words.map(|word| (word << unused).cast_signed() >> unused).collect())
            }
            _ => Numbers::Integers(words.map(|word| i64::try_from(word).unwrap_or(i64::MAX)).collect()),
        }
    }

    /// Up to 8 bytes as the bits of a number.
    fn word(&self, bytes: &[u8]) -> u64 {
        let add = |word: u64, byte: &u8| word << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    }
}

/// What a header says.
struct Header {
    dtype: Dtype,
    fortran: bool,
    dims: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("its header is none of an array of numbers: {:.80}", text.trim_end());
        let descr = value(text, "descr").ok_or_else(unknown)?;
        let name = descr.strip_prefix(['\'', '"']).and_then(|rest| rest.split(['\'', '"']).next());
        let Some(name) = name else {
            return Err(format!("it holds records, not numbers: save one array of {DTYPES}"));
        };
        let dtype =
            Dtype::parse(name).ok_or_else(|| format!("type `{name}` cannot be used: save it as {DTYPES}"))?;
        let order = value(text, "fortran_order").ok_or_else(unknown)?;
        let sides = value(text, "shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
        let (sides, _) = sides.ok_or_else(unknown)?;
        let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
        let dims: Option<Vec<usize>> = sides.map(|side| side.parse().ok()).collect();
        Ok(Self { dtype, fortran: order.starts_with("True"), dims: dims.ok_or_else(unknown)? })
    }
}

/// What follows a key of the header, a Python dictionary of plain values.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let rest = quoted.iter().find_map(|key| text.split_once(key.as_str()))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}
