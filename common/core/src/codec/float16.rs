//! Half precision with a power-of-two scale.

use std::ops::RangeInclusive;

use half::{f16, slice::HalfFloatSliceExt};

/// Values converted at a time: the staging buffers stay in the first-level cache.
const BLOCK: usize = 1024;

/// The largest magnitude is scaled to at least 2 to this power, and below twice that: half of f16's
/// range is left, so that rounding cannot overflow.
const TARGET: i32 = 14;

/// Exponents in use: `2^127` and `2^-149` are f32's largest and least magnitudes, and `2^-126` is the
/// least scale that is a normal number.
pub(super) const EXPONENTS: RangeInclusive<i8> = TARGET as i8 - 127..=126;

/// The exponent that scales the largest finite magnitude to `[2^14, 2^15)`, as far as it is in range.
pub(super) fn exponent(values: &[f32]) -> i8 {
    // Magnitudes order as their bits do, and a maximum of integers vectorizes.
    let finite = |value: &f32| {
        let bits = value.to_bits() & 0x7fff_ffff;
        if bits < f32::INFINITY.to_bits() { bits } else { 0 }
    };
    let largest = values.iter().map(finite).max().unwrap_or(0);
    if largest == 0 {
        return 0;
    }
    // The biased exponent is 0 for a subnormal, which has less than 2^-126: clamped all the same.
    let log2 = (largest >> 23).cast_signed() - 127;
    (TARGET - log2).min(i32::from(*EXPONENTS.end())) as i8
}

/// `2^exponent`, for an exponent of a normal number.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

pub(super) fn encode(values: &[f32], exponent: i8, out: &mut Vec<u8>) {
    let scale = power_of_two(i32::from(exponent));
    let mut scaled = [0.0; BLOCK];
    let mut halves = [f16::ZERO; BLOCK];
    for block in values.chunks(BLOCK) {
        let (scaled, halves) = (&mut scaled[..block.len()], &mut halves[..block.len()]);
        for (scaled, value) in scaled.iter_mut().zip(block) {
            *scaled = value * scale;
        }
        halves.convert_from_f32_slice(scaled);
        if cfg!(target_endian = "little") {
            out.extend_from_slice(bytemuck::cast_slice(halves));
        } else {
            out.extend(halves.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

/// `bytes` holds exactly `n` values.
pub(super) fn decode(bytes: &[u8], n: usize, exponent: i8, out: &mut Vec<f32>) {
    let scale = power_of_two(-i32::from(exponent));
    let start = out.len();
    out.resize(start + n, 0.0);
    let mut halves = [f16::ZERO; BLOCK];
    for (block, values) in bytes.chunks(2 * BLOCK).zip(out[start..].chunks_mut(BLOCK)) {
        let halves = &mut halves[..values.len()];
        bytemuck::cast_slice_mut(halves).copy_from_slice(block);
        if cfg!(target_endian = "big") {
            for value in halves.iter_mut() {
                *value = f16::from_bits(value.to_bits().swap_bytes());
            }
        }
        halves.convert_to_f32_slice(values);
        for value in values {
            *value *= scale;
        }
    }
}
