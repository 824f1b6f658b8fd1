//! What this machine takes per layer kind: measured once, alone, before anybody else runs.

use std::sync::Arc;
use std::time::Duration;

use partway_core::config::{Config, DeviceKind, EdgeConfig};
use partway_core::profile::{self, DeviceProfile, ProfileError};
use partway_model::{Compute, ComputeError, HalfError};
use thiserror::Error;

use crate::experiment::Experiment;

/// How long a calibration takes, about.
const BUDGET: Duration = Duration::from_secs(1);

/// The key of the cloud's device.
pub(crate) const CLOUD_KEY: &str = "cloud.device";

/// A device that the configuration names and that is not there.
#[derive(Debug, Error)]
#[error("`{key} = \"{kind}\"`: {source}")]
pub(crate) struct DeviceError {
    key: String,
    kind: DeviceKind,
    source: Box<ComputeError>,
}

/// Why this machine could not be calibrated.
#[derive(Debug, Error)]
pub(crate) enum CalibrationError {
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

/// The devices of this machine that the cloud and the edges compute on.
pub(crate) fn devices(config: &Config) -> Result<Vec<Compute>, DeviceError> {
    let edges = config.edge.iter().map(|edge| (edge_key(edge), edge.device));
    let mut devices = Vec::<Compute>::new();
    for (key, kind) in std::iter::once((CLOUD_KEY.to_owned(), config.cloud.device)).chain(edges) {
        if devices.iter().all(|device| device.kind() != kind) {
            devices.push(open(key, kind)?);
        }
    }
    Ok(devices)
}

/// The device that a key of the configuration names, or one thread of it: what everything on this
/// machine is a multiple of.
pub(crate) fn open(key: String, kind: DeviceKind) -> Result<Compute, DeviceError> {
    Compute::new(kind, 1).map_err(|source| DeviceError { key, kind, source: Box::new(source) })
}

/// The key of an edge's device.
pub(crate) fn edge_key(edge: &EdgeConfig) -> String {
    format!("edge.{}.device", edge.name)
}

/// Times every layer of the experiment's own model, at its own batch size and at smaller ones.
pub(crate) fn calibrate(
    experiment: &Experiment,
    compute: &Compute,
) -> Result<DeviceProfile, CalibrationError> {
    let Experiment { spec, config, .. } = experiment;
    let optimizer = config.training.optimizer;
    let batches = batch_sizes(experiment.batch());
    let measurements = partway_model::measure(&Arc::new(spec.clone()), optimizer, &batches, BUDGET, compute)
        .map_err(|source| CalibrationError::Half { model: spec.name.clone(), source: Box::new(source) })?;
    let mut profile = profile::fit(&measurements)?;
    let batches: Vec<String> = batches.iter().map(ToString::to_string).collect();
    let (device, batches) = (compute.name(), batches.join(", "));
    profile.source = format!("calibrated on this machine: {device}, {} in batches of {batches}", spec.name);
    Ok(profile)
}

/// The batch itself, half of it and a quarter, where these are different.
pub(crate) fn batch_sizes(batch: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = [batch, batch / 2, batch / 4].into_iter().filter(|size| *size >= 1).collect();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_are_distinct_and_not_empty() {
        assert_eq!(batch_sizes(64), [64, 32, 16]);
        assert_eq!(batch_sizes(3), [3, 1]);
        assert_eq!(batch_sizes(2), [2, 1]);
        assert_eq!(batch_sizes(1), [1]);
    }
}
