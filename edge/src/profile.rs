//! Calibration of a device that does not know its model yet: on models with every layer kind.
//!
//! The result is kept in the user's cache folder, under the device and the models that it was measured with, so that a
//! worker that starts again need not measure again; the coordinator corrects it by measured steps anyway.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use partway_core::config::DeviceKind;
use partway_core::model::{LayerKind, calibration};
use partway_core::optimizer::Optimizer;
use partway_core::profile::{DeviceProfile, FitError, ProfileError, fit};
use partway_model::{Compute, ComputeError, HalfError, measure};
use sha2::{Digest, Sha256};
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

/// A device's time models, and how well they explain what they were fitted to.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The time models.
    pub profile: DeviceProfile,
    /// Median relative errors, per layer kind.
    pub errors: BTreeMap<LayerKind, FitError>,
}

/// Calibrates this device, or so many threads of it, in about two seconds; a graphics processor takes
/// longer, as it compiles its kernels first.
pub fn calibrate_device(kind: DeviceKind, threads: usize) -> Result<Calibration, CalibrationError> {
    let compute = Compute::new(kind, threads)?;
    let optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };
    let mut measurements = Vec::new();
    for (spec, batches) in calibration::models() {
        measurements.extend(measure(&Arc::new(spec), optimizer, &batches, BUDGET, &compute)?);
    }
    let mut profile = fit(&measurements)?;
    profile.source = format!("calibrated on {}", compute.name());
    Ok(Calibration { errors: profile.fit_errors(&measurements), profile })
}

/// As [`calibrate_device`], or what it found the last time on this device; a cache that cannot be read or written is
/// none.
pub fn cached_profile(kind: DeviceKind, threads: usize) -> Result<DeviceProfile, CalibrationError> {
    let file = cache_file(kind, threads)?;
    if let Some(profile) = file.as_deref().and_then(read) {
        return Ok(profile);
    }
    let profile = calibrate_device(kind, threads)?.profile;
    if let Some(file) = file {
        keep(&file, &profile);
    }
    Ok(profile)
}

/// Keeps a calibration of this device for [`cached_profile`].
pub fn cache_profile(
    kind: DeviceKind,
    threads: usize,
    profile: &DeviceProfile,
) -> Result<Option<PathBuf>, CalibrationError> {
    let file = cache_file(kind, threads)?;
    Ok(file.filter(|file| keep(file, profile)))
}

/// Where the calibration of this device is kept: named by the device, its threads, the processor, this program's
/// version and the models that it measures.
fn cache_file(kind: DeviceKind, threads: usize) -> Result<Option<PathBuf>, CalibrationError> {
    let named =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let Some(folder) = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache"))) else {
        return Ok(None);
    };
    // Its name says how many threads it has.
    let compute = Compute::new(kind, threads)?;
    let mut hash = Sha256::new();
    for part in [env!("CARGO_PKG_VERSION"), compute.name(), &processor()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    for (spec, batches) in calibration::models() {
        hash.update(format!("{spec:?} {batches:?}").as_bytes());
    }
    let name = hash.finalize().iter().take(8).fold(0_u64, |name, byte| name << 8 | u64::from(*byte));
    Ok(Some(folder.join("partway").join(format!("profile-{kind}-{name:016x}.toml"))))
}

/// What the system calls the processor; empty where it does not say.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = ["model name", "Hardware", "Model", "CPU part", "flags"];
    let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    // All cores of a kind say the same.
    let mut lines: Vec<&str> = lines.collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join("\n")
}

fn read(file: &Path) -> Option<DeviceProfile> {
    toml::from_str(&fs::read_to_string(file).ok()?).ok()
}

/// Written beside and renamed, so that nobody reads half of it.
fn keep(file: &Path, profile: &DeviceProfile) -> bool {
    let Ok(text) = toml::to_string(profile) else { return false };
    let beside = file.with_extension(format!("{}.part", std::process::id()));
    let written = file.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok())
        && fs::write(&beside, text).is_ok()
        && fs::rename(&beside, file).is_ok();
    if !written {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use partway_core::profile::{KindModel, Line};

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_damage_is_no_profile() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("deeper").join("profile.toml");
        assert_eq!(read(&file), None);
        let line = Line { per_flop: 1.25e-10, per_byte: 3e-11, fixed: 1e-6 };
        let profile = DeviceProfile {
            source: "made up".to_owned(),
            other: Some(KindModel { forward: line, backward: line }),
            kinds: BTreeMap::from([(LayerKind::Conv2d, KindModel { forward: line, backward: line })]),
        };
        assert!(keep(&file, &profile));
        assert_eq!(read(&file), Some(profile.clone()));
        assert_eq!(
            fs::read_dir(folder.path().join("deeper")).expect("a folder").count(),
            1,
            "nothing is left beside"
        );
        fs::write(&file, "kinds = 3").expect("written");
        assert_eq!(read(&file), None);
        // A file where a folder should be.
        assert!(!keep(&file.join("below"), &profile));
    }

    #[test]
    fn the_same_device_has_the_same_file() {
        let file = |threads| cache_file(DeviceKind::Cpu, threads).expect("there is a processor");
        let (one, other) = (file(1), file(1));
        assert_eq!(one, other);
        assert!(one.is_none() || one != file(2), "two threads take other times");
        if let Some(file) = one {
            assert!(file.to_string_lossy().contains("profile-cpu-"), "{}", file.display());
        }
    }
}
