//! What is still to happen, in the order of virtual time; what is due at the same time happens in the order
//! in which it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A queue of happenings.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    planned: u64,
    now: Duration,
}

#[derive(Debug)]
struct Entry<T> {
    at: Duration,
    number: u64,
    what: T,
}

impl<T> Ord for Entry<T> {
    /// The heap's greatest is what comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0, now: Duration::ZERO }
    }

    /// The time of what happened last.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Plans something; what would be in the past happens now.
    pub(super) fn plan(&mut self, at: Duration, what: T) {
        self.heap.push(Entry { at: at.max(self.now), number: self.planned, what });
        self.planned += 1;
    }

    /// Goes on to what happens next.
    pub(super) fn advance(&mut self) -> Option<T> {
        let Entry { at, what, .. } = self.heap.pop()?;
        self.now = at;
        Some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_what_is_due_together_keeps_its_order() {
        let mut agenda = Agenda::new();
        let millis = Duration::from_millis;
        for (at, what) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            agenda.plan(millis(at), what);
        }
        assert_eq!((agenda.advance(), agenda.now()), (Some("a"), millis(3)));
        agenda.plan(millis(1), "late");
        let rest: Vec<_> = std::iter::from_fn(|| agenda.advance()).collect();
        assert_eq!(rest, ["b", "late", "c", "d"]);
        assert_eq!(agenda.now(), millis(5));
    }
}
