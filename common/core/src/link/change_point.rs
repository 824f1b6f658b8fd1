//! Which state a link is in: Bayesian online change-point detection (Adams and `MacKay` 2007, arXiv 0710.3742) on the
//! logarithms of rates.
//!
//! Within a state they are normal with unknown mean and variance, so that the predictive of a run is Student's t; a
//! new state begins with a constant probability at every transfer. Two things are added. A transfer may be an outlier,
//! such as a stall: it costs a run some probability but moves its mean little, and only the transfers after it
//! tell a stall from a new state. And one that was held back by its sender is censored: what it is worth to a run
//! is the probability of that rate or more.

use serde::{Deserialize, Serialize};

use super::student::{ln_density, survival};

/// Probability that a transfer is the first of a new state.
const HAZARD: f64 = 0.01;
/// Probability that a transfer says nothing about its state.
const OUTLIER: f64 = 0.02;
/// What a new state's mean is worth before its first transfer, in transfers: its standard deviation is about 1, a
/// factor of e.
const MEAN_WEIGHT: f64 = 0.02;
/// Half the degrees of freedom of a new state's variance.
const SHAPE: f64 = 2.0;
/// The variance of a new state's logarithms: jitter of about 15 %.
const VARIANCE: f64 = 0.15 * 0.15;
/// Standard deviation of an outlier's logarithm.
const OUTLIER_SPREAD: f64 = 1.5;
/// Runs that are remembered; those less likely than this, as a logarithm, are not.
const MOST_RUNS: usize = 64;
const LEAST_LOG: f64 = -30.0;
/// A state is known once so many transfers speak for it.
const CONFIRMED: f64 = 1.5;
/// States whose means differ by less are one, as logarithms.
const SAME_STATE: f64 = 0.14;

/// One hypothesis: the state has lasted since transfer `start`. Normal-inverse-gamma in the mean and variance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Run {
    start: u64,
    /// Logarithm of its probability.
    log_p: f64,
    mean: f64,
    /// What the mean is worth, in transfers.
    weight: f64,
    /// Half the degrees of freedom of the variance.
    shape: f64,
    /// Half the sum of squares.
    squares: f64,
}

impl Run {
    fn new(start: u64, mean: f64) -> Self {
        Self { start, log_p: 0.0, mean, weight: MEAN_WEIGHT, shape: SHAPE, squares: SHAPE * VARIANCE }
    }

    fn scale(&self) -> f64 {
        (self.squares * (self.weight + 1.0) / (self.shape * self.weight)).sqrt()
    }

    /// How many transfers speak for it.
    fn evidence(&self) -> f64 {
        self.weight - MEAN_WEIGHT
    }

    /// Takes in one transfer; returns the logarithm of how likely it was.
    fn observe(&mut self, x: f64, is_bound: bool) -> f64 {
        let (scale, freedom) = (self.scale(), 2.0 * self.shape);
        // Of an outlier nothing is known but that it is near, and that it is no faster than the link can be.
        let (own, other) = if is_bound {
            (survival(x, self.mean, scale, freedom), survival(x, self.mean, OUTLIER_SPREAD, freedom))
        } else {
            (
                ln_density(x, self.mean, scale, freedom).exp(),
                ln_density(x, self.mean, OUTLIER_SPREAD, freedom).exp(),
            )
        };
        let likelihood = (1.0 - OUTLIER) * own + OUTLIER * other;
        let part = (1.0 - OUTLIER) * own / likelihood.max(f64::MIN_POSITIVE);
        // A bound below the mean says nothing of the mean.
        let says = if is_bound { if x > self.mean { 1.0 } else { 0.0 } } else { part };
        if says > 0.0 {
            let weight = self.weight + says;
            self.squares += 0.5 * says * self.weight / weight * (x - self.mean).powi(2);
            self.mean += says / weight * (x - self.mean);
            self.weight = weight;
            self.shape += 0.5 * says;
        }
        likelihood.max(f64::MIN_POSITIVE).ln()
    }
}

/// The states that a link may be in, and how likely each is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ChangePoints {
    runs: Vec<Run>,
    transfers: u64,
    /// Start and mean of the state that is known.
    known: Option<(u64, f64)>,
    changes: u32,
}

impl ChangePoints {
    /// Takes in one transfer's rate, or a bound below it: the logarithm of bytes per second.
    pub(super) fn observe(&mut self, x: f64, is_bound: bool) {
        let known = self.mean();
        // A bound below what is known says nothing, and a new state that began with it would have no evidence.
        if is_bound && known.is_some_and(|mean| x <= mean) {
            return;
        }
        let centre = known.unwrap_or(x);
        let start = self.transfers;
        self.transfers += 1;
        let mut fresh = Run::new(start, centre);
        let likelihood = fresh.observe(x, is_bound);
        for run in &mut self.runs {
            run.log_p += (1.0 - HAZARD).ln() + run.observe(x, is_bound);
        }
        // All hypotheses before add up to 1, so that any of them ends with the hazard's probability.
        fresh.log_p = if self.runs.is_empty() { 0.0 } else { HAZARD.ln() + likelihood };
        self.runs.push(fresh);
        self.truncate();
        self.settle();
    }

    /// Makes probabilities add up to 1 again, and forgets what is unlikely.
    fn truncate(&mut self) {
        let most = self.runs.iter().map(|run| run.log_p).fold(f64::NEG_INFINITY, f64::max);
        self.runs.retain(|run| run.log_p - most > LEAST_LOG);
        if self.runs.len() > MOST_RUNS {
            let least =
                self.runs.iter().enumerate().min_by(|left, right| left.1.log_p.total_cmp(&right.1.log_p));
            if let Some((index, _)) = least {
                self.runs.remove(index);
            }
        }
        let sum: f64 = self.runs.iter().map(|run| (run.log_p - most).exp()).sum();
        let norm = most + sum.ln();
        for run in &mut self.runs {
            run.log_p -= norm;
        }
    }

    /// Sees whether another state is known now.
    fn settle(&mut self) {
        let Some(run) = self.runs.iter().max_by(|left, right| left.log_p.total_cmp(&right.log_p)) else {
            return;
        };
        match self.known {
            Some((start, _)) if start == run.start => self.known = Some((start, run.mean)),
            Some((_, mean)) if run.log_p > 0.5_f64.ln() && run.evidence() >= CONFIRMED => {
                self.changes += u32::from((run.mean - mean).abs() > SAME_STATE);
                self.known = Some((run.start, run.mean));
            }
            Some(_) => {}
            None => self.known = Some((run.start, run.mean)),
        }
    }

    /// The mean of the state, as a logarithm: the median over the hypotheses; one that rests on a single transfer
    /// has half a vote. `None` before the first transfer.
    pub(super) fn mean(&self) -> Option<f64> {
        let vote = |run: &Run| run.log_p.exp() * if run.evidence() < CONFIRMED { 0.5 } else { 1.0 };
        let mut votes: Vec<(f64, f64)> = self.runs.iter().map(|run| (run.mean, vote(run))).collect();
        votes.sort_by(|left, right| left.0.total_cmp(&right.0));
        let half = 0.5 * votes.iter().map(|(_, vote)| vote).sum::<f64>();
        let mut reached = 0.0;
        votes
            .iter()
            .find(|(_, vote)| {
                reached += vote;
                reached >= half
            })
            .map(|(mean, _)| *mean)
    }

    /// How many times another state has become known.
    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    /// How many hypotheses are remembered.
    #[cfg(test)]
    pub(super) fn hypotheses(&self) -> usize {
        self.runs.len()
    }
}
