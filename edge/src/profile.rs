//! Calibration of a device that does not know its model yet: on the layers of two built-in models.

use std::sync::Arc;
use std::time::Duration;

use partway_core::config::DeviceKind;
use partway_core::model::builtin::builtin;
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

/// Calibrates this device, or one thread of it, in about one and a half seconds; a graphics processor takes
/// longer, as it compiles its kernels first.
pub fn calibrate_device(kind: DeviceKind) -> Result<DeviceProfile, CalibrationError> {
    let compute = Compute::new(kind, 1)?;
    let optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };
    let mut measurements = Vec::new();
    for (name, input, batches) in [("lenet5", [1, 28, 28], [16, 64]), ("vgg5", [3, 32, 32], [4, 16])] {
        if let Ok(spec) = builtin(name, input, 10) {
            measurements.extend(measure(&Arc::new(spec), optimizer, &batches, BUDGET, &compute)?);
        }
    }
    Ok(fit(&measurements)?)
}
