//! Which optimizer trains the model, and with what numbers.

use serde::{Deserialize, Serialize};

/// The optimizer of both halves. Every step is a function of weights, moments, gradient and step
/// number, so moments travel with their layer and the step number is known to both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// `g = grad + weight_decay * w; v = momentum * v + g; w = w - lr * v`, as `PyTorch` defines it.
    Sgd {
        /// Learning rate.
        lr: f64,
        /// Share of the last update that is kept; 0 keeps no moment.
        momentum: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Adam (Kingma & Ba 2015) with L2 penalty in the gradient.
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
}

impl Optimizer {
    /// Names of the moments that every trained tensor has, in the order in which they are stored.
    pub fn moments(&self) -> &'static [&'static str] {
        match *self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::Adam { .. } => &["adam_m", "adam_v"],
        }
    }

    /// By what to multiply each moment so that after `to` steps it means what it means after `from`: Adam
    /// divides a moment by `1 - beta^t` (Kingma & Ba 2015, section 3).
    pub fn moment_factors(&self, from: u64, to: u64) -> Vec<f64> {
        match *self {
            Self::Adam { beta1, beta2, .. } if from != to && from > 0 => {
                let sum_of_weights = |beta: f64, steps: u64| 1.0 - beta.powf(steps as f64);
                [beta1, beta2].map(|beta| sum_of_weights(beta, to) / sum_of_weights(beta, from)).into()
            }
            _ => vec![1.0; self.moments().len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAM: Optimizer =
        Optimizer::Adam { lr: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };

    #[test]
    fn moments_mean_the_same_after_they_are_scaled() {
        let [first, second] = ADAM.moment_factors(50, 150)[..] else { panic!("two moments") };
        let (m, v) = (0.3, 0.02);
        let unbiased = |moment: f64, beta: f64, step: i32| moment / (1.0 - beta.powi(step));
        assert!((unbiased(m, 0.9, 50) - unbiased(m * first, 0.9, 150)).abs() < 1e-12);
        assert!((unbiased(v, 0.999, 50) - unbiased(v * second, 0.999, 150)).abs() < 1e-12);
        assert!(second > 2.0, "{second}");
    }

    #[test]
    fn what_needs_no_scaling_gets_none() {
        assert_eq!(ADAM.moment_factors(30, 30), [1.0, 1.0]);
        assert_eq!(ADAM.moment_factors(0, 30), [1.0, 1.0], "moments that are still zero");
        let momentum = Optimizer::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0 };
        assert_eq!(momentum.moment_factors(50, 150), [1.0]);
    }
}
