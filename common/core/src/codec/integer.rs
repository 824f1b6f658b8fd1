//! Integers of 8 or 4 bits, symmetric around 0, with one scale per group of values.
//!
//! ```text
//!  0        4      8                  8 + 4 groups
//!  +--------+------+------------------+-------------------------------+
//!  | groups | run  | scales           | integers, those of 4 bits two |
//!  +--------+------+------------------+ to a byte, the lower half first|
//!     u32     u32    f32 each         +-------------------------------+
//! ```
//! Runs of `run` values belong to the groups in turn: the first run to the first group, and so on, from
//! the start after the last. So `[N, C, H, W]` by channel is C groups in runs of `H * W`, and `[N, F]`
//! by sample N groups in runs of F. No values are no bytes at all.

use super::{BatchShape, Scale};

const PREFIX: usize = 8;

/// Values handled side by side: what a portable build can keep in vector registers.
const LANES: usize = 16;

/// 1.5 * 2^23: a float of this size has steps of 1, so that adding it rounds to the nearest integer
/// (ties to even), which then lies in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// Largest magnitudes below this are taken for 0: their inverse would leave f32's range.
const LEAST: f32 = 1.0 / (1u128 << 100) as f32;

/// Bits of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Eight,
    Four,
}

impl Width {
    /// The largest integer.
    fn most(self) -> f32 {
        match self {
            Self::Eight => 127.0,
            Self::Four => 7.0,
        }
    }

    fn bytes(self, n: usize) -> usize {
        match self {
            Self::Eight => n,
            Self::Four => n.div_ceil(2),
        }
    }
}

/// Which values share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) count: usize,
    pub(super) run: usize,
}

impl Groups {
    pub(super) fn of(shape: BatchShape, scale: Scale) -> Self {
        match scale {
            Scale::Channel if shape.positions == 1 => Self { count: shape.samples, run: shape.channels },
            Scale::Channel => Self { count: shape.channels, run: shape.positions },
            Scale::Tensor => Self { count: 1, run: shape.values() },
        }
    }

    /// The groups that encoded values begin with; none if they are too short for any.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).unwrap_or_default();
            u32::from_le_bytes(word) as usize
        };
        Self { count: word(0), run: word(4) }
    }

    /// Whether `n` values come out even.
    pub(super) fn divide(self, n: usize) -> bool {
        // Two u32 multiply without overflow.
        let row = self.count as u64 * self.run as u64;
        if n == 0 { true } else { row > 0 && (n as u64).is_multiple_of(row) }
    }

    /// Maps every value with its group's factor.
    fn map<A: Copy, B>(self, from: &[A], to: &mut [B], factors: &[f32], f: impl Fn(A, f32) -> B) {
        if self.run >= LANES {
            let runs = from.chunks_exact(self.run).zip(to.chunks_exact_mut(self.run));
            for ((from, to), factor) in runs.zip(factors.iter().cycle()) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = f(*from, *factor);
                }
            }
        } else {
            // Short runs would not fill the lanes: whole rows do, with a factor for every value.
            let row: Vec<f32> =
                factors.iter().flat_map(|factor| std::iter::repeat_n(*factor, self.run)).collect();
            for (from, to) in from.chunks_exact(row.len()).zip(to.chunks_exact_mut(row.len())) {
                for ((to, from), factor) in to.iter_mut().zip(from).zip(&row) {
                    *to = f(*from, *factor);
                }
            }
        }
    }

    /// The largest magnitude of each group, as bits: magnitudes order as their bits do, NaN last, and a
    /// maximum of integers vectorizes.
    fn largest(self, values: &[f32]) -> Vec<i32> {
        let mut largest = vec![0; self.count];
        if self.run >= LANES {
            for (index, run) in values.chunks_exact(self.run).enumerate() {
                let group = &mut largest[index % self.count];
                *group = largest_of(run).max(*group);
            }
        } else {
            let mut row = vec![0; self.count * self.run];
            for values in values.chunks_exact(row.len()) {
                for (largest, value) in row.iter_mut().zip(values) {
                    *largest = magnitude(*value).max(*largest);
                }
            }
            for (group, row) in largest.iter_mut().zip(row.chunks_exact(self.run)) {
                *group = row.iter().copied().max().unwrap_or(0);
            }
        }
        largest
    }
}

fn magnitude(value: f32) -> i32 {
    (value.to_bits() & 0x7fff_ffff).cast_signed()
}

fn largest_of(values: &[f32]) -> i32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = magnitude(*value).max(*lane);
        }
    }
    let rest = rest.iter().map(|value| magnitude(*value));
    lanes.into_iter().chain(rest).max().unwrap_or(0)
}

/// The scale of a group with this largest magnitude: rounded up to 16 significant bits, so that its
/// products with the integers are exact and encoding decoded values gives the same bytes.
fn scale(largest: i32, most: f32) -> f32 {
    let largest = f32::from_bits(largest.cast_unsigned());
    if !largest.is_finite() {
        f32::NAN
    } else if largest < LEAST {
        0.0
    } else {
        f32::from_bits(((largest / most).to_bits() + 0xff) & !0xff)
    }
}

/// Bytes of `n` values in so many groups; saturates.
pub(super) fn encoded_len(width: Width, groups: usize, n: usize) -> usize {
    if n == 0 { 0 } else { groups.saturating_mul(4).saturating_add(PREFIX).saturating_add(width.bytes(n)) }
}

/// `groups` divide `values`.
pub(super) fn encode(width: Width, groups: Groups, values: &[f32], out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let largest = groups.largest(values);
    let scales: Vec<f32> = largest.into_iter().map(|largest| scale(largest, width.most())).collect();
    out.extend((groups.count as u32).to_le_bytes());
    out.extend((groups.run as u32).to_le_bytes());
    out.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
    let inverses: Vec<f32> =
        scales.iter().map(|scale| if *scale > 0.0 { 1.0 / scale } else { 0.0 }).collect();
    let round = |value: f32, inverse: f32| (value * inverse + ROUNDER).to_bits() as u8;
    let start = out.len();
    match width {
        Width::Eight => {
            out.resize(start + values.len(), 0);
            groups.map(values, &mut out[start..], &inverses, round);
        }
        Width::Four => {
            let mut wide = vec![0; values.len()];
            groups.map(values, &mut wide, &inverses, round);
            out.resize(start + width.bytes(values.len()), 0);
            pack(&wide, &mut out[start..]);
        }
    }
}

/// `bytes` holds exactly `n` values, which its groups divide.
pub(super) fn decode(width: Width, groups: Groups, bytes: &[u8], n: usize, out: &mut Vec<f32>) {
    if n == 0 {
        return;
    }
    let (scales, integers) = bytes[PREFIX..].split_at(4 * groups.count);
    let scales: Vec<f32> = scales.as_chunks::<4>().0.iter().map(|scale| f32::from_le_bytes(*scale)).collect();
    let start = out.len();
    out.resize(start + n, 0.0);
    let multiply = |integer: u8, scale: f32| f32::from(integer.cast_signed()) * scale;
    match width {
        Width::Eight => groups.map(integers, &mut out[start..], &scales, multiply),
        Width::Four => {
            let mut wide = vec![0; n];
            unpack(integers, &mut wide);
            groups.map(&wide, &mut out[start..], &scales, multiply);
        }
    }
}

/// The lower halves of `wide`, two to a byte.
fn pack(wide: &[u8], packed: &mut [u8]) {
    let (pairs, rest) = wide.as_chunks::<2>();
    for (packed, [low, high]) in packed.iter_mut().zip(pairs) {
        *packed = (low & 0xf) | (high << 4);
    }
    if let ([last], Some(packed)) = (rest, packed.last_mut()) {
        *packed = last & 0xf;
    }
}

/// Undoes [`pack`], with the integers' signs.
fn unpack(packed: &[u8], wide: &mut [u8]) {
    let low = |packed: u8| ((packed << 4).cast_signed() >> 4).cast_unsigned();
    let high = |packed: u8| (packed.cast_signed() >> 4).cast_unsigned();
    let (pairs, rest) = wide.as_chunks_mut::<2>();
    for (pair, packed) in pairs.iter_mut().zip(packed) {
        *pair = [low(*packed), high(*packed)];
    }
    if let ([last], Some(packed)) = (rest, packed.last()) {
        *last = low(*packed);
    }
}
