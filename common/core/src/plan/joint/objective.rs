//! The least of an objective within a time that is known to suffice, in a small fleet.
//!
//! The Lagrangian over the prices of the scarce resources bounds it from below: along every direction of prices the
//! best scale is found by bisection, and directions are cut down as in [`super::least_time`]. (Better prices
//! lie in a convex set, which seen from 0 is a convex set of directions.)

use super::Amounts;
use super::fleet::{Fleet, Goal, Item, Outcome, Part, Prices};
use super::least_time::{self, Found, LeastTime};
use super::region::Region;
use crate::plan::search::{Branch, Choice, Search};

const CUTS: usize = 30;
const SETTLED: f64 = 1e-5;
/// By how much a scale of prices is stretched until it encloses the best.
const STRETCH: f64 = 8.0;
const MOST_STRETCHES: usize = 40;
/// Halvings of an enclosed scale.
const HALVINGS: usize = 10;
/// How far apart the prices for the objective and those for the resources alone are.
const FAR: f64 = 1e6;
const MIXTURES: usize = 14;
/// By how much amounts may miss a time before they are made to fit.
const EARLY: f64 = 1e-5;
const SEARCH_NODES: u32 = 5_000;

/// Cuts and amounts, and how good they can be at most.
#[derive(Clone, Debug)]
pub(super) struct Best {
    pub(super) found: Found,
    pub(super) cost: f64,
    pub(super) bound: f64,
}

/// The dual at its best scale along one direction of prices.
#[derive(Clone, Copy, Debug)]
struct Scaled {
    prices: Amounts,
    bound: f64,
    /// A subgradient: the loads at the scale.
    loads: Amounts,
}

/// The items with which an edge can take `seconds`, without those that need no less of anything than another and
/// cost as much. What an item needs within a time grows with `work / (time - fixed)`, at any prices.
fn within(fleet: &Fleet, goal: Goal, seconds: f64) -> Fleet {
    let mut items: Vec<Item> = Vec::with_capacity(fleet.items.len() / 2);
    let mut parts = Vec::with_capacity(fleet.parts.len());
    for part in &fleet.parts {
        let start = items.len();
        for item in fleet.items[part.items.clone()].iter().rev() {
            if item.alone_s(&part.caps) > seconds * (1.0 + 1e-12) {
                continue;
            }
            let left = seconds - item.fixed_s;
            let is_worse = |better: &Item| {
                match (&better.overlap, &item.overlap) {
                    (None, None) => {}
                    (Some(overlap), Some(of)) => {
                        return better.cost <= item.cost && overlap.is_below(better, of, item);
                    }
                    _ => return false,
                }
                let better_left = seconds - better.fixed_s;
                better.cost <= item.cost
                    && (goal != Goal::Seconds || better.fixed_s <= item.fixed_s)
                    && better.roots.iter().zip(&item.roots).all(|(better, root)| {
                        if goal == Goal::Seconds {
                            better <= root
                        } else {
                            better * better * left <= root * root * better_left
                        }
                    })
            };
            if !items[start..].iter().any(is_worse) {
                items.push(item.clone());
            }
        }
        parts.push(Part { items: start..items.len(), caps: part.caps });
    }
    Fleet { items, parts, ..*fleet }
}

/// The best cuts and amounts of a small fleet within `seconds`; `enough` fits, at its prices, among all items.
pub(super) fn optimize(all: &Fleet, goal: Goal, seconds: f64, enough: LeastTime) -> Best {
    let fleet = &within(all, goal, seconds);
    let found = translated(fleet, enough.found, seconds);
    let dual = relax(fleet, goal, seconds);
    let best = Best { cost: cost_of(fleet, goal, &found), found, bound: dual.bound };
    let best = mix(fleet, goal, seconds, &dual, enough.prices, best);
    if best.cost > dual.bound * (1.0 + 1e-9) {
        return branch(fleet, goal, seconds, &dual, enough.prices, best);
    }
    best
}

/// What was found among all items, among those that were kept: with the same amounts the cheapest that is in time.
fn translated(kept: &Fleet, found: Found, seconds: f64) -> Found {
    let cuts = kept.parts.iter().zip(&found.cuts).zip(&found.amounts).map(|((part, &cut), amounts)| {
        let items = &kept.items[part.items.clone()];
        let in_time = items.iter().filter(|item| item.cut == cut || item.seconds(amounts) <= seconds);
        in_time.min_by(|one, other| one.cost.total_cmp(&other.cost)).map_or(cut, |item| item.cut)
    });
    Found { cuts: cuts.collect(), ..found }
}

/// What cuts and amounts cost.
pub(super) fn cost_of(fleet: &Fleet, goal: Goal, found: &Found) -> f64 {
    let of = |(index, amounts): (usize, &Amounts)| {
        let item = &fleet.items[index];
        item.cost + if goal == Goal::Seconds { item.seconds(amounts) } else { 0.0 }
    };
    fleet.items_at(&found.cuts).into_iter().zip(&found.amounts).map(of).sum::<f64>() * fleet.weight
}

fn relax(fleet: &Fleet, goal: Goal, seconds: f64) -> Scaled {
    let mut region = Region::of(fleet.scarce);
    let mut outcome = Outcome::default();
    let free = Prices::new([0.0; 3]);
    fleet.respond(goal, seconds, &free, &mut outcome);
    let mut guess = outcome.cost.max(f64::MIN_POSITIVE);
    let mut best: Option<Scaled> = None;
    for _ in 0..CUTS {
        let scaled = scale(fleet, goal, seconds, region.centre(), guess, &mut outcome);
        region.keep(&scaled.loads);
        if best.is_none_or(|best| scaled.bound > best.bound) {
            guess = scaled.prices.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            best = Some(scaled);
        }
        if region.is_settled(SETTLED) {
            break;
        }
    }
    best.unwrap_or(Scaled { prices: [0.0; 3], bound: outcome.cost, loads: [0.0; 3] })
}

/// The dual's best along `direction`, which adds up to 1: where the loads cost what there is.
fn scale(
    fleet: &Fleet,
    goal: Goal,
    seconds: f64,
    direction: Amounts,
    guess: f64,
    outcome: &mut Outcome,
) -> Scaled {
    let mut best = (f64::NEG_INFINITY, [0.0; 3]);
    // How far above 1 the loads cost, and the loads.
    let mut above = |scale: f64| {
        let prices = direction.map(|price| price * scale);
        fleet.respond(goal, seconds, &Prices::new(prices), outcome);
        let bound = outcome.value - prices.iter().sum::<f64>();
        if bound > best.0 {
            best = (bound, prices);
        }
        let cost: f64 = outcome.loads.iter().zip(&direction).map(|(load, price)| load * price).sum();
        (cost - 1.0, outcome.loads)
    };
    let (mut low, mut high) = (guess, guess);
    let mut at_low = above(low);
    let mut at_high = at_low;
    for _ in 0..MOST_STRETCHES {
        if at_low.0 <= 0.0 {
            (high, at_high) = (low, at_low);
            low /= STRETCH;
            at_low = above(low);
        } else if at_high.0 > 0.0 {
            (low, at_low) = (high, at_high);
            high *= STRETCH;
            at_high = above(high);
        } else {
            break;
        }
    }
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        let at_middle = above(middle);
        if at_middle.0 > 0.0 {
            (low, at_low) = (middle, at_middle);
        } else {
            (high, at_high) = (middle, at_middle);
        }
    }
    // Between the two sides lies the subgradient along which the scale cannot be bettered.
    let part = if at_low.0 > at_high.0 { (-at_high.0 / (at_low.0 - at_high.0)).clamp(0.0, 1.0) } else { 0.0 };
    let loads = std::array::from_fn(|i| part * at_low.1[i] + (1.0 - part) * at_high.1[i]);
    Scaled { prices: best.1, bound: best.0, loads }
}

/// What fits on the way from the dual's prices to those for the resources alone, closest to the dual's.
fn mix(fleet: &Fleet, goal: Goal, seconds: f64, dual: &Scaled, tight: Amounts, mut best: Best) -> Best {
    let sum: f64 = dual.prices.iter().sum();
    let mut outcome = Outcome::default();
    let (mut low, mut high) = (0.0, 1.0);
    for step in 0..MIXTURES {
        // The dual's own prices come first: where nothing is scarce they fit.
        let part = if step == 0 { 0.0 } else { 0.5 * (low + high) };
        let prices = std::array::from_fn(|i| {
            let (from, to) = (dual.prices[i], tight[i] * sum.max(f64::MIN_POSITIVE) * FAR);
            if from > 0.0 && to > 0.0 { from.powf(1.0 - part) * to.powf(part) } else { from + part * to }
        });
        let prices = Prices::new(prices);
        // A little early, as what is next to free is asked for too much.
        let early = seconds * (1.0 - EARLY);
        let amounts = if fleet.respond(goal, early, &prices, &mut outcome) {
            fleet.fitted(&outcome, goal == Goal::Seconds)
        } else {
            Vec::new()
        };
        if amounts.is_empty() || fleet.slowest_s(&outcome.chosen, &amounts) > seconds {
            low = part;
            continue;
        }
        high = part;
        let found = Found { seconds, cuts: fleet.cuts(&outcome.chosen), amounts };
        let filled = if goal == Goal::Cost { fill(fleet, seconds, &prices, found) } else { found };
        let cost = cost_of(fleet, goal, &filled);
        if cost < best.cost {
            best = Best { found: filled, cost, ..best };
        }
        if part <= 0.0 {
            break;
        }
    }
    best
}

/// Spends what is left of the resources on cheaper items, edge by edge.
pub(super) fn fill(fleet: &Fleet, seconds: f64, prices: &Prices, mut found: Found) -> Found {
    let used = |i: usize| found.amounts.iter().map(|amounts| amounts[i]).sum::<f64>();
    let mut left: Amounts = std::array::from_fn(|i| 1.0 - fleet.weight * used(i));
    let mut chosen = fleet.items_at(&found.cuts);
    for (edge, part) in fleet.parts.iter().enumerate() {
        for index in part.items.clone() {
            let item = &fleet.items[index];
            if item.cost >= fleet.items[chosen[edge]].cost {
                continue;
            }
            let Some(amounts) = item.cheapest(&part.caps, prices, seconds - item.fixed_s) else { continue };
            let rest: Amounts =
                std::array::from_fn(|i| left[i] - fleet.weight * (amounts[i] - found.amounts[edge][i]));
            if rest.iter().all(|rest| *rest >= 0.0) {
                left = rest;
                (chosen[edge], found.amounts[edge]) = (index, amounts);
            }
        }
    }
    found.cuts = fleet.cuts(&chosen);
    found
}

/// The best of a small fleet, by branch and bound.
fn branch(fleet: &Fleet, goal: Goal, seconds: f64, dual: &Scaled, tight: Amounts, best: Best) -> Best {
    let (prices, tight) = (Prices::new(dual.prices), Prices::new(tight));
    let branch = |part: &Part, index: usize| {
        let alone = Part { items: index..index + 1, caps: part.caps };
        let value = |goal: Goal, prices: &Prices| {
            fleet.best(&alone, goal, seconds, prices, index).map(|best| best.value)
        };
        Branch {
            share: value(Goal::Resources, &tight).unwrap_or(f64::INFINITY),
            priced: value(goal, &prices).unwrap_or(f64::INFINITY),
        }
    };
    let branches: Vec<Vec<Branch>> = fleet
        .parts
        .iter()
        .map(|part| part.items.clone().map(|index| branch(part, index)).collect())
        .collect();
    let items = |choice: &[usize]| -> Vec<usize> {
        fleet.parts.iter().zip(choice).map(|(part, index)| part.items.start + index).collect()
    };
    let incumbent = Choice {
        options: fleet
            .parts
            .iter()
            .zip(fleet.items_at(&best.found.cuts))
            .map(|(part, index)| index - part.items.start)
            .collect(),
        cost: best.cost,
    };
    let before = incumbent.clone();
    let search = Search {
        branches: &branches,
        capacity: 1.0 + 1e-9,
        rebate: dual.prices.iter().sum(),
        nodes: SEARCH_NODES,
        cost: |choice: &[usize]| {
            at_cuts(fleet, goal, seconds, &items(choice)).map_or(f64::INFINITY, |best| best.cost)
        },
    };
    let (choice, proven) = search.run(incumbent);
    let bound = if proven { choice.cost } else { best.bound };
    let better = (choice != before).then(|| at_cuts(fleet, goal, seconds, &items(&choice.options))).flatten();
    match better {
        Some(better) => Best { bound, ..better },
        None => Best { bound, ..best },
    }
}

/// The best amounts for cuts that are chosen; `None` if these do not fit.
fn at_cuts(fleet: &Fleet, goal: Goal, seconds: f64, chosen: &[usize]) -> Option<Best> {
    let fixed = fleet.fixed(chosen);
    let (tight, found) = least_time::fits(&fixed, seconds)?;
    let cost = cost_of(&fixed, goal, &found);
    let best = Best { cost, bound: cost, found };
    if goal == Goal::Cost {
        return Some(best);
    }
    let dual = relax(&fixed, goal, seconds);
    Some(mix(&fixed, goal, seconds, &dual, tight, best))
}
