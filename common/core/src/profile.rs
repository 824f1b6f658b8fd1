//! What a device takes per layer: seconds as a non-negative linear function of FLOPs and bytes, one
//! per layer kind, fitted to a short calibration and corrected online from measured steps.

mod correction;
mod recent;
mod regression;
mod residual;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use correction::{Corrected, Correction, Pass, StepCorrections};
pub use recent::Recent;
pub use residual::Residuals;

use crate::model::LayerKind;
use regression::Sample;

/// What one layer has to do in one step, for the whole batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerWork {
    /// Which kind's time model applies.
    pub kind: LayerKind,
    /// FLOPs of the forward pass.
    pub forward_flops: f64,
    /// FLOPs of the backward pass: input gradient and weight gradient.
    pub backward_flops: f64,
    /// Bytes that the forward pass reads and writes.
    pub forward_bytes: f64,
    /// Bytes that the backward pass reads and writes.
    pub backward_bytes: f64,
}

impl LayerWork {
    /// Whether there is a backward pass: not before the first trained layer.
    fn goes_backward(&self) -> bool {
        self.backward_flops > 0.0 || self.backward_bytes > 0.0
    }
}

/// One timed layer of a calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// What was timed.
    pub work: LayerWork,
    /// Seconds that the forward pass took.
    pub forward_s: f64,
    /// Seconds that the backward pass took.
    pub backward_s: f64,
}

/// Seconds of one pass: `per_flop * FLOPs + per_byte * bytes + fixed`. Deserializes only if every
/// coefficient is finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedLine")]
pub struct Line {
    /// Seconds per FLOP.
    pub per_flop: f64,
    /// Seconds per byte read or written.
    pub per_byte: f64,
    /// Seconds per call.
    pub fixed: f64,
}

/// A [`Line`] as a file or message writes it; a coefficient left out is 0.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedLine {
    #[serde(default)]
    per_flop: f64,
    #[serde(default)]
    per_byte: f64,
    #[serde(default)]
    fixed: f64,
}

impl TryFrom<UncheckedLine> for Line {
    type Error = ProfileError;

    fn try_from(line: UncheckedLine) -> Result<Self, ProfileError> {
        let UncheckedLine { per_flop, per_byte, fixed } = line;
        for (name, value) in [("per_flop", per_flop), ("per_byte", per_byte), ("fixed", fixed)] {
            if !is_time(value) {
                return Err(ProfileError::Coefficient { name, value });
            }
        }
        Ok(Self { per_flop, per_byte, fixed })
    }
}

impl Line {
    /// Seconds for `flops` FLOPs over `bytes` bytes.
    pub fn seconds(&self, flops: f64, bytes: f64) -> f64 {
        self.per_flop * flops + self.per_byte * bytes + self.fixed
    }

    fn scaled(self, factor: f64) -> Self {
        Self {
            per_flop: self.per_flop * factor,
            per_byte: self.per_byte * factor,
            fixed: self.fixed * factor,
        }
    }
}

/// The time model of one layer kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindModel {
    /// The forward pass.
    pub forward: Line,
    /// The backward pass.
    pub backward: Line,
}

/// The time models of one device, as a profile file or a join request holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Where the numbers come from, for readers.
    #[serde(default)]
    pub source: String,
    /// What a kind without an entry costs. `None`: the mean FLOP rate of `kinds`.
    #[serde(default)]
    pub other: Option<KindModel>,
    /// The kinds that were measured.
    pub kinds: BTreeMap<LayerKind, KindModel>,
}

/// Median relative error `|predicted - measured| / measured` of one kind's model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitError {
    /// How many measurements of this kind there were.
    pub measurements: usize,
    /// Of the forward pass.
    pub forward: f64,
    /// Of the backward pass.
    pub backward: f64,
}

/// Why a profile cannot be fitted or read.
#[derive(Debug, Error, PartialEq)]
pub enum ProfileError {
    /// Nothing was measured.
    #[error("a device profile needs at least one measured layer; run the calibration again")]
    Empty,
    /// A number that is NaN, infinite or negative.
    #[error("measurement {index} ({kind}): {field} is {value}; it must be finite and not negative")]
    Measurement {
        /// Position in the list of measurements.
        index: usize,
        /// The layer kind that was measured.
        kind: LayerKind,
        /// Which field of the measurement.
        field: &'static str,
        /// What it held.
        value: f64,
    },
    /// A coefficient that is NaN, infinite or negative.
    #[error("a device profile's {name} is {value}; it must be finite and not negative (seconds)")]
    Coefficient {
        /// Which coefficient.
        name: &'static str,
        /// What it held.
        value: f64,
    },
}

/// Fits a profile: per layer kind, non-negative least squares in relative error (weights 1/t²), so that
/// a small layer counts as much as a large one.
///
/// A kind measured at one or two sizes gets the fewest coefficients that fit. Times under a nanosecond,
/// which no clock resolves, count as one.
///
/// # Errors
/// [`ProfileError::Empty`]; [`ProfileError::Measurement`] naming the first bad number.
pub fn fit(measurements: &[Measurement]) -> Result<DeviceProfile, ProfileError> {
    if measurements.is_empty() {
        return Err(ProfileError::Empty);
    }
    let mut samples: BTreeMap<LayerKind, (Vec<Sample>, Vec<Sample>)> = BTreeMap::new();
    for (index, measurement) in measurements.iter().enumerate() {
        let (forward, backward) = check(index, measurement)?;
        let of_kind = samples.entry(measurement.work.kind).or_default();
        of_kind.0.push(forward);
        of_kind.1.extend(measurement.work.goes_backward().then_some(backward));
    }
    let kinds = samples
        .iter()
        .map(|(&kind, (forward, backward))| {
            let model = KindModel {
                forward: regression::fit_line(forward),
                backward: regression::fit_line(backward),
            };
            (kind, model)
        })
        .collect();
    let other = KindModel {
        forward: mean_rate(samples.values().flat_map(|(forward, _)| forward)),
        backward: mean_rate(samples.values().flat_map(|(_, backward)| backward)),
    };
    Ok(DeviceProfile { source: String::new(), other: Some(other), kinds })
}

impl DeviceProfile {
    /// Seconds of this layer's forward pass.
    pub fn seconds_forward(&self, work: &LayerWork) -> f64 {
        self.model(work.kind).forward.seconds(work.forward_flops, work.forward_bytes)
    }

    /// Seconds of this layer's backward pass; 0 if it has none.
    pub fn seconds_backward(&self, work: &LayerWork) -> f64 {
        if !work.goes_backward() {
            return 0.0;
        }
        self.model(work.kind).backward.seconds(work.backward_flops, work.backward_bytes)
    }

    /// The profile of a device on which everything takes `factor` times as long; 4.0 is a quarter of
    /// the speed.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let scale = |model: KindModel| KindModel {
            forward: model.forward.scaled(factor),
            backward: model.backward.scaled(factor),
        };
        Self {
            source: self.source.clone(),
            other: self.other.map(scale),
            kinds: self.kinds.iter().map(|(&kind, &model)| (kind, scale(model))).collect(),
        }
    }

    /// How well the profile explains `measurements`, per kind.
    pub fn fit_errors(&self, measurements: &[Measurement]) -> BTreeMap<LayerKind, FitError> {
        let mut errors: BTreeMap<LayerKind, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        for Measurement { work, forward_s, backward_s } in measurements {
            let of_kind = errors.entry(work.kind).or_default();
            of_kind.0.push(relative_error(self.seconds_forward(work), *forward_s));
            of_kind.1.push(relative_error(self.seconds_backward(work), *backward_s));
        }
        errors
            .into_iter()
            .map(|(kind, (forward, backward))| {
                let measurements = forward.len();
                (kind, FitError { measurements, forward: median(forward), backward: median(backward) })
            })
            .collect()
    }

    fn model(&self, kind: LayerKind) -> KindModel {
        self.kinds.get(&kind).copied().or(self.other).unwrap_or_else(|| KindModel {
            forward: mean_line(self.kinds.values().map(|model| model.forward)),
            backward: mean_line(self.kinds.values().map(|model| model.backward)),
        })
    }
}

fn check(index: usize, measurement: &Measurement) -> Result<(Sample, Sample), ProfileError> {
    let Measurement { work, forward_s, backward_s } = *measurement;
    let fields = [
        ("forward_flops", work.forward_flops),
        ("backward_flops", work.backward_flops),
        ("forward_bytes", work.forward_bytes),
        ("backward_bytes", work.backward_bytes),
        ("forward_s", forward_s),
        ("backward_s", backward_s),
    ];
    for (field, value) in fields {
        if !is_time(value) {
            return Err(ProfileError::Measurement { index, kind: work.kind, field, value });
        }
    }
    Ok((
        Sample::new(work.forward_flops, work.forward_bytes, forward_s),
        Sample::new(work.backward_flops, work.backward_bytes, backward_s),
    ))
}

fn is_time(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// All measured seconds over all measured FLOPs.
fn mean_rate<'a>(samples: impl Iterator<Item = &'a Sample>) -> Line {
    let (flops, seconds) = samples
        .filter(|sample| sample.flops > 0.0)
        .fold((0.0, 0.0), |(flops, seconds), sample| (flops + sample.flops, seconds + sample.seconds));
    Line { per_flop: if flops > 0.0 { seconds / flops } else { 0.0 }, ..Line::default() }
}

/// The mean FLOP rate of `lines`, those without one left out.
fn mean_line(lines: impl Iterator<Item = Line>) -> Line {
    let (count, rates) = lines
        .filter(|line| line.per_flop > 0.0)
        .fold((0.0, 0.0), |(count, rates), line| (count + 1.0, rates + 1.0 / line.per_flop));
    Line { per_flop: if count > 0.0 { count / rates } else { 0.0 }, ..Line::default() }
}

fn relative_error(predicted: f64, measured: f64) -> f64 {
    (predicted - measured).abs() / measured.max(regression::LEAST_SECONDS)
}

/// The middle value, the mean of the two middle ones for an even count; `values` is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests;
