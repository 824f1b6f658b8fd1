//! What work takes on a device, by its profile.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use partway_core::config::{DeviceFile, Slowdown};
use partway_core::model::{ModelCost, ModelSpec};
use partway_core::profile::{DeviceProfile, LayerWork, Measurement, ProfileError, fit};
use partway_core::random::{Stream, unit_f64};
use partway_core::workload::layer_works;

/// A calibration takes the median of several repeats, whose deviation is about that of one by this.
const CALIBRATION_REPEATS: f64 = 3.0;

/// A device at one model, batch size and number of micro-batches.
#[derive(Clone, Debug)]
pub(super) struct Device {
    file: DeviceFile,
    /// Of a micro-batch, and of a whole batch.
    works: Vec<LayerWork>,
    whole: Vec<LayerWork>,
}

impl Device {
    /// The device that a file describes, at batches of `batch` in `parts` micro-batches, and `moments` optimizer moments.
    pub(super) fn new(file: &DeviceFile, spec: &ModelSpec, batch: u32, parts: u32, moments: usize) -> Self {
        let cost = ModelCost::of(spec);
        let works = |batch: u32| layer_works(spec, &cost, batch, moments);
        Self { file: file.clone(), works: works(batch / parts), whole: works(batch) }
    }

    /// The same device, `speed` times as fast.
    pub(super) fn at_speed(device: Arc<Self>, speed: f64) -> Arc<Self> {
        // Most edges are as fast as their profile says, and a thousand of them share it.
        if speed.to_bits() == 1f64.to_bits() {
            return device;
        }
        let profile = device.file.profile.scaled(1.0 / speed);
        let file = DeviceFile { profile, ..device.file.clone() };
        Arc::new(Self { file, works: device.works.clone(), whole: device.whole.clone() })
    }

    /// Seconds of a micro-batch's forward pass of some layers.
    pub(super) fn forward_s(&self, layers: Range<usize>) -> f64 {
        self.works[layers].iter().map(|work| self.file.profile.seconds_forward(work)).sum()
    }

    /// Seconds of their backward pass and optimizer step.
    pub(super) fn backward_s(&self, layers: Range<usize>) -> f64 {
        self.works[layers].iter().map(|work| self.file.profile.seconds_backward(work)).sum()
    }

    /// Seconds of a whole batch forward and backward.
    pub(super) fn whole_s(&self, layers: Range<usize>) -> f64 {
        let profile = &self.file.profile;
        let both = |work| profile.seconds_forward(work) + profile.seconds_backward(work);
        self.whole[layers].iter().map(both).sum()
    }

    /// Seconds of a micro-batch forward and backward.
    pub(super) fn both_s(&self, layers: Range<usize>) -> f64 {
        self.forward_s(layers.clone()) + self.backward_s(layers)
    }

    /// Seconds of evaluating the whole model on `samples` samples, `batch` at a time.
    pub(super) fn evaluation_s(&self, spec: &ModelSpec, samples: usize, batch: usize) -> f64 {
        let of = |batch: usize| {
            let works = layer_works(spec, &ModelCost::of(spec), batch as u32, 0);
            works.iter().map(|work| self.file.profile.seconds_forward(work)).sum::<f64>()
        };
        let batch = batch.max(1);
        let rest = samples % batch;
        (samples / batch) as f64 * of(batch) + if rest > 0 { of(rest) } else { 0.0 }
    }

    /// How long work of so many seconds takes this time.
    pub(super) fn duration(&self, seconds: f64, slowdown: f64, random: &mut Stream) -> Duration {
        let factor = deviation(self.file.noise, random);
        // Beyond what a duration holds nothing ends within the run anyway.
        Duration::try_from_secs_f64(seconds * slowdown * factor).unwrap_or(Duration::MAX / 4)
    }

    /// The profile that a calibration on this device finds: as `partway run` calibrates, but timed by the
    /// device's own lines.
    pub(super) fn calibrate(
        &self,
        spec: &ModelSpec,
        batches: &[usize],
        moments: usize,
        random: &mut Stream,
    ) -> Result<DeviceProfile, ProfileError> {
        // A device's profile is of its layer kinds: frozen layers are timed as if they were trained.
        let spec = ModelSpec { frozen: 0, ..spec.clone() };
        let cost = ModelCost::of(&spec);
        let noise = self.file.noise / CALIBRATION_REPEATS;
        let mut measurements = Vec::new();
        for batch in batches {
            for work in layer_works(&spec, &cost, *batch as u32, moments) {
                let forward_s = self.file.profile.seconds_forward(&work) * deviation(noise, random);
                let backward_s = self.file.profile.seconds_backward(&work) * deviation(noise, random);
                measurements.push(Measurement { work, forward_s, backward_s });
            }
        }
        let mut profile = fit(&measurements)?;
        profile.source = format!("calibrated under the virtual clock: {}", self.file.profile.source);
        Ok(profile)
    }
}

/// A factor around 1, uniform, with this standard deviation.
fn deviation(noise: f64, random: &mut Stream) -> f64 {
    if noise > 0.0 { 1.0 + noise * 3f64.sqrt() * (2.0 * unit_f64(random) - 1.0) } else { 1.0 }
}

/// How many times longer work takes that starts at `at`.
pub(super) fn slowdown_at(slow: &[Slowdown], at: Duration) -> f64 {
    slow.iter().find(|slow| slow.from() <= at && at < slow.until()).map_or(1.0, |slow| slow.factor())
}

#[cfg(test)]
mod tests {
    use partway_core::model::builtin::builtin;
    use partway_core::random::stream;

    use super::*;

    fn device(noise: f64) -> (Device, ModelSpec) {
        let text = format!(
            "source = \"made up\"\nnoise = {noise}\n[kinds.linear]\nforward = {{ per_flop = 1e-9, fixed = 1e-4 }}\n\
             backward = {{ per_flop = 2e-9, per_byte = 1e-10 }}\n[kinds.relu]\nforward = {{ per_byte = 1e-10 }}\n\
             backward = {{ per_byte = 1e-10 }}\n"
        );
        let spec = builtin("mlp", [1, 8, 8], 4).expect("it is built in");
        let file = DeviceFile::parse(&text, "x.toml").expect("it is right");
        (Device::new(&file, &spec, 16, 1, 1), spec)
    }

    #[test]
    fn layers_add_up() {
        let (device, spec) = device(0.0);
        let all = device.both_s(0..spec.len());
        let parts: f64 = (0..spec.len()).map(|layer| device.both_s(layer..layer + 1)).sum();
        assert!((all - parts).abs() < 1e-12 && all > 0.0);
        // The perceptron's first linear layer is 64 x 128: 2 FLOPs for each of its weights, and the bias.
        let linear = 16.0 * (2.0 * 64.0 * 128.0 + 128.0);
        assert!((device.forward_s(1..2) - (linear * 1e-9 + 1e-4)).abs() < 1e-9, "{}", device.forward_s(1..2));
        let (one, many) = (device.evaluation_s(&spec, 10, 10), device.evaluation_s(&spec, 25, 10));
        assert!((many - 2.0 * one - device.evaluation_s(&spec, 5, 10)).abs() < 1e-12);
    }

    #[test]
    fn a_slower_one_takes_longer_for_everything_and_finds_that_out() {
        let (device, spec) = device(0.0);
        let device = Arc::new(device);
        assert!(Arc::ptr_eq(&device, &Device::at_speed(device.clone(), 1.0)));
        let slow = Device::at_speed(device.clone(), 0.25);
        let whole = |device: &Device| device.both_s(0..spec.len());
        assert!((whole(&slow) / whole(&device) - 4.0).abs() < 1e-9);
        let found = slow.calibrate(&spec, &[16, 8, 4], 1, &mut stream(1, &["x"])).expect("it can be fitted");
        let found =
            Device { file: DeviceFile { profile: found, ..slow.file.clone() }, ..Device::clone(&slow) };
        assert!((whole(&found) / whole(&slow) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_calibration_finds_what_the_device_takes() {
        let (device, spec) = device(0.0);
        let random = &mut stream(1, &["x"]);
        let found = device.calibrate(&spec, &[16, 8, 4], 1, random).expect("it can be fitted");
        let found = Device { file: DeviceFile { profile: found, ..device.file.clone() }, ..device.clone() };
        let (true_s, found_s) = (device.both_s(0..spec.len()), found.both_s(0..spec.len()));
        assert!((found_s / true_s - 1.0).abs() < 1e-6, "{found_s} is not {true_s}");
    }

    #[test]
    fn times_vary_by_the_noise_and_slow_down_when_they_are_said_to() {
        let (steady, _) = device(0.0);
        let random = &mut stream(1, &["x"]);
        assert_eq!(steady.duration(0.5, 10.0, random), Duration::from_secs(5));
        let (noisy, _) = device(0.1);
        let times: Vec<f64> = (0..1000).map(|_| noisy.duration(1.0, 1.0, random).as_secs_f64()).collect();
        let mean = times.iter().sum::<f64>() / 1000.0;
        let spread = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / 1000.0).sqrt();
        assert!((mean - 1.0).abs() < 0.02 && (spread - 0.1).abs() < 0.01, "{mean} {spread}");
    }
}
