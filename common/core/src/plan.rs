//! The planner: for every edge a cut, a share of the cloud and reserved rates, such that its predicted
//! step meets the deadline.
//!
//! A step at cut `c` takes edge forward + uplink + cloud service / share + downlink + edge backward, or less where
//! micro-batches overlap (`plan/pipeline.rs`). The
//! cloud serves first come first served with some workers; a share in (0, 1] stands for the part of one
//! worker that an edge can count on, and the shares add up to the workers at most. The weights' transfer
//! at aggregations, amortised over the steps between them, is charged against the deadline on top, but is
//! no part of a step's latency.
//!
//! Where the cloud's network carries all links at once, every edge has its link's rate and the shares are all
//! that is divided: the deadline comes first, then the cuts, a multiple-choice knapsack over (share needed, cloud
//! FLOPs) for [`Objective::Deepest`], a separable convex allotment for [`Objective::Fastest`]. Where it
//! does not, cuts, rates and shares depend on each other, and are found together by the prices of all three.

mod budget;
mod common_cut;
mod deepest;
mod explain;
mod fastest;
mod fixes;
mod input;
mod joint;
mod options;
mod pipeline;
mod rates;
mod search;
mod separate;
mod shares;
mod turns;

use serde::{Deserialize, Serialize};

pub use common_cut::plan_common_cut;
pub use fixes::Fixes;
pub use input::{CloudInput, DeviceInput, EdgeInput, PlanError, PlanInput};
pub use turns::plan_turns;

pub(crate) use input::{LEAST_RATE, MOST_FACTOR, MOST_RATE, MOST_SECONDS};

use budget::Standing;
use options::{LinkRates, Tables};

/// Products of times and factors are rounded: deadlines are given, and budgets taken, this much apart, so
/// that "meets" holds exactly.
const ROUNDING: f64 = 1e-12;

/// What a plan is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Least total cloud FLOPs per step among the plans that meet the deadline.
    #[default]
    Deepest,
    /// Least largest step time, then least sum of step times.
    Fastest,
}

/// The latency that every edge's step may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deadline {
    /// The least that all edges can meet at once. The slowest edge sets it; under
    /// [`Objective::Deepest`] the others go as deep as it lets them.
    #[default]
    Auto,
    /// Seconds.
    Fixed(f64),
}

/// A plan for every edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The deadline of a step, seconds.
    pub deadline_s: f64,
    /// In the order of the input.
    pub edges: Vec<EdgePlan>,
    /// By how much the plan may miss the optimum, relatively: the larger of the distances of `objective` to
    /// `dual_bound` and of an automatic deadline to `deadline_bound_s`. 0 where the search was exact.
    pub optimality_gap: f64,
    /// What is minimized under the deadline, over the edges that meet it, with what hysteresis adds: cloud FLOPs
    /// per step for [`Objective::Deepest`], the sum of the steps' seconds with their margins for
    /// [`Objective::Fastest`].
    pub objective: f64,
    /// No plan that meets the deadline has a lesser objective: the Lagrangian dual, or the optimum itself.
    pub dual_bound: f64,
    /// No plan for all edges with enough memory has a shorter deadline, seconds; 0 where it is given.
    pub deadline_bound_s: f64,
    /// The least deadline that all edges with enough memory could meet, seconds, where one misses this plan's.
    pub common_deadline_s: Option<f64>,
}

/// The plan of one edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgePlan {
    /// The edge's name.
    pub name: String,
    /// Layers `[0, cut)` run on the edge.
    pub cut: usize,
    /// Whether the predicted step, with the margin, meets the deadline, within the edge's memory.
    pub feasible: bool,
    /// Why this cut and not its neighbours; for an edge that is not feasible what is too large and what
    /// would fix it.
    pub reason: String,
    /// The cuts next to it, at the same rates and share.
    pub neighbours: Vec<Neighbour>,
    /// What would let the edge meet the deadline; `None` where it does.
    pub fixes: Option<Fixes>,
    /// The predicted terms of a step.
    pub terms: StepTerms,
    /// The step's latency: their sum, or less where micro-batches overlap; seconds.
    pub step_s: f64,
    /// What of the uplink and the downlink is time on the way, in which nothing is busy: the round trip and overheads,
    /// seconds.
    pub latency_s: f64,
    /// Micro-batches that the step's batch is split into; 1 where all layers run on the edge.
    pub micro_batches: u32,
    /// Transfer of the client-side model at aggregations, amortised, seconds per step.
    pub weights_s: f64,
    /// Transfer of the layers that a new cut moves, amortised, seconds per step.
    pub moving_s: f64,
    /// Relative reserve for this edge's residuals: `(step_s + weights_s + moving_s) * (1 + margin)` is what
    /// must meet the deadline.
    pub margin: f64,
    /// `deadline_s - step_s`; negative if the step is longer.
    pub slack_s: f64,
    /// Share of the cloud's workers that the cloud term counts on; 0 without a cloud part.
    pub share: f64,
    /// Pacing rate of the uplink, bytes per second.
    pub reserved_up: f64,
    /// Pacing rate of the downlink, bytes per second.
    pub reserved_down: f64,
    /// What the client-side model needs at this cut.
    pub memory_bytes: u64,
}

/// A cut next to the one that an edge has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Layers `[0, cut)` would run on the edge.
    pub cut: usize,
    /// What it breaks; `None` if it is possible and only not better.
    pub obstacle: Option<Obstacle>,
    /// The terms that a step would have.
    pub terms: StepTerms,
    /// Its latency, seconds.
    pub step_s: f64,
    /// What would be charged against the deadline: with amortised transfers and the margin, seconds.
    pub charged_s: f64,
    /// FLOPs per step that it would leave the cloud more; negative where it spares some.
    pub cloud_flops_more: f64,
    /// What the client-side model would need.
    pub memory_bytes: u64,
}

/// What a cut breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// It is outside the cuts that are allowed.
    Depth,
    /// The edge has too little memory.
    Memory,
    /// Its step would be too long.
    Deadline,
}

/// Predicted seconds of the five parts of a step, of all its micro-batches together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepTerms {
    /// Forward pass of `[0, cut)`.
    pub edge_forward: f64,
    /// Activations and labels to the cloud.
    pub uplink: f64,
    /// Forward and backward pass of `[cut, L)`, divided by the edge's share.
    pub cloud: f64,
    /// Cut gradient back.
    pub downlink: f64,
    /// Backward pass of `[0, cut)` and the optimizer's step, and all of the layers that stay behind.
    pub edge_backward: f64,
}

impl StepTerms {
    /// The latency of a step of one micro-batch.
    pub fn total(&self) -> f64 {
        self.edge_forward + self.uplink + self.cloud + self.downlink + self.edge_backward
    }
}

/// One edge's part of a solution.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pick {
    /// Index into the edge's options.
    option: usize,
    share: f64,
}

/// Plans every edge.
///
/// An edge that cannot meet the deadline, or has too little memory, is part of the plan: with its fastest
/// (least) cut, `feasible = false` and a reason in words.
///
/// # Errors
/// [`PlanError`] naming the edge and the field, if a number is not finite or out of range, or a table does
/// not have one entry per layer or cut.
pub fn plan(input: &PlanInput) -> Result<Plan, PlanError> {
    input.check()?;
    let tables = Tables::of(input);
    let solution = if joint::is_needed(input) { joint::solve(&tables) } else { separate::solve(&tables) };
    let capacity = input.cloud.capacity_bytes_per_s;
    let reserved = |planned: fn(&Allotment) -> f64, estimate: fn(&EdgeInput) -> f64| {
        let planned: Vec<f64> = solution.allotments.iter().map(planned).collect();
        let estimates: Vec<f64> = input.edges.iter().map(estimate).collect();
        rates::with_headroom(&planned, &estimates, capacity)
    };
    let up = reserved(|edge| edge.rates.up, |edge| edge.up_bytes_per_s);
    let down = reserved(|edge| edge.rates.down, |edge| edge.down_bytes_per_s);
    let explainer = explain::Explainer::new(&tables, &solution);
    let edges = input.edges.iter().zip(&solution.allotments).zip(up.into_iter().zip(down));
    let plans = edges.map(|((edge, allotment), (reserved_up, reserved_down))| {
        let &Allotment { cut, rates, share, standing } = allotment;
        let terms = tables.terms(edge, cut, rates, share);
        let step_s = tables.step_s(edge, cut, &terms);
        EdgePlan {
            name: edge.name.clone(),
            cut,
            feasible: standing == Standing::Meets,
            reason: explainer.reason(edge, allotment),
            neighbours: explainer.neighbours(edge, allotment),
            fixes: explainer.fixes(edge, standing),
            terms,
            step_s,
            latency_s: tables.latency_s(edge, cut),
            micro_batches: tables.micro_batches(cut),
            weights_s: tables.weights_s(cut, rates),
            moving_s: tables.moving_s(edge, cut, rates),
            slack_s: solution.deadline_s - step_s,
            margin: edge.margin,
            share,
            reserved_up,
            reserved_down,
            memory_bytes: input.memory_by_cut[cut],
        }
    });
    let plans: Vec<EdgePlan> = plans.collect();
    let objective_gap = relative_gap(solution.cost, solution.bound);
    let deadline_gap = match input.deadline {
        Deadline::Auto => relative_gap(solution.deadline_s, solution.deadline_bound_s),
        Deadline::Fixed(_) => 0.0,
    };
    Ok(Plan {
        deadline_s: solution.deadline_s,
        edges: plans,
        optimality_gap: objective_gap.max(deadline_gap),
        objective: solution.cost,
        dual_bound: solution.bound,
        deadline_bound_s: solution.deadline_bound_s,
        common_deadline_s: explainer.common_deadline_s,
    })
}

/// What an edge gets.
#[derive(Clone, Copy, Debug)]
struct Allotment {
    cut: usize,
    rates: LinkRates,
    share: f64,
    standing: Standing,
}

/// The plan of a fleet.
struct Solution {
    /// In the order of the edges.
    allotments: Vec<Allotment>,
    deadline_s: f64,
    /// No plan for all has a shorter one; 0 where it was given.
    deadline_bound_s: f64,
    /// The least that all edges with enough memory can meet at once, where it was looked for.
    least_deadline_s: Option<f64>,
    /// The objective of those that meet the deadline, and what it cannot be less than.
    cost: f64,
    bound: f64,
}

/// Cuts and shares of the edges that meet the deadline.
struct Picks {
    edges: Vec<Pick>,
    cost: f64,
    bound: f64,
}

/// By how much `cost` may be above the best.
fn relative_gap(cost: f64, bound: f64) -> f64 {
    let gap = (cost - bound) / cost;
    if gap > 1e-9 { gap.min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests;
