//! Least sum of step times under a bound on each: a cut per edge, and shares that are convex in the rest
//! (for given cuts, the best shares are proportional to the square roots of the services, within bounds).
//! Hysteresis is a cost of moving, so that a plan made again from its own cuts does not change.

use super::Pick;
use super::options::EdgeOptions;
use super::search::{Branch, Choice, Search};

/// Up to this many edges the Lagrangian solution is improved by branch and bound.
const SEARCHED_EDGES: usize = 16;
const SEARCH_NODES: u32 = 20_000;
/// Prices are halved in until they agree this well.
const ACCURACY: f64 = 1e-10;
/// More steps than any two finite prices need.
const MOST_STEPS: usize = 200;

/// An option that meets the budget with `least` of a worker.
#[derive(Clone, Copy, Debug)]
struct Item {
    option: usize,
    other: f64,
    service: f64,
    least: f64,
    /// What moving there counts as, in seconds.
    move_cost: f64,
}

impl Item {
    /// The share that is best for the sum when a whole worker costs `price` seconds.
    fn share_at(&self, price: f64) -> f64 {
        if self.service > 0.0 { (self.service / price).sqrt().clamp(self.least, 1.0) } else { 0.0 }
    }

    fn cost_at(&self, share: f64) -> f64 {
        self.move_cost + self.other + if self.service > 0.0 { self.service / share } else { 0.0 }
    }

    fn priced(&self, price: f64) -> f64 {
        let share = self.share_at(price);
        self.cost_at(share) + price * share
    }
}

/// The picks and the relative optimality gap of the sum. Every edge can meet `budget`, and all together
/// with shares that add up to `capacity`.
pub(super) fn solve(edges: &[&EdgeOptions], budget: f64, capacity: f64, hysteresis: f64) -> (Vec<Pick>, f64) {
    let items: Vec<Vec<Item>> =
        edges.iter().map(|edge| undominated(edge, items_of(edge, budget, hysteresis))).collect();
    let relaxed = Relaxed::solve(&items, capacity);
    let cost = |chosen: &[usize]| {
        let chosen = pick_items(&items, chosen);
        let shares = allot(&chosen, capacity);
        chosen.iter().zip(shares).map(|(item, share)| item.cost_at(share)).sum::<f64>()
    };
    let mut choice = Choice { cost: cost(&relaxed.chosen), options: relaxed.chosen };
    let mut gap = relative_gap(choice.cost, relaxed.bound);
    if gap > 0.0 && edges.len() <= SEARCHED_EDGES {
        let priced = |item: &Item| Branch { share: item.least, priced: item.priced(relaxed.price) };
        let branches: Vec<Vec<Branch>> =
            items.iter().map(|items| items.iter().map(priced).collect()).collect();
        let rebate = relaxed.price * capacity;
        let search = Search { branches: &branches, capacity, rebate, nodes: SEARCH_NODES, cost };
        let (found, proven) = search.run(choice);
        choice = found;
        gap = if proven { 0.0 } else { relative_gap(choice.cost, relaxed.bound) };
    }
    let chosen = pick_items(&items, &choice.options);
    let mut picks: Vec<Pick> = chosen
        .iter()
        .zip(allot(&chosen, capacity))
        .map(|(item, share)| Pick { option: item.option, share })
        .collect();
    break_ties(edges, &mut picks, budget, hysteresis);
    (picks, gap)
}

fn pick_items(items: &[Vec<Item>], chosen: &[usize]) -> Vec<Item> {
    items.iter().zip(chosen).map(|(items, &index)| items[index]).collect()
}

fn relative_gap(cost: f64, bound: f64) -> f64 {
    let gap = (cost - bound) / cost;
    if gap > 1e-9 { gap.min(1.0) } else { 0.0 }
}

/// The options with which `edge` meets the budget.
fn items_of(edge: &EdgeOptions, budget: f64, hysteresis: f64) -> Vec<Item> {
    let current = edge.current.filter(|&current| edge.options[current].share_needed(budget).is_some());
    let moving = current.map_or(0.0, |current| hysteresis * edge.options[current].seconds_at(1.0));
    let mut items = Vec::with_capacity(edge.options.len());
    for (option, cut) in edge.options.iter().enumerate() {
        if let Some(least) = cut.share_needed(budget) {
            let move_cost = if current == Some(option) { 0.0 } else { moving };
            items.push(Item { option, other: cut.other_s, service: cut.service_s(), least, move_cost });
        }
    }
    items
}

/// By rising other and falling service; items that are worse in both are left out, but not where the edge
/// is cut now, which costs no move.
fn undominated(edge: &EdgeOptions, mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by(|left, right| {
        left.other.total_cmp(&right.other).then(left.service.total_cmp(&right.service))
    });
    let mut least = f64::INFINITY;
    items.retain(|item| {
        let better = item.service < least;
        least = least.min(item.service);
        better || edge.current == Some(item.option)
    });
    items
}

/// The Lagrangian relaxation of the bound on the sum of shares.
struct Relaxed {
    /// Index into each edge's items: a choice whose least shares fit.
    chosen: Vec<usize>,
    /// Seconds below which no solution is.
    bound: f64,
    /// Seconds per worker at which `bound` was found.
    price: f64,
}

impl Relaxed {
    fn solve(items: &[Vec<Item>], capacity: f64) -> Self {
        let best_at = |price: f64| -> (Vec<usize>, f64, f64) {
            let mut chosen = Vec::with_capacity(items.len());
            let (mut share, mut bound) = (0.0, -price * capacity);
            for items in items {
                let (index, priced) = least_by(items, |item| item.priced(price));
                share += items[index].share_at(price);
                bound += priced;
                chosen.push(index);
            }
            (chosen, share, bound)
        };
        let (chosen, share, bound) = best_at(0.0);
        if share <= capacity {
            return Self { chosen, bound, price: 0.0 };
        }
        let mut best = Self { chosen: Vec::new(), bound, price: 0.0 };
        // For a price above any time at hand each edge takes its least share, and those fit.
        let slowest = items.iter().flatten().map(|item| item.other + item.service).fold(1e-9, f64::max);
        let mut fitting = items.iter().map(|items| least_by(items, |item| item.least).0).collect();
        let (mut low, mut high) = (slowest * 1e-12, slowest * 1e12);
        for _ in 0..MOST_STEPS {
            if high <= low * (1.0 + ACCURACY) {
                break;
            }
            let price = (low * high).sqrt();
            let (chosen, share, bound) = best_at(price);
            if bound > best.bound {
                (best.bound, best.price) = (bound, price);
            }
            if share <= capacity {
                (high, fitting) = (price, chosen);
            } else {
                low = price;
            }
        }
        best.chosen = fitting;
        best
    }
}

/// The first item with the least value, and the value; `items` is not empty.
fn least_by(items: &[Item], value: impl Fn(&Item) -> f64) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (index, item) in items.iter().enumerate() {
        let value = value(item);
        if value < best.1 {
            best = (index, value);
        }
    }
    best
}

/// The shares, at least `least` each and adding up to `capacity` at most, with the least sum of times.
fn allot(items: &[Item], capacity: f64) -> Vec<f64> {
    let at = |price: f64| items.iter().map(move |item| item.share_at(price));
    if at(0.0).sum::<f64>() <= capacity {
        return at(0.0).collect();
    }
    let slowest = items.iter().map(|item| item.service).fold(1e-9, f64::max);
    let (mut low, mut high) = (slowest * 1e-12, slowest * 1e12);
    for _ in 0..MOST_STEPS {
        if high <= low * (1.0 + ACCURACY) {
            break;
        }
        let price = (low * high).sqrt();
        if at(price).sum::<f64>() <= capacity {
            high = price;
        } else {
            low = price;
        }
    }
    at(high).collect()
}

/// Moves edges to cuts that cost as much with the share they have but send fewer bytes, or are smaller.
fn break_ties(edges: &[&EdgeOptions], picks: &mut [Pick], budget: f64, hysteresis: f64) {
    for (edge, pick) in edges.iter().zip(picks) {
        let items = items_of(edge, budget, hysteresis);
        let share = pick.share;
        let rank = |option: usize| edge.options[option].tie_rank();
        let least =
            items.iter().find(|item| item.option == pick.option).map_or(0.0, |item| item.cost_at(share));
        for item in items.iter().filter(|item| item.least <= share) {
            if item.cost_at(share) <= least * (1.0 + 1e-12) && rank(item.option) < rank(pick.option) {
                pick.option = item.option;
            }
        }
        if edge.options[pick.option].service_s() <= 0.0 {
            pick.share = 0.0;
        }
    }
}
