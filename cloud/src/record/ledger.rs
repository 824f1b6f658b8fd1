//! Which of an edge's steps count: those of each round's last attempt.

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

/// An attempt at one round.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attempt {
    number: u32,
    pub(super) cut: u32,
    pub(super) steps: Vec<StepRecord>,
}

/// The steps of one edge by round.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    rounds: BTreeMap<u32, Attempt>,
}

impl Ledger {
    /// Adds a step. One of a later attempt at a round replaces what earlier attempts did in it.
    pub(super) fn add(&mut self, round: u32, number: u32, cut: u32, step: StepRecord) {
        let attempt = self.rounds.entry(round).or_insert(Attempt { number, cut, steps: Vec::new() });
        if number > attempt.number {
            *attempt = Attempt { number, cut, steps: Vec::new() };
        }
        if number == attempt.number {
            attempt.steps.push(step);
        }
    }

    /// Forgets a round and what follows it: that work is lost.
    pub(super) fn forget_from(&mut self, round: u32) {
        self.rounds.split_off(&round);
    }

    /// Whether there is no step.
    pub(super) fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// The rounds of a range that have steps, in order.
    pub(super) fn attempts(&self, rounds: RangeInclusive<u32>) -> impl Iterator<Item = &Attempt> {
        // `BTreeMap::range` panics on a range that ends before it starts.
        let rounds = if rounds.is_empty() { 0..=0 } else { rounds };
        self.rounds.range(rounds).map(|(_, attempt)| attempt)
    }
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
