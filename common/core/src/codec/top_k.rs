//! Randomized top-k: which activations travel (Zheng, Chen, Lyu & Yao 2023, arXiv 2305.18469).

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::threshold::{Ranking, Threshold, magnitude};
use super::{BatchShape, Codec, Selection};
use crate::random::{stream, unit_f64};

/// `RandTopk`: of every sample, `k` of `d` values travel, mostly those of the largest magnitudes; the others
/// count as 0, and their gradients as 0 too. The `k` are drawn one by one and not put back, a value among the
/// `k` largest with the weight `(1 - alpha) / k`, any other with `alpha / (d - k)`: so no feature is left out
/// for good. The fewer of the largest are left, the likelier is another: with `alpha = 0.1` and `k` far below
/// `d`, 19 % of the values that travel are not among the largest.
///
/// As in the paper, the kept values are not scaled up (the result is not unbiased), and what was left
/// out is not added to a later step (no error feedback).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// The share of a sample's values that travels, above 0, at most 1.
    pub fraction: f64,
    /// Probability that the first pick is among the others, from 0, below 1.
    pub alpha: f64,
}

impl TopK {
    /// How many of a sample's `len` values travel: `fraction` of them, rounded, but at least 1.
    pub fn kept(&self, len: usize) -> usize {
        // Numbers out of range, which only a strange peer sends, end up in range here.
        ((self.fraction * len as f64).round() as usize).clamp(len.min(1), len)
    }

    /// The draws of one micro-batch of one edge's step, counted over the whole run.
    pub fn draws(seed: u64, edge: &str, step: u64, micro_batch: u32) -> ChaCha12Rng {
        Self::drawn_for("top-k", seed, edge, step, micro_batch)
    }

    /// Likewise for the activations that the cloud sends back, where the labels stay on the edge.
    pub fn tail_draws(seed: u64, edge: &str, step: u64, micro_batch: u32) -> ChaCha12Rng {
        Self::drawn_for("top-k tail", seed, edge, step, micro_batch)
    }

    fn drawn_for(purpose: &str, seed: u64, edge: &str, step: u64, micro_batch: u32) -> ChaCha12Rng {
        let (step, part) = (step.to_string(), micro_batch.to_string());
        let purpose = [purpose, edge, &step, &part];
        stream(seed, if micro_batch == 0 { &purpose[..3] } else { &purpose })
    }

    /// Selects from the values of a batch. Of equal magnitudes the first count as the larger; NaN and
    /// infinity count as the largest, and a sample that has any is not drawn from, so that they travel
    /// and can be refused.
    ///
    /// # Panics
    /// If there are not as many values as the shape has.
    pub fn select(&self, values: &[f32], shape: BatchShape, rng: &mut impl Rng) -> Selection {
        assert_eq!(values.len(), shape.values(), "values are selected with their own shape");
        let len = shape.sample_len();
        let kept = self.kept(len);
        let mut indices = Vec::with_capacity(shape.samples * kept);
        if kept > 0 {
            let mut ranking = Ranking::default();
            for values in values.chunks_exact(len) {
                let mut selected = largest(values, ranking.threshold(values, kept));
                let is_finite = values.iter().fold(true, |finite, value| finite & value.is_finite());
                if self.alpha > 0.0 && is_finite {
                    exchange(&mut selected, self.alpha, rng);
                }
                selected.append_to(&mut indices);
            }
        }
        Selection::new(len, kept, indices)
    }
}

/// The values with the largest magnitudes, down to the threshold.
fn largest(values: &[f32], Threshold { least, mut equals }: Threshold) -> Bits {
    Bits::new(values.len(), |range| {
        let (mut largest, mut equal) = (0, 0);
        for (bit, value) in values[range].iter().enumerate() {
            let magnitude = magnitude(*value);
            largest |= u64::from(magnitude > least) << bit;
            equal |= u64::from(magnitude == least) << bit;
        }
        while equal != 0 && equals > 0 {
            largest |= equal & equal.wrapping_neg();
            equal &= equal - 1;
            equals -= 1;
        }
        largest
    })
}

/// Exchanges as many of the `selected` values, which are the largest, for others as picks fall on others.
fn exchange(selected: &mut Bits, alpha: f64, rng: &mut impl Rng) {
    let others = selected.inverted();
    let [largest, rest] = [selected.len(), others.len()];
    let exchanged = picks_among_others(alpha, largest, rest, rng);
    // Within the largest, and within the others, one is as likely as another.
    let dropped = selected.ranked(&Bits::draw(exchanged, largest, rng));
    let added = others.ranked(&Bits::draw(exchanged, rest, rng));
    selected.toggle(&dropped);
    selected.toggle(&added);
}

/// How many of `largest` picks, one after the other and not put back, fall on the others.
fn picks_among_others(alpha: f64, largest: usize, others: usize, rng: &mut impl Rng) -> usize {
    let (each_largest, each_other) = ((1.0 - alpha) / largest as f64, alpha / others.max(1) as f64);
    let (mut picked, mut among_others) = (0, 0);
    loop {
        // One of the largest after the other, until another is picked.
        let weight_of_others = each_other * (others - among_others) as f64;
        loop {
            if picked == largest {
                return among_others;
            }
            let weight = weight_of_others + each_largest * (largest - (picked - among_others)) as f64;
            picked += 1;
            if unit_f64(rng) * weight < weight_of_others {
                break;
            }
        }
        among_others += 1;
    }
}

/// How activations travel: which of them, and how each is represented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActivationCodec {
    /// The representation of the values that travel.
    pub values: Codec,
    /// Which values travel; all by default.
    pub top_k: Option<TopK>,
}

impl From<Codec> for ActivationCodec {
    fn from(values: Codec) -> Self {
        Self { values, top_k: None }
    }
}
