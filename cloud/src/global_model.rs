//! Jobs on the global model: averaging and evaluation, apart from the workers that train replicas.

use partway_core::aggregate;
use partway_core::coordinator::Computed;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::standardize::Standardizer;
use partway_datasets::Samples;
use partway_model::{Compute, Half};
use std::sync::Arc;

/// Samples that are evaluated at once.
pub const CHUNK: usize = 250;

/// Averages full models, each given in parts: the answer to `Job::Aggregate`.
pub fn aggregate(
    spec: &ModelSpec,
    round: u32,
    models: Vec<(f64, Vec<LayerState>)>,
    reset_moments: bool,
) -> Computed {
    match aggregate::average_parts(spec, models) {
        Ok(mut state) => {
            if reset_moments {
                state.reset_moments(spec);
            }
            Computed::Aggregated { round, state }
        }
        Err(error) => Computed::Failed { reason: format!("aggregation after round {}: {error}", round + 1) },
    }
}

/// What evaluates the global model: the cloud's test set and a thread of its own.
#[derive(Clone, Debug)]
pub struct Evaluator {
    /// The model.
    pub spec: Arc<ModelSpec>,
    /// Says how many moments a state has.
    pub optimizer: Optimizer,
    /// The test set.
    pub test: Arc<Samples>,
    /// What computes.
    pub compute: Compute,
}

impl Evaluator {
    /// Accuracy and loss of the global model that round `round` ended with.
    pub fn evaluate(&self, round: u32, state: Arc<LayerState>, standardizer: &Standardizer) -> Computed {
        self.score(round, state, standardizer).unwrap_or_else(|error| Computed::Failed {
            reason: format!("evaluation after round {}: {error}", round + 1),
        })
    }

    fn score(
        &self,
        round: u32,
        state: Arc<LayerState>,
        standardizer: &Standardizer,
    ) -> Result<Computed, String> {
        let test = &self.test;
        let half = Half::from_state(&self.spec, self.optimizer, (*state).clone(), &self.compute)
            .map_err(|error| error.to_string())?;
        let (mut correct, mut loss_sum) = (0, 0.0);
        let indices: Vec<usize> = (0..test.len()).collect();
        for chunk in indices.chunks(CHUNK) {
            let (values, labels) =
                test.standardized(chunk, standardizer).map_err(|error| error.to_string())?;
            let evaluation = half.evaluate(&values, &labels).map_err(|error| error.to_string())?;
            correct += evaluation.correct;
            loss_sum += evaluation.loss_sum;
        }
        if !loss_sum.is_finite() {
            return Err("the loss is not finite; a lower training.optimizer.lr may help".to_owned());
        }
        let samples = test.len() as f64;
        Ok(Computed::Evaluated {
            round,
            state,
            accuracy: correct as f64 / samples,
            loss: loss_sum / samples,
            samples: test.len() as u64,
        })
    }
}
