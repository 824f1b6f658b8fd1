//! What is left over of a resource.

/// Raises amounts in proportion, each up to its cap, until they add up to `capacity`: first come first served
/// leaves no worker idle while a step waits, and no link while something is to be sent, so predictions that
/// left anything over would be too long. An amount of 0 stays 0.
pub(super) fn hand_out(amounts: &mut [f64], cap: impl Fn(usize) -> f64, capacity: f64) {
    let mut falling: Vec<usize> = (0..amounts.len()).filter(|&e| amounts[e] > 0.0).collect();
    let filled: Vec<f64> = amounts.iter().enumerate().map(|(e, amount)| amount / cap(e)).collect();
    falling.sort_by(|&left, &right| filled[right].total_cmp(&filled[left]).then(left.cmp(&right)));
    let mut left = capacity;
    let mut sum: f64 = falling.iter().map(|&e| amounts[e]).sum();
    for e in falling {
        let amount = amounts[e];
        // The fullest reach their caps first; the rest share what those leave.
        let raised = (amount * (left / sum).max(1.0)).min(cap(e)).max(amount);
        amounts[e] = raised;
        left -= raised;
        sum -= amount;
        if sum <= 0.0 {
            // Rounding has used the sum up: the remaining amounts stay as they are.
            sum = f64::INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handed_out(shares: &[f64], workers: f64) -> Vec<f64> {
        let mut amounts = shares.to_vec();
        hand_out(&mut amounts, |_| 1.0, workers);
        amounts
    }

    #[test]
    fn what_one_cannot_use_goes_to_the_others() {
        let mut rates = [1.0, 1.0, 2.0];
        hand_out(&mut rates, |e| [1.5, 10.0, 3.0][e], 10.0);
        for (rate, expected) in rates.iter().zip([1.5, 5.5, 3.0]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn in_proportion_and_up_to_one() {
        let cases: [(&[f64], f64, &[f64]); 3] = [
            (&[0.1, 0.3], 1.0, &[0.25, 0.75]),
            (&[0.25, 0.5, 0.0], 1.5, &[0.5, 1.0, 0.0]),
            (&[0.1, 0.3], 4.0, &[1.0, 1.0]),
        ];
        for (shares, workers, expected) in cases {
            for (share, expected) in handed_out(shares, workers).iter().zip(expected) {
                assert!((share - expected).abs() < 1e-12, "{shares:?} of {workers}");
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_loses_and_nothing_is_overdrawn(
            shares in proptest::collection::vec(0.0..1.0_f64, 1..40), spare in 0.0..5.0_f64,
        ) {
            let workers = shares.iter().sum::<f64>() + spare;
            let after = handed_out(&shares, workers);
            let nonzero = shares.iter().filter(|share| **share > 0.0).count() as f64;
            prop_assert!((after.iter().sum::<f64>() - workers.min(nonzero)).abs() < 1e-9);
            for (before, after) in shares.iter().zip(&after) {
                prop_assert!(after >= before && *after <= 1.0);
            }
        }
    }
}
