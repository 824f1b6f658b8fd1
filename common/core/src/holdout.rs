//! The part of an edge's shard that it keeps to evaluate on and never trains on.

use crate::random::{shuffle, stream};

/// How many of an edge's samples are held out: the share of them, at least one, and never all. A
/// single sample is trained on.
///
/// ```
/// use partway_core::holdout::held_out;
/// assert_eq!([held_out(1000, 0.1), held_out(3, 0.1), held_out(2, 0.9), held_out(1, 0.5)], [100, 1, 1, 0]);
/// ```
pub fn held_out(samples: u64, share: f64) -> u64 {
    let most = samples.saturating_sub(1);
    ((samples as f64 * share).round() as u64).clamp(1.min(most), most)
}

/// Which samples of a shard are for what; both in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSplit {
    /// Those that are trained on.
    pub training: Vec<usize>,
    /// Those that are evaluated on.
    pub held_out: Vec<usize>,
}

impl ShardSplit {
    /// Splits the shard of `edge`, which has so many samples; without a share all of them are trained
    /// on. The same arguments give the same split: it survives every restart.
    pub fn of(seed: u64, edge: &str, samples: usize, share: Option<f64>) -> Self {
        let mut training: Vec<usize> = (0..samples).collect();
        let Some(share) = share else { return Self { training, held_out: Vec::new() } };
        shuffle(&mut stream(seed, &["held-out part", edge]), &mut training);
        let mut held_out = training.split_off(samples - held_out(samples as u64, share) as usize);
        training.sort_unstable();
        held_out.sort_unstable();
        Self { training, held_out }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_sample_is_in_one_part_and_neither_is_empty(
            seed in any::<u64>(), samples in 2..500usize, share in 0.0..=1.0f64,
        ) {
            let ShardSplit { training, held_out } = ShardSplit::of(seed, "camera-0", samples, Some(share));
            prop_assert!(!training.is_empty() && !held_out.is_empty());
            prop_assert!((held_out.len() as f64 - samples as f64 * share).abs() <= 1.0);
            prop_assert!(training.is_sorted() && held_out.is_sorted());
            let mut all = [training, held_out].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..samples).collect::<Vec<_>>());
        }

        #[test]
        fn any_share_from_outside_leaves_something(samples in any::<u64>(), share in any::<f64>()) {
            let held_out = held_out(samples, share);
            prop_assert!(held_out < samples.max(1));
            prop_assert!(samples < 2 || held_out > 0);
        }
    }

    #[test]
    fn seed_and_name_decide() {
        let of = |seed, name| ShardSplit::of(seed, name, 100, Some(0.3));
        assert_eq!(of(1, "a"), of(1, "a"));
        assert_ne!(of(1, "a"), of(2, "a"));
        assert_ne!(of(1, "a"), of(1, "b"));
        let whole = ShardSplit::of(1, "a", 3, None);
        assert_eq!((whole.training, whole.held_out), (vec![0, 1, 2], vec![]));
    }
}
