//! Calibration of a device that does not know its model yet: on models with every layer kind.

use std::sync::Arc;
use std::time::Duration;

use partway_core::config::DeviceKind;
use partway_core::model::calibration;
use partway_core::optimizer::Optimizer;
use partway_core::profile::{DeviceProfile, ProfileError, fit};
use partway_model::{Compute, ComputeError, HalfError, measure};
use thiserror::Error;

/// How long each model is measured.
const BUDGET: Duration = Duration::from_millis(700);

/// A device that cannot be calibrated.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// No such device, or no threads for it.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// A layer cannot be run.
    #[error(transparent)]
    Half(#[from] HalfError),
    /// The measurements make no profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// Calibrates this device, or one thread of it, in about two seconds; a graphics processor takes
/// longer, as it compiles its kernels first.
pub fn calibrate_device(kind: DeviceKind) -> Result<DeviceProfile, CalibrationError> {
    let compute = Compute::new(kind, 1)?;
    let optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };
    let mut measurements = Vec::new();
    for (spec, batches) in calibration::models() {
        measurements.extend(measure(&Arc::new(spec), optimizer, &batches, BUDGET, &compute)?);
    }
    let mut profile = fit(&measurements)?;
    profile.source = format!("calibrated on {}", compute.name());
    Ok(profile)
}
