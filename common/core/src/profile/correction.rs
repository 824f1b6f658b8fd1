//! Online correction of predicted seconds from measured ones.
//!
//! What a device takes beyond its profile is of two kinds: all of it is slower than it was, or every call costs something
//! that no layer does, such as a tape or the loss. At one cut the two are the same; at another they are not: what is ten
//! times as long as predicted because of two tenths of a millisecond per call says nothing of a pass of a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Recent;

/// No device is further off its profile than by this, in logarithms: beyond it, what is said is nonsense.
const FURTHEST: f64 = 7.0;
/// At how many cuts measurements are remembered: the last ones.
const CUTS: usize = 8;

// Standard deviations of logarithms: of a device's speed about its profile's, of a cut about what fits all of
// them, of a single step about its cut's level, and of what a level is after a round about what it was before.
const SPEED: f64 = 0.7;
const MISFIT: f64 = 0.2;
const STEP: f64 = 0.2;
const DRIFT: f64 = 0.1;

/// What a cut that was not measured counts where a measured one contradicts it, whose weight is above 25 in the round.
const FITTED: f64 = 0.01;

/// What a call costs beside its layers is tried at these multiples of its scale, powers of two, and between the best
/// of them.
const SCALES: std::ops::RangeInclusive<i32> = -10..=4;
const REFINEMENTS: u32 = 12;

/// What a profile says of a step's passes at one cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    /// The cut.
    pub cut: usize,
    /// How many calls the seconds are of: the micro-batches.
    pub calls: f64,
    /// Seconds of all of them.
    pub seconds: f64,
}

/// What is made of a profile's seconds: `factor * (seconds + calls * missing_s)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrected {
    /// How many times as long everything takes.
    pub factor: f64,
    /// What every call costs and the profile lacks, in the profile's seconds.
    pub missing_s: f64,
}

impl Corrected {
    /// Nothing is known.
    pub const NONE: Self = Self { factor: 1.0, missing_s: 0.0 };

    /// Seconds of a pass; none where there is nothing to do.
    pub fn seconds(&self, pass: Pass) -> f64 {
        if pass.seconds > 0.0 { self.factor * (pass.seconds + pass.calls * self.missing_s) } else { 0.0 }
    }
}

/// By how much a device's predictions are off: the [level](Recent) of `ln(measured / predicted)` over the last steps
/// at each cut, so that stalled steps do not move it and a lasting change is known after five; and what fits all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    levels: BTreeMap<usize, Level>,
    /// The cut that was measured last.
    latest: Option<usize>,
    round: u32,
    observations: u32,
    changes: u32,
}

/// What was measured at one cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Level {
    calls: f64,
    predicted_s: f64,
    logarithms: Recent,
    /// The last round in which it was measured.
    round: u32,
}

impl Level {
    fn logarithm(&self) -> f64 {
        self.logarithms.level().unwrap_or(0.0)
    }

    /// The variance of its logarithm as an estimate of what is measured there in this round.
    fn variance(&self, round: u32) -> f64 {
        let age = DRIFT * f64::from(round.saturating_sub(self.round));
        STEP * STEP / self.logarithms.count().max(1) as f64 + age * age
    }
}

impl Correction {
    /// Takes in one step: what the profile predicted, before any correction, and what was measured, in seconds. A
    /// pair that is not finite and positive says nothing and is ignored.
    pub fn observe(&mut self, predicted: Pass, measured_s: f64) {
        let off = (measured_s / predicted.seconds).ln();
        if predicted.seconds <= 0.0 || measured_s <= 0.0 || !off.is_finite() {
            return;
        }
        let Pass { cut, calls, seconds } = predicted;
        let fresh = || Level { calls, predicted_s: seconds, logarithms: Recent::default(), round: 0 };
        let level = self.levels.entry(cut).or_insert_with(fresh);
        if (level.calls, level.predicted_s) != (calls, seconds) {
            *level = fresh();
        }
        level.round = self.round;
        let changes = level.logarithms.changes();
        level.logarithms.observe(off.clamp(-FURTHEST, FURTHEST));
        if level.logarithms.changes() > changes {
            self.changes = self.changes.saturating_add(1);
            // What was measured elsewhere is of the state before.
            self.levels.retain(|other, _| *other == cut);
        } else if self.levels.len() > CUTS {
            let others = self.levels.iter().filter(|(other, _)| **other != cut);
            if let Some(oldest) = others.min_by_key(|(_, level)| level.round).map(|(other, _)| *other) {
                self.levels.remove(&oldest);
            }
        }
        self.latest = Some(cut);
        self.observations = self.observations.saturating_add(1);
    }

    /// Another round begins: what is not measured again in it is less certain.
    pub fn begin_round(&mut self) {
        self.round = self.round.saturating_add(1);
    }

    /// What fits the measurements at all cuts best; `scale_s` is how much a call may plausibly cost beside its layers,
    /// in the profile's seconds.
    ///
    /// The maximum of the posterior: logarithms of seconds are normal about those that are corrected, the factor's
    /// is normal about 0, and what is missing is half-normal with that scale. For what is missing the best factor has
    /// a closed form, so that a search over one number is left.
    pub fn fit(&self, scale_s: f64) -> Corrected {
        if self.levels.is_empty() {
            return Corrected::NONE;
        }
        let points: Vec<Point> = self.levels.values().map(|level| Point::of(level, self.round)).collect();
        let missing_s =
            if scale_s > 0.0 && scale_s.is_finite() { least_missing(&points, scale_s) } else { 0.0 };
        Corrected { factor: best(&points, missing_s).0.exp(), missing_s }
    }

    /// Likewise, with the factor that is right at the cut that was measured last.
    pub fn fit_latest(&self, scale_s: f64) -> Corrected {
        let fit = self.fit(scale_s);
        let Some((cut, level)) = self.latest.and_then(|cut| Some((cut, self.levels.get(&cut)?))) else {
            return fit;
        };
        let pass = Pass { cut, calls: level.calls, seconds: level.predicted_s };
        Corrected { factor: fit.factor * self.seconds(pass, &fit) / fit.seconds(pass), ..fit }
    }

    /// Seconds of a pass by what [fits](Self::fit) all cuts and by what was measured at its own, as far as that is known.
    pub fn seconds(&self, pass: Pass, fit: &Corrected) -> f64 {
        let fitted_s = fit.seconds(pass);
        let own = self.levels.get(&pass.cut).filter(|level| level.predicted_s > 0.0 && fitted_s > 0.0);
        own.map_or(fitted_s, |level| {
            let logarithm = level.logarithm() + (pass.seconds / fitted_s).ln();
            let trust = MISFIT * MISFIT / (MISFIT * MISFIT + level.variance(self.round));
            fitted_s * (trust * logarithm).exp()
        })
    }

    /// [Seconds](Self::seconds) of passes at rising cuts, of which each has less to do than the one before: where
    /// measurements say otherwise, several get the same, the geometric mean weighted by what is known of each
    /// (isotonic regression; Ayer et al. 1955). Those that have nothing to do take no time.
    pub fn falling_seconds(&self, passes: &[Pass], fit: &Corrected) -> Vec<f64> {
        // (logarithm, weight, how many) of passes that get the same.
        let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(passes.len());
        let some = passes.iter().take_while(|pass| pass.seconds > 0.0);
        for pass in some {
            let weight = self.levels.get(&pass.cut).map_or(FITTED, |level| 1.0 / level.variance(self.round));
            let mut last = (self.seconds(*pass, fit).max(f64::MIN_POSITIVE).ln(), weight, 1);
            while let Some(before) = pools.pop_if(|before| before.0 < last.0) {
                let weight = before.1 + last.1;
                last = ((before.0 * before.1 + last.0 * last.1) / weight, weight, before.2 + last.2);
            }
            pools.push(last);
        }
        let mut seconds: Vec<f64> = pools
            .into_iter()
            .flat_map(|(logarithm, _, count)| std::iter::repeat_n(logarithm.exp(), count))
            .collect();
        seconds.resize(passes.len(), 0.0);
        seconds
    }

    /// The cut that was measured last.
    pub fn latest_cut(&self) -> Option<usize> {
        self.latest
    }

    /// By how much predictions are off at the cut that was measured last, as a logarithm; 0 before any measurement.
    pub fn logarithm(&self) -> f64 {
        self.latest.and_then(|cut| self.levels.get(&cut)).map_or(0.0, Level::logarithm)
    }

    /// How many times the device has been found to have become faster or slower.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// How many measurements came in.
    pub fn observations(&self) -> u32 {
        self.observations
    }
}

/// What was measured at one cut, as the fit takes it.
struct Point {
    calls: f64,
    predicted_s: f64,
    /// The logarithm of what was measured.
    ln_s: f64,
    weight: f64,
}

impl Point {
    fn of(level: &Level, round: u32) -> Self {
        Self {
            calls: level.calls,
            predicted_s: level.predicted_s,
            ln_s: level.predicted_s.ln() + level.logarithm(),
            weight: 1.0 / (MISFIT * MISFIT + level.variance(round)),
        }
    }
}

/// The logarithm of the factor that fits best where so much is missing, and twice the negative log posterior with it.
fn best(points: &[Point], missing_s: f64) -> (f64, f64) {
    let (mut weights, mut first, mut second) = (1.0 / (SPEED * SPEED), 0.0, 0.0);
    for point in points {
        let off = point.ln_s - (point.predicted_s + point.calls * missing_s).ln();
        weights += point.weight;
        first += point.weight * off;
        second += point.weight * off * off;
    }
    let factor = first / weights;
    (factor, second - factor * first)
}

/// What is missing, in the profile's seconds, with which the measurements are most likely.
fn least_missing(points: &[Point], scale_s: f64) -> f64 {
    let cost = |missing_s: f64| best(points, missing_s).1 + (missing_s / scale_s).powi(2);
    let grid: Vec<f64> =
        std::iter::once(0.0).chain(SCALES.map(|power| scale_s * 2_f64.powi(power))).collect();
    let costs: Vec<f64> = grid.iter().map(|&missing_s| cost(missing_s)).collect();
    let least = (0..grid.len()).min_by(|&left, &right| costs[left].total_cmp(&costs[right])).unwrap_or(0);
    if least == 0 && costs[0] <= costs[1] {
        // Nothing is missing, or so little that it makes no difference.
        return 0.0;
    }
    // Golden section between the neighbours.
    let (mut low, mut high) = (grid[least.saturating_sub(1)], grid[(least + 1).min(grid.len() - 1)]);
    let ratio = 0.5 * (5_f64.sqrt() - 1.0);
    let inner = |low: f64, high: f64| (high - ratio * (high - low), low + ratio * (high - low));
    let (mut left, mut right) = inner(low, high);
    let (mut at_left, mut at_right) = (cost(left), cost(right));
    for _ in 0..REFINEMENTS {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = inner(low, high).0;
            at_left = cost(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = inner(low, high).1;
            at_right = cost(right);
        }
    }
    f64::midpoint(low, high)
}

/// The corrections of one edge's step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepCorrections {
    /// The edge's forward pass.
    pub edge_forward: Correction,
    /// The edge's backward pass and optimizer step.
    pub edge_backward: Correction,
}

#[cfg(test)]
mod tests;
