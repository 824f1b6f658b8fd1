//! bfloat16: the upper half of an f32, rounded.

/// The nearest bfloat16, ties to even; NaN stays NaN.
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    // Rounding could carry a NaN over to infinity or to zero.
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

pub(super) fn encode(values: &[f32], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 2 * values.len(), 0);
    for (bytes, value) in out[start..].as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *bytes = round(*value).to_le_bytes();
    }
}

/// `bytes` holds exactly `n` values.
pub(super) fn decode(bytes: &[u8], n: usize, out: &mut Vec<f32>) {
    let start = out.len();
    out.resize(start + n, 0.0);
    for (value, bytes) in out[start..].iter_mut().zip(bytes.as_chunks::<2>().0) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}
