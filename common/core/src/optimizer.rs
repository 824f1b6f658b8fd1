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
}
