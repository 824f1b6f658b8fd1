//! Probes of links that no step uses: where an edge trains alone, only the weights at aggregations would tell that its
//! link has become faster, and that a split would pay.
//!
//! While such an edge computes, a few values without meaning travel each way, at the beginning of its round and in the
//! middle: two transfers tell a new state of a link from an outlier. They are lost with a connection, and not repeated.

use crate::codec::Codec;
use crate::link::{LEAST_BYTES, LinkEstimator, LinkState};
use crate::wire::{RoundPlan, TensorHeader, TensorKind, TensorMessage};

/// How much of a round's time a probe takes at the rate that the link seems to have: two of them take twice that.
const SHARE: f64 = 0.01;

/// How much one may take where less would tell nothing.
const MOST_SHARE: f64 = 0.05;

/// Bytes of the values of the largest.
pub(crate) const MOST_BYTES: u32 = 512 * 1024;

/// The round of the first probe each way, before training: it belongs to none.
pub(crate) const FIRST: u32 = u32::MAX;

/// How many there are in a round each way at most.
pub(crate) const PER_ROUND: u32 = 2;

/// Bytes of a probe over a link in a round of `round_s` seconds; 0 where what may be sent is too little to tell
/// anything. A link of which nothing is known yet gets the least.
pub(crate) fn bytes(link: &LinkEstimator, round_s: f64) -> u32 {
    let least = LEAST_BYTES as f64;
    let in_share = |share: f64| share * link.rate() * round_s;
    let bytes = match link.state() {
        LinkState::Assumed => least,
        _ if in_share(SHARE) >= least => in_share(SHARE).min(f64::from(MOST_BYTES)),
        _ if in_share(MOST_SHARE) >= least => least,
        _ => 0.0,
    };
    bytes as u32 / 4 * 4
}

/// The first probe, of so many values.
pub(crate) fn first(values: usize) -> TensorMessage {
    let header = TensorHeader { round: FIRST, ..TensorHeader::new(TensorKind::Probe, Codec::F32) };
    TensorMessage::encode(header, vec![0.0; values], &[])
}

/// Whether there is one with the step of a round of so many.
pub(crate) fn is_due(step: u32, steps: u32) -> bool {
    step == 0 || step == steps / 2
}

/// The probe of so many bytes that belongs to a step of a round.
pub(crate) fn tensor(plan: &RoundPlan, step: u32, bytes: u32) -> TensorMessage {
    let RoundPlan { round, attempt, .. } = *plan;
    let header = TensorHeader { round, attempt, step, ..TensorHeader::new(TensorKind::Probe, Codec::F32) };
    TensorMessage::encode(header, vec![0.0; bytes.min(MOST_BYTES) as usize / 4], &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Transfer;

    #[test]
    fn a_probe_takes_a_hundredth_of_a_round_within_bounds() {
        let hinted = |rate: f64| LinkEstimator::new(Some(rate));
        // 5 Mbit/s and ten steps of two seconds.
        assert_eq!(bytes(&hinted(625e3), 20.0), 125_000);
        assert_eq!(bytes(&hinted(125e6), 20.0), MOST_BYTES);
        // 160 kbit/s: two hundredths, where one would tell nothing; half of that is too slow for any.
        assert_eq!(bytes(&hinted(20e3), 20.0), LEAST_BYTES as u32);
        assert_eq!(bytes(&hinted(10e3), 20.0), 0);
        assert_eq!(bytes(&hinted(125e6), 0.0), 0);
        assert_eq!(bytes(&LinkEstimator::new(None), 20.0), LEAST_BYTES as u32, "nothing is known yet");
    }

    #[test]
    fn it_is_sent_twice_a_round_or_once_if_there_is_but_one_step() {
        let due = |steps: u32| (0..steps).filter(|step| is_due(*step, steps)).count();
        assert_eq!([1, 2, 3, 10].map(due), [1, 2, 2, PER_ROUND as usize]);
    }

    #[test]
    fn two_probes_tell_that_a_link_has_become_faster_or_slower() {
        for (before, after) in [(625e3, 3.1e6), (3.1e6, 625e3)] {
            let mut link = LinkEstimator::new(None);
            let transfer = |bytes: u32, rate: f64| Transfer {
                bytes: bytes.into(),
                seconds: f64::from(bytes) / rate,
                paced_at: None,
            };
            let probe = bytes(&LinkEstimator::new(Some(before)), 20.0);
            (0..10).for_each(|_| link.observe(transfer(probe, before)));
            (0..PER_ROUND).for_each(|_| link.observe(transfer(probe, after).over(Some(0.01))));
            assert!((link.rate() / after - 1.0).abs() < 0.05, "{} is not {after}", link.rate());
            assert_eq!(link.changes(), 1);
        }
    }
}
