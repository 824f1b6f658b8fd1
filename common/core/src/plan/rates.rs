//! Rates of one direction under the cloud's capacity.

/// What is left of the capacity is reserved up to this multiple of a link's estimate, so that pacing
/// rarely hides that the link has become faster.
const HEADROOM: f64 = 1.25;

/// What senders pace to: at least the `planned` rates, up to a headroom over the links' `estimates` where
/// `capacity` allows it.
pub(super) fn with_headroom(planned: &[f64], estimates: &[f64], capacity: Option<f64>) -> Vec<f64> {
    let rooms: Vec<f64> =
        estimates.iter().zip(planned).map(|(estimate, rate)| (estimate * HEADROOM - rate).max(0.0)).collect();
    let part = capacity.map_or(1.0, |capacity| {
        let left = (capacity - planned.iter().sum::<f64>()).max(0.0);
        (left / rooms.iter().sum::<f64>()).min(1.0)
    });
    planned.iter().zip(&rooms).map(|(rate, room)| rate + room * part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wide_capacity_leaves_headroom_and_a_tight_one_little() {
        let estimates = [10.0, 20.0];
        assert_eq!(with_headroom(&estimates, &estimates, Some(100.0)), [12.5, 25.0]);
        assert_eq!(with_headroom(&estimates, &estimates, None), [12.5, 25.0]);
        assert_eq!(with_headroom(&estimates, &estimates, Some(33.0)), [11.0, 22.0]);
        assert_eq!(with_headroom(&[5.0, 15.0], &estimates, Some(20.0)), [5.0, 15.0]);
    }

    proptest! {
        #[test]
        fn reservations_fit_the_capacity(
            links in proptest::collection::vec((1.0..1e9_f64, 0.0..1.0_f64), 1..50),
            spare in 0.0..2.0_f64,
        ) {
            let estimates: Vec<f64> = links.iter().map(|link| link.0).collect();
            let planned: Vec<f64> = links.iter().map(|(rate, part)| rate * part).collect();
            let capacity = planned.iter().sum::<f64>() * (1.0 + spare);
            let reserved = with_headroom(&planned, &estimates, Some(capacity));
            prop_assert!(reserved.iter().sum::<f64>() <= capacity * (1.0 + 1e-9));
            for ((planned, reserved), estimate) in planned.iter().zip(&reserved).zip(&estimates) {
                prop_assert!(planned <= reserved && *reserved <= HEADROOM * estimate * (1.0 + 1e-9));
            }
        }
    }
}
