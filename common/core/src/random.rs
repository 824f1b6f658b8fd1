//! Named random streams: every draw in Partway comes from a `ChaCha` stream that is named by what it
//! is for, never from a library's global generator.

use rand::Rng;
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use sha2::{Digest, Sha256};

/// A stream of random numbers.
pub type Stream = ChaCha12Rng;

/// The stream for `purpose` under `seed`: the same on every machine, independent of all others.
///
/// ```
/// use partway_core::random::{stream, unit_f32};
/// let draw = || unit_f32(&mut stream(42, &["batch order", "camera-0", "3"]));
/// assert_eq!(draw(), draw());
/// ```
pub fn stream(seed: u64, purpose: &[&str]) -> Stream {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    for part in purpose {
        // The length keeps ["ab", "c"] apart from ["a", "bc"].
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    ChaCha12Rng::from_seed(hash.finalize().into())
}

/// Uniform in `[0, 1)` with 24 random bits.
pub fn unit_f32(rng: &mut impl Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// Uniform in `[0, 1)` with 53 random bits.
pub fn unit_f64(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Uniform in `0..bound` without bias (Lemire 2019, arXiv 1805.10941).
///
/// # Panics
/// If `bound` is 0.
pub fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    assert!(bound > 0, "an empty range has no element to draw");
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        let low = product as u64;
        // What would be refused is below the bound itself: most draws are spared the division.
        if low >= bound || low >= bound.wrapping_neg() % bound {
            return (product >> 64) as u64;
        }
    }
}

/// Fisher-Yates shuffle.
pub fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last as u64 + 1) as usize);
    }
}
