//! What each cut costs each edge.

use super::{Pick, PlanInput, StepTerms};

/// The cuts that an edge may have.
#[derive(Clone, Debug)]
pub(super) struct EdgeOptions {
    /// By rising cut, at least one. If none fits into the edge's memory, the one that needs least.
    pub(super) options: Vec<CutOption>,
    /// Whether `options` fit into the edge's memory.
    pub(super) fits: bool,
    /// Index into `options` of where it is cut now.
    pub(super) current: Option<usize>,
    /// Uplink rate that the options are computed at, bytes per second.
    pub(super) up_rate: f64,
}

/// One cut of one edge.
#[derive(Clone, Debug)]
pub(super) struct CutOption {
    pub(super) cut: usize,
    /// The step's terms with a whole worker.
    pub(super) solo: StepTerms,
    pub(super) weights_s: f64,
    /// Everything that is charged against the deadline but the cloud.
    pub(super) other_s: f64,
    /// Cloud FLOPs of a step.
    pub(super) flops: f64,
    pub(super) bytes_up: u64,
    /// Both directions, for ties.
    pub(super) bytes: u64,
    pub(super) memory_bytes: u64,
}

impl CutOption {
    /// Seconds that one worker is busy with the step.
    pub(super) fn service_s(&self) -> f64 {
        self.solo.cloud
    }

    pub(super) fn terms_at(&self, share: f64) -> StepTerms {
        let cloud = if self.solo.cloud > 0.0 { self.solo.cloud / share } else { 0.0 };
        StepTerms { cloud, ..self.solo }
    }

    /// What is charged against the deadline: the step and the amortised weights.
    pub(super) fn seconds_at(&self, share: f64) -> f64 {
        self.other_s + self.terms_at(share).cloud
    }

    /// The least share with which the step fits into `budget` seconds.
    pub(super) fn share_needed(&self, budget: f64) -> Option<f64> {
        share_needed(self.other_s, self.service_s(), budget)
    }

    /// Among equals, fewer bytes and then the smaller cut is better.
    pub(super) fn tie_rank(&self) -> (u64, usize) {
        (self.bytes, self.cut)
    }
}

/// The least share in `[0, 1]` with `other + service / share <= budget`.
pub(super) fn share_needed(other: f64, service: f64, budget: f64) -> Option<f64> {
    let left = budget - other;
    if service > 0.0 {
        // left <= 0 must not come out as a negative or infinite share.
        (left >= service).then(|| service / left)
    } else {
        (left >= 0.0).then_some(0.0)
    }
}

impl EdgeOptions {
    /// The least share with which any cut fits into `budget` seconds.
    pub(super) fn share_needed(&self, budget: f64) -> Option<f64> {
        self.options.iter().filter_map(|option| option.share_needed(budget)).min_by(f64::total_cmp)
    }

    /// The quickest cut with `share` of a worker; ties as everywhere.
    pub(super) fn fastest_at(&self, share: f64) -> Pick {
        let mut best = 0;
        for (index, option) in self.options.iter().enumerate().skip(1) {
            let rank = |option: &CutOption| option.seconds_at(share);
            let (new, old) = (rank(option), rank(&self.options[best]));
            let tie = option.tie_rank() < self.options[best].tie_rank();
            if new < old || (new <= old && tie) {
                best = index;
            }
        }
        let share = if self.options[best].service_s() > 0.0 { share } else { 0.0 };
        Pick { option: best, share }
    }
}

/// The options of every edge at the planned rates.
pub(super) fn tabulate(input: &PlanInput, up: &[f64], down: &[f64]) -> Vec<EdgeOptions> {
    let layers = input.layers();
    let both: Vec<f64> = input
        .cloud
        .forward_s
        .iter()
        .zip(&input.cloud.backward_s)
        .map(|(forward, backward)| forward + backward)
        .collect();
    let service = suffix_sums(&both);
    let flops = suffix_sums(&input.cloud.flops);
    let steps = input.steps_between_aggregations as f64;
    let mut tables = Vec::with_capacity(input.edges.len());
    for ((edge, &up), &down) in input.edges.iter().zip(up).zip(down) {
        let forward = prefix_sums(&edge.forward_s);
        let backward = prefix_sums(&edge.backward_s);
        let one_way = f64::midpoint(edge.rtt_s, edge.latency_overhead_s);
        let option = |cut: usize| {
            let (bytes_up, bytes_down) =
                if cut == layers { (0, 0) } else { (input.cut_bytes_up[cut], input.cut_bytes_down[cut]) };
            let transfer =
                |bytes: u64, rate: f64| if cut == layers { 0.0 } else { bytes as f64 / rate + one_way };
            let solo = StepTerms {
                edge_forward: forward[cut],
                uplink: transfer(bytes_up, up),
                cloud: service[cut],
                downlink: transfer(bytes_down, down),
                edge_backward: backward[cut] + edge.tail_s,
            };
            let weights_s = input.state_bytes[cut] as f64 * (1.0 / up + 1.0 / down) / steps;
            CutOption {
                cut,
                solo,
                weights_s,
                other_s: StepTerms { cloud: 0.0, ..solo }.total() + weights_s,
                flops: flops[cut],
                bytes_up,
                bytes: bytes_up.saturating_add(bytes_down),
                memory_bytes: edge.memory_by_cut[cut],
            }
        };
        let cuts = edge.fixed_cut.map_or_else(|| input.depth.clone(), |cut| cut..=cut);
        let within = |cut: &usize| edge.memory_limit.is_none_or(|limit| edge.memory_by_cut[*cut] <= limit);
        let mut options: Vec<CutOption> = cuts.clone().filter(within).map(option).collect();
        let fits = !options.is_empty();
        if !fits {
            options.extend(cuts.min_by_key(|&cut| (edge.memory_by_cut[cut], cut)).map(option));
        }
        let current = edge.current_cut.and_then(|cut| options.iter().position(|option| option.cut == cut));
        tables.push(EdgeOptions { options, fits, current, up_rate: up });
    }
    tables
}

/// `[0, v0, v0 + v1, ..]`.
fn prefix_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; values.len() + 1];
    for (index, value) in values.iter().enumerate() {
        sums[index + 1] = sums[index] + value;
    }
    sums
}

/// `[.., v(n-2) + v(n-1), v(n-1), 0]`.
fn suffix_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; values.len() + 1];
    for (index, value) in values.iter().enumerate().rev() {
        sums[index] = sums[index + 1] + value;
    }
    sums
}
