//! Randomized top-k: which activations travel (Zheng, Chen, Lyu & Yao 2023, arXiv 2305.18469).

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::{BatchShape, Codec, Selection};
use crate::random::{below, stream, unit_f64};

/// `RandTopk`: of every sample, `k` values travel, mostly those of the largest magnitudes; the others
/// count as 0, and their gradients as 0 too. Each of the `k` picks is, with probability `alpha`, one of
/// the values that are not among the `k` largest: so no feature is left out for good.
///
/// As in the paper, the kept values are not scaled up (the result is not unbiased), and what was left
/// out is not added to a later step (no error feedback).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// The share of a sample's values that travels, above 0, at most 1.
    pub fraction: f64,
    /// Probability of a pick among the others, from 0, below 1.
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
        let (step, part) = (step.to_string(), micro_batch.to_string());
        let purpose = ["top-k", edge, &step, &part];
        stream(seed, if micro_batch == 0 { &purpose[..3] } else { &purpose })
    }

    /// Likewise for the activations that the cloud sends back, where the labels stay on the edge.
    pub fn tail_draws(seed: u64, edge: &str, step: u64) -> ChaCha12Rng {
        stream(seed, &["top-k tail", edge, &step.to_string()])
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
            let mut sample = Sample::default();
            for values in values.chunks_exact(len) {
                sample.split(values, kept);
                sample.swap_at_random(self.alpha, rng);
                indices.extend_from_slice(&sample.kept);
            }
        }
        Selection::new(len, kept, indices)
    }
}

/// One sample's indices, with storage that serves the next one again.
#[derive(Default)]
struct Sample {
    magnitudes: Vec<u32>,
    /// Those that travel, increasing.
    kept: Vec<u32>,
    others: Vec<u32>,
    is_finite: bool,
}

impl Sample {
    /// Separates the `kept` largest magnitudes, of which there is at least 1, from the others.
    fn split(&mut self, values: &[f32], kept: usize) {
        let magnitude = |value: &f32| value.to_bits() & 0x7fff_ffff;
        self.magnitudes.clear();
        self.magnitudes.extend(values.iter().map(magnitude));
        let (_, least, larger) = self.magnitudes.select_nth_unstable(values.len() - kept);
        let least = *least;
        self.is_finite = larger.iter().chain([&least]).all(|bits| *bits < f32::INFINITY.to_bits());
        let mut equals_left = kept - larger.iter().filter(|bits| **bits > least).count();
        self.kept.clear();
        self.others.clear();
        for (index, bits) in values.iter().map(magnitude).enumerate() {
            let is_kept_equal = bits == least && equals_left > 0;
            equals_left -= usize::from(is_kept_equal);
            let side = if bits > least || is_kept_equal { &mut self.kept } else { &mut self.others };
            side.push(index as u32);
        }
    }

    /// Exchanges as many kept indices for others as picks fall on the others.
    fn swap_at_random(&mut self, alpha: f64, rng: &mut impl Rng) {
        if alpha <= 0.0 || !self.is_finite {
            return;
        }
        let picks = (0..self.kept.len()).filter(|_| unit_f64(rng) < alpha).count();
        let swaps = picks.min(self.others.len());
        for at in 0..swaps {
            for side in [&mut self.kept, &mut self.others] {
                let drawn = at + below(rng, (side.len() - at) as u64) as usize;
                side.swap(at, drawn);
            }
            self.kept[at] = self.others[at];
        }
        self.kept.sort_unstable();
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
