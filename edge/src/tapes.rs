//! How much memory forward passes that wait for their gradients may hold, over all edges of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A budget that the edges of one process share. A forward pass that it has no room for is forgotten and
/// made again when its gradient comes: the same bits, for the time of another forward pass.
#[derive(Clone, Debug)]
pub struct TapeBudget {
    held: Arc<AtomicU64>,
    most: u64,
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: TapeBudget,
    bytes: u64,
}

impl TapeBudget {
    /// Room for `most` bytes.
    pub fn new(most: u64) -> Self {
        Self { held: Arc::default(), most }
    }

    /// Takes `bytes`, if there is room.
    pub(crate) fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|held| *held <= self.most)
        });
        taken.is_ok().then(|| Reserved { budget: self.clone(), bytes })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = TapeBudget::new(10);
        let first = budget.reserve(6).expect("there is room");
        assert!(budget.reserve(5).is_none());
        assert!(budget.clone().reserve(4).is_some(), "clones share it");
        drop(first);
        assert!(budget.reserve(10).is_some());
        assert!(budget.reserve(u64::MAX).is_none());
    }
}
