//! Calibration of a device that does not know its model yet: on LeNet-5 and on a small residual
//! network, which have every layer kind between them.

use std::sync::Arc;
use std::time::Duration;

use partway_core::model::{ModelCost, ModelSpec, builtin::builtin};
use partway_core::optimizer::Optimizer;
use partway_core::profile::{DeviceProfile, Measurement, ProfileError, fit};
use partway_core::workload::layer_works;
use partway_model::{Compute, ComputeError, HalfError, calibrate};
use thiserror::Error;

/// How long each model is measured.
const BUDGET: Duration = Duration::from_millis(700);

/// A device that cannot be calibrated.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// No compute threads.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// A layer cannot be run.
    #[error(transparent)]
    Half(#[from] HalfError),
    /// The measurements make no profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// Seconds per layer kind of one thread of this device, measured on the layers of `spec` at these batch
/// sizes, within about `budget`.
pub fn measure(
    spec: &ModelSpec,
    optimizer: Optimizer,
    batch_sizes: &[usize],
    budget: Duration,
    compute: &Compute,
) -> Result<Vec<Measurement>, HalfError> {
    let cost = ModelCost::of(spec);
    let moments = optimizer.moments().len();
    let timings = calibrate(&Arc::new(spec.clone()), optimizer, batch_sizes, budget, compute)?;
    Ok(timings
        .iter()
        .map(|timing| Measurement {
            work: layer_works(spec, &cost, timing.batch as u32, moments)[timing.layer],
            forward_s: timing.forward_s,
            backward_s: timing.backward_s,
        })
        .collect())
}

/// Calibrates one thread of this device, in about one and a half seconds.
pub fn calibrate_device() -> Result<DeviceProfile, CalibrationError> {
    let compute = Compute::cpu(1)?;
    let optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };
    let mut measurements = Vec::new();
    for (name, input, batches) in [("lenet5", [1, 28, 28], [16, 64]), ("vgg5", [3, 32, 32], [4, 16])] {
        if let Ok(spec) = builtin(name, input, 10) {
            measurements.extend(measure(&spec, optimizer, &batches, BUDGET, &compute)?);
        }
    }
    Ok(fit(&measurements)?)
}
