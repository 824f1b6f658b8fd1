//! What a step takes whose micro-batches overlap.
//!
//! A step is a flow shop of five stages (edge forward, uplink, cloud, downlink, edge backward), through which `k` equal
//! jobs go, besides what each waits on the way without keeping anything busy. With `S` the sum of the stages for all
//! jobs and `M` the longest of them, the last is done after `S / k + (1 - 1/k) M`, as in `GPipe` (Huang et al. 2019,
//! arXiv 1811.06965). The edge's two stages are one resource: all jobs go forward before the first comes back, so that
//! a step takes no less than both together. With one micro-batch that is the sum of the stages.

use super::{EdgePlan, StepTerms};

/// How long a step's micro-batches keep each stage busy, all together, and how long one of them waits besides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stages {
    pub(super) latency_s: f64,
    pub(super) busy_s: [f64; 5],
}

/// Where the cloud is among the stages.
const CLOUD: usize = 2;

/// A step takes the largest of so many sums.
pub(super) const BOUNDS: usize = 6;

impl Stages {
    /// Of a step with these terms, of which so many seconds are waits on the way, half in each direction.
    pub(super) fn of(terms: &StepTerms, latency_s: f64) -> Self {
        let &StepTerms { edge_forward, uplink, cloud, downlink, edge_backward } = terms;
        let one_way = latency_s / 2.0;
        let busy_s = [edge_forward, uplink - one_way, cloud, downlink - one_way, edge_backward];
        Self { latency_s, busy_s }
    }

    /// The step takes the largest of these: with each stage as the longest, and both of the edge's.
    pub(super) fn bounds(&self, parts: f64) -> [f64; BOUNDS] {
        let sum = self.latency_s + self.busy_s.iter().sum::<f64>() / parts;
        let of = |stage: usize| match self.busy_s.get(stage) {
            Some(busy_s) => sum + (1.0 - 1.0 / parts) * busy_s,
            None => self.busy_s[0] + self.busy_s[4],
        };
        std::array::from_fn(of)
    }

    /// The step's latency, in `parts` micro-batches.
    pub(super) fn step_s(&self, parts: f64) -> f64 {
        self.bounds(parts).into_iter().fold(0.0, f64::max)
    }
}

impl EdgePlan {
    /// The latency of a step of this plan whose cloud term were `cloud_s` seconds.
    pub(crate) fn step_with_cloud(&self, cloud_s: f64) -> f64 {
        let terms = StepTerms { cloud: cloud_s, ..self.terms };
        if self.micro_batches == 1 {
            return terms.total();
        }
        Stages::of(&terms, self.latency_s).step_s(self.micro_batches.into())
    }
}

/// Seconds that are charged for a step as a function of those that the cloud takes of it: convex, of up to three
/// straight pieces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CloudCurve {
    /// Without the cloud's, where that is the longest stage.
    pub(super) alone_s: f64,
    /// Likewise where another is; then one micro-batch's counts only.
    spread_s: f64,
    /// What the edge takes, however quick all others are.
    least_s: f64,
    parts: f64,
}

impl CloudCurve {
    /// That of a step in one part, which takes so many seconds besides.
    pub(super) fn sum(other_s: f64) -> Self {
        Self { alone_s: other_s, spread_s: other_s, least_s: other_s, parts: 1.0 }
    }

    /// That of a step whose other stages take this long, with `extra_s` on top and all of it multiplied by `factor`.
    pub(super) fn of(stages: &Stages, extra_s: f64, factor: f64, parts: f64) -> Self {
        let mut others = *stages;
        others.busy_s[CLOUD] = 0.0;
        let bounds = others.bounds(parts);
        let longest = (0..5).filter(|&stage| stage != CLOUD).map(|stage| bounds[stage]).fold(0.0, f64::max);
        let charged = |seconds: f64| factor * (seconds + extra_s);
        Self {
            alone_s: charged(bounds[CLOUD]),
            spread_s: charged(longest),
            least_s: charged(bounds[BOUNDS - 1]),
            parts,
        }
    }

    /// Seconds where the cloud takes `cloud_s` of them.
    pub(super) fn at(&self, cloud_s: f64) -> f64 {
        (self.alone_s + cloud_s).max(self.spread_s + cloud_s / self.parts).max(self.least_s)
    }

    /// How long the cloud may take within so many seconds; negative where it is too late without it.
    pub(super) fn cloud_within(&self, seconds: f64) -> f64 {
        if seconds < self.least_s {
            return f64::NEG_INFINITY;
        }
        (seconds - self.alone_s).min(self.parts * (seconds - self.spread_s))
    }

    /// Up to how long a time in the cloud costs nothing.
    fn free_s(&self) -> f64 {
        self.cloud_within(self.least_s).max(0.0)
    }

    /// Whether it takes no longer than another, however long the cloud does.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.alone_s <= other.alone_s && self.spread_s <= other.spread_s && self.least_s <= other.least_s
    }

    /// The share of a worker that is best where the work of `service_s` seconds, whose square root is `root`, is done
    /// with it, and a whole one costs the square of `price_root`.
    pub(super) fn share_for(&self, service_s: f64, root: f64, price_root: f64) -> f64 {
        let steep = root / price_root;
        if self.parts <= 1.0 {
            return steep;
        }
        // Where the cloud becomes the longest stage.
        let kink_s = (self.spread_s - self.alone_s) / (1.0 - 1.0 / self.parts);
        let share = if service_s >= kink_s * steep {
            steep
        } else {
            (steep / self.parts.sqrt()).max(service_s / kink_s)
        };
        let free_s = self.free_s();
        if free_s > 0.0 { share.min(service_s / free_s) } else { share }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each micro-batch through each stage, one after the other; the edge goes back when it has nothing to forward.
    fn simulated(stages: &Stages, parts: usize) -> f64 {
        let [forward, up, cloud, down, backward] = stages.busy_s.map(|busy_s| busy_s / parts as f64);
        let one_way = stages.latency_s / 2.0;
        let (mut sent, mut served, mut answered) = (0.0_f64, 0.0_f64, 0.0_f64);
        let mut edge = parts as f64 * forward;
        let mut done = 0.0;
        for index in 1..=parts {
            sent = sent.max(index as f64 * forward) + up;
            served = served.max(sent + one_way) + cloud;
            answered = answered.max(served) + down;
            edge = edge.max(answered + one_way) + backward;
            done = edge;
        }
        done
    }

    proptest! {
        #[test]
        fn the_bounds_are_what_a_pipeline_takes(
            busy in proptest::array::uniform5(0.0..1.0_f64), latency_s in 0.0..0.5_f64, parts in 1..40_usize,
        ) {
            let stages = Stages { latency_s, busy_s: busy };
            let (predicted, simulated) = (stages.step_s(parts as f64), simulated(&stages, parts));
            prop_assert!((predicted - simulated).abs() < 1e-9, "{predicted} is not {simulated}");
            let edge = busy[0] + busy[4];
            let slowest = busy[1..4].iter().copied().fold(edge, f64::max);
            let k = parts as f64;
            let bound = latency_s + busy.iter().sum::<f64>() / k + (1.0 - 1.0 / k) * slowest;
            prop_assert!(predicted <= bound + 1e-12, "the edge as one resource is no more than a bound");
        }

        #[test]
        fn the_cloud_has_what_time_is_left(
            busy in proptest::array::uniform5(0.0..1.0_f64), latency_s in 0.0..0.5_f64, parts in 1..40_u32,
            extra_s in 0.0..0.1_f64, within in 0.0..4.0_f64,
        ) {
            let (stages, parts) = (Stages { latency_s, busy_s: busy }, f64::from(parts));
            let curve = CloudCurve::of(&stages, extra_s, 1.1, parts);
            // The curve takes the cloud's seconds with the factor in them.
            let cloud = |cloud_s: f64| {
                let mut stages = stages;
                stages.busy_s[CLOUD] = cloud_s / 1.1;
                1.1 * (stages.step_s(parts) + extra_s)
            };
            for cloud_s in [0.0, 0.1, 1.0, 5.0] {
                prop_assert!((curve.at(cloud_s) - cloud(cloud_s)).abs() < 1e-9);
            }
            let left = curve.cloud_within(within);
            if left > 0.0 {
                prop_assert!(curve.at(left) <= within + 1e-9 && curve.at(left + 1e-6) > within);
            } else {
                prop_assert!(curve.at(0.0) >= within - 1e-9);
            }
        }

        #[test]
        fn no_share_is_better_than_the_best(
            busy in proptest::array::uniform5(0.01..1.0_f64), parts in 1..40_u32, service_s in 0.01..2.0_f64,
            price in 0.001..100.0_f64, other in 0.01..1.0_f64,
        ) {
            let stages = Stages { latency_s: 0.1, busy_s: busy };
            let curve = CloudCurve::of(&stages, 0.0, 1.0, parts.into());
            let cost = |share: f64| curve.at(service_s / share) + price * share;
            let best = curve.share_for(service_s, service_s.sqrt(), price.sqrt());
            prop_assert!(cost(best) <= cost(other) + 1e-9 && cost(best) <= cost(best * 1.01) + 1e-9);
            prop_assert!(cost(best) <= cost(best * 0.99) + 1e-9);
        }
    }

    #[test]
    fn one_micro_batch_takes_the_sum() {
        let terms =
            StepTerms { edge_forward: 0.1, uplink: 0.3, cloud: 0.2, downlink: 0.4, edge_backward: 0.5 };
        let stages = Stages::of(&terms, 0.06);
        assert!((stages.step_s(1.0) - terms.total()).abs() < 1e-12);
        // 0.06 + 1.44 / 4 + 0.75 * 0.5
        assert!((stages.step_s(4.0) - 0.795).abs() < 1e-12, "{}", stages.step_s(4.0));
    }
}
