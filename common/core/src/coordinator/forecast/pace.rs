//! What senders are held to.

use crate::link::{LinkEstimator, LinkState};

/// A link is to be full if no less of its estimate than this is reserved.
const FULL: f64 = 0.999;

/// How far beyond its estimate a full link is tried: one that has become so much faster is known to be within a round.
const TRIED: f64 = 4.0;

/// Bytes per second that a sender is held to when so many are reserved; nothing before the link has been measured, as a
/// probe underestimates a fast one. A link that is to be full is tried beyond what it seems to carry: paced to that,
/// it would never be seen to carry more, and one slow transfer would slow down all that follow.
pub(super) fn pace(reserved: f64, link: &LinkEstimator) -> Option<f64> {
    let estimate = link.rate();
    let pace = if reserved >= FULL * estimate { reserved.max(TRIED * estimate) } else { reserved };
    (link.state() == LinkState::Measured && pace > 0.0).then_some(pace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Transfer;

    const BYTES: u64 = 1 << 20;

    fn transferred(link: &mut LinkEstimator, bytes_per_s: f64, paced_at: Option<f64>) {
        link.observe(Transfer { bytes: BYTES, seconds: BYTES as f64 / bytes_per_s, paced_at });
    }

    #[test]
    fn a_reservation_below_the_estimate_is_what_is_paced_to() {
        let mut link = LinkEstimator::new(None);
        assert_eq!(pace(1e6, &link), None, "nothing is known of the link");
        transferred(&mut link, 1e7, None);
        assert_eq!(pace(4e6, &link), Some(4e6));
    }

    /// The plan reserves what the link seems to carry, round after round, ten transfers in each.
    #[test]
    fn a_link_that_was_slow_at_first_is_found_to_be_fast() {
        let mut link = LinkEstimator::new(None);
        (0..10).for_each(|_| transferred(&mut link, 1e6, None));
        let mut rounds = 0;
        while link.rate() < 5e7 {
            let paced_at = pace(link.rate(), &link).expect("it is measured");
            (0..10).for_each(|_| transferred(&mut link, paced_at, Some(paced_at)));
            rounds += 1;
            assert!(rounds < 40, "the estimate stays at {}", link.rate());
        }
    }
}
