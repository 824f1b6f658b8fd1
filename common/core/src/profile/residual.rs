//! How much longer steps take than predicted, and the reserve that follows from it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many steps are remembered: after a change the reserve follows within so many.
const WINDOW: usize = 64;
/// The share of steps that are to be within the reserve; half a point more, as the estimate has an error of its own.
const PERCENTILE: f64 = 0.955;
/// The percentile that the reserve which was given stands for.
const GIVEN_PERCENTILE: f64 = 0.95;
/// How many steps are imagined before the first, of a device that the given reserve suits; each real one replaces one.
const IMAGINED: usize = 20;
/// The share of steps that may be stalls: no reserve is kept for these.
const STALLS: f64 = 0.02;
/// With what probability a window may have more stalls than are set aside.
const MORE_STALLS: f64 = 0.01;
/// Ratios beyond this are a clock's or a claim's nonsense.
const MOST_RATIO: f64 = 100.0;

/// The recent residuals of one edge's steps: measured over predicted seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Residuals {
    logarithms: VecDeque<f64>,
    /// Steps since the plan was made.
    of_plan: usize,
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
        self.of_plan = (self.of_plan + 1).min(WINDOW);
    }

    /// What comes from now on is measured against a new plan. `is_other_state`: the device or its link has turned out
    /// to be in another state than the last plan was made for. That plan's steps say how far apart the two states are,
    /// and nothing of how well the new plan will be met; they are forgotten.
    pub fn begin_plan(&mut self, is_other_state: bool) {
        let of_plan = std::mem::take(&mut self.of_plan);
        if is_other_state {
            self.logarithms.truncate(self.logarithms.len().saturating_sub(of_plan));
        }
    }

    /// The relative reserve on predicted seconds within which at least 95 % of the steps are: `given` before the
    /// first, then more and more the residuals' own percentile. Never below 0.
    ///
    /// The percentile's own rank is a stall in every other small sample. So the slowest steps are set aside, as many
    /// as would be stalls if one step in fifty is; the slowest of the rest has a lower percentile, and its distance
    /// from the median is stretched to the one wanted as an exponential tail would be, but not beyond what has been seen.
    pub fn margin(&self, given: f64) -> f64 {
        let imagined = IMAGINED.saturating_sub(self.logarithms.len());
        let scale = given.max(0.0).ln_1p() / tail(GIVEN_PERCENTILE);
        let prior = (1..=imagined).map(|rank| {
            let level = rank as f64 / (imagined as f64 + 1.0);
            if level > 0.5 { scale * tail(level) } else { -scale * tail(1.0 - level) }
        });
        let mut rising: Vec<f64> = self.logarithms.iter().copied().chain(prior).collect();
        rising.sort_by(f64::total_cmp);
        let count = rising.len();
        let rank = count - stalls_among(count);
        let level = rank as f64 / (count as f64 + 1.0);
        let median = f64::midpoint(rising[(count - 1) / 2], rising[count / 2]);
        // What was given is met exactly as long as nothing else is known.
        let wanted = if imagined == IMAGINED { GIVEN_PERCENTILE } else { PERCENTILE };
        let stretch = (tail(wanted) / tail(level)).max(1.0);
        let logarithm = (median + stretch * (rising[rank - 1] - median)).min(rising[count - 1]);
        logarithm.exp_m1().max(0.0)
    }

    /// How many steps are remembered.
    pub fn count(&self) -> usize {
        self.logarithms.len()
    }
}

/// How far above the median a percentile is where the tail is exponential, in units of the tail's mean.
fn tail(level: f64) -> f64 {
    (0.5 / (1.0 - level)).ln()
}

/// How many of `count` steps are set aside: the fewest that are exceeded by the number of stalls, binomially
/// distributed, with less than the probability that is accepted.
fn stalls_among(count: usize) -> usize {
    let mut probability = (1.0 - STALLS).powf(count as f64);
    let mut up_to = probability;
    let mut stalls = 0;
    while up_to < 1.0 - MORE_STALLS && stalls < count / 4 {
        probability *= (count - stalls) as f64 / (stalls + 1) as f64 * STALLS / (1.0 - STALLS);
        up_to += probability;
        stalls += 1;
    }
    stalls
}

#[cfg(test)]
mod tests;
