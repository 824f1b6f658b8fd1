//! Least sum of step times under a bound on each: a cut per edge, and shares that are convex in the rest
//! (for given cuts, the best shares are proportional to the square roots of the services, within bounds).
//! Hysteresis is a cost of moving, so that a plan made again from its own cuts does not change.

use super::options::EdgeOptions;
use super::pipeline::CloudCurve;
use super::search::{Branch, Choice, Search};
use super::{Pick, Picks};

/// Up to this many edges the Lagrangian solution is improved by branch and bound.
const SEARCHED_EDGES: usize = 16;
const SEARCH_NODES: u32 = 20_000;
/// Prices are halved in until they agree this well.
const ACCURACY: f64 = 1e-10;
/// First this well: fewer items are left then.
const COARSE: f64 = 1e-2;
/// More steps than any two finite prices need.
const MOST_STEPS: usize = 200;
/// By how much a guessed price is stretched until it is on the other side.
const STRETCH: f64 = 4.0;
/// Likewise that of so many edges of a fleet of more than this.
const SAMPLE_STRETCH: f64 = 1.1;
const SAMPLE: usize = 256;
const LARGE: usize = 1_024;

/// An option that meets the budget with `least` of a worker.
#[derive(Clone, Copy, Debug)]
struct Item {
    option: usize,
    curve: CloudCurve,
    service: f64,
    /// The square root of `service`.
    root: f64,
    least: f64,
    /// What moving there counts as, in seconds.
    move_cost: f64,
}

impl Item {
    /// The share that is best for the sum when a whole worker costs `price` seconds.
    fn share_at(&self, price: f64) -> f64 {
        self.share_for(price.sqrt())
    }

    fn share_for(&self, price_root: f64) -> f64 {
        if self.service > 0.0 {
            self.curve.share_for(self.service, self.root, price_root).clamp(self.least, 1.0)
        } else {
            0.0
        }
    }

    fn cost_at(&self, share: f64) -> f64 {
        self.move_cost + self.curve.at(if self.service > 0.0 { self.service / share } else { 0.0 })
    }

    /// What it costs at least, with the best of all shares.
    fn least_priced(&self, price_root: f64) -> f64 {
        self.move_cost + self.curve.alone_s + 2.0 * self.root * price_root
    }

    fn priced(&self, price: f64) -> f64 {
        let share = self.share_at(price);
        self.cost_at(share) + price * share
    }
}

/// The picks with the least sum. Every edge can meet `budget`, and all together
/// with shares that add up to `capacity`.
pub(super) fn solve(edges: &[&EdgeOptions], budget: f64, capacity: f64, hysteresis: f64) -> Picks {
    let items: Vec<Vec<Item>> =
        edges.iter().map(|edge| undominated(edge, Items::of(edge, budget, hysteresis).collect())).collect();
    let relaxed = Relaxed::solve(&items, capacity);
    let cost = |chosen: &[usize]| {
        let chosen = pick_items(&items, chosen);
        let shares = allot(&chosen, capacity);
        chosen.iter().zip(shares).map(|(item, share)| item.cost_at(share)).sum::<f64>()
    };
    let mut choice = Choice { cost: cost(&relaxed.chosen), options: relaxed.chosen };
    let mut bound = relaxed.bound.min(choice.cost);
    if super::relative_gap(choice.cost, bound) > 0.0 && edges.len() <= SEARCHED_EDGES {
        let priced = |item: &Item| Branch { share: item.least, priced: item.priced(relaxed.price) };
        let branches: Vec<Vec<Branch>> =
            items.iter().map(|items| items.iter().map(priced).collect()).collect();
        let rebate = relaxed.price * capacity;
        let search = Search { branches: &branches, capacity, rebate, nodes: SEARCH_NODES, cost };
        let (found, proven) = search.run(choice);
        choice = found;
        if proven {
            bound = choice.cost;
        }
    }
    let chosen = pick_items(&items, &choice.options);
    let mut picks: Vec<Pick> = chosen
        .iter()
        .zip(allot(&chosen, capacity))
        .map(|(item, share)| Pick { option: item.option, share })
        .collect();
    break_ties(edges, &mut picks, budget, hysteresis);
    Picks { edges: picks, cost: choice.cost, bound }
}

fn pick_items(items: &[Vec<Item>], chosen: &[usize]) -> Vec<Item> {
    items.iter().zip(chosen).map(|(items, &index)| items[index]).collect()
}

/// The options with which an edge meets the budget.
struct Items<'a> {
    edge: &'a EdgeOptions,
    budget: f64,
    current: Option<usize>,
    /// What leaving that one counts as, in seconds.
    moving: f64,
}

impl<'a> Items<'a> {
    fn of(edge: &'a EdgeOptions, budget: f64, hysteresis: f64) -> Self {
        let current = edge.current.filter(|&current| edge.options[current].share_needed(budget).is_some());
        let moving = current.map_or(0.0, |current| hysteresis * edge.options[current].seconds_at(1.0));
        Self { edge, budget, current, moving }
    }

    fn at(&self, option: usize) -> Option<Item> {
        let cut = &self.edge.options[option];
        let least = cut.share_needed(self.budget)?;
        let move_cost = if self.current == Some(option) { 0.0 } else { self.moving };
        let (curve, service) = (cut.curve, cut.service_s);
        Some(Item { option, curve, service, root: service.sqrt(), least, move_cost })
    }

    fn collect(&self) -> Vec<Item> {
        let mut items = Vec::with_capacity(self.edge.options.len());
        items.extend((0..self.edge.options.len()).filter_map(|option| self.at(option)));
        items
    }
}

/// By rising time without the cloud; items that are no better in anything are left out, but not where the edge is cut
/// now, which costs no move.
fn undominated(edge: &EdgeOptions, mut items: Vec<Item>) -> Vec<Item> {
    items.sort_unstable_by(|left, right| {
        let by_time = left.curve.alone_s.total_cmp(&right.curve.alone_s);
        by_time.then(left.service.total_cmp(&right.service)).then(left.option.cmp(&right.option))
    });
    let mut least = f64::INFINITY;
    let mut kept: Vec<Item> = Vec::with_capacity(items.len());
    for item in items {
        let is_worse = |other: &Item| other.service <= item.service && other.curve.is_below(&item.curve);
        let better = item.service < least || !kept.iter().any(is_worse);
        least = least.min(item.service);
        if better || edge.current == Some(item.option) {
            kept.push(item);
        }
    }
    kept
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
        let (chosen, share, bound) = best_at(items, 0.0, capacity);
        if share <= capacity {
            return Self { chosen, bound, price: 0.0 };
        }
        let mut best = Self { chosen: Vec::new(), bound, price: 0.0 };
        // For a price above any time at hand each edge takes its least share, and those fit.
        let least = |items: &Vec<Item>| items[least_by(items, |item| item.least).0].option;
        let mut fitting: Vec<usize> = items.iter().map(least).collect();
        let mut fits = |items: &[Vec<Item>], price: f64| {
            let (chosen, share, bound) = best_at(items, price, capacity);
            if bound > best.bound {
                (best.bound, best.price) = (bound, price);
            }
            let fits = share <= capacity;
            if fits {
                fitting = chosen.iter().zip(items).map(|(&index, items)| items[index].option).collect();
            }
            fits
        };
        let (guess, stretch) = Self::guess(items, capacity);
        let (mut low, mut high) = enclose(guess, stretch, |price| fits(items, price));
        let mut rest: Vec<Vec<Item>> = items.iter().map(|items| between(items, low, high)).collect();
        (low, high) = halve(low, high, COARSE, |price| fits(&rest, price));
        for items in &mut rest {
            *items = between(items, low, high);
        }
        halve(low, high, accuracy(items.len()), |price| fits(&rest, price));
        let index =
            |(items, option): (&Vec<Item>, usize)| items.iter().position(|item| item.option == option);
        best.chosen = items.iter().zip(fitting).map(|choice| index(choice).unwrap_or(0)).collect();
        best
    }

    /// About what the price is, and by how much that may be stretched: a large fleet's is known from a part of it.
    fn guess(items: &[Vec<Item>], capacity: f64) -> (f64, f64) {
        if items.len() > LARGE {
            let part: Vec<Vec<Item>> = items.iter().step_by(items.len() / SAMPLE).cloned().collect();
            let price = Self::solve(&part, capacity * part.len() as f64 / items.len() as f64).price;
            if price > 0.0 {
                return (price, SAMPLE_STRETCH);
            }
        }
        (guess(items.iter().map(|items| items[0].service), capacity), STRETCH)
    }
}

/// What each edge does at a price, as an index into its items, the shares that they take and the bound.
fn best_at(items: &[Vec<Item>], price: f64, capacity: f64) -> (Vec<usize>, f64, f64) {
    let mut chosen = Vec::with_capacity(items.len());
    let (mut share, mut bound) = (0.0, -price * capacity);
    let root = price.sqrt();
    for items in items {
        let (index, priced) = cheapest_at(items, price, root);
        share += items[index].share_for(root);
        bound += priced;
        chosen.push(index);
    }
    (chosen, share, bound)
}

/// The items of an edge that may be its best at a price between these: what an item costs rises with the price.
fn between(items: &[Item], low: f64, high: f64) -> Vec<Item> {
    let (_, enough) = cheapest_at(items, high, high.sqrt());
    let root = low.sqrt();
    items.iter().filter(|item| item.least_priced(root) <= enough * (1.0 + 1e-12)).copied().collect()
}

/// The price of a worker at which shares without bounds would add up to `capacity`.
fn guess(services: impl Iterator<Item = f64>, capacity: f64) -> f64 {
    let roots: f64 = services.map(f64::sqrt).sum();
    (roots / capacity).powi(2).clamp(1e-18, 1e18)
}

/// How well prices are known: few edges may each decide by a little.
fn accuracy(edges: usize) -> f64 {
    if edges <= SEARCHED_EDGES { ACCURACY } else { 1e-7 }
}

/// Two prices, of which the higher fits, if any below 1e24 does, and the lower does not, if any above 1e-24 does not.
fn enclose(guess: f64, mut stretch: f64, mut fits: impl FnMut(f64) -> bool) -> (f64, f64) {
    let (mut low, mut high) = (guess, guess);
    if fits(guess) {
        while low > 1e-24 {
            low /= stretch;
            if !fits(low) {
                break;
            }
            (high, stretch) = (low, wider(stretch));
        }
    } else {
        while high < 1e24 {
            high *= stretch;
            if fits(high) {
                break;
            }
            (low, stretch) = (high, wider(stretch));
        }
    }
    (low, high)
}

/// How far to go where a stretch was too short.
fn wider(stretch: f64) -> f64 {
    (stretch * stretch).min(STRETCH)
}

/// Narrows the least price that fits down between two, of which the higher does.
fn halve(mut low: f64, mut high: f64, accuracy: f64, mut fits: impl FnMut(f64) -> bool) -> (f64, f64) {
    for _ in 0..MOST_STEPS {
        if high <= low * (1.0 + accuracy) {
            break;
        }
        let price = (low * high).sqrt();
        if fits(price) {
            high = price;
        } else {
            low = price;
        }
    }
    (low, high)
}

/// As [`least_by`] of [`Item::priced`]. An item costs at least what it would with the best of all shares, so that
/// most need not be looked at any closer.
fn cheapest_at(items: &[Item], price: f64, price_root: f64) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (index, item) in items.iter().enumerate() {
        if item.least_priced(price_root) >= best.1 {
            continue;
        }
        let share = item.share_for(price_root);
        let value = item.cost_at(share) + price * share;
        if value < best.1 {
            best = (index, value);
        }
    }
    best
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
    let fits = |price: f64| at(price).sum::<f64>() <= capacity;
    let (low, high) = enclose(guess(items.iter().map(|item| item.service), capacity), STRETCH, fits);
    let (_, high) = halve(low, high, accuracy(items.len()), fits);
    at(high).collect()
}

/// Moves edges to cuts that cost as much with the share they have but send fewer bytes, or are smaller.
fn break_ties(edges: &[&EdgeOptions], picks: &mut [Pick], budget: f64, hysteresis: f64) {
    for (edge, pick) in edges.iter().zip(picks) {
        let items = Items::of(edge, budget, hysteresis);
        let share = pick.share;
        let most = items.at(pick.option).map_or(0.0, |item| item.cost_at(share)) * (1.0 + 1e-12);
        for (option, cut) in edge.options.iter().enumerate() {
            let is_better = || cut.tie_rank() < edge.options[pick.option].tie_rank();
            if cut.curve.alone_s <= most
                && is_better()
                && items.at(option).is_some_and(|item| item.least <= share && item.cost_at(share) <= most)
            {
                pick.option = option;
            }
        }
        if edge.options[pick.option].service_s <= 0.0 {
            pick.share = 0.0;
        }
    }
}
