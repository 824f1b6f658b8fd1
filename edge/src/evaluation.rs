//! Evaluates a global model on the samples that this edge holds out.

use std::sync::Arc;

use partway_core::model::ModelSpec;
use partway_core::optimizer::Optimizer;
use partway_core::standardize::Standardizer;
use partway_core::wire::{Score, TensorMessage, decode_state};
use partway_datasets::Samples;
use partway_model::{Compute, Half};

/// Nothing is trained: no moments, and no step.
const NO_OPTIMIZER: Optimizer = Optimizer::Sgd { lr: 0.0, momentum: 0.0, weight_decay: 0.0 };

/// What a model is evaluated on.
pub(crate) struct HeldOut<'a> {
    pub(crate) shard: &'a Samples,
    /// Which of the shard's samples.
    pub(crate) indices: &'a [usize],
    pub(crate) standardizer: &'a Standardizer,
    /// Samples that run through the model at once.
    pub(crate) batch: usize,
}

impl HeldOut<'_> {
    /// What the whole model in `model` does on these samples, or why that cannot be said.
    pub(crate) fn evaluate(
        &self,
        spec: &Arc<ModelSpec>,
        model: TensorMessage,
        compute: &Compute,
    ) -> Result<Score, String> {
        let state = decode_state(spec, 0, model).map_err(|error| error.to_string())?;
        let half = Half::from_state(spec, NO_OPTIMIZER, state, compute).map_err(|error| error.to_string())?;
        let mut score = Score::default();
        for indices in self.indices.chunks(self.batch.max(1)) {
            let (values, labels) =
                self.shard.standardized(indices, self.standardizer).map_err(|error| error.to_string())?;
            let evaluation = half.evaluate(&values, &labels).map_err(|error| error.to_string())?;
            score += Score {
                correct: evaluation.correct as u64,
                loss_sum: evaluation.loss_sum,
                samples: evaluation.samples as u64,
            };
        }
        if score.is_of(self.indices.len() as u64) {
            Ok(score)
        } else {
            Err("its loss is not finite; a lower training.optimizer.lr may help".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use partway_core::model::{LayerState, builtin::builtin};
    use partway_core::standardize::{Affine, Method, Transform};
    use partway_core::wire::encode_model;
    use partway_datasets::Pixels;

    use super::*;

    fn samples(count: usize) -> Samples {
        let pixels = (0..count * 16).map(|at| ((at * 37) % 256) as u8).collect();
        let labels = (0..count as u32).map(|at| at % 3).collect();
        Samples::new([1, 4, 4], Pixels::U8(pixels), labels, 3).expect("they fit")
    }

    #[test]
    fn parts_of_the_held_out_samples_add_up_and_no_other_counts() {
        let spec = Arc::new(builtin("mlp", [1, 4, 4], 3).expect("a built-in model"));
        let compute = Compute::cpu(1).expect("a thread");
        let shard = samples(11);
        let channels = vec![Affine { offset: 0.5, scale: 2.0 }];
        let standardizer = Standardizer { method: Method::Zscore, transform: Transform::Identity, channels };
        let score = |indices: &[usize], batch| {
            let state = LayerState::initial(&spec, 0..spec.len(), 0, 7);
            let held_out = HeldOut { shard: &shard, indices, standardizer: &standardizer, batch };
            held_out.evaluate(&spec, encode_model(4, state), &compute).expect("it is evaluated")
        };
        let all: Vec<usize> = (0..11).collect();
        let whole = score(&all, 4);
        assert_eq!(whole.samples, 11);
        let mut sum = score(&all[..5], 2);
        sum += score(&all[5..], 6);
        assert_eq!((sum.correct, sum.samples), (whole.correct, whole.samples));
        assert!((sum.loss_sum - whole.loss_sum).abs() < 1e-4);
        assert_eq!(score(&[3, 7], 64).samples, 2);
    }

    #[test]
    fn a_model_of_other_layers_is_declined() {
        let spec = Arc::new(builtin("mlp", [1, 4, 4], 3).expect("a built-in model"));
        let compute = Compute::cpu(1).expect("a thread");
        let shard = samples(3);
        let channels = vec![Affine { offset: 0.0, scale: 1.0 }];
        let standardizer = Standardizer { method: Method::None, transform: Transform::Identity, channels };
        let held_out = HeldOut { shard: &shard, indices: &[0], standardizer: &standardizer, batch: 1 };
        let half = LayerState::initial(&spec, 0..2, 0, 7);
        assert!(held_out.evaluate(&spec, encode_model(4, half), &compute).is_err());
        let mut diverged = LayerState::initial(&spec, 0..spec.len(), 0, 7);
        diverged.values.fill(f32::MAX);
        let reason = held_out.evaluate(&spec, encode_model(4, diverged), &compute);
        assert!(reason.as_ref().is_err_and(|reason| reason.contains("not finite")), "{reason:?}");
    }
}
