//! The least of an objective within a time, in a large fleet: loads change all but smoothly with prices there, and
//! cuts at the prices at which all loads come out as what there is are as good as the bound but for a few edges.

use super::Amounts;
use super::broyden::Broyden;
use super::cuts::Cuts;
use super::fleet::{Goal, Outcome, Prices};
use super::least_time::{Asked, Found, LeastTime};
use super::narrow::Narrowed;
use super::objective::{Best, cost_of, fill};
use super::{SAMPLE, samples, smooth};

/// How often prices move to settle, in a small fleet and in one of more edges than this.
const LARGE: usize = 2_000;
const ROUGH_MOVES: usize = 40;
const FINE_MOVES: usize = 12;
/// How loads change when all prices rise, in place of one alone, at first.
const TOGETHER: f64 = 0.1;
const MOST_RISE: f64 = 100.0;
/// Loads this close to what there is are met; in a sample, which is as far from the whole.
const CLOSE: f64 = 3e-4;
const ROUGHLY: f64 = 3e-3;
const MIXTURES: usize = 10;
/// By how much the steps are to be in time before amounts are made to fit.
const EARLY: f64 = 4e-4;
/// The first mixture of prices.
const MIXED: f64 = 2e-3;
/// Mixtures of prices this close to each other are one.
const CLOSEST: f64 = 1.0;
/// What is found is this close to its bound, relatively, at best.
const NEGLIGIBLE: f64 = 5e-4;

/// The best cuts and amounts within `seconds`; `enough` fits, at its prices.
pub(super) fn optimize(cuts: &Cuts, goal: Goal, seconds: f64, enough: LeastTime) -> Best {
    let fixed = cuts.fixed(&enough.found.cuts);
    let best = Best { cost: cost_of(&fixed, goal, &enough.found), found: enough.found, bound: 0.0 };
    let prices = enough.prices.map(|price| price * best.cost);
    let mut settled = Settled { prices, response: Broyden::new(TOGETHER), bound: 0.0 };
    for size in samples(cuts.len()) {
        let sample = cuts.sample(size);
        let mut rough = Narrowed::of(&sample);
        let there_is = likewise(&mut rough, enough.asked);
        settled = settle(&mut rough, goal, seconds, settled, there_is, ROUGH_MOVES, ROUGHLY);
    }
    let moves = if cuts.len() > LARGE { FINE_MOVES } else { ROUGH_MOVES };
    let mut narrowed = Narrowed::of(cuts);
    settled = settle(&mut narrowed, goal, seconds, settled, [1.0; 3], moves, CLOSE);
    let best = Best { bound: settled.bound.max(0.0), ..best };
    let (best, prices) = fit(&mut narrowed, goal, seconds, &settled, enough.prices, best);
    if goal != Goal::Cost || cuts.len() > SAMPLE {
        return best;
    }
    let fleet = cuts.fleet();
    let found = fill(&fleet, seconds, &Prices::new(prices), best.found);
    Best { cost: cost_of(&fleet, goal, &found), found, ..best }
}

/// Prices at which loads come out as about what there is, what was learned of the loads, and the best bound on the way.
#[derive(Clone, Copy, Debug)]
struct Settled {
    prices: Amounts,
    response: Broyden,
    bound: f64,
}

/// What a sample may take where the whole fleet may take 1: a sample's edges want more of the one and less of the other.
fn likewise(sample: &mut Narrowed, asked: Option<Asked>) -> Amounts {
    let mut outcome = Outcome::default();
    let Some(Asked { seconds, prices, loads }) = asked else { return [1.0; 3] };
    if !sample.respond(Goal::Resources, seconds, &Prices::new(prices), &mut outcome) {
        return [1.0; 3];
    }
    std::array::from_fn(|i| if loads[i] > 0.0 { outcome.loads[i] / loads[i] } else { 1.0 })
}

/// In a large fleet loads change all but smoothly with prices: the prices at which they are `close` to what there is
/// are a root in three unknowns.
fn settle(
    fleet: &mut Narrowed,
    goal: Goal,
    seconds: f64,
    start: Settled,
    there_is: Amounts,
    moves: usize,
    close: f64,
) -> Settled {
    let mut outcome = Outcome::default();
    let mut response = start.response.again();
    let mut prices = start.prices;
    let mut settled = Settled { bound: f64::NEG_INFINITY, ..start };
    let mut closest = f64::INFINITY;
    // A sample may have too little of something: its price would rise for ever.
    let dearest = MOST_RISE * prices.iter().sum::<f64>();
    for _ in 0..moves {
        if !fleet.respond(goal, seconds, &Prices::new(prices), &mut outcome) {
            break;
        }
        settled.bound = settled.bound.max(outcome.value - prices.iter().sum::<f64>());
        let excess =
            std::array::from_fn(|i| if prices[i] > 0.0 { outcome.loads[i] / there_is[i] - 1.0 } else { 0.0 });
        let off = excess.iter().fold(0.0, |most: f64, excess| most.max(excess.abs()));
        if off < closest {
            (closest, settled.prices) = (off, prices);
        }
        if off < close {
            break;
        }
        let logarithms = prices.map(|price| if price > 0.0 { price.ln() } else { 0.0 });
        let next = response.next(&logarithms, &excess);
        prices = std::array::from_fn(|i| if prices[i] > 0.0 { next[i].exp().min(dearest) } else { 0.0 });
    }
    Settled { response, ..settled }
}

/// Cuts and amounts that fit, from settled prices, and the prices at which they do: at the settled they take about
/// what there is, or a little more; the closer the prices come to those at which all is known to fit, the less.
fn fit(
    narrowed: &mut Narrowed,
    goal: Goal,
    seconds: f64,
    settled: &Settled,
    tight: Amounts,
    mut best: Best,
) -> (Best, Amounts) {
    let mut outcome = Outcome::default();
    let sum: f64 = settled.prices.iter().sum();
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut part = 0.0;
    let mut at = tight;
    for _ in 0..MIXTURES {
        let prices = Prices::new(std::array::from_fn(|i| settled.prices[i] + part * sum * tight[i]));
        match fit_at(narrowed, goal, seconds, &prices, &mut outcome) {
            Some((tight, found)) => {
                let cost = cost_of(narrowed.kept(), goal, &found);
                if cost < best.cost {
                    best = Best { found, cost, ..best };
                    at = tight;
                }
                high = part;
            }
            None => low = part,
        }
        if high <= low * (1.0 + CLOSEST) || high <= 0.0 || best.cost <= best.bound * (1.0 + NEGLIGIBLE) {
            break;
        }
        part = match (low > 0.0, high.is_finite()) {
            (false, false) => MIXED,
            (true, false) => 4.0 * low,
            (_, true) => f64::midpoint(low, high),
        };
    }
    (best, at)
}

/// What the edges take at these prices, made to fit, and the prices at which it does.
fn fit_at(
    fleet: &mut Narrowed,
    goal: Goal,
    seconds: f64,
    prices: &Prices,
    outcome: &mut Outcome,
) -> Option<(Amounts, Found)> {
    if goal == Goal::Seconds {
        // A little early, as loads are met a little above what there is.
        if !fleet.respond(goal, seconds * (1.0 - EARLY), prices, outcome) {
            return None;
        }
        let kept = fleet.kept();
        let amounts = kept.fitted(outcome, true);
        let fits = kept.slowest_s(&outcome.chosen, &amounts) <= seconds;
        return fits
            .then(|| (*prices.values(), Found { seconds, cuts: kept.cuts(&outcome.chosen), amounts }));
    }
    // The cuts as they are; the amounts anew, as what one resource lacks another may have.
    if !fleet.respond(goal, seconds, prices, outcome) || prices.of(&outcome.loads) > prices.sum() {
        return None;
    }
    smooth::fits_near(&fleet.kept().fixed(&outcome.chosen), seconds, prices.values())
}
