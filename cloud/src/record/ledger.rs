//! Which of an edge's steps count: those of each round's last attempt. What was handed in late counts from the
//! aggregation on that took it in.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What is kept of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepRecord {
    pub(super) latency_ms: f64,
    pub(super) predicted_ms: f64,
    pub(super) loss: f32,
    /// Whether it met its deadline.
    pub(super) in_time: bool,
}

/// An attempt at one round; `S` is what is kept of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt<S> {
    number: u32,
    /// The edge's cut in it.
    pub cut: u32,
    /// Its steps, in order.
    pub steps: Vec<S>,
}

/// Rounds whose work was not done when the last of them was over.
#[derive(Clone, Debug, PartialEq)]
struct Late {
    /// Since the global model that the edge started from.
    rounds: RangeInclusive<u32>,
    /// The last round whose barrier had been passed when it was handed in.
    handed_in: Option<u32>,
    /// The round after whose aggregation it is part of the global model.
    merged: Option<u32>,
}

/// The steps of one edge by round; `S` is what is kept of one.
#[derive(Clone, Debug)]
pub struct Ledger<S> {
    rounds: BTreeMap<u32, Attempt<S>>,
    /// In order.
    late: Vec<Late>,
}

impl<S> Default for Ledger<S> {
    fn default() -> Self {
        Self { rounds: BTreeMap::new(), late: Vec::new() }
    }
}

impl<S> Ledger<S> {
    /// Adds a step. One of a later attempt at a round replaces what earlier attempts did in it.
    pub(super) fn add(&mut self, round: u32, number: u32, cut: u32, step: S) {
        let attempt = self.rounds.entry(round).or_insert(Attempt { number, cut, steps: Vec::new() });
        if number > attempt.number {
            *attempt = Attempt { number, cut, steps: Vec::new() };
        }
        if number == attempt.number {
            attempt.steps.push(step);
        }
    }

    /// Forgets a round and what follows it: that work is lost. What was handed in is not.
    pub(super) fn forget_from(&mut self, round: u32) {
        let safe =
            self.late.iter().rfind(|late| late.handed_in.is_some()).map_or(0, |late| *late.rounds.end());
        self.rounds.split_off(&round.max(safe + 1));
    }

    /// The run goes on from the start of a round: nothing of it or after it has happened.
    pub(super) fn go_back_to(&mut self, round: u32) {
        self.late.retain(|late| *late.rounds.end() < round);
        for late in self.late.iter_mut().filter(|late| late.merged.is_some_and(|merged| merged >= round)) {
            (late.handed_in, late.merged) = (None, None);
        }
        self.rounds.split_off(&round);
    }

    /// The coordinator starts again: what was handed in to the one before, and is in no global model, is lost.
    pub(super) fn lose_handed_in(&mut self) {
        for late in self.late.iter_mut().filter(|late| late.merged.is_none()) {
            late.handed_in = None;
        }
    }

    /// The edge does not end its round with the others: its work since the aggregation after `since` is late.
    pub(super) fn defer(&mut self, since: u32, round: u32) {
        let before = self.late.last().map_or(0, |late| *late.rounds.end());
        let rounds = since.max(before) + 1..=round;
        self.late.push(Late { rounds, handed_in: None, merged: None });
    }

    /// The late work is done when the barrier of `round` was the last that had been passed: it will be part of the next
    /// global model that is made of a later one.
    pub(super) fn catch_up(&mut self, round: u32) {
        if let Some(late) = self.late.last_mut() {
            late.handed_in = Some(round);
        }
    }

    /// There is a global model after this round. What was handed in while it was being made is not in it.
    pub(super) fn merge(&mut self, round: u32) {
        let is_in_time = |late: &&mut Late| late.handed_in.is_some_and(|after| after < round);
        for late in self.late.iter_mut().filter(is_in_time) {
            late.merged.get_or_insert(round);
        }
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// The rounds that have steps and count with a round of this range, in order.
    pub fn attempts(&self, rounds: RangeInclusive<u32>) -> impl Iterator<Item = &Attempt<S>> {
        // `BTreeMap::range` panics on a range that ends before it starts.
        let rounds = if rounds.is_empty() { 0..=0 } else { rounds };
        let first = if self.late.is_empty() { *rounds.start() } else { 0 };
        let done = self.rounds.range(first..=*rounds.end());
        done.filter(move |(round, _)| {
            counts_with(&self.late, **round).is_some_and(|with| rounds.contains(&with))
        })
        .map(|(_, attempt)| attempt)
    }

    /// As [`Ledger::attempts`], each with the number of its round, for good.
    pub fn into_rounds(self, rounds: RangeInclusive<u32>) -> impl Iterator<Item = (u32, Attempt<S>)> {
        let Self { rounds: done, late } = self;
        let counts = move |round| counts_with(&late, round).is_some_and(|with| rounds.contains(&with));
        done.into_iter().filter(move |(round, _)| counts(*round))
    }
}

/// The round with which one's work counts: itself, unless that was late.
fn counts_with(late: &[Late], round: u32) -> Option<u32> {
    let late = late.iter().find(|late| late.rounds.contains(&round));
    late.map_or(Some(round), |late| late.merged)
}

/// Sums over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) steps: u64,
    pub(super) in_time: u64,
    pub(super) loss: f64,
}

impl Totals {
    /// The sums over some steps.
    pub(super) fn of<'a>(steps: impl IntoIterator<Item = &'a StepRecord>) -> Self {
        steps.into_iter().fold(Self::default(), |totals, step| {
            totals.plus(Self { steps: 1, in_time: u64::from(step.in_time), loss: f64::from(step.loss) })
        })
    }

    /// The sums over these and those.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            in_time: self.in_time + other.in_time,
            loss: self.loss + other.loss,
        }
    }

    /// Share of steps within their deadline.
    pub(super) fn hit_rate(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.in_time as f64 / self.steps as f64)
    }

    /// Mean loss of the steps.
    pub(super) fn mean_loss(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.loss / self.steps as f64)
    }
}

/// The median: the middle value, or the mean of the middle two.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = values[values.len() / 2 - 1];
    Some(f64::midpoint(lower, upper))
}
