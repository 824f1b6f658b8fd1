//! Optimizer steps on flat tensors, as tensor operations where there is no kernel for them; `partway_core::optimizer` has the formulas.

use burn::tensor::Tensor;
use partway_core::optimizer::Optimizer;

use crate::kernels::{self, Kernels};

/// The weights and moments after one step. Every tensor is flat and of one length; `moments` are in
/// the order of [`Optimizer::moments`]; `step` counts from 1.
pub(crate) fn step(
    optimizer: Optimizer,
    step: u64,
    weights: Tensor<1>,
    moments: Vec<Tensor<1>>,
    gradient: Tensor<1>,
    kernels: Kernels,
) -> (Tensor<1>, Vec<Tensor<1>>) {
    if kernels == Kernels::Own {
        return kernels::optimizer_step(optimizer, step, weights, moments, gradient);
    }
    let mut moments = moments.into_iter();
    let mut moment = || moments.next().expect("a half keeps every moment of its optimizer");
    match optimizer {
        Optimizer::Sgd { lr, momentum, weight_decay } => {
            let gradient = decayed(gradient, &weights, weight_decay);
            if momentum == 0.0 {
                return (weights.sub(gradient.mul_scalar(lr)), Vec::new());
            }
            let velocity = moment().mul_scalar(momentum).add(gradient);
            (weights.sub(velocity.clone().mul_scalar(lr)), vec![velocity])
        }
        Optimizer::Adam { lr, beta1, beta2, epsilon, weight_decay } => {
            let gradient = decayed(gradient, &weights, weight_decay);
            let first = moment().mul_scalar(beta1).add(gradient.clone().mul_scalar(1.0 - beta1));
            let second = moment().mul_scalar(beta2).add(gradient.square().mul_scalar(1.0 - beta2));
            // Both moments start at zero, which biases them towards it by 1 - beta^step.
            let unbias = |beta: f64| 1.0 - beta.powf(step as f64);
            let root = second.clone().sqrt().div_scalar(unbias(beta2).sqrt()).add_scalar(epsilon);
            let change = first.clone().div(root).mul_scalar(lr / unbias(beta1));
            (weights.sub(change), vec![first, second])
        }
    }
}

/// The gradient with that of the L2 penalty.
fn decayed(gradient: Tensor<1>, weights: &Tensor<1>, weight_decay: f64) -> Tensor<1> {
    if weight_decay == 0.0 { gradient } else { gradient.add(weights.clone().mul_scalar(weight_decay)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::into_values;
    use burn::tensor::{Device, TensorData};

    fn flat(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
    }

    /// Two steps with the given gradients, from moments of zero, by both kernels.
    fn two_steps(optimizer: Optimizer, gradients: [[f32; 2]; 2]) -> [Vec<f32>; 2] {
        [Kernels::Own, Kernels::Burn].map(|kernels| steps_by(kernels, optimizer, gradients))
    }

    fn steps_by(kernels: Kernels, optimizer: Optimizer, gradients: [[f32; 2]; 2]) -> Vec<f32> {
        let moments = optimizer.moments().iter().map(|_| flat(&[0.0, 0.0])).collect();
        let (weights, moments) =
            step(optimizer, 1, flat(&[1.0, -2.0]), moments, flat(&gradients[0]), kernels);
        into_values(step(optimizer, 2, weights, moments, flat(&gradients[1]), kernels).0)
    }

    fn assert_close(actual: &[Vec<f32>; 2], expected: &[f64]) {
        for actual in actual {
            for (a, e) in actual.iter().zip(expected) {
                assert!((f64::from(*a) - e).abs() < 1e-6, "{actual:?} instead of {expected:?}");
            }
        }
    }

    #[test]
    fn sgd_without_momentum_keeps_no_moment() {
        let sgd = Optimizer::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };
        assert_close(&two_steps(sgd, [[1.0, 2.0], [3.0, -1.0]]), &[0.6, -2.1]);
    }

    #[test]
    fn sgd_with_momentum_and_decay_by_hand() {
        let sgd = Optimizer::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.5 };
        // First weight: g = 1 + 0.5, v = 1.5, w = 0.85; g = 3 + 0.425, v = 1.35 + 3.425, w = 0.3725.
        // Second: g = 2 - 1, v = 1, w = -2.1; g = -1 - 1.05, v = 0.9 - 2.05, w = -1.985.
        assert_close(&two_steps(sgd, [[1.0, 2.0], [3.0, -1.0]]), &[0.3725, -1.985]);
    }

    #[test]
    fn adam_by_hand() {
        let adam = Optimizer::Adam { lr: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.0 };
        let (mut m, mut v, mut w) = ([0.0f64; 2], [0.0f64; 2], [1.0f64, -2.0]);
        let gradients = [[1.0, 2.0], [3.0, -1.0]];
        for (t, g) in (1..).zip(gradients) {
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.99 * v[i] + 0.01 * g[i] * g[i];
                let (m_hat, v_hat) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.99f64.powi(t)));
                w[i] -= 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        assert_close(&two_steps(adam, gradients.map(|pair| pair.map(|g| g as f32))), &w);
    }
}
