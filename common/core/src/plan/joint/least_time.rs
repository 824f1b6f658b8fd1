//! The least time in which all edges can step at once.
//!
//! At any prices that add up to 1, the edges' cheapest amounts must not cost more than 1: a time at which they
//! do is too short for everybody at once, whatever the cuts and amounts. The largest such time over all
//! prices is the Lagrangian bound. A time at which the amounts also fit, resource by resource, is possible.

use super::Amounts;
use super::fleet::{Fleet, Goal, Outcome, Prices};
use super::region::Region;

/// Cuts through the region of prices: 0.63 to this power of its area is left.
const CUTS: usize = 40;
/// Prices closer than this are the same.
const SETTLED: f64 = 1e-7;
/// Relative accuracy of times.
const ACCURACY: f64 = 1e-7;
const MOST_STEPS: usize = 60;
/// How often demand moves the prices, with which power of the load, and when that has come close enough.
const REFINEMENTS: usize = 200;
pub(super) const RISE: f64 = 1.5;
const FINE: f64 = 1e-5;
/// A fleet whose least time is known this well is not searched any further.
pub(super) const TOLERANCE: f64 = 5e-4;
/// The part by which a larger fleet's automatic deadline is above its least, so that there is something to choose from
/// under it.
pub(super) const SLACK: f64 = 5e-3;
/// Up to this many edges the cuts are searched.
pub(super) const SEARCHED_EDGES: usize = 16;
const SEARCH_NODES: u32 = 2_000;

/// A bound, and what comes close to it.
#[derive(Clone, Debug)]
pub(super) struct LeastTime {
    /// No cuts and amounts take less.
    pub(super) bound_s: f64,
    /// Prices that add up to 1.
    pub(super) prices: Amounts,
    /// Seconds, and the cut and amounts of every edge.
    pub(super) found: Found,
    /// What a large fleet was asked for last.
    pub(super) asked: Option<Asked>,
}

/// What the edges take within a time at some prices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) seconds: f64,
    pub(super) prices: Amounts,
    pub(super) loads: Amounts,
}

/// Cuts and amounts that fit, in the order of the edges.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) seconds: f64,
    pub(super) cuts: Vec<usize>,
    pub(super) amounts: Vec<Amounts>,
}

/// What prices can tell of a time.
enum Verdict {
    /// It is too short.
    Cannot,
    /// These fit, at these prices.
    Fits(Amounts, Found),
    /// The amounts would have to be between those of different cuts.
    Unclear,
}

/// The bound and the best that its prices lead to.
pub(super) fn relax(fleet: &Fleet) -> LeastTime {
    let even = fleet.even_s();
    let mut region = Region::of(fleet.scarce);
    let mut outcome = Outcome::default();
    let mut bound_s = fleet.alone_s();
    let mut prices = region.centre();
    let mut found = even_split(fleet);
    for _ in 0..CUTS {
        let centre = region.centre();
        let at = Prices::new(centre);
        // Nobody can be below `alone`, where rounding may leave nothing.
        let possible = fleet.respond(Goal::Resources, bound_s * (1.0 + ACCURACY), &at, &mut outcome);
        if !possible || outcome.value > 1.0 {
            let raised = longest_dear(fleet, &at, bound_s, even, &mut outcome);
            if raised > bound_s {
                (bound_s, prices) = (raised, centre);
            }
        }
        take_better(fleet, &outcome, &mut found);
        region.keep(&outcome.loads);
        if region.is_settled(SETTLED) || found.seconds <= bound_s * (1.0 + ACCURACY) {
            break;
        }
    }
    let mut least = LeastTime { bound_s, prices, found, asked: None };
    if fleet.is_fixed() {
        refine(fleet, &mut least);
    }
    least
}

/// Prices that rise with demand, for cuts that are chosen, where loads change smoothly: a price far below the others
/// matters to few edges, but much to these, and a region of prices hardly resolves it.
fn refine(fleet: &Fleet, least: &mut LeastTime) {
    let mut prices = least.prices;
    let mut outcome = Outcome::default();
    for _ in 0..REFINEMENTS {
        if least.found.seconds <= least.bound_s * (1.0 + FINE) {
            break;
        }
        // Halfway: a time that is too short moves the bound, another what is found.
        let seconds = f64::midpoint(least.bound_s, least.found.seconds);
        if !fleet.respond(Goal::Resources, seconds, &Prices::new(prices), &mut outcome) {
            break;
        }
        if outcome.value > 1.0 {
            (least.bound_s, least.prices) = (seconds, prices);
        }
        take_better(fleet, &outcome, &mut least.found);
        prices = risen(&prices, &outcome.loads);
    }
}

/// The prices after demand has moved them; they add up to 1.
pub(super) fn risen(prices: &Amounts, loads: &Amounts) -> Amounts {
    let moved: Amounts = std::array::from_fn(|i| prices[i] * loads[i].clamp(0.01, 100.0).powf(RISE));
    let sum: f64 = moved.iter().sum();
    moved.map(|price| price / sum)
}

/// What the edges take, made to fit, if that is better.
pub(super) fn take_better(fleet: &Fleet, outcome: &Outcome, found: &mut Found) {
    let amounts = fleet.fitted(outcome, true);
    let seconds = fleet.slowest_s(&outcome.chosen, &amounts);
    if seconds < found.seconds {
        *found = Found { seconds, cuts: fleet.cuts(&outcome.chosen), amounts };
    }
}

/// The longest time, from `low` on, at which the edges' amounts cost 1 or more; `low` if there is none.
/// They cost about in inverse proportion to the time that is left, so that the secant of the inverse
/// soon finds it.
fn longest_dear(fleet: &Fleet, prices: &Prices, low: f64, even: f64, outcome: &mut Outcome) -> f64 {
    let mut cost = |seconds: f64| {
        if fleet.respond(Goal::Resources, seconds, prices, outcome) { outcome.value } else { f64::INFINITY }
    };
    let (longest, beyond) = bracket(low, even, |seconds| 1.0 / cost(seconds) - 1.0);
    // The loads that are left behind are those at the root.
    cost(beyond);
    longest
}

/// Everybody gets as much as everybody else.
pub(super) fn even_split(fleet: &Fleet) -> Found {
    let share = 1.0 / (fleet.parts.len() as f64 * fleet.weight);
    let (mut chosen, mut shares) = (Vec::new(), Vec::new());
    for part in &fleet.parts {
        let amounts = part.caps.map(|cap| cap.min(share));
        let seconds = |item: usize| fleet.items[item].seconds(&amounts);
        let quickest = part.items.clone().min_by(|&one, &other| seconds(one).total_cmp(&seconds(other)));
        chosen.push(quickest.unwrap_or(part.items.start));
        shares.push(amounts);
    }
    Found { seconds: fleet.slowest_s(&chosen, &shares), cuts: fleet.cuts(&chosen), amounts: shares }
}

/// The two sides of the root of a rising function between `low` and `high`, by regula falsi in Illinois'
/// variant, with bisection where that stalls.
fn bracket(low: f64, high: f64, mut f: impl FnMut(f64) -> f64) -> (f64, f64) {
    let (mut low, mut high) = (low, high.max(low));
    let mut at_low = f(low);
    if at_low >= 0.0 {
        return (low, low);
    }
    let mut at_high = f(high);
    if at_high < 0.0 {
        return (high, high);
    }
    for step in 0..MOST_STEPS {
        if high - low <= ACCURACY * high {
            break;
        }
        let secant = low + (high - low) * at_low / (at_low - at_high);
        let inner = 0.01 * ACCURACY * high;
        let middle =
            if step % 4 == 3 { f64::midpoint(low, high) } else { secant.clamp(low + inner, high - inner) };
        let value = f(middle);
        if value < 0.0 {
            (low, at_low) = (middle, value);
            at_high *= 0.5;
        } else {
            (high, at_high) = (middle, value);
            at_low *= 0.5;
        }
    }
    (low, high)
}

/// Whether all can step within `seconds`, as far as prices can tell.
fn judge(fleet: &Fleet, seconds: f64) -> Verdict {
    let mut region = Region::of(fleet.scarce);
    let mut outcome = Outcome::default();
    let mut last = region.centre();
    for _ in 0..CUTS {
        let centre = region.centre();
        let prices = Prices::new(centre);
        if !fleet.respond(Goal::Resources, seconds, &prices, &mut outcome) || outcome.value > 1.0 + 1e-12 {
            return Verdict::Cannot;
        }
        let amounts = fleet.fitted(&outcome, true);
        let slowest = fleet.slowest_s(&outcome.chosen, &amounts);
        if slowest <= seconds {
            let cuts = fleet.cuts(&outcome.chosen);
            return Verdict::Fits(centre, Found { seconds: slowest, cuts, amounts });
        }
        region.keep(&outcome.loads);
        last = centre;
        if region.is_settled(SETTLED) {
            break;
        }
    }
    if !fleet.is_fixed() {
        return Verdict::Unclear;
    }
    for _ in 0..REFINEMENTS {
        last = risen(&last, &outcome.loads);
        if !fleet.respond(Goal::Resources, seconds, &Prices::new(last), &mut outcome)
            || outcome.value > 1.0 + 1e-12
        {
            return Verdict::Cannot;
        }
        let amounts = fleet.fitted(&outcome, true);
        let slowest = fleet.slowest_s(&outcome.chosen, &amounts);
        if slowest <= seconds {
            let cuts = fleet.cuts(&outcome.chosen);
            return Verdict::Fits(last, Found { seconds: slowest, cuts, amounts });
        }
    }
    Verdict::Unclear
}

/// Prices and amounts at which all can step within `seconds`, if prices alone lead to them.
pub(super) fn fits(fleet: &Fleet, seconds: f64) -> Option<(Amounts, Found)> {
    match judge(fleet, seconds) {
        Verdict::Fits(prices, found) => Some((prices, found)),
        Verdict::Cannot | Verdict::Unclear => None,
    }
}

/// Closes what [`relax`] leaves open in a small fleet: branch and bound over the cuts. With `enough` it stops at
/// the first that takes so many seconds or less, else at the least, to within the tolerance.
pub(super) fn search(fleet: &Fleet, enough: Option<f64>, mut least: LeastTime) -> LeastTime {
    let close = least.found.seconds * (1.0 - TOLERANCE) <= least.bound_s;
    let is_known = enough.map_or(close, |enough| least.found.seconds <= enough || least.bound_s > enough);
    if fleet.parts.len() > SEARCHED_EDGES || is_known {
        return least;
    }
    let mut search = Search { nodes: SEARCH_NODES, enough, found: least.found };
    search.descend(&mut fleet.clone());
    if search.nodes > 0 && !search.has_enough() {
        least.bound_s = least.bound_s.max(search.target());
    }
    LeastTime { found: search.found, ..least }
}

struct Search {
    nodes: u32,
    enough: Option<f64>,
    found: Found,
}

impl Search {
    /// What would be worth finding.
    fn target(&self) -> f64 {
        self.enough.unwrap_or(self.found.seconds * (1.0 - TOLERANCE))
    }

    fn has_enough(&self) -> bool {
        self.enough.is_some_and(|enough| self.found.seconds <= enough)
    }

    fn descend(&mut self, fleet: &mut Fleet) {
        loop {
            if self.nodes == 0 || self.has_enough() {
                return;
            }
            self.nodes -= 1;
            match judge(fleet, self.target()) {
                Verdict::Cannot => return,
                Verdict::Unclear => break,
                Verdict::Fits(_, found) => self.found = found,
            }
        }
        let wide = (0..fleet.parts.len()).max_by_key(|&edge| fleet.parts[edge].items.len());
        let Some(edge) = wide.filter(|&edge| fleet.parts[edge].items.len() > 1) else { return };
        let items = fleet.parts[edge].items.clone();
        for item in items.clone() {
            fleet.parts[edge].items = item..item + 1;
            self.descend(fleet);
        }
        fleet.parts[edge].items = items;
    }
}
