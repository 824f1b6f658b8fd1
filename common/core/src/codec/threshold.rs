//! The least magnitude among the largest of some values.

/// Values fewer than these are ranked at once.
const FEW: usize = 1 << 12;

/// Bits of a magnitude that the first ranking leaves out: the lower ones of the fraction.
const FINE_BITS: u32 = 20;

/// Magnitudes that the first ranking tells apart.
const COARSE: usize = 1 << (31 - FINE_BITS);

/// A value's magnitude in an order that integers have: that of its absolute value, NaN above infinity.
pub(super) fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// What divides the largest magnitudes from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Threshold {
    /// The least of the largest magnitudes.
    pub(super) least: u32,
    /// How many of them equal it, at least 1; there may be more that equal it.
    pub(super) equals: usize,
}

/// Ranks magnitudes, with storage that serves the next ones again.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    candidates: Vec<u32>,
}

impl Ranking {
    /// The least of the `kept` largest magnitudes.
    ///
    /// # Panics
    /// If `kept` is 0 or more than there are values.
    pub(super) fn threshold(&mut self, values: &[f32], kept: usize) -> Threshold {
        let (candidates, left) = self.candidates(values, kept);
        let (_, least, larger) = candidates.select_nth_unstable(candidates.len() - left);
        let larger = larger.iter().filter(|magnitude| **magnitude > *least).count();
        Threshold { least: *least, equals: left - larger }
    }

    /// The magnitudes among which the threshold is, and how many of the largest they contain.
    fn candidates(&mut self, values: &[f32], kept: usize) -> (&mut [u32], usize) {
        if values.len() < FEW {
            self.candidates.clear();
            self.candidates.extend(values.iter().map(|value| magnitude(*value)));
            return (&mut self.candidates, kept);
        }
        let (coarse, larger) = coarse_threshold(values, kept);
        // Each is written down, and written over by the next unless it counts: no branch that chance decides.
        self.candidates.resize(values.len(), 0);
        let mut count = 0;
        for value in values {
            let magnitude = magnitude(*value);
            self.candidates[count] = magnitude;
            count += usize::from(magnitude >> FINE_BITS == coarse);
        }
        (&mut self.candidates[..count], kept - larger)
    }
}

/// The upper bits of the least of the `kept` largest magnitudes, and how many are larger in these bits.
fn coarse_threshold(values: &[f32], kept: usize) -> (u32, usize) {
    // Two tables, since the same count twice in a row has to wait for itself.
    let mut counts = [[0u32; COARSE]; 2];
    let (pairs, last) = values.as_chunks::<2>();
    for pair in pairs {
        for (counts, value) in counts.iter_mut().zip(pair) {
            counts[(magnitude(*value) >> FINE_BITS) as usize] += 1;
        }
    }
    for value in last {
        counts[0][(magnitude(*value) >> FINE_BITS) as usize] += 1;
    }
    let mut larger = 0;
    for coarse in (1..COARSE).rev() {
        let these = counts.iter().map(|counts| counts[coarse] as usize).sum::<usize>();
        if larger + these >= kept {
            return (coarse as u32, larger);
        }
        larger += these;
    }
    (0, larger)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_sorting_finds(
            few in vec(prop_oneof![-1.0..1.0f32, Just(0.0), Just(-0.5), any::<f32>()], 1..60),
            repeats in prop_oneof![Just(1usize), Just(200)],
            share in 0.0..1.0f64,
        ) {
            // Repeats scaled apart make many values, of all magnitudes and with equals.
            let values: Vec<f32> = (0..repeats).flat_map(|n| few.iter().map(move |x| x * (1 + n / 50) as f32)).collect();
            let kept = 1 + (share * values.len() as f64) as usize;
            let mut sorted: Vec<u32> = values.iter().map(|value| magnitude(*value)).collect();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let least = sorted[kept - 1];
            let equals = sorted[..kept].iter().filter(|magnitude| **magnitude == least).count();
            prop_assert_eq!(Ranking::default().threshold(&values, kept), Threshold { least, equals });
        }
    }

    #[test]
    fn what_is_not_a_number_is_above_everything() {
        let values = [1.0, f32::NAN, f32::NEG_INFINITY, -2.0];
        let least = |kept| Ranking::default().threshold(&values, kept).least;
        assert!(f32::from_bits(least(1)).is_nan());
        assert_eq!([least(2), least(3), least(4)], [f32::INFINITY, 2.0, 1.0].map(f32::to_bits));
    }
}
