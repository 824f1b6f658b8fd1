//! Sets of indices below a bound, as bitmaps.

use std::ops::Range;

use rand::Rng;

use crate::random::below;

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// Some of the indices below a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    bound: usize,
}

impl Bits {
    /// Those below `bound` for which `word` sets the bits: it is asked for one range of indices after the other, and
    /// answers for the first of them with the lowest bit.
    pub(super) fn new(bound: usize, word: impl FnMut(Range<usize>) -> u64) -> Self {
        let ranges = (0..bound).step_by(WORD).map(|from| from..bound.min(from + WORD));
        Self { words: ranges.map(word).collect(), bound }
    }

    /// `count` of those below `bound`, drawn so that each set of as many is as likely.
    ///
    /// # Panics
    /// If there are not as many.
    pub(super) fn draw(count: usize, bound: usize, rng: &mut impl Rng) -> Self {
        assert!(count <= bound, "no more can be drawn than there are");
        // The smaller part is drawn, so that few draws meet what was drawn before.
        let drawn = count.min(bound - count);
        let (mut bits, mut left) = (Self::new(bound, |_| 0), drawn);
        while left > 0 {
            let index = below(rng, bound as u64) as usize;
            let (word, bit) = (&mut bits.words[index / WORD], 1 << (index % WORD));
            left -= usize::from(*word & bit == 0);
            *word |= bit;
        }
        if drawn < count { bits.inverted() } else { bits }
    }

    /// How many are in it.
    pub(super) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// All the others.
    pub(super) fn inverted(&self) -> Self {
        let mut words: Vec<u64> = self.words.iter().map(|word| !word).collect();
        if let (Some(last), beyond @ 1..) = (words.last_mut(), self.bound % WORD) {
            *last &= (1 << beyond) - 1;
        }
        Self { words, bound: self.bound }
    }

    /// Those in here whose ranks, counted in here from 0, are in `ranks`.
    pub(super) fn ranked(&self, ranks: &Self) -> Self {
        let mut ranks = ranks.iter().peekable();
        let mut rank = 0;
        let words = self.words.iter().map(|word| {
            let (mut rest, mut ranked) = (*word, 0);
            let end = rank + word.count_ones() as usize;
            while let Some(next) = ranks.next_if(|next| *next < end) {
                // The lowest bit is the one of that rank once those of lower ranks are cleared.
                for _ in rank..next {
                    rest &= rest - 1;
                }
                ranked |= rest & rest.wrapping_neg();
                rank = next;
            }
            rank = end;
            ranked
        });
        Self { words: words.collect(), bound: self.bound }
    }

    /// Takes out those of `others` that are in here, and puts in those that are not.
    pub(super) fn toggle(&mut self, others: &Self) {
        self.words.iter_mut().zip(&others.words).for_each(|(word, other)| *word ^= other);
    }

    /// Appends the indices in order.
    pub(super) fn append_to(&self, indices: &mut Vec<u32>) {
        for (at, word) in self.words.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                indices.push((WORD * at) as u32 + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
    }

    /// The indices in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(WORD * at + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

    use super::*;

    fn of(flags: &[bool]) -> Bits {
        Bits::new(flags.len(), |range| {
            flags[range].iter().rev().fold(0, |word, flag| word << 1 | u64::from(*flag))
        })
    }

    fn all(bits: &Bits) -> Vec<usize> {
        let mut indices = Vec::new();
        bits.append_to(&mut indices);
        let indices: Vec<usize> = indices.into_iter().map(|index| index as usize).collect();
        assert!(bits.iter().eq(indices.iter().copied()), "both ways of listing them agree");
        indices
    }

    proptest! {
        #[test]
        fn what_is_in_is_in_order_and_the_rest_is_in_the_inverse(flags in vec(any::<bool>(), 0..200)) {
            let bits = of(&flags);
            let with = |wanted| (0..flags.len()).filter(|at| flags[*at] == wanted).collect::<Vec<_>>();
            prop_assert_eq!((all(&bits), bits.len()), (with(true), with(true).len()));
            prop_assert_eq!(all(&bits.inverted()), with(false));
        }

        #[test]
        fn ranks_are_counted_among_what_is_in(flags in vec(any::<bool>(), 1..200), share in 0.0..=1.0f64, seed in any::<u64>()) {
            let bits = of(&flags);
            let count = (share * bits.len() as f64) as usize;
            let ranks = Bits::draw(count, bits.len(), &mut ChaCha12Rng::seed_from_u64(seed));
            let ranked = bits.ranked(&ranks);
            let expected: Vec<usize> = ranks.iter().map(|rank| all(&bits)[rank]).collect();
            prop_assert_eq!(all(&ranked), expected);
            let mut rest = bits.clone();
            rest.toggle(&ranked);
            prop_assert_eq!(rest.len(), bits.len() - count);
            rest.toggle(&ranked);
            prop_assert_eq!(rest, bits);
        }

        #[test]
        fn as_many_are_drawn(bound in 0..200usize, share in 0.0..=1.0f64, seed in any::<u64>()) {
            let count = (share * bound as f64) as usize;
            let bits = Bits::draw(count, bound, &mut ChaCha12Rng::seed_from_u64(seed));
            prop_assert_eq!((all(&bits).len(), bits.len()), (count, count));
            prop_assert!(bits.iter().all(|index| index < bound));
        }
    }

    #[test]
    fn every_set_of_as_many_is_as_likely() {
        for count in [1, 2, 3] {
            let mut rng = ChaCha12Rng::seed_from_u64(3);
            let mut counts = BTreeMap::new();
            for _ in 0..12_000 {
                *counts.entry(all(&Bits::draw(count, 4, &mut rng))).or_insert(0) += 1;
            }
            let sets: i32 = [4, 6, 4][count - 1];
            assert_eq!(counts.values().len(), sets.unsigned_abs() as usize);
            // The standard deviations are at most 48.
            let expected = 12_000 / sets;
            assert!(counts.values().all(|found: &i32| (found - expected).abs() < 200), "{counts:?}");
        }
    }
}
