//! What each cut costs each edge.

use super::input::suffix_sums;
use super::pipeline::{BOUNDS, CloudCurve, Stages};
use super::{EdgeInput, Pick, PlanInput, StepTerms};

/// Bytes per second in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LinkRates {
    pub(super) up: f64,
    pub(super) down: f64,
}

/// What a step at one cut asks for: `fixed_s + up_bytes / rate + down_bytes / rate + service_s / share`
/// seconds are charged against the deadline where it is in one part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Demand {
    /// Compute on the edge and round trips.
    pub(super) fixed_s: f64,
    /// Bytes up, the amortised ones too.
    pub(super) up_bytes: f64,
    /// Likewise down.
    pub(super) down_bytes: f64,
    /// Seconds of one cloud worker.
    pub(super) service_s: f64,
}

impl Demand {
    fn transfers_s(&self, rates: LinkRates) -> f64 {
        self.up_bytes / rates.up + self.down_bytes / rates.down
    }
}

/// Sums over layers, shared by all edges.
pub(super) struct Tables<'a> {
    pub(super) input: &'a PlanInput,
    /// Cloud FLOPs at each cut.
    flops: Vec<f64>,
    /// Bytes of a step at each cut, up and down, with those of the weights at aggregations.
    charged_bytes: Vec<(f64, f64)>,
    /// Bytes of the state before each cut over the steps between moves; empty where cuts do not move.
    moving_bytes: Vec<f64>,
}

impl<'a> Tables<'a> {
    pub(super) fn of(input: &'a PlanInput) -> Self {
        let aggregation = input.steps_between_aggregations as f64;
        let charged = |cut: usize| {
            let (up, down) = step_bytes(input, cut);
            let weights = input.state_bytes[cut] as f64 / aggregation;
            (up as f64 + weights, down as f64 + weights)
        };
        let moving = |steps| input.state_bytes.iter().map(|bytes| *bytes as f64 / steps as f64).collect();
        Self {
            charged_bytes: (0..=input.layers()).map(charged).collect(),
            moving_bytes: input.steps_between_moves.map_or(Vec::new(), moving),
            flops: suffix_sums(&input.cloud.flops),
            input,
        }
    }

    /// Cloud FLOPs of a step at a cut.
    pub(super) fn flops(&self, cut: usize) -> f64 {
        self.flops[cut]
    }

    /// Bytes of a step in both directions, for ties.
    fn bytes(&self, cut: usize) -> u64 {
        let (up, down) = self.step_bytes(cut);
        up.saturating_add(down)
    }

    fn is_local(&self, cut: usize) -> bool {
        cut == self.input.layers()
    }

    /// Bytes of a step, up and down.
    pub(super) fn step_bytes(&self, cut: usize) -> (u64, u64) {
        step_bytes(self.input, cut)
    }

    /// Bytes per step, in each direction, of the weights at aggregations.
    fn weight_bytes(&self, cut: usize) -> f64 {
        self.input.state_bytes[cut] as f64 / self.input.steps_between_aggregations as f64
    }

    /// Bytes per step, up and down, of the layers that a new cut moves: those that the edge gives up go
    /// up, those that it gets come down.
    fn moved_bytes(&self, current: Option<usize>, cut: usize) -> (f64, f64) {
        let Some((now, then)) =
            current.and_then(|current| Some((self.moving_bytes.get(current)?, self.moving_bytes.get(cut)?)))
        else {
            return (0.0, 0.0);
        };
        ((now - then).max(0.0), (then - now).max(0.0))
    }

    /// Bytes of a step, up and down, of an edge that is cut at `current` now, with those of the weights at aggregations
    /// and of the layers that move.
    pub(super) fn charged_bytes(&self, current: Option<usize>, cut: usize) -> (f64, f64) {
        let (up, down) = self.charged_bytes[cut];
        let (moved_up, moved_down) = self.moved_bytes(current, cut);
        (up + moved_up, down + moved_down)
    }

    /// Time on the way, there and back, in which nothing is busy.
    pub(super) fn latency_s(&self, edge: &EdgeInput, cut: usize) -> f64 {
        if self.is_local(cut) { 0.0 } else { edge.rtt_s + edge.latency_overhead_s }
    }

    /// Micro-batches of a step at a cut: what does not cross the wire is not split.
    pub(super) fn micro_batches(&self, cut: usize) -> u32 {
        if self.is_local(cut) { 1 } else { self.input.micro_batches }
    }

    /// The latency of a step with these terms.
    pub(super) fn step_s(&self, edge: &EdgeInput, cut: usize, terms: &StepTerms) -> f64 {
        match self.micro_batches(cut) {
            1 => terms.total(),
            parts => Stages::of(terms, self.latency_s(edge, cut)).step_s(parts.into()),
        }
    }

    /// What is charged against a deadline with the margin, at these rates, with a worker and with the edge's compute
    /// times multiplied by `compute`: the largest of these, each linear in every stage.
    pub(super) fn bounds(
        &self,
        edge: &EdgeInput,
        cut: usize,
        rates: LinkRates,
        compute: f64,
    ) -> [f64; BOUNDS] {
        let terms = self.terms(edge, cut, rates, 1.0);
        let (edge_forward, edge_backward) = (compute * terms.edge_forward, compute * terms.edge_backward);
        let terms = StepTerms { edge_forward, edge_backward, ..terms };
        let extra_s = self.weights_s(cut, rates) + self.moving_s(edge, cut, rates);
        let bounds = match self.micro_batches(cut) {
            1 => [terms.total(); BOUNDS],
            parts => Stages::of(&terms, self.latency_s(edge, cut)).bounds(parts.into()),
        };
        bounds.map(|seconds| (1.0 + edge.margin) * (seconds + extra_s))
    }

    /// What a cut takes with the margin, at these rates, by what the cloud takes of it.
    fn curve(&self, edge: &EdgeInput, cut: usize, rates: LinkRates) -> CloudCurve {
        let parts = self.micro_batches(cut);
        if parts == 1 {
            let demand = self.demand(edge, cut);
            return CloudCurve::sum(demand.fixed_s + demand.transfers_s(rates));
        }
        let stages = Stages::of(&self.terms(edge, cut, rates, 1.0), self.latency_s(edge, cut));
        let extra_s = self.weights_s(cut, rates) + self.moving_s(edge, cut, rates);
        CloudCurve::of(&stages, extra_s, 1.0 + edge.margin, parts.into())
    }

    /// Seconds of the edge's forward and backward passes of a step.
    fn compute_s(&self, edge: &EdgeInput, cut: usize) -> (f64, f64) {
        let device = &self.input.devices[edge.device];
        let calls = f64::from(self.micro_batches(cut));
        // Where there is nothing to do, nothing is called.
        let seconds = |table_s: f64, call_s: f64| if table_s > 0.0 { table_s + calls * call_s } else { 0.0 };
        (
            edge.forward_factor * seconds(device.forward_s[cut], edge.forward_call_s),
            edge.backward_factor * seconds(device.backward_s[cut], edge.backward_call_s),
        )
    }

    /// The terms of a step at a cut, at these rates and with this share of a worker.
    pub(super) fn terms(&self, edge: &EdgeInput, cut: usize, rates: LinkRates, share: f64) -> StepTerms {
        let (edge_forward, edge_backward) = self.compute_s(edge, cut);
        let one_way =
            if self.is_local(cut) { 0.0 } else { f64::midpoint(edge.rtt_s, edge.latency_overhead_s) };
        let (up, down) = self.step_bytes(cut);
        let service_s = self.input.cloud.service_s[cut];
        StepTerms {
            edge_forward,
            uplink: up as f64 / rates.up + one_way,
            cloud: if service_s > 0.0 { service_s / share } else { 0.0 },
            downlink: down as f64 / rates.down + one_way,
            edge_backward,
        }
    }

    /// Amortised seconds per step of the weights at aggregations.
    pub(super) fn weights_s(&self, cut: usize, rates: LinkRates) -> f64 {
        let bytes = self.weight_bytes(cut);
        bytes / rates.up + bytes / rates.down
    }

    /// Amortised seconds per step of the layers that a new cut moves.
    pub(super) fn moving_s(&self, edge: &EdgeInput, cut: usize, rates: LinkRates) -> f64 {
        let (up, down) = self.moved_bytes(edge.current_cut, cut);
        up / rates.up + down / rates.down
    }

    /// What a cut asks for, at the percentile that the margin stands for.
    pub(super) fn demand(&self, edge: &EdgeInput, cut: usize) -> Demand {
        let (forward_s, backward_s) = self.compute_s(edge, cut);
        let (up_bytes, down_bytes) = self.charged_bytes(edge.current_cut, cut);
        let round_trips = self.latency_s(edge, cut);
        let factor = 1.0 + edge.margin;
        Demand {
            fixed_s: factor * (forward_s + backward_s + round_trips),
            up_bytes: factor * up_bytes,
            down_bytes: factor * down_bytes,
            service_s: factor * self.input.cloud.service_s[cut],
        }
    }

    /// What is charged against the deadline, before the margin.
    pub(super) fn charged_s(&self, edge: &EdgeInput, cut: usize, rates: LinkRates, share: f64) -> f64 {
        self.step_s(edge, cut, &self.terms(edge, cut, rates, share))
            + self.weights_s(cut, rates)
            + self.moving_s(edge, cut, rates)
    }

    /// Whether a cut fits into the edge's memory.
    pub(super) fn fits(&self, edge: &EdgeInput, cut: usize) -> bool {
        edge.memory_limit.is_none_or(|limit| self.input.memory_by_cut[cut] <= limit)
    }

    /// The cuts that an edge may have, apart from its memory.
    pub(super) fn cuts(&self, edge: &EdgeInput) -> std::ops::RangeInclusive<usize> {
        edge.fixed_cut.map_or_else(|| self.input.depth.clone(), |cut| cut..=cut)
    }

    /// The least deadline where no cut fits anybody's memory: that of the cuts that need least.
    pub(super) fn least_of_smallest(&self) -> f64 {
        let rates = self.links();
        super::budget::least(&self.options(&rates), self.input)
    }

    /// The rates of the links by themselves.
    pub(super) fn links(&self) -> Vec<LinkRates> {
        let rates = |edge: &EdgeInput| LinkRates { up: edge.up_bytes_per_s, down: edge.down_bytes_per_s };
        self.input.edges.iter().map(rates).collect()
    }

    /// The quickest cut at these rates and with this share, and whether it takes any share.
    pub(super) fn fastest(&self, edge: &EdgeInput, rates: LinkRates, share: f64) -> (usize, bool) {
        let options = self.options_of(edge, rates);
        let option = &options.options[options.fastest_at(share).option];
        (option.cut, option.service_s > 0.0)
    }

    /// The options of every edge at the planned rates.
    pub(super) fn options(&self, rates: &[LinkRates]) -> Vec<EdgeOptions> {
        self.input.edges.iter().zip(rates).map(|(edge, rates)| self.options_of(edge, *rates)).collect()
    }

    pub(super) fn options_of(&self, edge: &EdgeInput, rates: LinkRates) -> EdgeOptions {
        let cuts = self.cuts(edge);
        let option = |cut: usize| CutOption {
            cut,
            curve: self.curve(edge, cut, rates),
            service_s: (1.0 + edge.margin) * self.input.cloud.service_s[cut],
            flops: self.flops[cut],
            bytes: self.bytes(cut),
        };
        let mut options = Vec::with_capacity(cuts.end() + 1 - cuts.start());
        options.extend(cuts.clone().filter(|cut| self.fits(edge, *cut)).map(option));
        let fits = !options.is_empty();
        if !fits {
            options.extend(cuts.min_by_key(|&cut| (self.input.memory_by_cut[cut], cut)).map(option));
        }
        let current = edge.current_cut.and_then(|cut| options.iter().position(|option| option.cut == cut));
        EdgeOptions { options, fits, current }
    }
}

/// The cuts that an edge may have.
#[derive(Clone, Debug)]
pub(super) struct EdgeOptions {
    /// By rising cut, at least one. If none fits into the edge's memory, the one that needs least.
    pub(super) options: Vec<CutOption>,
    /// Whether `options` fit into the edge's memory.
    pub(super) fits: bool,
    /// Index into `options` of where it is cut now.
    pub(super) current: Option<usize>,
}

/// One cut of one edge at given rates; seconds are at the percentile that the margin stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOption {
    pub(super) cut: usize,
    /// What is charged against the deadline, by what the cloud takes of it.
    pub(super) curve: CloudCurve,
    /// That one worker is busy with the step.
    pub(super) service_s: f64,
    /// Cloud FLOPs of a step.
    pub(super) flops: f64,
    /// Both directions, for ties.
    bytes: u64,
}

impl CutOption {
    /// What is charged against the deadline.
    pub(super) fn seconds_at(&self, share: f64) -> f64 {
        self.curve.at(if self.service_s > 0.0 { self.service_s / share } else { 0.0 })
    }

    /// The least share with which the step fits into `deadline` seconds.
    pub(super) fn share_needed(&self, deadline: f64) -> Option<f64> {
        share_needed(&self.curve, self.service_s, deadline)
    }

    /// Among equals, fewer bytes and then the smaller cut is better.
    pub(super) fn tie_rank(&self) -> (u64, usize) {
        (self.bytes, self.cut)
    }
}

/// The least share in `[0, 1]` with which `service` seconds of a worker fit into `deadline`.
pub(super) fn share_needed(curve: &CloudCurve, service: f64, deadline: f64) -> Option<f64> {
    let left = curve.cloud_within(deadline);
    if service > 0.0 {
        // left <= 0 must not come out as a negative or infinite share.
        (left >= service).then(|| service / left)
    } else {
        (left >= 0.0).then_some(0.0)
    }
}

impl EdgeOptions {
    /// The least share with which any cut fits into `deadline` seconds.
    pub(super) fn share_needed(&self, deadline: f64) -> Option<f64> {
        self.options.iter().filter_map(|option| option.share_needed(deadline)).min_by(f64::total_cmp)
    }

    /// The quickest cut with `share` of a worker; ties as everywhere.
    pub(super) fn fastest_at(&self, share: f64) -> Pick {
        let mut best = 0;
        for (index, option) in self.options.iter().enumerate().skip(1) {
            let (new, old) = (option.seconds_at(share), self.options[best].seconds_at(share));
            let tie = option.tie_rank() < self.options[best].tie_rank();
            if new < old || (new <= old && tie) {
                best = index;
            }
        }
        let share = if self.options[best].service_s > 0.0 { share } else { 0.0 };
        Pick { option: best, share }
    }
}

/// Bytes of a step at a cut, up and down.
fn step_bytes(input: &PlanInput, cut: usize) -> (u64, u64) {
    if cut == input.layers() { (0, 0) } else { (input.cut_bytes_up[cut], input.cut_bytes_down[cut]) }
}
