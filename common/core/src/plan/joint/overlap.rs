//! The closed forms where a step's micro-batches overlap (`plan/pipeline.rs`).
//!
//! With `z` the inverse amounts, a step takes the larger of `base + gap m + sum(c z)` and `edge + sum(x z)`, where
//! `m` is the longest stage, `max(longest, W z)`, `W z` are the stages that take scarce resources, `c` and `x` are what
//! else their bytes cost, and `gap = 1 - 1/k`. At prices `p` and a price of time of `1 / s^2` the best `z` are
//! `s sqrt(p / c)`, but no stage is longer than `m = s mu`: those that would be are as long as each other. (`mu` follows
//! from the optimality of `m` and does not depend on `s`.) Everything is linear in `s` between where a cap is
//! reached or another stage becomes the longest.

use super::Amounts;
use super::fleet::{Item, Prices};
use crate::plan::EdgeInput;
use crate::plan::options::{LinkRates, Tables};
use crate::plan::pipeline::Stages;

/// What a step takes besides the item's own `fixed_s` and roots, which are those of the first of the two sums with
/// nothing longer than `longest_s`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overlap {
    /// `1 - 1/k`.
    pub(super) gap: f64,
    /// The longest stage that no scarce resource changes.
    pub(super) longest_s: f64,
    /// Seconds of the stage of each scarce resource, with the whole of it.
    pub(super) stages: Amounts,
    /// What is sent besides, likewise.
    pub(super) extras: Amounts,
    /// What the edge takes, however quick all others are.
    pub(super) edge_s: f64,
}

impl Tables<'_> {
    /// The seconds of a cut that no scarce resource changes, the roots of its works, and how its micro-batches overlap,
    /// if they do; `most` is what the edge can use, of `capacity` where that is `scarce`.
    pub(super) fn overlap(
        &self,
        edge: &EdgeInput,
        cut: usize,
        most: Amounts,
        capacity: Amounts,
        scarce: [bool; 3],
    ) -> (f64, Amounts, Option<Overlap>) {
        let parts = f64::from(self.micro_batches(cut));
        let factor = 1.0 + edge.margin;
        let demand = self.demand(edge, cut);
        if parts <= 1.0 {
            let works = [demand.up_bytes, demand.down_bytes, demand.service_s];
            let others_s = (0..3).filter(|&i| !scarce[i]).map(|i| works[i] / most[i]).sum::<f64>();
            let roots =
                std::array::from_fn(|i| if scarce[i] { (works[i] / capacity[i]).sqrt() } else { 0.0 });
            return (demand.fixed_s + others_s, roots, None);
        }
        let links = LinkRates { up: most[0], down: most[1] };
        let Stages { latency_s, busy_s } =
            Stages::of(&self.terms(edge, cut, links, 1.0), self.latency_s(edge, cut));
        let [forward_s, up_s, service_s, down_s, backward_s] = busy_s.map(|busy_s| factor * busy_s);
        // With all that the edge can use: the step's stages, and what is sent besides.
        let alone = [up_s, down_s, service_s];
        let extra = [demand.up_bytes / most[0] - up_s, demand.down_bytes / most[1] - down_s, 0.0];
        let gap = 1.0 - 1.0 / parts;
        let (mut stages, mut extras, mut roots) = ([0.0; 3], [0.0; 3], [0.0; 3]);
        let mut longest_s = forward_s.max(backward_s);
        let mut base_s = factor * latency_s + (forward_s + backward_s) / parts;
        let mut edge_s = forward_s + backward_s;
        for i in 0..3 {
            let extra = extra[i].max(0.0);
            if scarce[i] {
                let whole = most[i] / capacity[i];
                (stages[i], extras[i]) = (alone[i] * whole, extra * whole);
                roots[i] = (stages[i] / parts + extras[i]).sqrt();
            } else {
                longest_s = longest_s.max(alone[i]);
                base_s += alone[i] / parts + extra;
                edge_s += extra;
            }
        }
        let overlap = Overlap { gap, longest_s, stages, extras, edge_s };
        (base_s + gap * longest_s, roots, Some(overlap))
    }
}

/// Halvings of the weight between the two sums, where both decide.
const HALVINGS: usize = 40;

/// One weighing of the two sums against each other.
struct Weighed<'a> {
    overlap: &'a Overlap,
    /// `z` for `s = 1` where no stage is too long.
    slopes: Amounts,
    /// The least `z`: everything that can be used.
    least: Amounts,
    mu: f64,
    /// The longest stage with everything that can be used.
    longest_s: f64,
}

impl Overlap {
    /// Whether a step takes no longer than another with the same amounts, whatever these are.
    pub(super) fn is_below(&self, item: &Item, other: &Self, of: &Item) -> bool {
        let base = |item: &Item, overlap: &Self| item.fixed_s - overlap.gap * overlap.longest_s;
        let all = |left: &Amounts, right: &Amounts| left.iter().zip(right).all(|(left, right)| left <= right);
        base(item, self) <= base(of, other)
            && self.longest_s <= other.longest_s
            && self.edge_s <= other.edge_s
            && all(&item.roots, &of.roots)
            && all(&self.stages, &other.stages)
            && all(&self.extras, &other.extras)
    }

    /// Seconds with these parts of the resources.
    pub(super) fn seconds(&self, item: &Item, amounts: &Amounts) -> f64 {
        let inverse = std::array::from_fn(|i| if item.roots[i] > 0.0 { 1.0 / amounts[i] } else { 0.0 });
        let (first, second) = self.sums(item, &inverse);
        first.max(second)
    }

    fn sums(&self, item: &Item, inverse: &Amounts) -> (f64, f64) {
        let (mut longest, mut first, mut second) = (self.longest_s, item.fixed_s, self.edge_s);
        for (i, inverse) in inverse.iter().enumerate() {
            longest = longest.max(self.stages[i] * inverse);
            first += item.roots[i] * item.roots[i] * inverse;
            second += self.extras[i] * inverse;
        }
        (first + self.gap * (longest - self.longest_s), second)
    }

    /// The cheapest amounts with which the step takes `seconds`; `None` if the caps do not allow it.
    pub(super) fn cheapest(
        &self,
        item: &Item,
        caps: &Amounts,
        prices: &Prices,
        seconds: f64,
    ) -> Option<Amounts> {
        let rounding = 1e-12 * seconds;
        if self.seconds(item, caps) > seconds + rounding {
            return None;
        }
        let at = |part: f64| {
            let weighed = Weighed::of(self, item, caps, prices, part);
            let blend = |s: f64| {
                let (first, second) = self.sums(item, &weighed.inverse(s));
                (1.0 - part) * first + part * second
            };
            let inverse = weighed.inverse(weighed.longest_within(seconds, blend));
            (inverse, self.sums(item, &inverse))
        };
        let (inverse, (_, second)) = at(0.0);
        let inverse = if second <= seconds { inverse } else { between(at, |first, _| first - seconds) };
        Some(amounts(item, caps, &inverse))
    }

    /// The amounts with the least of seconds and prices together, within `seconds` in all.
    pub(super) fn quickest(
        &self,
        item: &Item,
        caps: &Amounts,
        prices: &Prices,
        seconds: f64,
    ) -> Option<Amounts> {
        let at = |part: f64| {
            let inverse = Weighed::of(self, item, caps, prices, part).inverse(1.0);
            (inverse, self.sums(item, &inverse))
        };
        let (inverse, (first, second)) = at(0.0);
        let inverse = if second <= first { inverse } else { between(at, |first, second| first - second) };
        let taken = amounts(item, caps, &inverse);
        if self.seconds(item, &taken) <= seconds {
            return Some(taken);
        }
        self.cheapest(item, caps, prices, seconds)
    }
}

/// Where the first sum is no longer `above` what it may be, which it is for the heavier weights of the second.
fn between(at: impl Fn(f64) -> (Amounts, (f64, f64)), above: impl Fn(f64, f64) -> f64) -> Amounts {
    let (mut low, mut high) = (0.0, 1.0);
    let mut best = at(low).0;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        let (inverse, (first, second)) = at(middle);
        if above(first, second) <= 0.0 {
            (low, best) = (middle, inverse);
        } else {
            high = middle;
        }
    }
    best
}

fn amounts(item: &Item, caps: &Amounts, inverse: &Amounts) -> Amounts {
    std::array::from_fn(|i| if item.roots[i] > 0.0 { (1.0 / inverse[i]).min(caps[i]) } else { 0.0 })
}

impl<'a> Weighed<'a> {
    fn of(overlap: &'a Overlap, item: &Item, caps: &Amounts, prices: &Prices, part: f64) -> Self {
        let gap = (1.0 - part) * overlap.gap;
        let stages = &overlap.stages;
        let of = |value: &dyn Fn(usize) -> f64| -> Amounts {
            std::array::from_fn(|i| if item.roots[i] > 0.0 { value(i) } else { 0.0 })
        };
        let linear = of(&|i| (1.0 - part) * item.roots[i] * item.roots[i] + part * overlap.extras[i]);
        let slopes = of(&|i| (prices.values()[i] / linear[i].max(f64::MIN_POSITIVE)).sqrt());
        let least = of(&|i| 1.0 / caps[i]);
        let longest_s = (0..3).map(|i| stages[i] * least[i]).fold(overlap.longest_s, f64::max);
        // Stages that would be longest are as long as each other: the more of them, the shorter.
        let mut order: [usize; 3] = [0, 1, 2];
        order.sort_by(|&one, &other| (stages[other] * slopes[other]).total_cmp(&(stages[one] * slopes[one])));
        let (mut mu, mut dear_s, mut weights) = (f64::INFINITY, 0.0, gap);
        for i in order {
            if gap <= 0.0 || stages[i] <= 0.0 || stages[i] * slopes[i] <= mu && mu.is_finite() {
                break;
            }
            dear_s += prices.values()[i] * stages[i];
            weights += linear[i] / stages[i];
            mu = (dear_s / weights).sqrt();
        }
        Self { overlap, slopes, least, mu, longest_s }
    }

    fn inverse(&self, s: f64) -> Amounts {
        let longest = if self.mu.is_finite() { self.longest_s.max(self.mu * s) } else { f64::INFINITY };
        std::array::from_fn(|i| {
            let wanted = (self.slopes[i] * s).max(self.least[i]);
            let stage = self.overlap.stages[i];
            if stage > 0.0 { wanted.min(longest / stage).max(self.least[i]) } else { wanted }
        })
    }

    /// The largest `s` at which `time`, which rises and is straight between where something is reached, is within
    /// `seconds`; infinite if it always is.
    fn longest_within(&self, seconds: f64, time: impl Fn(f64) -> f64) -> f64 {
        let mut bends = [0.0; 8];
        bends[0] = self.longest_s / self.mu;
        for i in 0..3 {
            bends[1 + i] = self.least[i] / self.slopes[i];
            bends[4 + i] = self.longest_s / (self.overlap.stages[i] * self.slopes[i]);
        }
        for bend in &mut bends {
            if !bend.is_finite() {
                *bend = 0.0;
            }
        }
        bends.sort_by(f64::total_cmp);
        let (mut low, mut at_low) = (0.0, time(0.0));
        if at_low >= seconds {
            return 0.0;
        }
        for high in bends.into_iter().chain([2.0 * bends[7].max(1.0)]) {
            let at_high = time(high);
            if at_high > seconds {
                return low + (high - low) * (seconds - at_low).max(0.0) / (at_high - at_low);
            }
            (low, at_low) = (high, at_high);
        }
        let before = bends[7];
        let slope = (at_low - time(before)) / (low - before);
        if slope > 0.0 { low + (seconds - at_low) / slope } else { f64::MAX.sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::random::{stream, unit_f64};

    /// An item with drawn stages, caps and prices; some of its resources may not be scarce.
    fn drawn(seed: u64) -> (Item, Amounts, Amounts) {
        let mut rng = stream(seed, &["overlap"]);
        let mut draw = |least: f64, decades: f64| least * 10_f64.powf(decades * unit_f64(&mut rng));
        let k = draw(2.0, 0.9).floor();
        let gap = 1.0 - 1.0 / k;
        let [forward, backward, latency] = [draw(0.01, 1.5), draw(0.01, 1.5), draw(0.001, 1.0)];
        let scarce: [bool; 3] = std::array::from_fn(|_| draw(1.0, 1.0) > 2.0);
        let stages: Amounts = std::array::from_fn(|i| if scarce[i] { draw(0.001, 1.5) } else { 0.0 });
        let extras: Amounts = std::array::from_fn(|i| if scarce[i] && i < 2 { draw(1e-5, 2.0) } else { 0.0 });
        let longest_s = forward.max(backward);
        let fixed_s = latency + (forward + backward) / k + gap * longest_s;
        let roots = std::array::from_fn(|i| (stages[i] / k + extras[i]).sqrt());
        let overlap = Overlap { gap, longest_s, stages, extras, edge_s: forward + backward };
        let item = Item { cut: 1, fixed_s, roots, cost: 0.0, overlap: Some(Arc::new(overlap)) };
        (item, std::array::from_fn(|_| draw(0.02, 1.5).min(1.0)), std::array::from_fn(|_| draw(0.01, 3.0)))
    }

    /// The least price of amounts within a time, by a grid that closes in.
    fn searched(item: &Item, caps: &Amounts, price: impl Fn(&Amounts) -> f64, seconds: f64) -> f64 {
        let mut centre: Amounts = *caps;
        let mut best = price(caps);
        let mut width = 8.0_f64;
        for _ in 0..400 {
            let mut next = None;
            for at in 0..27 {
                let digit = [at % 3, at / 3 % 3, at / 9];
                let tried: Amounts =
                    std::array::from_fn(|i| (centre[i] * width.powi(digit[i] - 1)).min(caps[i]));
                if item.seconds(&tried) <= seconds && price(&tried) < best {
                    (best, next) = (price(&tried), Some(tried));
                }
            }
            match next {
                Some(next) => centre = next,
                None => width = width.sqrt(),
            }
        }
        best
    }

    proptest! {
        #[test]
        fn nothing_cheaper_is_in_time(seed: u64, looser in 1.001..5.0_f64) {
            let (item, caps, prices) = drawn(seed);
            let overlap = item.overlap.as_deref().expect("it has one");
            let seconds = looser * item.seconds(&caps);
            let prices = Prices::new(prices);
            let found = overlap.cheapest(&item, &caps, &prices, seconds).expect("the caps suffice");
            prop_assert!(item.seconds(&found) <= seconds * (1.0 + 1e-9), "{} > {seconds}", item.seconds(&found));
            let of = |amounts: &Amounts| {
                (0..3).filter(|&i| item.roots[i] > 0.0).map(|i| prices.values()[i] * amounts[i]).sum::<f64>()
            };
            let best = searched(&item, &caps, of, seconds);
            prop_assert!(of(&found) <= best * (1.0 + 1e-7), "{} above {best}: {found:?} {item:?}", of(&found));
            prop_assert!(overlap.cheapest(&item, &caps, &prices, 0.99 * item.seconds(&caps)).is_none());
        }

        #[test]
        fn nothing_is_better_for_time_and_price_together(seed: u64, looser in 1.001..5.0_f64) {
            let (item, caps, prices) = drawn(seed);
            let overlap = item.overlap.as_deref().expect("it has one");
            let seconds = looser * item.seconds(&caps);
            let prices = Prices::new(prices);
            let found = overlap.quickest(&item, &caps, &prices, seconds).expect("the caps suffice");
            prop_assert!(item.seconds(&found) <= seconds * (1.0 + 1e-9));
            let of = |amounts: &Amounts| {
                let scarce = (0..3).filter(|&i| item.roots[i] > 0.0);
                item.seconds(amounts) + scarce.map(|i| prices.values()[i] * amounts[i]).sum::<f64>()
            };
            let best = searched(&item, &caps, of, seconds);
            prop_assert!(of(&found) <= best * (1.0 + 1e-7), "{} above {best}: {found:?} {item:?}", of(&found));
        }
    }
}
