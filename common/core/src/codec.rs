//! How tensor values become bytes on the wire.
//!
//! Codecs work on slices and know no frames: the caller writes codec, number of values and exponent
//! into the tensor's header. All values are little-endian.

mod float16;
mod float32;

use serde::{Deserialize, Serialize};
use thiserror::Error;

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
}

impl Codec {
    const ALL: [Self; 2] = [Self::F32, Self::F16];

    /// Its number in a tensor's header.
    pub const fn code(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
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
}

/// Bytes of `n` encoded values; saturates at [`usize::MAX`], which no slice has.
///
/// ```
/// use partway_core::codec::{Codec, encoded_len};
/// assert_eq!((encoded_len(Codec::F32, 10), encoded_len(Codec::F16, 10)), (40, 20));
/// ```
pub const fn encoded_len(codec: Codec, n: usize) -> usize {
    match codec {
        Codec::F32 => n.saturating_mul(4),
        Codec::F16 => n.saturating_mul(2),
    }
}

/// Appends the encoded `values` to `out`. Infinities and NaNs stay such, so that the receiver can
/// refuse them.
pub fn encode(codec: Codec, values: &[f32], out: &mut Vec<u8>) {
    out.reserve(encoded_len(codec, values.len()));
    match codec {
        Codec::F32 => float32::encode(values, out),
        Codec::F16 => float16::encode(values, 0, out),
    }
}

/// Appends the `n` values in `bytes` to `out`.
///
/// # Errors
/// If `bytes` is not exactly as long as `n` values are; nothing is allocated or appended then.
pub fn decode(codec: Codec, bytes: &[u8], n: usize, out: &mut Vec<f32>) -> Result<(), CodecError> {
    decode_scaled(codec, 0, bytes, n, out)
}

/// Appends `values * 2^exponent`, encoded, to `out`, and returns the exponent that it chose.
///
/// For [`Codec::F16`], the largest finite magnitude comes to lie in `[2^14, 2^15)`, half of what f16
/// can hold: gradients are often so small that f16 would round them to 0. A power of two scales
/// without rounding. The exponent is within `-113..=126`, so values that are all below 2^-112 come to
/// lie lower. It is 0 for [`Codec::F32`] and where no finite value differs from 0. Magnitudes within
/// 2^-12 of the largest f32 round to 2^128 and so decode to infinity.
///
/// ```
/// use partway_core::codec::{Codec, decode_scaled, encode_scaled};
/// let (mut bytes, mut back) = (Vec::new(), Vec::new());
/// let gradient = [1e-9, -3e-9, 0.0];
/// let exponent = encode_scaled(Codec::F16, &gradient, &mut bytes);
/// decode_scaled(Codec::F16, exponent, &bytes, 3, &mut back)?;
/// assert!((back[0] / gradient[0] - 1.0).abs() <= 1.0 / 2048.0);
/// # Ok::<(), partway_core::codec::CodecError>(())
/// ```
pub fn encode_scaled(codec: Codec, values: &[f32], out: &mut Vec<u8>) -> i8 {
    match codec {
        Codec::F32 => {
            encode(codec, values, out);
            0
        }
        Codec::F16 => {
            out.reserve(encoded_len(codec, values.len()));
            let exponent = float16::exponent(values);
            float16::encode(values, exponent, out);
            exponent
        }
    }
}

/// Appends the `n` values in `bytes`, times `2^-exponent`, to `out`: undoes [`encode_scaled`].
///
/// # Errors
/// If `bytes` is not exactly as long as `n` values are, or the exponent is out of range; nothing is
/// allocated or appended then.
pub fn decode_scaled(
    codec: Codec,
    exponent: i8,
    bytes: &[u8],
    n: usize,
    out: &mut Vec<f32>,
) -> Result<(), CodecError> {
    let expected = encoded_len(codec, n);
    if bytes.len() != expected {
        return Err(CodecError::Length { codec, values: n, expected, actual: bytes.len() });
    }
    let exponents = match codec {
        Codec::F32 => 0..=0,
        Codec::F16 => float16::EXPONENTS,
    };
    if !exponents.contains(&exponent) {
        return Err(CodecError::Exponent { codec, exponent });
    }
    match codec {
        Codec::F32 => float32::decode(bytes, n, out),
        Codec::F16 => float16::decode(bytes, n, exponent, out),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
