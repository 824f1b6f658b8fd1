//! What this machine takes per layer kind: measured once, alone, before anybody else runs.

use std::sync::Arc;
use std::time::Duration;

use partway_core::model::{ModelCost, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::profile::{self, DeviceProfile, Measurement, ProfileError};
use partway_core::workload;
use partway_model::{Compute, ComputeError, HalfError, LayerTiming};
use thiserror::Error;

use crate::experiment::Experiment;

/// How long a calibration takes, about.
const BUDGET: Duration = Duration::from_secs(1);

/// Why this machine could not be calibrated.
#[derive(Debug, Error)]
pub(crate) enum CalibrationError {
    /// There is no thread to compute on.
    #[error("cannot calibrate this machine: {0}")]
    Compute(#[from] ComputeError),
    /// A layer could not be built.
    #[error("cannot calibrate this machine with `{model}`: {source}")]
    Half {
        /// The model's name.
        model: String,
        /// Why.
        source: Box<HalfError>,
    },
    /// No time model fits.
    #[error("cannot calibrate this machine: {0}")]
    Fit(#[from] ProfileError),
}

/// Times every layer of the experiment's own model, at its own batch size and at smaller ones, on one
/// thread.
pub(crate) fn calibrate(experiment: &Experiment) -> Result<DeviceProfile, CalibrationError> {
    let Experiment { spec, cost, config, .. } = experiment;
    let optimizer = config.training.optimizer;
    let batches = batch_sizes(experiment.batch());
    let compute = Compute::cpu(1)?;
    let timings = partway_model::calibrate(&Arc::new(spec.clone()), optimizer, &batches, BUDGET, &compute)
        .map_err(|source| CalibrationError::Half { model: spec.name.clone(), source: Box::new(source) })?;
    let mut profile = profile::fit(&measurements(spec, cost, optimizer, &timings))?;
    let batches: Vec<String> = batches.iter().map(ToString::to_string).collect();
    profile.source =
        format!("calibrated on this machine: one thread, {} in batches of {}", spec.name, batches.join(", "));
    Ok(profile)
}

/// The batch itself, half of it and a quarter, where these are different.
fn batch_sizes(batch: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = [batch, batch / 2, batch / 4].into_iter().filter(|size| *size >= 1).collect();
    sizes.dedup();
    sizes
}

/// Each timing with the work that it stands for.
fn measurements(
    spec: &ModelSpec,
    cost: &ModelCost,
    optimizer: Optimizer,
    timings: &[LayerTiming],
) -> Vec<Measurement> {
    let moments = optimizer.moments().len();
    timings
        .iter()
        .filter_map(|timing| {
            let works = workload::layer_works(spec, cost, timing.batch as u32, moments);
            let work = *works.get(timing.layer)?;
            Some(Measurement { work, forward_s: timing.forward_s, backward_s: timing.backward_s })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use partway_core::model::builtin::builtin;

    use super::*;

    #[test]
    fn batch_sizes_are_distinct_and_not_empty() {
        assert_eq!(batch_sizes(64), [64, 32, 16]);
        assert_eq!(batch_sizes(3), [3, 1]);
        assert_eq!(batch_sizes(2), [2, 1]);
        assert_eq!(batch_sizes(1), [1]);
    }

    #[test]
    fn a_timing_belongs_to_its_layers_work_at_its_batch_size() {
        let spec = builtin("mlp", [1, 8, 8], 4).expect("a built-in model");
        let cost = ModelCost::of(&spec);
        let optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0 };
        let timing = |batch| LayerTiming { layer: 1, batch, forward_s: 2e-3, backward_s: 3e-3 };
        let found = measurements(&spec, &cost, optimizer, &[timing(8), timing(16)]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].work, workload::layer_works(&spec, &cost, 8, 1)[1]);
        assert!((found[1].work.forward_flops / found[0].work.forward_flops - 2.0).abs() < 1e-9);
        assert!((found[0].forward_s - 2e-3).abs() < 1e-12);
    }

    #[test]
    fn a_profile_survives_its_file() {
        let spec = builtin("mlp", [1, 8, 8], 4).expect("a built-in model");
        let cost = ModelCost::of(&spec);
        let optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };
        let timings: Vec<LayerTiming> = (0..spec.len())
            .map(|layer| LayerTiming { layer, batch: 8, forward_s: 1e-3, backward_s: 2e-3 })
            .collect();
        let profile = profile::fit(&measurements(&spec, &cost, optimizer, &timings)).expect("it fits");
        let text = toml::to_string(&profile).expect("it can be written");
        assert_eq!(toml::from_str::<DeviceProfile>(&text).expect("and read"), profile);
    }
}
