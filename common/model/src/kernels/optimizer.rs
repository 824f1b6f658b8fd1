//! An optimizer's step in one pass, in place where nothing else holds the tensors.

use burn::tensor::Tensor;
use partway_core::optimizer::Optimizer;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::flex::{Values, from_plain, plain, take, tensor};

/// Values that are worth a thread of their own.
const VALUES_PER_THREAD: usize = 1 << 15;

/// The weights and moments after one step. Every tensor is flat, of one length and on no tape; `moments` are
/// in the order of [`Optimizer::moments`]; `step` counts from 1.
///
/// # Panics
/// If a tensor is not on the CPU or of another length, or a moment is missing.
pub(crate) fn optimizer_step(
    optimizer: Optimizer,
    step: u64,
    weights: Tensor<1>,
    moments: Vec<Tensor<1>>,
    gradient: Tensor<1>,
) -> (Tensor<1>, Vec<Tensor<1>>) {
    let [len] = weights.dims();
    assert_eq!(moments.len(), optimizer.moments().len(), "a half keeps every moment of its optimizer");
    assert!(moments.iter().chain([&gradient]).all(|tensor| tensor.dims() == [len]), "lengths agree");
    let mut weights = take(plain(weights));
    let mut moments: Vec<Vec<f32>> = moments.into_iter().map(|moment| take(plain(moment))).collect();
    let gradient = Values::of(&plain(gradient));
    let arch = Arch::new();
    let pieces = weights.par_chunks_mut(VALUES_PER_THREAD).zip(gradient.par_chunks(VALUES_PER_THREAD));
    match (optimizer, moments.as_mut_slice()) {
        (Optimizer::Sgd { lr, momentum, weight_decay }, []) => {
            let rates = SgdRates::new(lr, momentum, weight_decay);
            pieces.for_each(|(weights, gradient)| arch.dispatch(Sgd { rates, weights, gradient }));
        }
        (Optimizer::Sgd { lr, momentum, weight_decay }, [velocity]) => {
            let rates = SgdRates::new(lr, momentum, weight_decay);
            pieces.zip(velocity.par_chunks_mut(VALUES_PER_THREAD)).for_each(
                |((weights, gradient), velocity)| {
                    arch.dispatch(SgdMomentum { rates, weights, velocity, gradient });
                },
            );
        }
        (Optimizer::Adam { lr, beta1, beta2, epsilon, weight_decay }, [first, second]) => {
            // Both moments start at zero, which biases them towards it by 1 - beta^step.
            let unbias = |beta: f64| 1.0 - beta.powf(step as f64);
            let rates = AdamRates {
                rate: (lr / unbias(beta1)) as f32,
                first: [beta1 as f32, (1.0 - beta1) as f32],
                second: [beta2 as f32, (1.0 - beta2) as f32],
                root: unbias(beta2).sqrt() as f32,
                epsilon: epsilon as f32,
                decay: weight_decay as f32,
            };
            let moments =
                first.par_chunks_mut(VALUES_PER_THREAD).zip(second.par_chunks_mut(VALUES_PER_THREAD));
            pieces.zip(moments).for_each(|((weights, gradient), (first, second))| {
                arch.dispatch(Adam { rates, weights, first, second, gradient });
            });
        }
        _ => unreachable!("the number of moments was checked"),
    }
    let flat = |values: Vec<f32>| from_plain(tensor(values, [len]));
    (flat(weights), moments.into_iter().map(flat).collect())
}

#[derive(Clone, Copy)]
struct SgdRates {
    rate: f32,
    momentum: f32,
    decay: f32,
}

impl SgdRates {
    fn new(rate: f64, momentum: f64, decay: f64) -> Self {
        Self { rate: rate as f32, momentum: momentum as f32, decay: decay as f32 }
    }
}

/// A piece of the weights, without momentum.
struct Sgd<'a> {
    rates: SgdRates,
    weights: &'a mut [f32],
    gradient: &'a [f32],
}

impl NullaryFnOnce for Sgd<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rates: SgdRates { rate, decay, .. }, weights, gradient } = self;
        for (weight, gradient) in weights.iter_mut().zip(gradient) {
            *weight -= rate * (gradient + decay * *weight);
        }
    }
}

/// A piece of the weights, with their velocity.
struct SgdMomentum<'a> {
    rates: SgdRates,
    weights: &'a mut [f32],
    velocity: &'a mut [f32],
    gradient: &'a [f32],
}

impl NullaryFnOnce for SgdMomentum<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rates: SgdRates { rate, momentum, decay }, weights, velocity, gradient } = self;
        for ((weight, velocity), gradient) in weights.iter_mut().zip(velocity).zip(gradient) {
            *velocity = momentum * *velocity + (gradient + decay * *weight);
            *weight -= rate * *velocity;
        }
    }
}

#[derive(Clone, Copy)]
struct AdamRates {
    rate: f32,
    /// What a moment keeps, and what the gradient adds.
    first: [f32; 2],
    second: [f32; 2],
    /// Root of the second moment's bias.
    root: f32,
    epsilon: f32,
    decay: f32,
}

/// A piece of the weights, with their moments.
struct Adam<'a> {
    rates: AdamRates,
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradient: &'a [f32],
}

impl NullaryFnOnce for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rates, weights, first, second, gradient } = self;
        let AdamRates { rate, first: [keep1, add1], second: [keep2, add2], root, epsilon, decay } = rates;
        let moments = first.iter_mut().zip(second);
        for ((weight, (first, second)), gradient) in weights.iter_mut().zip(moments).zip(gradient) {
            let gradient = gradient + decay * *weight;
            *first = keep1 * *first + add1 * gradient;
            *second = keep2 * *second + add2 * (gradient * gradient);
            *weight -= rate * (*first / (second.sqrt() / root + epsilon));
        }
    }
}
