//! Least total cloud FLOPs under a budget of seconds: a multiple-choice knapsack, in which each edge takes
//! one cut, a cut's weight is the share it needs and its cost the FLOPs it leaves to the cloud. Hysteresis
//! is a cost of moving, so that a plan made again from its own cuts does not change.

use super::options::EdgeOptions;
use super::search::{Branch, Choice, Search};
use super::{Pick, Picks};

/// Up to this many edges the greedy solution is improved by branch and bound.
const SEARCHED_EDGES: usize = 16;
const SEARCH_NODES: u32 = 200_000;
/// Keeps sums of prices finite when a saving costs next to no share.
const MOST_PRICE: f64 = 1e250;

/// An option that meets the budget.
#[derive(Clone, Copy, Debug)]
struct Item {
    option: usize,
    share: f64,
    /// Cloud FLOPs, and the cost of moving there.
    cost: f64,
}

/// The picks, each with the least share that its cut needs. Every edge
/// can meet `budget`, and all together with shares that add up to `capacity`.
pub(super) fn solve(edges: &[&EdgeOptions], budget: f64, capacity: f64, hysteresis: f64) -> Picks {
    let items: Vec<Vec<Item>> =
        edges.iter().map(|edge| undominated(items_of(edge, budget, hysteresis))).collect();
    let greedy = Greedy::run(&items, capacity);
    let mut choice = Choice { cost: total(&items, &greedy.chosen), options: greedy.chosen };
    let mut bound = greedy.bound.min(choice.cost);
    if super::relative_gap(choice.cost, bound) > 0.0 && edges.len() <= SEARCHED_EDGES {
        let priced =
            |item: &Item| Branch { share: item.share, priced: item.cost + greedy.price * item.share };
        let branches: Vec<Vec<Branch>> =
            items.iter().map(|items| items.iter().map(priced).collect()).collect();
        let search = Search {
            branches: &branches,
            capacity,
            rebate: greedy.price * capacity,
            nodes: SEARCH_NODES,
            cost: |chosen: &[usize]| total(&items, chosen),
        };
        let (found, proven) = search.run(choice);
        choice = found;
        if proven {
            bound = choice.cost;
        }
    }
    let mut picks: Vec<Pick> = items
        .iter()
        .zip(&choice.options)
        .map(|(items, &index)| Pick { option: items[index].option, share: items[index].share })
        .collect();
    break_ties(edges, &mut picks, budget, capacity, hysteresis);
    Picks { edges: picks, cost: choice.cost, bound }
}

fn total(items: &[Vec<Item>], chosen: &[usize]) -> f64 {
    items.iter().zip(chosen).map(|(items, &index)| items[index].cost).sum()
}

/// The options with which `edge` meets the budget.
fn items_of(edge: &EdgeOptions, budget: f64, hysteresis: f64) -> Vec<Item> {
    let current = edge.current.filter(|&current| edge.options[current].share_needed(budget).is_some());
    let move_cost = current.map_or(0.0, |current| hysteresis * edge.options[current].flops);
    let mut items = Vec::with_capacity(edge.options.len());
    for (option, cut) in edge.options.iter().enumerate() {
        if let Some(share) = cut.share_needed(budget) {
            let cost = cut.flops + if current == Some(option) { 0.0 } else { move_cost };
            items.push(Item { option, share, cost });
        }
    }
    items
}

/// By rising share and falling cost; items that are worse in both are left out.
fn undominated(mut items: Vec<Item>) -> Vec<Item> {
    // Deeper cuts cost less but for what moving costs: from behind this is sorted already, or nearly.
    items.reverse();
    items.sort_by(|left, right| left.cost.total_cmp(&right.cost).then(left.share.total_cmp(&right.share)));
    let mut least = f64::INFINITY;
    items.retain(|item| {
        let better = item.share < least;
        least = least.min(item.share);
        better
    });
    items.reverse();
    items
}

/// The greedy solution of the linear relaxation and what it proves (Sinha & Zoltners 1979).
struct Greedy {
    /// Index into each edge's items.
    chosen: Vec<usize>,
    /// What no solution costs less than.
    bound: f64,
    /// Cost per share at the relaxation's optimum.
    price: f64,
}

/// One step along an edge's convex hull.
struct Upgrade {
    edge: usize,
    item: usize,
    share: f64,
    saved: f64,
    price: f64,
}

impl Greedy {
    /// Starts every edge at its least share and buys the upgrades that save most per share. The first
    /// that no longer fits sets the bound.
    fn run(items: &[Vec<Item>], capacity: f64) -> Self {
        let mut chosen = vec![0; items.len()];
        let mut cost = total(items, &chosen);
        let mut left = capacity - items.iter().map(|items| items[0].share).sum::<f64>();
        let mut upgrades: Vec<Upgrade> = Vec::new();
        for (edge, items) in items.iter().enumerate() {
            for pair in hull(items).windows(2) {
                let (from, to) = (items[pair[0]], items[pair[1]]);
                let (share, saved) = (to.share - from.share, from.cost - to.cost);
                let price = (saved / share).min(MOST_PRICE);
                upgrades.push(Upgrade { edge, item: pair[1], share, saved, price });
            }
        }
        // Stable: an edge's upgrades have falling prices and stay in their order.
        upgrades.sort_by(|one, other| other.price.total_cmp(&one.price));
        let mut stopped = vec![false; items.len()];
        let mut relaxed = None;
        for upgrade in &upgrades {
            if upgrade.share <= left && !stopped[upgrade.edge] {
                chosen[upgrade.edge] = upgrade.item;
                left -= upgrade.share;
                cost -= upgrade.saved;
            } else {
                stopped[upgrade.edge] = true;
                relaxed.get_or_insert((cost - upgrade.price * left.max(0.0), upgrade.price));
            }
        }
        let (bound, price) = relaxed.unwrap_or((cost, 0.0));
        // What is left may still pay for an option off the hull.
        for (items, chosen) in items.iter().zip(&mut chosen) {
            let have = items[*chosen].share;
            let best = items.iter().rposition(|item| item.share <= have + left).unwrap_or(*chosen);
            if best > *chosen {
                left -= items[best].share - have;
                *chosen = best;
            }
        }
        Self { chosen, bound, price }
    }
}

/// Indices of the lower convex hull of (share, cost), which starts at the first item.
fn hull(items: &[Item]) -> Vec<usize> {
    let mut hull: Vec<usize> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        while let [.., before, last] = hull[..] {
            let (before, last) = (items[before], items[last]);
            let first = (before.cost - last.cost) * (item.share - last.share);
            let second = (last.cost - item.cost) * (last.share - before.share);
            if first > second {
                break;
            }
            hull.pop();
        }
        hull.push(index);
    }
    hull
}

/// Moves edges to cuts that cost as much but send fewer bytes, or are smaller.
fn break_ties(edges: &[&EdgeOptions], picks: &mut [Pick], budget: f64, capacity: f64, hysteresis: f64) {
    let mut used: f64 = picks.iter().map(|pick| pick.share).sum();
    for (edge, pick) in edges.iter().zip(picks) {
        let items = items_of(edge, budget, hysteresis);
        let rank = |option: usize| edge.options[option].tie_rank();
        let least = items.iter().find(|item| item.option == pick.option).map_or(0.0, |item| item.cost);
        for item in items {
            let equal = item.cost <= least * (1.0 + 1e-12);
            if equal && rank(item.option) < rank(pick.option) && used - pick.share + item.share <= capacity {
                used += item.share - pick.share;
                *pick = Pick { option: item.option, share: item.share };
            }
        }
    }
}
