//! Sums in a fixed order: sixteen interleaved partial sums, whatever the vector width.

/// Partial sums.
const LANES: usize = 16;

/// A sum in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes([f32; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0.0; LANES]);

    /// Adds `term(value)` of each of the values.
    #[inline(always)]
    pub(super) fn add(&mut self, values: &[f32], term: impl Fn(f32) -> f32) {
        let mut lanes = self.0;
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += term(*value);
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += term(*value);
        }
        self.0 = lanes;
    }

    /// Adds `term(a, b)` of each of the pairs; the longer slice's rest does not count.
    #[inline(always)]
    pub(super) fn add_pairs(&mut self, a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) {
        let mut lanes = self.0;
        let len = a.len().min(b.len());
        let (a, a_rest) = a[..len].as_chunks::<LANES>();
        let (b, b_rest) = b[..len].as_chunks::<LANES>();
        for (a, b) in a.iter().zip(b) {
            for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                *lane += term(*a, *b);
            }
        }
        for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
            *lane += term(*a, *b);
        }
        self.0 = lanes;
    }

    /// The sum.
    pub(super) fn total(self) -> f32 {
        let mut lanes = self.0;
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_summed_whole() {
        for len in 0..70u16 {
            let values: Vec<f32> = (1..=len).map(f32::from).collect();
            let expected = f32::from(len * (len + 1) / 2);
            let mut sum = Lanes::ZERO;
            sum.add(&values, |value| value);
            assert!((sum.total() - expected).abs() < 1e-3, "{len} values");
            let mut sum = Lanes::ZERO;
            sum.add_pairs(&values, &vec![2.0; values.len() + 3], |a, b| a * b);
            assert!((sum.total() - 2.0 * expected).abs() < 1e-3, "{len} pairs");
        }
    }
}
