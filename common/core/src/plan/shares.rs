//! Left-over cloud share.

use super::Pick;

/// Raises the shares in proportion, each up to 1, until they add up to `workers`: first come first served
/// leaves no worker idle while a step waits, so predictions that left share over would be too long.
pub(super) fn hand_out(picks: &mut [Pick], workers: f64) {
    let mut falling: Vec<usize> = (0..picks.len()).filter(|&e| picks[e].share > 0.0).collect();
    falling.sort_by(|&left, &right| picks[right].share.total_cmp(&picks[left].share).then(left.cmp(&right)));
    let mut left = workers;
    let mut sum: f64 = falling.iter().map(|&e| picks[e].share).sum();
    for e in falling {
        let share = picks[e].share;
        // The largest reach 1 first; the rest share what those leave.
        let raised = (share * (left / sum).max(1.0)).min(1.0);
        picks[e].share = raised;
        left -= raised;
        sum -= share;
        if sum <= 0.0 {
            // Rounding has used the sum up: the remaining shares stay as they are.
            sum = f64::INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handed_out(shares: &[f64], workers: f64) -> Vec<f64> {
        let mut picks: Vec<Pick> = shares.iter().map(|&share| Pick { option: 0, share }).collect();
        hand_out(&mut picks, workers);
        picks.iter().map(|pick| pick.share).collect()
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
