//! What a link can carry, estimated passively from the transfers that happen anyway.

mod change_point;
mod student;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use change_point::ChangePoints;

use crate::plan::MOST_RATE;

/// Bytes per second assumed of a link that nothing is known about: 1 Gbit/s. Optimistic, because a
/// too high guess is corrected by the first transfer and a too low one hides the link behind pacing.
pub const ASSUMED_BYTES_PER_S: f64 = 125e6;

/// A transfer at this share of its pacing rate, or more, was limited by the pacing.
const PACED: f64 = 0.9;
/// Shorter or smaller transfers measure buffers and start-up more than the link.
const LEAST_SECONDS: f64 = 1e-3;
pub(crate) const LEAST_BYTES: u64 = 16 * 1024;
/// A transfer of fewer round trips is limited by the sender's congestion window.
const WINDOW_ROUND_TRIPS: f64 = 2.0;
/// How many small transfers are remembered.
const WINDOW: usize = 15;
/// Weights in the median before the first real transfer: a hint outweighs ten small ones.
const WEAK: f64 = 0.05;
const PRIOR: f64 = 0.5;
const ASSUMPTION: f64 = 0.01;
/// How many round-trip samples the minimum is taken over.
const RTT_WINDOW: usize = 32;

/// One finished transfer in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Payload bytes.
    pub bytes: u64,
    /// Seconds from the first byte sent to the last byte received.
    pub seconds: f64,
    /// Bytes per second that the sender was held to, if it was.
    pub paced_at: Option<f64>,
}

impl Transfer {
    /// What it says of a path whose round trip takes so long. Within two of them a sender has sent little more than its
    /// congestion window: the rate is that of the window, and only a lower bound of the link's.
    #[must_use]
    pub fn over(self, rtt_s: Option<f64>) -> Self {
        let is_short = rtt_s.is_some_and(|rtt_s| self.seconds < WINDOW_ROUND_TRIPS * rtt_s);
        match transfer_rate(&self).filter(|_| is_short) {
            Some(rate) => Self { paced_at: Some(rate), ..self },
            None => self,
        }
    }
}

/// What an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Nothing: [`ASSUMED_BYTES_PER_S`].
    Assumed,
    /// The edge's own hint, or small transfers too few to contradict it.
    Hinted,
    /// The standardization exchange.
    Probed,
    /// Real transfers.
    Measured,
}

/// Passive estimate of one direction's rate: the mean of the state that the link is in, told from jitter by
/// change-point detection over its transfers; before the first real one the weighted median of small ones and the hint.
///
/// A transfer that ran at its pacing rate, or [within the congestion window](Transfer::over), is only a lower bound: it
/// raises the estimate or says nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkEstimator {
    hint: Option<f64>,
    probe: Option<f64>,
    states: ChangePoints,
    weak: VecDeque<f64>,
}

impl LinkEstimator {
    /// An estimator before the first transfer. `hint`: bytes per second that the edge claims; one that is
    /// not finite and positive is ignored.
    pub fn new(hint: Option<f64>) -> Self {
        Self { hint: hint.filter(|rate| is_rate(*rate)), ..Self::default() }
    }

    /// Takes in the standardization exchange, which stands in for a hint that was not given.
    pub fn probe(&mut self, transfer: Transfer) {
        if let Some(rate) = transfer_rate(&transfer) {
            self.probe = Some(rate);
        }
    }

    /// Takes in one transfer. One without bytes or a positive, finite duration is ignored.
    pub fn observe(&mut self, transfer: Transfer) {
        let Some(rate) = transfer_rate(&transfer) else { return };
        let weak = transfer.seconds < LEAST_SECONDS || transfer.bytes < LEAST_BYTES;
        let paced = transfer.paced_at.is_some_and(|pace| rate >= PACED * pace);
        match (paced, weak) {
            // A small transfer's rate is too uncertain to be a bound.
            (true, true) => {}
            (true, false) => {
                if self.states.mean().is_some() || rate > self.rate() {
                    self.states.observe(rate.ln(), true);
                }
            }
            (false, true) => remember(&mut self.weak, rate, WINDOW),
            (false, false) => self.states.observe(rate.ln(), false),
        }
    }

    /// The estimate, bytes per second; always finite and positive.
    pub fn rate(&self) -> f64 {
        if let Some(mean) = self.states.mean() {
            return mean.exp();
        }
        let mut weighted: Vec<(f64, f64)> = self.weak.iter().map(|rate| (*rate, WEAK)).collect();
        weighted.push(match self.hint.or(self.probe) {
            Some(rate) => (rate, PRIOR),
            None => (ASSUMED_BYTES_PER_S, ASSUMPTION),
        });
        weighted_median(weighted)
    }

    /// How many times the link has been found in another state.
    pub fn changes(&self) -> u32 {
        self.states.changes()
    }

    /// What the estimate rests on.
    pub fn state(&self) -> LinkState {
        let prior = self.hint.or(self.probe).is_some();
        let weak = WEAK * self.weak.len() as f64;
        if self.states.mean().is_some() || weak > if prior { PRIOR } else { ASSUMPTION } {
            LinkState::Measured
        } else if self.hint.is_some() {
            LinkState::Hinted
        } else if prior {
            LinkState::Probed
        } else {
            LinkState::Assumed
        }
    }
}

/// The path's round-trip time: the least of recent samples, since queues only ever add to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RttFilter {
    samples: VecDeque<f64>,
}

impl RttFilter {
    /// Takes in one sample, seconds; one that is not finite and positive is ignored.
    pub fn observe(&mut self, seconds: f64) {
        if is_rate(seconds) {
            remember(&mut self.samples, seconds, RTT_WINDOW);
        }
    }

    /// Seconds; `None` before the first sample.
    pub fn rtt_s(&self) -> Option<f64> {
        self.samples.iter().copied().min_by(f64::total_cmp)
    }
}

fn is_rate(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn transfer_rate(transfer: &Transfer) -> Option<f64> {
    let rate = transfer.bytes as f64 / transfer.seconds;
    (is_rate(transfer.seconds) && is_rate(rate)).then_some(rate.min(MOST_RATE))
}

fn remember(samples: &mut VecDeque<f64>, value: f64, limit: usize) {
    if samples.len() == limit {
        samples.pop_front();
    }
    samples.push_back(value);
}

/// The least value at which half of the weight is reached; `weighted` is not empty.
fn weighted_median(mut weighted: Vec<(f64, f64)>) -> f64 {
    weighted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let half = weighted.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut reached = 0.0;
    for &(value, weight) in &weighted {
        reached += weight;
        if reached >= half {
            return value;
        }
    }
    weighted.last().map_or(ASSUMED_BYTES_PER_S, |(value, _)| *value)
}

#[cfg(test)]
mod tests;
