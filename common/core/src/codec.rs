//! How tensor values become bytes on the wire.
//!
//! A [`Codec`] represents each value in fewer bits; a [`TopK`] selection leaves values out. Both work
//! on slices and know no frames: the caller writes codec, number of values and exponent into the
//! tensor's header. All numbers are little-endian.
//!
//! Every codec rounds to the nearest: it is deterministic, so not unbiased, and nothing of an error is
//! kept for the next step (no error feedback). NaN and infinity never panic and never come back as
//! finite values; the receiver's training refuses them.

mod bfloat16;
mod bits;
mod float16;
mod float32;
mod integer;
pub(crate) mod selection;
mod shape;
mod threshold;
mod top_k;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use selection::{Selection, SelectionError};
pub use shape::BatchShape;
pub use top_k::{ActivationCodec, TopK};

use integer::{Groups, Width};

/// A representation of f32 values as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// 4 bytes per value, exact.
    #[default]
    F32,
    /// IEEE 754 half precision, 2 bytes per value, rounded to the nearest: relative error at most
    /// 2^-11 for magnitudes of 2^-14 to 65,504, absolute error at most 2^-25 below, infinity above.
    F16,
    /// bfloat16, 2 bytes per value, rounded to the nearest (ties to even): f32's range, relative error
    /// at most 2^-8 for magnitudes from 2^-126, absolute error at most 2^-134 below. Magnitudes from
    /// (1 - 2^-9) 2^128 become infinity.
    Bf16,
    /// Integers from -127 to 127, 1 byte per value, times the scale of their group: error at most
    /// 0.004 of the group's largest magnitude. Zeros become positive, and a group whose largest
    /// magnitude is below 2^-100 zeros. A group with a NaN or an infinity becomes NaN as a whole; one
    /// with magnitudes above 1 - 2^-14 of the largest f32 may become infinite there.
    Int8(Scale),
    /// As [`Codec::Int8`] with integers from -7 to 7, two to a byte: error at most 0.072 of the group's
    /// largest magnitude.
    Int4(Scale),
}

/// Which values share a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Those of one channel, over the whole batch. Values without positions (flat features, `[C, 1, 1]`)
    /// are grouped by sample instead: a feature has too few values in a batch to pay for a scale, and
    /// gradients differ most from sample to sample.
    #[default]
    Channel,
    /// All of the tensor: cheapest to send, and what one outlier costs everything. For comparisons.
    Tensor,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 7] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Int8(Scale::Channel),
        Self::Int8(Scale::Tensor),
        Self::Int4(Scale::Channel),
        Self::Int4(Scale::Tensor),
    ];

    /// Its number in a tensor's header.
    pub const fn code(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 2,
            Self::Int8(Scale::Channel) => 3,
            Self::Int8(Scale::Tensor) => 4,
            Self::Int4(Scale::Channel) => 5,
            Self::Int4(Scale::Tensor) => 6,
        }
    }

    /// The codec with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.code() == code)
    }
}

/// Bytes that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Too many or too few bytes.
    #[error("{values} values as {codec:?} are {expected} bytes, but {actual} came")]
    Length {
        /// The codec.
        codec: Codec,
        /// Values announced.
        values: usize,
        /// Bytes that they take.
        expected: usize,
        /// Bytes present.
        actual: usize,
    },
    /// An exponent that [`encode_scaled`] does not produce.
    #[error("a scale of 2^{exponent} cannot belong to values as {codec:?}")]
    Exponent {
        /// The codec.
        codec: Codec,
        /// The exponent announced.
        exponent: i8,
    },
    /// Groups that do not divide the values.
    #[error("{values} values as {codec:?} cannot be {groups} groups in runs of {run}")]
    Groups {
        /// The codec.
        codec: Codec,
        /// Values announced.
        values: usize,
        /// Groups announced.
        groups: usize,
        /// Values in a row of the same group.
        run: usize,
    },
}

/// Bytes of the encoded values of a batch; saturates at [`usize::MAX`], which no slice has.
///
/// ```
/// use partway_core::codec::{BatchShape, Codec, Scale, encoded_len};
/// let maps = BatchShape::of(4, &[3, 5, 5]);
/// assert_eq!(encoded_len(Codec::F32, maps), 4 * 300);
/// assert_eq!(encoded_len(Codec::Bf16, maps), 2 * 300);
/// // Two counts, a scale for each of 3 channels, the integers.
/// assert_eq!(encoded_len(Codec::Int8(Scale::Channel), maps), 8 + 4 * 3 + 300);
/// assert_eq!(encoded_len(Codec::Int4(Scale::Tensor), maps), 8 + 4 + 150);
/// ```
pub fn encoded_len(codec: Codec, shape: BatchShape) -> usize {
    match codec {
        Codec::F32 => shape.values().saturating_mul(4),
        Codec::F16 | Codec::Bf16 => shape.values().saturating_mul(2),
        Codec::Int8(scale) | Codec::Int4(scale) => {
            integer::encoded_len(width(codec), Groups::of(shape, scale).count, shape.values())
        }
    }
}

/// Appends the encoded `values` of a batch to `out`.
///
/// # Panics
/// If there are not as many values as the shape has.
pub fn encode(codec: Codec, shape: BatchShape, values: &[f32], out: &mut Vec<u8>) {
    encode_with(codec, shape, values, 0, out);
}

/// Appends the encoded `values` of a batch, times `2^exponent`, to `out`, and returns the exponent that
/// it chose.
///
/// For [`Codec::F16`], the largest finite magnitude comes to lie in `[2^14, 2^15)`, half of what f16
/// can hold: gradients are often so small that f16 would round them to 0. A power of two scales
/// without rounding. The exponent is within `-113..=126`, so values that are all below 2^-112 come to
/// lie lower. It is 0 for all other codecs, which have f32's range or scales of their own, and where no
/// finite value differs from 0. Magnitudes within 2^-12 of the largest f32 round to 2^128 and so decode
/// to infinity.
///
/// ```
/// use partway_core::codec::{BatchShape, Codec, decode_scaled, encode_scaled};
/// let (mut bytes, mut back) = (Vec::new(), Vec::new());
/// let gradient = [1e-9, -3e-9, 0.0];
/// let exponent = encode_scaled(Codec::F16, BatchShape::row(3), &gradient, &mut bytes);
/// decode_scaled(Codec::F16, exponent, &bytes, 3, &mut back)?;
/// assert!((back[0] / gradient[0] - 1.0).abs() <= 1.0 / 2048.0);
/// # Ok::<(), partway_core::codec::CodecError>(())
/// ```
///
/// # Panics
/// If there are not as many values as the shape has.
pub fn encode_scaled(codec: Codec, shape: BatchShape, values: &[f32], out: &mut Vec<u8>) -> i8 {
    let exponent = if codec == Codec::F16 { float16::exponent(values) } else { 0 };
    encode_with(codec, shape, values, exponent, out);
    exponent
}

fn encode_with(codec: Codec, shape: BatchShape, values: &[f32], exponent: i8, out: &mut Vec<u8>) {
    assert_eq!(values.len(), shape.values(), "values are encoded with their own shape");
    out.reserve(encoded_len(codec, shape));
    match codec {
        Codec::F32 => float32::encode(values, out),
        Codec::F16 => float16::encode(values, exponent, out),
        Codec::Bf16 => bfloat16::encode(values, out),
        Codec::Int8(scale) | Codec::Int4(scale) => {
            integer::encode(width(codec), Groups::of(shape, scale), values, out);
        }
    }
}

/// Appends the `n` values in `bytes` to `out`.
///
/// # Errors
/// If `bytes` is not exactly as long as `n` values are; nothing is allocated or appended then.
pub fn decode(codec: Codec, bytes: &[u8], n: usize, out: &mut Vec<f32>) -> Result<(), CodecError> {
    decode_scaled(codec, 0, bytes, n, out)
}

/// Appends the `n` values in `bytes`, times `2^-exponent`, to `out`: undoes [`encode_scaled`].
///
/// # Errors
/// If `bytes` is not exactly as long as `n` values are, or exponent or groups are none that an encoder
/// produces; nothing is allocated or appended then.
pub fn decode_scaled(
    codec: Codec,
    exponent: i8,
    bytes: &[u8],
    n: usize,
    out: &mut Vec<f32>,
) -> Result<(), CodecError> {
    let exponents = if codec == Codec::F16 { float16::EXPONENTS } else { 0..=0 };
    if !exponents.contains(&exponent) {
        return Err(CodecError::Exponent { codec, exponent });
    }
    let (expected, actual) = (announced_len(codec, bytes, n), bytes.len());
    if expected != actual {
        return Err(CodecError::Length { codec, values: n, expected, actual });
    }
    match codec {
        Codec::F32 => float32::decode(bytes, n, out),
        Codec::F16 => float16::decode(bytes, n, exponent, out),
        Codec::Bf16 => bfloat16::decode(bytes, n, out),
        Codec::Int8(_) | Codec::Int4(_) => {
            let groups = Groups::read(bytes);
            if !groups.divide(n) {
                let Groups { count, run } = groups;
                return Err(CodecError::Groups { codec, values: n, groups: count, run });
            }
            integer::decode(width(codec), groups, bytes, n, out);
        }
    }
    Ok(())
}

/// Bytes of the `n` values that `bytes` begin with; saturates.
fn announced_len(codec: Codec, bytes: &[u8], n: usize) -> usize {
    match codec {
        Codec::F32 => n.saturating_mul(4),
        Codec::F16 | Codec::Bf16 => n.saturating_mul(2),
        Codec::Int8(_) | Codec::Int4(_) => integer::encoded_len(width(codec), Groups::read(bytes).count, n),
    }
}

/// Bits of a codec of integers.
fn width(codec: Codec) -> Width {
    if matches!(codec, Codec::Int4(_)) { Width::Four } else { Width::Eight }
}

/// `bytes` without the up to three bytes that may follow its `n` values.
pub(crate) fn without_padding(codec: Codec, bytes: &[u8], n: usize) -> &[u8] {
    let padding = bytes.len().saturating_sub(announced_len(codec, bytes, n));
    if padding < 4 { &bytes[..bytes.len() - padding] } else { bytes }
}

#[cfg(test)]
mod tests;
