//! Online correction of predicted seconds from measured ones.

use serde::{Deserialize, Serialize};

/// Weight of the first measurement: the first round moves the factor almost all the way.
const FIRST_WEIGHT: f64 = 0.9;
/// Weight that later measurements keep, which forgets over about ten of them.
const LEAST_WEIGHT: f64 = 0.1;
/// A residual beyond this many mean absolute deviations is clipped to it.
const CLIP_DEVIATIONS: f64 = 4.0;
/// Residuals this small are never clipped, however quiet the device was.
const LEAST_CLIP: f64 = 0.05;
/// No first measurement moves the factor by more than e^7, about a thousand.
const FIRST_CLIP: f64 = 7.0;
/// What residuals are taken to be before any is known.
const ASSUMED_DEVIATION: f64 = 0.25;
/// A larger residual enters the deviation as this: one stall must not blunt the clipping for long.
const DEVIATION_CLIP: f64 = 1.0;
/// Standard deviation over mean absolute deviation of a normal distribution.
const NORMAL_RATIO: f64 = 1.2533;

/// By how much a device's predictions are off: an exponential moving average of
/// `ln(measured / predicted)` with clipped residuals, so that one stalled step hardly moves it and a
/// lasting change does within tens of steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    log_factor: f64,
    deviation: f64,
    observations: u32,
}

impl Default for Correction {
    fn default() -> Self {
        Self { log_factor: 0.0, deviation: ASSUMED_DEVIATION, observations: 0 }
    }
}

impl Correction {
    /// Takes in one step: what the profile predicted, before any correction, and what was measured, both
    /// in seconds. A pair that is not finite and positive says nothing and is ignored.
    pub fn observe(&mut self, predicted_s: f64, measured_s: f64) {
        let log_ratio = (measured_s / predicted_s).ln();
        if predicted_s <= 0.0 || measured_s <= 0.0 || !log_ratio.is_finite() {
            return;
        }
        let residual = log_ratio - self.log_factor;
        let count = f64::from(self.observations) + 1.0;
        let clip = if self.observations == 0 {
            FIRST_CLIP
        } else {
            (CLIP_DEVIATIONS * self.deviation).max(LEAST_CLIP)
        };
        self.log_factor += (FIRST_WEIGHT / count).max(LEAST_WEIGHT) * residual.clamp(-clip, clip);
        if self.observations > 0 {
            // The first residual is the profile's bias, not the device's jitter.
            let weight = (1.0 / count).max(LEAST_WEIGHT);
            self.deviation += weight * (residual.abs().min(DEVIATION_CLIP) - self.deviation);
        }
        self.observations = self.observations.saturating_add(1);
    }

    /// What to multiply the profile's seconds by; 1 before any measurement.
    pub fn factor(&self) -> f64 {
        self.log_factor.exp()
    }

    /// Standard deviation of `ln(measured / corrected prediction)`, about the relative spread of a step's
    /// time; `None` before the second measurement.
    pub fn spread(&self) -> Option<f64> {
        (self.observations >= 2).then_some(self.deviation * NORMAL_RATIO)
    }

    /// How many measurements came in.
    pub fn observations(&self) -> u32 {
        self.observations
    }
}

/// The corrections of one edge's step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepCorrections {
    /// The edge's forward pass.
    pub edge_forward: Correction,
    /// The edge's backward pass and optimizer step.
    pub edge_backward: Correction,
    /// The cloud's service of this edge's steps.
    pub cloud: Correction,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_moves_it_almost_all_the_way() {
        let mut correction = Correction::default();
        correction.observe(1.0, 4.0);
        assert!(correction.factor() > 3.4, "{}", correction.factor());
        for _ in 1..10 {
            correction.observe(1.0, 4.0);
        }
        assert!((correction.factor() / 4.0 - 1.0).abs() < 0.05, "{}", correction.factor());
    }

    #[test]
    fn one_stall_hardly_moves_it_but_a_lasting_change_does() {
        let mut correction = Correction::default();
        for step in 0..40 {
            correction.observe(0.1, 0.2 * if step % 2 == 0 { 1.02 } else { 0.98 });
        }
        let settled = correction;
        assert!((settled.factor() - 2.0).abs() < 0.05);
        assert!(settled.spread().expect("40 measurements") < 0.06);

        let mut stalled = settled;
        stalled.observe(0.1, 5.0);
        assert!((stalled.factor() / settled.factor() - 1.0).abs() < 0.03, "{}", stalled.factor());

        let mut slower = settled;
        for _ in 0..30 {
            slower.observe(0.1, 0.8);
        }
        assert!((slower.factor() / 8.0 - 1.0).abs() < 0.1, "{}", slower.factor());
    }

    #[test]
    fn the_spread_is_that_of_the_residuals() {
        let mut correction = Correction::default();
        assert_eq!(correction.spread(), None);
        for step in 0..200 {
            correction.observe(1.0, if step % 2 == 0 { 0.2_f64.exp() } else { (-0.2_f64).exp() });
        }
        let spread = correction.spread().expect("200 measurements");
        assert!((spread / (0.2 * NORMAL_RATIO) - 1.0).abs() < 0.2, "{spread}");
    }

    #[test]
    fn numbers_that_say_nothing_are_ignored() {
        let mut correction = Correction::default();
        for (predicted, measured) in [
            (0.0, 1.0),
            (1.0, 0.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
            (-1.0, -1.0),
            (f64::INFINITY, 1.0),
        ] {
            correction.observe(predicted, measured);
        }
        assert_eq!(correction, Correction::default());
    }
}
