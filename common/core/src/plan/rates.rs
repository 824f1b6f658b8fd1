//! Rates of one direction under the cloud's capacity.

/// What is left of the capacity is reserved up to this multiple of a link's estimate, so that pacing
/// rarely hides that the link has become faster.
const HEADROOM: f64 = 1.25;

/// The rates of every edge in one direction, bytes per second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rates {
    /// What plans count on: the link's estimate, or less under a tight capacity.
    pub(super) planned: Vec<f64>,
    /// What senders pace to: at least `planned`; adds up to the capacity at most.
    pub(super) reserved: Vec<f64>,
}

impl Rates {
    /// Max-min fair rates of links with these estimates (Bertsekas & Gallager 1992, section 6.5): no rate
    /// can grow without one that is not larger shrinking.
    pub(super) fn under(capacity: Option<f64>, estimates: Vec<f64>) -> Self {
        let ceilings = estimates.iter().map(|rate| rate * HEADROOM);
        let Some(capacity) = capacity else {
            return Self { reserved: ceilings.collect(), planned: estimates };
        };
        let level = fair_level(&estimates, capacity);
        let planned: Vec<f64> = estimates.iter().map(|rate| rate.min(level)).collect();
        let rooms: Vec<f64> = ceilings.zip(&planned).map(|(ceiling, rate)| ceiling - rate).collect();
        let left = (capacity - planned.iter().sum::<f64>()).max(0.0);
        let part = (left / rooms.iter().sum::<f64>()).min(1.0);
        let reserved = planned.iter().zip(&rooms).map(|(rate, room)| rate + room * part).collect();
        Self { planned, reserved }
    }
}

/// The level at which the sum of `min(demand, level)` is `capacity`; infinite if all demands fit.
fn fair_level(demands: &[f64], capacity: f64) -> f64 {
    let mut rising = demands.to_vec();
    rising.sort_by(f64::total_cmp);
    let mut left = capacity;
    for (index, demand) in rising.iter().enumerate() {
        let level = left / (rising.len() - index) as f64;
        if *demand > level {
            return level;
        }
        left -= demand;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wide_capacity_leaves_the_estimates_and_headroom() {
        let rates = Rates::under(Some(100.0), vec![10.0, 20.0]);
        assert_eq!((rates.planned, rates.reserved), (vec![10.0, 20.0], vec![12.5, 25.0]));
        let rates = Rates::under(None, vec![10.0, 20.0]);
        assert_eq!((rates.planned, rates.reserved), (vec![10.0, 20.0], vec![12.5, 25.0]));
    }

    #[test]
    fn a_tight_capacity_is_shared_fairly() {
        let rates = Rates::under(Some(30.0), vec![5.0, 40.0, 20.0]);
        assert_eq!((rates.planned, rates.reserved), (vec![5.0, 12.5, 12.5], vec![5.0, 12.5, 12.5]));
    }

    #[test]
    fn what_is_left_is_handed_out_in_proportion() {
        let rates = Rates::under(Some(33.0), vec![10.0, 20.0]);
        assert_eq!((rates.planned, rates.reserved), (vec![10.0, 20.0], vec![11.0, 22.0]));
    }

    proptest! {
        #[test]
        fn reservations_fit_the_capacity(
            estimates in proptest::collection::vec(1.0..1e9_f64, 1..50),
            capacity in 1.0..1e10_f64,
        ) {
            let rates = Rates::under(Some(capacity), estimates.clone());
            prop_assert!(rates.reserved.iter().sum::<f64>() <= capacity * (1.0 + 1e-9));
            for ((planned, reserved), estimate) in rates.planned.iter().zip(&rates.reserved).zip(&estimates) {
                prop_assert!(*planned > 0.0 && planned <= estimate && planned <= reserved);
                prop_assert!(*reserved <= HEADROOM * estimate * (1.0 + 1e-9));
            }
        }
    }
}
