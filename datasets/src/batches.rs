//! Which samples make up which step.

use std::collections::VecDeque;

use partway_core::random::{shuffle, stream};
use thiserror::Error;

/// Epochs whose order is kept: a batch may begin in one and end in the next.
const KEPT_EPOCHS: usize = 2;

/// An edge without samples has no batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("edge `{edge}` has no samples to draw batches from: give it a larger shard or leave it out")]
pub struct EmptyShard {
    /// The edge's name.
    pub edge: String,
}

/// The order in which an edge goes through its shard: without replacement, reshuffled every epoch. A batch
/// that an epoch's end cuts goes on in the next epoch, so every batch is full.
///
/// The indices of a step depend on the seed, the edge's name, the shard's length, the step and the batch
/// size alone: a step can be repeated, and an edge resumed at any.
#[derive(Clone, Debug)]
pub struct BatchOrder {
    seed: u64,
    edge: String,
    shard_len: usize,
    /// The latest epochs that were asked for, with their orders.
    epochs: VecDeque<(u128, Vec<usize>)>,
}

impl BatchOrder {
    /// The order for the `shard_len` samples of `edge` in a run with `seed`.
    pub fn new(seed: u64, edge: &str, shard_len: usize) -> Result<Self, EmptyShard> {
        if shard_len == 0 {
            return Err(EmptyShard { edge: edge.to_owned() });
        }
        Ok(Self { seed, edge: edge.to_owned(), shard_len, epochs: VecDeque::with_capacity(KEPT_EPOCHS) })
    }

    /// The `batch_size` indices into the shard that `step`, counted from 0, trains on.
    pub fn indices(&mut self, step: u64, batch_size: usize) -> Vec<usize> {
        let mut batch = Vec::with_capacity(batch_size);
        // 128 bits: the position of a late step does not fit 64.
        let len = self.shard_len as u128;
        let first = u128::from(step) * batch_size as u128;
        while batch.len() < batch_size {
            let position = first + batch.len() as u128;
            let missing = batch_size - batch.len();
            let order = self.epoch(position / len);
            batch.extend(order[(position % len) as usize..].iter().take(missing));
        }
        batch
    }

    /// The order of one epoch.
    fn epoch(&mut self, epoch: u128) -> &[usize] {
        let kept = self.epochs.iter().position(|(kept, _)| *kept == epoch);
        let at = kept.unwrap_or_else(|| {
            let mut order: Vec<usize> = (0..self.shard_len).collect();
            shuffle(&mut stream(self.seed, &["batch order", &self.edge, &epoch.to_string()]), &mut order);
            if self.epochs.len() == KEPT_EPOCHS {
                self.epochs.pop_front();
            }
            self.epochs.push_back((epoch, order));
            self.epochs.len() - 1
        });
        &self.epochs[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_may_span_epochs_and_is_full() {
        let mut order = BatchOrder::new(1, "camera-0", 3).expect("three samples");
        let mut batch = order.indices(0, 9);
        assert_eq!(batch.len(), 9);
        for epoch in batch.chunks_exact_mut(3) {
            epoch.sort_unstable();
            assert_eq!(epoch, [0, 1, 2]);
        }
    }

    #[test]
    fn edges_and_epochs_have_orders_of_their_own() {
        let epochs = |edge| {
            let mut order = BatchOrder::new(1, edge, 50).expect("fifty samples");
            [order.indices(0, 50), order.indices(1, 50)]
        };
        let [first, second] = epochs("camera-0");
        assert_ne!(first, second);
        assert_ne!(first, epochs("camera-1")[0]);
    }

    #[test]
    fn the_last_step_there_can_be_has_a_batch() {
        let mut order = BatchOrder::new(1, "camera-0", 7).expect("seven samples");
        assert_eq!(order.indices(u64::MAX, 20).len(), 20);
    }

    #[test]
    fn an_empty_shard_is_refused_by_name() {
        let error = BatchOrder::new(1, "camera-0", 0).expect_err("no samples");
        assert!(error.to_string().contains("`camera-0`"));
    }
}
