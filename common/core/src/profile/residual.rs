//! How much longer steps take than predicted, and the reserve that follows from it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many steps are remembered.
const WINDOW: usize = 100;
/// The share of steps that are to be within the reserve.
const PERCENTILE: f64 = 0.95;
/// How many steps the reserve that was given counts as.
const PRIOR_STEPS: f64 = 10.0;
/// Ratios beyond this are a clock's or a claim's nonsense.
const MOST_RATIO: f64 = 100.0;

/// The recent residuals of one edge's steps: measured over predicted seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Residuals {
    logarithms: VecDeque<f64>,
}

impl Residuals {
    /// Takes in one step, both in seconds. A pair that is not finite and positive says nothing and is ignored.
    pub fn observe(&mut self, predicted_s: f64, measured_s: f64) {
        let logarithm = (measured_s / predicted_s).ln();
        if predicted_s <= 0.0 || measured_s <= 0.0 || !logarithm.is_finite() {
            return;
        }
        if self.logarithms.len() == WINDOW {
            self.logarithms.pop_front();
        }
        self.logarithms.push_back(logarithm.min(MOST_RATIO.ln()));
    }

    /// The relative reserve on predicted seconds within which 95 % of the steps are: `given` before the first, then more
    /// and more the residuals' own percentile. Never below 0.
    ///
    /// Of `n` steps the one of rank `ceil(0.95 (n + 1))` bounds the next with at least that probability, whatever
    /// their distribution is (Vovk et al. 2005, conformal prediction); of fewer than 19 the longest stands in for it.
    pub fn margin(&self, given: f64) -> f64 {
        let count = self.logarithms.len();
        if count == 0 {
            return given;
        }
        let mut rising: Vec<f64> = self.logarithms.iter().copied().collect();
        rising.sort_by(f64::total_cmp);
        let rank = ((PERCENTILE * (count as f64 + 1.0)).ceil() as usize).min(count);
        let own = rising[rank - 1];
        // Once there are enough for the rank to exist, what was given does not matter any more.
        let enough = PERCENTILE / (1.0 - PERCENTILE);
        let weight = (count as f64 / (PRIOR_STEPS + enough)).min(1.0);
        let logarithm = weight * own + (1.0 - weight) * given.ln_1p();
        logarithm.exp_m1().max(0.0)
    }

    /// How many steps are remembered.
    pub fn count(&self) -> usize {
        self.logarithms.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{stream, unit_f64};

    /// The share of steps within the margin that was known before each, and the mean margin, after the first 30.
    fn hit_rate(seed: u64, deviation: f64, bias: f64) -> (f64, f64) {
        let mut rng = stream(seed, &["residuals"]);
        let mut residuals = Residuals::default();
        let (mut hits, mut margins) = (0, 0.0);
        for step in 0..2_030 {
            let radius = (-2.0 * (1.0 - unit_f64(&mut rng)).ln()).sqrt();
            let normal = radius * (std::f64::consts::TAU * unit_f64(&mut rng)).cos();
            let measured = bias * (deviation * normal).exp();
            let margin = residuals.margin(0.15);
            if step >= 30 {
                hits += u32::from(measured <= 1.0 + margin);
                margins += margin;
            }
            residuals.observe(1.0, measured);
        }
        (f64::from(hits) / 2_000.0, margins / 2_000.0)
    }

    #[test]
    fn ninety_five_of_a_hundred_steps_are_within_it() {
        for (deviation, bias) in [(0.02, 1.0), (0.1, 1.0), (0.3, 1.0), (0.6, 1.0), (0.1, 1.2)] {
            let rates: Vec<(f64, f64)> = (0..40).map(|seed| hit_rate(seed, deviation, bias)).collect();
            let hits = rates.iter().map(|rate| rate.0).sum::<f64>() / 40.0;
            let margin = rates.iter().map(|rate| rate.1).sum::<f64>() / 40.0;
            assert!((0.945..0.965).contains(&hits), "deviation {deviation}, bias {bias}: {hits}");
            let exact = bias * (1.645 * deviation).exp() - 1.0;
            assert!(
                (margin / exact - 1.0).abs() < 0.1,
                "deviation {deviation}, bias {bias}: {margin} for {exact}"
            );
        }
    }

    #[test]
    fn what_was_given_fades() {
        let mut residuals = Residuals::default();
        assert!((residuals.margin(0.15) - 0.15).abs() < 1e-12);
        let mut last = 0.15;
        for _ in 0..29 {
            residuals.observe(1.0, 1.05);
            let margin = residuals.margin(0.15);
            assert!(margin < last && margin > 0.05 - 1e-9, "{margin}");
            last = margin;
        }
        assert!((residuals.margin(5.0) - 0.05).abs() < 1e-9);
    }

    #[test]
    fn steps_shorter_than_predicted_need_no_reserve_and_nonsense_is_ignored() {
        let mut residuals = Residuals::default();
        (0..40).for_each(|_| residuals.observe(1.0, 0.5));
        assert!(residuals.margin(0.15) <= 0.0);
        for (predicted, measured) in [(0.0, 1.0), (1.0, f64::NAN), (-1.0, 1.0), (1.0, f64::INFINITY)] {
            residuals.observe(predicted, measured);
        }
        assert_eq!(residuals.count(), 40);
        (0..500).for_each(|_| residuals.observe(1e-9, 1e9));
        assert!(residuals.count() == WINDOW && residuals.margin(0.0) <= MOST_RATIO);
    }
}
