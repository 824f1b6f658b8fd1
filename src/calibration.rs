//! What this machine takes per layer kind: measured once, alone, before anybody else runs.

use std::sync::Arc;
use std::time::Duration;

use partway_core::config::{CloudConfig, Config, DeviceKind, EdgeConfig};
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

/// What of this machine is calibrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) kind: DeviceKind,
    /// That compute together; 1 for a graphics processor, whose times do not depend on them.
    pub(crate) threads: usize,
}

impl Measured {
    /// What somebody with so many threads computes on.
    pub(crate) fn of(kind: DeviceKind, threads: usize) -> Self {
        let threads = if kind == DeviceKind::Cpu { threads } else { 1 };
        Self { kind, threads }
    }

    /// What an edge computes on.
    pub(crate) fn of_edge(edge: &EdgeConfig) -> Self {
        Self::of(edge.device, edge.threads.get())
    }

    /// What the cloud computes on.
    pub(crate) fn of_cloud(cloud: &CloudConfig) -> Self {
        Self::of(cloud.device, cloud.threads.get())
    }

    /// Opens it for the one that a key of the configuration names.
    pub(crate) fn open(self, key: String) -> Result<Compute, DeviceError> {
        let Self { kind, threads } = self;
        Compute::new(kind, threads).map_err(|source| DeviceError { key, kind, source: Box::new(source) })
    }
}

/// What of this machine the cloud and the edges compute on, each once.
pub(crate) fn devices(config: &Config) -> Result<Vec<(Measured, Compute)>, DeviceError> {
    let edges = config.edge.iter().map(|edge| (edge_key(edge), Measured::of_edge(edge)));
    let cloud = (CLOUD_KEY.to_owned(), Measured::of_cloud(&config.cloud));
    let mut devices = Vec::<(Measured, Compute)>::new();
    for (key, measured) in std::iter::once(cloud).chain(edges) {
        if devices.iter().all(|(known, _)| *known != measured) {
            devices.push((measured, measured.open(key)?));
        }
    }
    Ok(devices)
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
    fn every_number_of_threads_is_calibrated_once() {
        let text = "name = \"x\"\n[model]\narch = \"mlp\"\n[data]\ndataset = \"synthetic\"\n[cloud]\nthreads = 2\n\
                    [[edge]]\nname = \"a\"\ncount = 3\n[[edge]]\nname = \"b\"\nthreads = 2\n[[edge]]\nname = \"c\"\n";
        let config = Config::parse(text, "x.toml", &[]).expect("it is right");
        let devices = devices(&config).expect("there is a processor");
        let found: Vec<(usize, &str)> =
            devices.iter().map(|(measured, compute)| (measured.threads, compute.name())).collect();
        assert_eq!(found, [(2, "2 CPU threads"), (1, "one CPU thread")]);
        assert_eq!(Measured::of(DeviceKind::Wgpu, 4), Measured::of(DeviceKind::Wgpu, 1));
    }

    #[test]
    fn batch_sizes_are_distinct_and_not_empty() {
        assert_eq!(batch_sizes(64), [64, 32, 16]);
        assert_eq!(batch_sizes(3), [3, 1]);
        assert_eq!(batch_sizes(2), [2, 1]);
        assert_eq!(batch_sizes(1), [1]);
    }
}
