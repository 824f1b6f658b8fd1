//! The closed forms: what a step takes of each resource at given prices, for one edge and for all.

use std::ops::Range;
use std::sync::Arc;

use super::Amounts;
use super::overlap::Overlap;

/// One cut of one edge. Works are in seconds of the whole of a resource, so that a step with the part `a` of it
/// takes `work / a`.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) cut: usize,
    /// Seconds that no scarce resource changes.
    pub(super) fixed_s: f64,
    /// Square roots of the works; 0 for what is not scarce.
    pub(super) roots: Amounts,
    /// What the objective minimizes, besides seconds.
    pub(super) cost: f64,
    /// How the step's micro-batches overlap: it then takes `fixed_s` and the works at least, and mostly more.
    /// Apart, as mostly there is none, and large fleets have many items.
    pub(super) overlap: Option<Arc<Overlap>>,
}

/// One edge's part of a [`Fleet`].
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its items; without any, no time is long enough for it.
    pub(super) items: Range<usize>,
    /// The largest part of each resource that it can use.
    pub(super) caps: Amounts,
}

/// The edges that compete for the scarce resources.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    pub(super) items: Vec<Item>,
    pub(super) parts: Vec<Part>,
    pub(super) scarce: [bool; 3],
    /// How many edges each of these stands for, in a sample.
    pub(super) weight: f64,
}

/// What the prices are weighed against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The resources alone.
    Resources,
    /// The items' costs.
    Cost,
    /// The items' costs and their seconds.
    Seconds,
}

/// Prices of the resources and their square roots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prices {
    values: Amounts,
    roots: Amounts,
}

impl Prices {
    pub(super) fn new(values: Amounts) -> Self {
        Self { values, roots: values.map(f64::sqrt) }
    }

    pub(super) fn values(&self) -> &Amounts {
        &self.values
    }

    /// Without caps these roots of works cost this squared over the seconds that are left; they and their seconds, with
    /// as many of these as are best, twice this.
    pub(super) fn root(&self, works: &Amounts) -> f64 {
        works[0] * self.roots[0] + works[1] * self.roots[1] + works[2] * self.roots[2]
    }

    /// What all there is costs.
    pub(super) fn sum(&self) -> f64 {
        self.values.iter().sum()
    }

    /// What these amounts cost.
    pub(super) fn of(&self, amounts: &Amounts) -> f64 {
        self.values.iter().zip(amounts).map(|(price, amount)| price * amount).sum()
    }
}

/// What every edge does at some prices.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Index into the fleet's items.
    pub(super) chosen: Vec<usize>,
    /// The part of each resource that each edge takes.
    pub(super) amounts: Vec<Amounts>,
    /// Their sums.
    pub(super) loads: Amounts,
    /// Costs and priced resources together.
    pub(super) value: f64,
    /// Costs alone.
    pub(super) cost: f64,
}

/// What an edge does at some prices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Index into the fleet's items.
    pub(super) item: usize,
    pub(super) amounts: Amounts,
    cost: f64,
    /// Cost and priced amounts.
    pub(super) value: f64,
}

impl Item {
    /// What the edge would do with this cut, if that is worth less than `least`.
    pub(super) fn answer(
        &self,
        caps: &Amounts,
        goal: Goal,
        seconds: f64,
        prices: &Prices,
        least: f64,
    ) -> Option<Answer> {
        let left = seconds - self.fixed_s;
        let (floor, root) = (floor(goal, self.cost, self.fixed_s), prices.root(&self.roots));
        // As `least_value`, without its division.
        let is_dear = match goal {
            Goal::Seconds if root < left => floor + 2.0 * root >= least,
            Goal::Seconds => (floor + left) * left + root * root >= least * left,
            Goal::Resources | Goal::Cost => floor * left + root * root >= least * left,
        };
        if left < 0.0 || is_dear {
            return None;
        }
        let amounts = match goal {
            Goal::Seconds => self.quickest(caps, prices, seconds),
            Goal::Resources | Goal::Cost => self.cheapest(caps, prices, left),
        }?;
        let cost = match goal {
            Goal::Resources => 0.0,
            Goal::Cost => self.cost,
            Goal::Seconds => self.cost + self.seconds(&amounts),
        };
        let value = cost + prices.of(&amounts);
        (value < least).then_some(Answer { item: 0, amounts, cost, value })
    }

    /// Seconds with everything that the edge can use.
    pub(super) fn alone_s(&self, caps: &Amounts) -> f64 {
        self.seconds(caps)
    }

    /// Seconds with these parts of the resources.
    pub(super) fn seconds(&self, amounts: &Amounts) -> f64 {
        if let Some(overlap) = &self.overlap {
            return overlap.seconds(self, amounts);
        }
        let transfer = |(root, amount): (&f64, &f64)| if *root > 0.0 { root * root / amount } else { 0.0 };
        self.fixed_s + self.roots.iter().zip(amounts).map(transfer).sum::<f64>()
    }

    /// The cheapest amounts with which the scarce parts take `left` seconds; `None` if the caps do not allow
    /// it.
    ///
    /// Without caps, `amount = root / price_root * K` with `K = sum(root * price_root) / left`. An amount
    /// above its cap is set to it: the others then only grow, so that this never has to be undone.
    pub(super) fn cheapest(&self, caps: &Amounts, prices: &Prices, mut left: f64) -> Option<Amounts> {
        if let Some(overlap) = &self.overlap {
            return overlap.cheapest(self, caps, prices, self.fixed_s + left);
        }
        let mut amounts = [0.0; 3];
        let mut open = [false; 3];
        for resource in 0..3 {
            let root = self.roots[resource];
            if root <= 0.0 {
                continue;
            }
            if prices.roots[resource] > 0.0 {
                open[resource] = true;
            } else {
                amounts[resource] = caps[resource];
                left -= root * root / caps[resource];
            }
        }
        loop {
            let sum: f64 = (0..3).filter(|&i| open[i]).map(|i| self.roots[i] * prices.roots[i]).sum();
            if sum <= 0.0 {
                return (left >= -ROUNDING * self.fixed_s.abs()).then_some(amounts);
            }
            if left <= 0.0 {
                return None;
            }
            let scale = sum / left;
            let mut clamped = false;
            let mut rest = left;
            for i in 0..3 {
                if !open[i] {
                    continue;
                }
                amounts[i] = self.roots[i] * scale / prices.roots[i];
                if amounts[i] > caps[i] {
                    amounts[i] = caps[i];
                    rest -= self.roots[i] * self.roots[i] / caps[i];
                    open[i] = false;
                    clamped = true;
                }
            }
            if !clamped {
                return Some(amounts);
            }
            left = rest;
        }
    }

    /// The amounts with the least of seconds and prices together, within `seconds` in all.
    fn quickest(&self, caps: &Amounts, prices: &Prices, seconds: f64) -> Option<Amounts> {
        if let Some(overlap) = &self.overlap {
            return overlap.quickest(self, caps, prices, seconds);
        }
        let amounts = std::array::from_fn(|i| {
            if self.roots[i] <= 0.0 {
                0.0
            } else if prices.roots[i] > 0.0 {
                (self.roots[i] / prices.roots[i]).min(caps[i])
            } else {
                caps[i]
            }
        });
        if self.seconds(&amounts) <= seconds {
            return Some(amounts);
        }
        self.cheapest(caps, prices, seconds - self.fixed_s)
    }
}

/// What a cut costs when the resources cost nothing.
fn floor(goal: Goal, cost: f64, fixed_s: f64) -> f64 {
    match goal {
        Goal::Resources => 0.0,
        Goal::Cost => cost,
        Goal::Seconds => cost + fixed_s,
    }
}

/// What a cut is worth at least, whatever the caps, where its works cost what `root` says (see [`Prices::root`]);
/// infinite if it is not in time.
#[inline]
pub(super) fn least_value(goal: Goal, cost: f64, fixed_s: f64, root: f64, seconds: f64) -> f64 {
    let left = seconds - fixed_s;
    let resources = root * root / left.max(f64::MIN_POSITIVE);
    let value = match goal {
        Goal::Resources => resources,
        Goal::Cost => cost + resources,
        Goal::Seconds => cost + fixed_s + if root < left { 2.0 * root } else { left + resources },
    };
    if left < 0.0 { f64::INFINITY } else { value }
}

/// Sums of caps that just meet a deadline may come out this much too long.
const ROUNDING: f64 = 1e-12;

impl Fleet {
    /// What every edge takes within `seconds` at `prices`, into `outcome`; `false` if one cannot. What `outcome`
    /// held before is where the search of each edge begins.
    pub(super) fn respond(&self, goal: Goal, seconds: f64, prices: &Prices, outcome: &mut Outcome) -> bool {
        if outcome.chosen.len() != self.parts.len() {
            outcome.chosen = self.parts.iter().map(|part| part.items.start).collect();
            outcome.amounts = vec![[0.0; 3]; self.parts.len()];
        }
        (outcome.loads, outcome.value, outcome.cost) = ([0.0; 3], 0.0, 0.0);
        for (edge, part) in self.parts.iter().enumerate() {
            let Some(best) = self.best(part, goal, seconds, prices, outcome.chosen[edge]) else {
                return false;
            };
            (outcome.chosen[edge], outcome.amounts[edge]) = (best.item, best.amounts);
            for (load, amount) in outcome.loads.iter_mut().zip(best.amounts) {
                *load += amount;
            }
            outcome.value += best.value;
            outcome.cost += best.cost;
        }
        outcome.loads = outcome.loads.map(|load| load * self.weight);
        outcome.value *= self.weight;
        outcome.cost *= self.weight;
        true
    }

    /// The edge's best item at these prices, if any is in time; `likely` is looked at first.
    pub(super) fn best(
        &self,
        part: &Part,
        goal: Goal,
        seconds: f64,
        prices: &Prices,
        likely: usize,
    ) -> Option<Answer> {
        let likely = part.items.contains(&likely).then_some(likely);
        let mut best: Option<Answer> = None;
        let mut least = f64::INFINITY;
        for item in likely.into_iter().chain(part.items.clone()) {
            if let Some(answer) = self.items[item].answer(&part.caps, goal, seconds, prices, least) {
                least = answer.value;
                best = Some(Answer { item, ..answer });
            }
        }
        best
    }

    /// Amounts that fit, in proportion to those of an outcome: what is asked for too much is cut down, and with
    /// `raise` what is left over is handed out, up to the caps. Where something costs next to nothing everybody asks
    /// for more than there is, and hardly misses it.
    pub(super) fn fitted(&self, outcome: &Outcome, raise: bool) -> Vec<Amounts> {
        let factors = outcome.loads.map(|load| match load {
            load if load > 1.0 => (1.0 - ROUNDING) / load,
            load if load > 0.0 && raise => 1.0 / load,
            _ => 1.0,
        });
        let of = |(amounts, part): (&Amounts, &Part)| {
            std::array::from_fn(|i| (amounts[i] * factors[i]).min(part.caps[i]))
        };
        outcome.amounts.iter().zip(&self.parts).map(of).collect()
    }

    /// The cuts of these items.
    pub(super) fn cuts(&self, chosen: &[usize]) -> Vec<usize> {
        chosen.iter().map(|&item| self.items[item].cut).collect()
    }

    /// The items of these cuts, one for every edge.
    pub(super) fn items_at(&self, cuts: &[usize]) -> Vec<usize> {
        let at = |(part, &cut): (&Part, &usize)| {
            let item = part.items.clone().find(|&item| self.items[item].cut == cut);
            item.unwrap_or(part.items.start)
        };
        self.parts.iter().zip(cuts).map(at).collect()
    }

    /// Seconds of the slowest edge.
    pub(super) fn slowest_s(&self, chosen: &[usize], amounts: &[Amounts]) -> f64 {
        let seconds = |(&item, amounts): (&usize, &Amounts)| self.items[item].seconds(amounts);
        chosen.iter().zip(amounts).map(seconds).fold(0.0, f64::max)
    }

    /// Seconds below which nobody can be, whatever they take.
    pub(super) fn alone_s(&self) -> f64 {
        let quickest = |part: &Part| {
            let alone = self.items[part.items.clone()].iter().map(|item| item.alone_s(&part.caps));
            alone.fold(f64::INFINITY, f64::min)
        };
        self.parts.iter().map(quickest).fold(0.0, f64::max)
    }

    /// Seconds that an even split gives everybody.
    pub(super) fn even_s(&self) -> f64 {
        let even = 1.0 / (self.parts.len() as f64 * self.weight);
        let quickest = |part: &Part| {
            let caps = part.caps.map(|cap| cap.min(even));
            self.items[part.items.clone()]
                .iter()
                .map(|item| item.seconds(&caps))
                .fold(f64::INFINITY, f64::min)
        };
        self.parts.iter().map(quickest).fold(0.0, f64::max)
    }

    /// Whether every edge has one item only.
    pub(super) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| part.items.len() == 1)
    }

    /// The same edges, each with the item that was chosen for it.
    pub(super) fn fixed(&self, chosen: &[usize]) -> Self {
        let items = chosen.iter().map(|&index| self.items[index].clone()).collect();
        let part = |(index, part): (usize, &Part)| Part { items: index..index + 1, caps: part.caps };
        let parts = self.parts.iter().enumerate().map(part).collect();
        Self { items, parts, ..*self }
    }
}
