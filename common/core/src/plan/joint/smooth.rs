//! The least time in which all edges of a large fleet can step at once: as [`super::least_time`], but loads change all
//! but smoothly with prices though cuts are not chosen.

use super::Amounts;
use super::cuts::Cuts;
use super::fleet::{Fleet, Goal, Outcome, Prices};
use super::least_time::{Asked, Found, LeastTime, RISE, SLACK, even_split, risen, take_better};
use super::narrow::Narrowed;
use super::region::Region;

const MOVES: usize = 60;
/// What was found is known this well, which is better than it needs to be.
pub(super) const SMOOTH: f64 = 0.5 * SLACK;
/// With which power of what it costs a time is too short.
const TIME: f64 = 0.7;
/// How often prices move where a time is given.
const MOST_TRIES: usize = 20;

/// About what prices and time to expect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nearby {
    pub(super) seconds: f64,
    pub(super) prices: Amounts,
}

/// A bound and what comes close to it. The search stops as soon as `enough` is found, or is known to be too short.
pub(super) fn smooth(cuts: &Cuts, nearby: Option<Nearby>, enough: Option<f64>) -> LeastTime {
    let mut least = match nearby {
        Some(Nearby { prices, .. }) => {
            let unknown = Found { seconds: f64::INFINITY, cuts: Vec::new(), amounts: Vec::new() };
            LeastTime { bound_s: 0.0, prices, found: unknown, asked: None }
        }
        None => {
            let fleet = cuts.fleet();
            let prices = Region::of(cuts.scarce).centre();
            LeastTime { bound_s: fleet.alone_s(), prices, found: even_split(&fleet), asked: None }
        }
    };
    let mut prices = least.prices;
    let mut narrowed = Narrowed::of(cuts);
    let mut outcome = Outcome::default();
    let mut pull = Pull::default();
    let mut about = nearby.map_or(f64::midpoint(least.bound_s, least.found.seconds), |nearby| nearby.seconds);
    for _ in 0..if enough.is_some() { MOST_TRIES } else { MOVES } {
        let is_enough = enough.is_some_and(|enough| least.found.seconds <= enough || least.bound_s > enough);
        if is_enough || least.found.seconds <= least.bound_s * (1.0 + SMOOTH) {
            break;
        }
        let seconds = enough.unwrap_or_else(|| next(about, least.bound_s, least.found.seconds));
        if !narrowed.respond(Goal::Resources, seconds, &Prices::new(prices), &mut outcome) {
            least.bound_s = seconds;
            continue;
        }
        least.asked = Some(Asked { seconds, prices, loads: outcome.loads });
        if outcome.value > 1.0 {
            (least.bound_s, least.prices) = (seconds, prices);
        }
        take_better(narrowed.kept(), &outcome, &mut least.found);
        about = seconds * outcome.value.powf(TIME);
        prices = pull.moved(&prices, &outcome.loads);
    }
    if least.found.cuts.is_empty() {
        least.found = even_split(&cuts.fleet());
    }
    least
}

/// The time to try next, where the least is `about` this long, but above `bound` and below `found`: one that is too
/// short moves the bound, another what is found.
fn next(about: f64, bound: f64, found: f64) -> f64 {
    let (early, late) = (about * (1.0 - SMOOTH / 3.0), about * (1.0 + SMOOTH / 3.0));
    let wanted = if found > about * (1.0 + SMOOTH / 2.0) { late } else { early };
    if wanted > bound && wanted < found {
        wanted
    } else if found.is_finite() {
        f64::midpoint(bound, found)
    } else {
        bound * (1.0 + SMOOTH)
    }
}

/// Demand's pull on prices where it also moves cuts, so that loads change more than amounts alone would: a resource whose
/// price has gone too far goes back half as fast.
struct Pull {
    powers: Amounts,
    above: [bool; 3],
}

impl Default for Pull {
    fn default() -> Self {
        Self { powers: [RISE; 3], above: [false; 3] }
    }
}

impl Pull {
    /// The prices after demand has moved them; they add up to 1.
    fn moved(&mut self, prices: &Amounts, loads: &Amounts) -> Amounts {
        // Only the differences between loads move prices that add up to 1.
        let cost: f64 = prices.iter().zip(loads).map(|(price, load)| price * load).sum();
        if cost <= 0.0 {
            return *prices;
        }
        let moved: Amounts = std::array::from_fn(|i| {
            let load = (loads[i] / cost).clamp(0.01, 100.0);
            let above = load > 1.0;
            self.powers[i] *= if above == self.above[i] { 1.2 } else { 0.5 };
            self.powers[i] = self.powers[i].min(RISE);
            self.above[i] = above;
            prices[i] * load.powf(self.powers[i])
        });
        let sum: f64 = moved.iter().sum();
        moved.map(|price| price / sum)
    }
}

/// Amounts for cuts that are chosen with which all can step within `seconds`, and their prices, from prices on that
/// nearly lead to them.
pub(super) fn fits_near(fleet: &Fleet, seconds: f64, near: &Amounts) -> Option<(Amounts, Found)> {
    let sum: f64 = near.iter().sum();
    let mut prices = near.map(|price| price / sum);
    let mut outcome = Outcome::default();
    for _ in 0..MOVES {
        let possible = fleet.respond(Goal::Resources, seconds, &Prices::new(prices), &mut outcome);
        if !possible || outcome.value > 1.0 + 1e-12 {
            return None;
        }
        let amounts = fleet.fitted(&outcome, true);
        let slowest = fleet.slowest_s(&outcome.chosen, &amounts);
        if slowest <= seconds {
            return Some((prices, Found { seconds: slowest, cuts: fleet.cuts(&outcome.chosen), amounts }));
        }
        prices = risen(&prices, &outcome.loads);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_stay_where_nothing_is_demanded() {
        let mut pull = Pull::default();
        let moved = pull.moved(&[0.5, 0.5, 0.0], &[0.0, 0.0, 3.0]);
        assert_eq!(moved.map(f64::to_bits), [0.5f64, 0.5, 0.0].map(f64::to_bits));
        let moved = pull.moved(&[0.5, 0.5, 0.0], &[0.0, 2.0, 3.0]);
        assert!(moved[1] > 0.5 && (moved.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{moved:?}");
    }
}
