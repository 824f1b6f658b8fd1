//! Online correction of predicted seconds from measured ones.

use serde::{Deserialize, Serialize};

use super::Recent;

/// No device is further off its profile than by this, in logarithms: beyond it, what is said is nonsense.
const FURTHEST: f64 = 7.0;

/// By how much a device's predictions are off: the [level](Recent) of `ln(measured / predicted)` over the last steps,
/// so that stalled steps do not move it and a lasting change is known after five.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    logarithms: Recent,
}

impl Correction {
    /// Takes in one step: what the profile predicted, before any correction, and what was measured, both
    /// in seconds. A pair that is not finite and positive says nothing and is ignored.
    pub fn observe(&mut self, predicted_s: f64, measured_s: f64) {
        if predicted_s > 0.0 && measured_s > 0.0 {
            let off = (measured_s / predicted_s).ln();
            if off.is_finite() {
                self.logarithms.observe(off.clamp(-FURTHEST, FURTHEST));
            }
        }
    }

    /// What to multiply the profile's seconds by; 1 before any measurement.
    pub fn factor(&self) -> f64 {
        self.logarithms.level().map_or(1.0, f64::exp)
    }

    /// How many times the device has been found to have become faster or slower.
    pub fn changes(&self) -> u32 {
        self.logarithms.changes()
    }

    /// How many measurements came in.
    pub fn observations(&self) -> u32 {
        self.logarithms.observations()
    }
}

/// The corrections of one edge's step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    fn the_first_step_corrects_it_and_a_stall_among_the_first_does_not_last() {
        let mut correction = Correction::default();
        assert!((correction.factor() - 1.0).abs() < 1e-12);
        correction.observe(1.0, 4.0);
        assert!((correction.factor() - 4.0).abs() < 1e-9);
        let mut stalled = Correction::default();
        for measured in [40.0, 4.0, 4.1, 3.9, 4.0] {
            stalled.observe(1.0, measured);
        }
        assert!((stalled.factor() - 4.0).abs() < 1e-9, "{}", stalled.factor());
        assert_eq!(stalled.observations(), 5);
    }

    #[test]
    fn one_stall_hardly_moves_it_but_a_lasting_change_does() {
        let mut correction = Correction::default();
        for step in 0..40 {
            correction.observe(0.1, 0.2 * if step % 2 == 0 { 1.02 } else { 0.98 });
        }
        assert!((correction.factor() / 2.0 - 1.0).abs() < 0.025);
        let mut stalled = correction.clone();
        stalled.observe(0.1, 5.0);
        assert!((stalled.factor() / correction.factor() - 1.0).abs() < 0.05, "{}", stalled.factor());
        (0..5).for_each(|_| correction.observe(0.1, 0.8));
        assert!((correction.factor() / 8.0 - 1.0).abs() < 1e-9, "{}", correction.factor());
    }

    #[test]
    fn numbers_that_say_nothing_are_ignored() {
        let mut correction = Correction::default();
        for (predicted, measured) in [
            (0.0, 1.0),
            (1.0, 0.0),
            (f64::NAN, 1.0),
            (1.0, f64::NAN),
            (1.0, f64::INFINITY),
            (-1.0, -1.0),
            (f64::INFINITY, 1.0),
        ] {
            correction.observe(predicted, measured);
        }
        assert_eq!(correction, Correction::default());
    }
}
