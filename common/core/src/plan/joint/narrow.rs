//! The items that matter near some prices. In a large fleet the search of prices ends in a small region of them, in
//! which most cuts of an edge are out of the question.

use super::Amounts;
use super::cuts::{Columns, Cuts};
use super::fleet::{Fleet, Goal, Outcome, Part, Prices};

/// Fleets with fewer items than this, or than this many per edge, are searched as they are.
const WORTHWHILE_ITEMS: usize = 4_096;
const WORTHWHILE_ITEMS_PER_EDGE: usize = 4;
/// How far prices and times may move, relatively, before the items are chosen again: the wider, the more items stay.
const PRICES: f64 = 1.05;
const SECONDS: f64 = 1.001;

/// A fleet without the items that cannot be anybody's best near the prices and the time that were asked for
/// last. What it answers is what the whole fleet would.
pub(super) struct Narrowed<'a> {
    whole: &'a Cuts<'a>,
    kept: Fleet,
    is_whole: bool,
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
    pub(super) fn of(whole: &'a Cuts) -> Self {
        let is_whole = whole.count() < WORTHWHILE_ITEMS.max(WORTHWHILE_ITEMS_PER_EDGE * whole.len());
        let nothing =
            || Fleet { items: Vec::new(), parts: Vec::new(), scarce: whole.scarce, weight: whole.weight };
        Self { whole, kept: if is_whole { whole.fleet() } else { nothing() }, is_whole, near: None }
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
        let is_known = self.near.is_some_and(|near| near.contains(goal, seconds, prices.values()));
        if !self.is_whole && !is_known {
            self.narrow(Neighbourhood::of(goal, seconds, prices.values()));
            // Its indices were those of other items.
            outcome.chosen.clear();
        }
        self.kept.respond(goal, seconds, prices, outcome)
    }

    /// Values rise with prices and fall with time: an item that at the lowest prices and the longest time is worth
    /// no less than another at the highest and the shortest is never better.
    fn narrow(&mut self, near: Neighbourhood) {
        let (low, high) = (Prices::new(near.prices.0), Prices::new(near.prices.1));
        let mut columns = Columns::default();
        let (mut least, mut most) = (Vec::new(), Vec::new());
        let Fleet { items, parts, .. } = &mut self.kept;
        items.clear();
        parts.clear();
        for member in 0..self.whole.len() {
            self.whole.columns(member, &mut columns);
            columns.least_values(near.goal, near.seconds.1, &low, &mut least);
            columns.least_values(near.goal, near.seconds.0, &high, &mut most);
            let caps = self.whole.caps(member);
            let enough = columns.best(&most, &caps, near.goal, near.seconds.0, &high);
            let enough = enough.map_or(f64::INFINITY, |answer| answer.value);
            let start = items.len();
            let matters = |at: &usize| least[*at] <= enough && least[*at] < f64::INFINITY;
            items.extend((0..least.len()).filter(matters).map(|at| columns.item(at)));
            if items.len() == start {
                // Whichever it is, it is not in time.
                let any = (0..least.len()).find(|&at| columns.is_allowed(at));
                items.extend(any.map(|at| columns.item(at)));
            }
            parts.push(Part { items: start..items.len(), caps });
        }
        self.near = Some(near);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::options::Tables;
    use crate::plan::tests::properties::fleet;
    use crate::random::{stream, unit_f64};

    #[test]
    fn answers_are_those_of_the_whole_fleet_wherever_prices_and_times_go() {
        let mut rng = stream(3, &["narrowed"]);
        let mut draw = |least: f64, most: f64| least * (most / least).powf(unit_f64(&mut rng));
        let (edges, layers) = (300, 40);
        let input = fleet(3, edges, layers);
        let tables = Tables::of(&input);
        let links: f64 = input.edges.iter().map(|edge| edge.up_bytes_per_s).sum();
        let cuts = Cuts::of(&tables, (0..edges).collect(), [0.1 * links, 0.1 * links, 20.0], false);
        let whole = cuts.fleet();
        let mut narrowed = Narrowed::of(&cuts);
        let (mut one, mut other) = (Outcome::default(), Outcome::default());
        let (mut seconds, mut prices) = (3.0 * whole.alone_s(), [0.4, 0.3, 0.3]);
        let (mut fewest, mut answered) = (usize::MAX, 0);
        for step in 0..200 {
            let goal = [Goal::Resources, Goal::Cost, Goal::Seconds][step / 5 % 3];
            seconds *= draw(0.97, 1.03);
            prices = prices.map(|price| price * draw(0.9, 1.1));
            let at = Prices::new(prices);
            let possible = whole.respond(goal, seconds, &at, &mut one);
            assert_eq!(narrowed.respond(goal, seconds, &at, &mut other), possible);
            fewest = fewest.min(narrowed.kept().items.len());
            if possible {
                answered += 1;
                assert!((one.value - other.value).abs() <= 1e-12 * one.value, "{one:?} {other:?}");
                let same = whole.cuts(&one.chosen) == narrowed.kept().cuts(&other.chosen);
                assert!(same, "{goal:?} at {prices:?}");
            }
        }
        assert!(answered > 100 && fewest < whole.items.len() / 4, "{fewest} of {}", whole.items.len());
    }
}
