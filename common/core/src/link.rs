//! What a link can carry, estimated passively from the transfers that happen anyway.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Bytes per second assumed of a link that nothing is known about: 1 Gbit/s. Optimistic, because a
/// too high guess is corrected by the first transfer and a too low one hides the link behind pacing.
pub const ASSUMED_BYTES_PER_S: f64 = 125e6;

/// A transfer at this share of its pacing rate, or more, was limited by the pacing.
const PACED: f64 = 0.9;
/// Shorter or smaller transfers measure buffers and start-up more than the link.
const LEAST_SECONDS: f64 = 1e-3;
const LEAST_BYTES: u64 = 16 * 1024;
/// How many transfers of each sort are remembered.
const WINDOW: usize = 15;
/// Weights in the median. All remembered weak transfers together stay below one strong one, and a hint
/// outweighs ten of them.
const STRONG: f64 = 1.0;
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

/// Passive estimate of one direction's rate: the weighted median of recent transfers.
///
/// A transfer that ran at its pacing rate is only a lower bound: it raises the estimate or says nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkEstimator {
    hint: Option<f64>,
    probe: Option<f64>,
    strong: VecDeque<f64>,
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
                if rate > self.rate() {
                    // The link is proven faster than these said.
                    self.strong.retain(|older| *older >= rate);
                    self.weak.retain(|older| *older >= rate);
                    remember(&mut self.strong, rate, WINDOW);
                }
            }
            (false, true) => remember(&mut self.weak, rate, WINDOW),
            (false, false) => remember(&mut self.strong, rate, WINDOW),
        }
    }

    /// The estimate, bytes per second; always finite and positive.
    pub fn rate(&self) -> f64 {
        let mut weighted: Vec<(f64, f64)> = Vec::with_capacity(2 * WINDOW + 1);
        weighted.extend(self.strong.iter().map(|rate| (*rate, STRONG)));
        weighted.extend(self.weak.iter().map(|rate| (*rate, WEAK)));
        if self.strong.is_empty() {
            weighted.push(match self.hint.or(self.probe) {
                Some(rate) => (rate, PRIOR),
                None => (ASSUMED_BYTES_PER_S, ASSUMPTION),
            });
        }
        weighted_median(weighted)
    }

    /// What the estimate rests on.
    pub fn state(&self) -> LinkState {
        let prior = self.hint.or(self.probe).is_some();
        let weak = WEAK * self.weak.len() as f64;
        if !self.strong.is_empty() || weak > if prior { PRIOR } else { ASSUMPTION } {
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
    (is_rate(transfer.seconds) && is_rate(rate)).then_some(rate)
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn at_rate(bytes_per_s: f64, paced_at: Option<f64>) -> Transfer {
        Transfer { bytes: MIB, seconds: MIB as f64 / bytes_per_s, paced_at }
    }

    fn close(left: f64, right: f64) -> bool {
        (left / right - 1.0).abs() < 1e-9
    }

    #[test]
    fn before_any_transfer_hint_then_probe_then_optimism() {
        let mut link = LinkEstimator::new(None);
        assert!(close(link.rate(), ASSUMED_BYTES_PER_S));
        assert_eq!(link.state(), LinkState::Assumed);
        link.probe(at_rate(3e6, None));
        assert!(close(link.rate(), 3e6));
        assert_eq!(link.state(), LinkState::Probed);

        let mut hinted = LinkEstimator::new(Some(2e6));
        hinted.probe(at_rate(3e6, None));
        assert!(close(hinted.rate(), 2e6));
        assert_eq!(hinted.state(), LinkState::Hinted);
        assert_eq!(LinkEstimator::new(Some(f64::NAN)), LinkEstimator::new(None));
    }

    #[test]
    fn a_real_transfer_replaces_the_hint_and_the_median_ignores_an_outlier() {
        let mut link = LinkEstimator::new(Some(9e6));
        link.observe(at_rate(2e6, None));
        assert!(close(link.rate(), 2e6));
        assert_eq!(link.state(), LinkState::Measured);
        for rate in [2.1e6, 1.9e6, 2e6, 0.1e6] {
            link.observe(at_rate(rate, None));
        }
        assert!(close(link.rate(), 2e6));
    }

    #[test]
    fn a_lasting_change_of_the_link_shows_within_the_window() {
        let mut link = LinkEstimator::new(None);
        for _ in 0..WINDOW {
            link.observe(at_rate(8e6, None));
        }
        for _ in 0..=WINDOW / 2 {
            link.observe(at_rate(1e6, None));
        }
        assert!(close(link.rate(), 1e6));
    }

    #[test]
    fn a_paced_transfer_is_only_a_lower_bound() {
        let mut link = LinkEstimator::new(Some(4e6));
        link.observe(at_rate(1.95e6, Some(2e6)));
        assert!(close(link.rate(), 4e6), "below the estimate it says nothing");
        link.observe(at_rate(5e6, Some(5e6)));
        assert!(close(link.rate(), 5e6), "above the estimate it raises it");
        link.observe(at_rate(3e6, Some(6.25e6)));
        link.observe(at_rate(3e6, Some(6.25e6)));
        assert!(close(link.rate(), 3e6), "well below its pace it is a measurement");
    }

    #[test]
    fn small_transfers_are_weak_evidence() {
        let small = Transfer { bytes: 1000, seconds: 0.01, paced_at: None };
        let mut link = LinkEstimator::new(None);
        link.observe(small);
        assert!(close(link.rate(), 1e5), "better than an assumption");
        let mut hinted = LinkEstimator::new(Some(4e6));
        (0..5).for_each(|_| hinted.observe(small));
        assert!(close(hinted.rate(), 4e6), "a few do not outweigh a hint");
        (0..10).for_each(|_| hinted.observe(small));
        assert!(close(hinted.rate(), 1e5), "many do");
        hinted.observe(at_rate(2e6, None));
        assert!(close(hinted.rate(), 2e6), "one real transfer outweighs them all");
    }

    #[test]
    fn the_round_trip_is_the_recent_minimum() {
        let mut rtt = RttFilter::default();
        assert_eq!(rtt.rtt_s(), None);
        for sample in [0.03, f64::NAN, 0.02, -1.0, 0.05, 0.0] {
            rtt.observe(sample);
        }
        assert_eq!(rtt.rtt_s(), Some(0.02));
        (0..RTT_WINDOW).for_each(|_| rtt.observe(0.04));
        assert_eq!(rtt.rtt_s(), Some(0.04));
    }

    proptest! {
        #[test]
        fn the_estimate_is_always_a_rate_and_memory_is_bounded(
            hint in proptest::option::of(any::<f64>()),
            transfers in proptest::collection::vec((any::<u64>(), any::<f64>(), proptest::option::of(any::<f64>())), 0..60),
        ) {
            let mut link = LinkEstimator::new(hint);
            for (bytes, seconds, paced_at) in transfers {
                link.observe(Transfer { bytes, seconds, paced_at });
                prop_assert!(is_rate(link.rate()));
            }
            prop_assert!(link.strong.len() <= WINDOW && link.weak.len() <= WINDOW);
        }
    }
}
