//! The level of a quantity that is measured step after step, whatever a few of the measurements are.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many values are remembered.
const WINDOW: usize = 15;
/// So many in a row tell a new level.
const SHIFT: usize = 5;
/// How many of the values before may be as extreme as a new level's.
const OUTLIERS: usize = 1;

/// The last values of a quantity, and where they lie: their median, which stalls do not move. Values that have all
/// come to lie above, or below, what was usual before are a new level, known after five of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    values: VecDeque<f64>,
    observations: u32,
    changes: u32,
}

impl Recent {
    /// Takes in one value; one that is not finite is ignored.
    pub fn observe(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.values.len() == WINDOW {
            self.values.pop_front();
        }
        self.values.push_back(value);
        self.observations = self.observations.saturating_add(1);
        let before = self.values.len() - SHIFT.min(self.values.len());
        if before >= SHIFT && self.is_shifted(before) {
            self.values.drain(..before);
            self.changes = self.changes.saturating_add(1);
        }
    }

    /// Whether all values since the first `before` are on one side of these.
    fn is_shifted(&self, before: usize) -> bool {
        let mut rising: Vec<f64> = self.values.range(..before).copied().collect();
        rising.sort_by(f64::total_cmp);
        let (low, high) = (rising[OUTLIERS], rising[before - 1 - OUTLIERS]);
        let mut since = self.values.range(before..);
        since.clone().all(|value| *value > high) || since.all(|value| *value < low)
    }

    /// The level; `None` before the first value.
    pub fn level(&self) -> Option<f64> {
        let mut rising: Vec<f64> = self.values.iter().copied().collect();
        rising.sort_by(f64::total_cmp);
        let count = rising.len();
        (count > 0).then(|| f64::midpoint(rising[(count - 1) / 2], rising[count / 2]))
    }

    /// How many values the level rests on.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// How many times a new level has been found.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// How many values came in.
    pub fn observations(&self) -> u32 {
        self.observations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{stream, unit_f64};

    fn of(values: impl IntoIterator<Item = f64>) -> Recent {
        let mut recent = Recent::default();
        values.into_iter().for_each(|value| recent.observe(value));
        recent
    }

    #[test]
    fn is_the_median_and_not_a_stall() {
        assert_eq!(Recent::default().level(), None);
        assert_eq!(of([3.0]).level(), Some(3.0));
        assert_eq!(of([3.0, 4.0]).level(), Some(3.5));
        assert_eq!(of([1.0, 2.0, 900.0, 1.5, 1.6, f64::NAN]).level(), Some(1.6));
        let stalled =
            of((0..15).map(|step| if step % 3 == 0 { 100.0 } else { 1.0 + f64::from(step) / 100.0 }));
        assert!(stalled.level().is_some_and(|level| level < 1.2), "{stalled:?}");
    }

    #[test]
    fn a_new_level_is_known_after_five_steps() {
        for (before, after) in [(1.0, 2.0), (2.0, 0.1)] {
            let mut recent = of((0..40).map(|step| before + 0.01 * f64::from(step % 7)));
            // A stall shortly before does not hide it.
            for value in [before, 50.0, before + 0.03] {
                recent.observe(value);
            }
            (0..4).for_each(|_| recent.observe(after));
            assert!(recent.level().is_some_and(|level| (level - before).abs() < 0.1), "{recent:?}");
            recent.observe(after);
            assert_eq!((recent.level(), recent.changes()), (Some(after), 1));
        }
    }

    #[test]
    fn noise_is_no_new_level() {
        let mut rng = stream(1, &["noise"]);
        let mut recent = Recent::default();
        let mut off = 0;
        for step in 0..20_000 {
            recent.observe(unit_f64(&mut rng));
            let level = recent.level().expect("there are values");
            off += u32::from(step > 15 && (level - 0.5).abs() > 0.35);
        }
        assert!(off < 120, "{off} of 20,000");
    }
}
