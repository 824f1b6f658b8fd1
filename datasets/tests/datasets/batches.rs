//! Properties of the batch order.

use partway_datasets::BatchOrder;
use proptest::prelude::*;

fn order(seed: u64, shard_len: usize) -> BatchOrder {
    BatchOrder::new(seed, "camera-0", shard_len).expect("the shard has samples")
}

proptest! {
    #[test]
    fn every_epoch_has_each_sample_once(seed: u64, len in 1usize..60, batch in 1usize..80, epochs in 1usize..5) {
        let mut order = order(seed, len);
        let steps = (epochs * len).div_ceil(batch) as u64;
        let drawn: Vec<usize> = (0..steps).flat_map(|step| order.indices(step, batch)).collect();
        prop_assert_eq!(drawn.len() as u64, steps * batch as u64);
        for epoch in drawn.chunks_exact(len) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            prop_assert!(epoch.into_iter().eq(0..len));
        }
    }

    #[test]
    fn a_step_does_not_depend_on_what_was_asked_before(
        seed: u64,
        len in 1usize..60,
        batch in 1usize..80,
        steps in prop::collection::vec(0u64..1000, 1..20),
    ) {
        let mut visited = order(seed, len);
        for step in steps {
            prop_assert_eq!(visited.indices(step, batch), order(seed, len).indices(step, batch));
        }
    }

    /// Half as large batches go through the samples in the same order.
    #[test]
    fn the_batch_size_only_cuts(seed: u64, len in 1usize..60, half in 1usize..40, step in 0u64..1000) {
        let mut order = order(seed, len);
        let halves = [order.indices(2 * step, half), order.indices(2 * step + 1, half)].concat();
        prop_assert_eq!(order.indices(step, 2 * half), halves);
    }
}

#[test]
fn the_order_stays_what_it_is() {
    // A resumed run of an older version must go on with the same samples.
    assert_eq!(order(42, 8).indices(0, 8), [1, 7, 2, 5, 0, 4, 3, 6]);
}
