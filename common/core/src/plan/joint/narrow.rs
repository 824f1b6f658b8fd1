//! The items that matter near some prices. In a large fleet the search of prices ends in a small region of them, in
//! which most cuts of an edge are out of the question.

use std::borrow::Cow;

use super::Amounts;
use super::fleet::{Fleet, Goal, Item, Outcome, Part, Prices};
use super::least_time::Found;

/// Fleets with fewer items than this, or than this many per edge, are searched as they are.
const WORTHWHILE_ITEMS: usize = 4_096;
const WORTHWHILE_ITEMS_PER_EDGE: usize = 4;
/// How far prices and times may move, relatively, before the items are chosen again: the wider, the more items stay.
const PRICES: f64 = 1.2;
const SECONDS: f64 = 1.01;

/// A fleet without the items that cannot be anybody's best near the prices and the time that were asked for
/// last. What it answers is what the whole fleet would.
#[derive(Debug)]
pub(super) struct Narrowed<'a> {
    whole: &'a Fleet,
    kept: Cow<'a, Fleet>,
    /// The index in the whole fleet of each item that was kept; empty where all were.
    origins: Vec<usize>,
    near: Option<Neighbourhood>,
}

/// Where the items that were kept are enough.
#[derive(Clone, Copy, Debug)]
struct Neighbourhood {
    goal: Goal,
    seconds: (f64, f64),
    prices: (Amounts, Amounts),
}

impl Neighbourhood {
    fn of(goal: Goal, seconds: f64, prices: &Amounts) -> Self {
        Self {
            goal,
            seconds: (seconds / SECONDS, seconds * SECONDS),
            prices: (prices.map(|price| price / PRICES), prices.map(|price| price * PRICES)),
        }
    }

    fn contains(&self, goal: Goal, seconds: f64, prices: &Amounts) -> bool {
        let (low, high) = self.prices;
        self.goal == goal
            && (self.seconds.0..=self.seconds.1).contains(&seconds)
            && (0..3).all(|i| (low[i]..=high[i]).contains(&prices[i]))
    }
}

impl<'a> Narrowed<'a> {
    pub(super) fn of(whole: &'a Fleet) -> Self {
        Self { whole, kept: Cow::Borrowed(whole), origins: Vec::new(), near: None }
    }

    /// The items that were kept for the last answer, to which its indices belong.
    pub(super) fn kept(&self) -> &Fleet {
        &self.kept
    }

    /// As [`Fleet::respond`]; the indices are those of [`Self::kept`].
    pub(super) fn respond(
        &mut self,
        goal: Goal,
        seconds: f64,
        prices: &Prices,
        outcome: &mut Outcome,
    ) -> bool {
        let count = self.whole.items.len();
        let is_worthwhile =
            count >= WORTHWHILE_ITEMS && count >= WORTHWHILE_ITEMS_PER_EDGE * self.whole.parts.len();
        let is_known = self.near.is_some_and(|near| near.contains(goal, seconds, prices.values()));
        if is_worthwhile && !is_known {
            self.narrow(Neighbourhood::of(goal, seconds, prices.values()));
            // Its indices were those of other items.
            outcome.chosen.clear();
        }
        self.kept.respond(goal, seconds, prices, outcome)
    }

    /// With indices of the whole fleet.
    pub(super) fn found(&self, seconds: f64, chosen: &[usize], amounts: Vec<Amounts>) -> Found {
        let origin = |index: &usize| self.origins.get(*index).copied().unwrap_or(*index);
        Found { seconds, chosen: chosen.iter().map(origin).collect(), amounts }
    }

    /// Values rise with prices and fall with time: an item that at the lowest prices and the longest time is worth
    /// no less than another at the highest and the shortest is never better.
    fn narrow(&mut self, near: Neighbourhood) {
        let (low, high) = (Prices::new(near.prices.0), Prices::new(near.prices.1));
        let mut items: Vec<Item> = Vec::with_capacity(self.kept.items.len() / 2);
        let mut origins = Vec::with_capacity(items.capacity());
        let mut parts = Vec::with_capacity(self.whole.parts.len());
        let mut values = Vec::new();
        for part in &self.whole.parts {
            let start = items.len();
            let all = &self.whole.items[part.items.clone()];
            values.clear();
            values.extend(all.iter().map(|item| item.least_value(near.goal, near.seconds.1, &low)));
            // Whichever seems best is nearly the best at the other end, too.
            let least = values.iter().enumerate().min_by(|one, other| one.1.total_cmp(other.1));
            let worst = least.and_then(|(index, _)| {
                let likely = part.items.start + index;
                let alone = Part { items: likely..likely + 1, caps: part.caps };
                self.whole.best(&alone, near.goal, near.seconds.0, &high, likely)
            });
            let enough = worst.map_or(f64::INFINITY, |answer| answer.value);
            for (index, value) in values.iter().enumerate() {
                if *value <= enough {
                    items.push(all[index].clone());
                    origins.push(part.items.start + index);
                }
            }
            if items.len() == start
                && let Some(first) = all.first()
            {
                items.push(first.clone());
                origins.push(part.items.start);
            }
            parts.push(Part { items: start..items.len(), caps: part.caps });
        }
        self.kept = Cow::Owned(Fleet { items, parts, ..*self.whole });
        self.origins = origins;
        self.near = Some(near);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{stream, unit_f64};

    #[test]
    fn answers_are_those_of_the_whole_fleet_wherever_prices_and_times_go() {
        let mut rng = stream(3, &["narrowed"]);
        let mut draw = |least: f64, most: f64| least * (most / least).powf(unit_f64(&mut rng));
        let (edges, cuts) = (300, 40);
        let mut items = Vec::new();
        let mut parts = Vec::new();
        for _ in 0..edges {
            let pace = draw(0.002, 0.06);
            let roots: Amounts = std::array::from_fn(|_| draw(0.005, 0.05));
            let start = items.len();
            items.extend((0..cuts).map(|cut| Item {
                cut,
                fixed_s: pace * cut as f64,
                roots: roots.map(|root| root * draw(0.8, 1.2) * 0.93_f64.powf(cut as f64)),
                cost: (cuts - cut) as f64,
                overlap: None,
            }));
            parts.push(Part { items: start..items.len(), caps: [0.02, 0.03, 0.05] });
        }
        let whole = Fleet { items, parts, scarce: [true; 3], weight: 1.0 };
        let mut narrowed = Narrowed::of(&whole);
        let (mut one, mut other) = (Outcome::default(), Outcome::default());
        let (mut seconds, mut prices) = (4.0, [0.4, 0.3, 0.3]);
        let mut fewest = usize::MAX;
        for step in 0..200 {
            let goal = [Goal::Resources, Goal::Cost, Goal::Seconds][step / 5 % 3];
            seconds *= draw(0.97, 1.03);
            prices = prices.map(|price| price * draw(0.9, 1.1));
            let at = Prices::new(prices);
            let possible = whole.respond(goal, seconds, &at, &mut one);
            assert_eq!(narrowed.respond(goal, seconds, &at, &mut other), possible);
            fewest = fewest.min(narrowed.kept().items.len());
            if possible {
                assert!((one.value - other.value).abs() <= 1e-12 * one.value, "{one:?} {other:?}");
                let found = narrowed.found(seconds, &other.chosen, other.amounts.clone());
                let same = one.chosen.iter().zip(&found.chosen).filter(|(one, other)| one == other);
                assert_eq!(same.count(), edges);
            }
        }
        assert!(fewest < whole.items.len() / 2, "{fewest} of {}", whole.items.len());
    }
}
