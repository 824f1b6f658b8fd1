//! The planner: for every edge a cut, a share of the cloud and reserved rates, such that its predicted
//! step meets the deadline.
//!
//! A step at cut `c` takes edge forward + uplink + cloud service / share + downlink + edge backward. The
//! cloud serves first come first served with some workers; a share in (0, 1] stands for the part of one
//! worker that an edge can count on, and the shares add up to the workers at most. The weights' transfer
//! at aggregations, amortised over the steps between them, is charged against the deadline on top, but is
//! no part of a step's latency.
//!
//! Rates come first (each link's estimate, max-min fair under the cloud's capacity), then the deadline,
//! then the cuts: a multiple-choice knapsack over (share needed, cloud FLOPs) for
//! [`Objective::Deepest`], a separable convex allotment for [`Objective::Fastest`].

mod budget;
mod common_cut;
mod deepest;
mod explain;
mod fastest;
mod input;
mod options;
mod rates;
mod search;
mod shares;
mod turns;

use serde::{Deserialize, Serialize};

pub use common_cut::plan_common_cut;
pub use input::{CloudInput, EdgeInput, PlanError, PlanInput};
pub use turns::plan_turns;

pub(crate) use input::{LEAST_RATE, MOST_RATE, MOST_SECONDS};

use budget::Standing;
use options::EdgeOptions;

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
    /// Relative distance of the objective, with what hysteresis adds to it, to a proven bound: 0 where
    /// the search was exact. Of total cloud FLOPs for [`Objective::Deepest`], of the sum of step times
    /// for [`Objective::Fastest`] (whose largest step time is always exact).
    pub optimality_gap: f64,
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
    /// The predicted terms of a step.
    pub terms: StepTerms,
    /// Their sum, seconds.
    pub step_s: f64,
    /// Transfer of the client-side model at aggregations, amortised, seconds per step.
    pub weights_s: f64,
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

/// Predicted seconds of the five parts of a step.
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
    /// The step's latency.
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
    let capacity = input.cloud.capacity_bytes_per_s;
    let up = rates::Rates::under(capacity, input.edges.iter().map(|edge| edge.up_bytes_per_s).collect());
    let down = rates::Rates::under(capacity, input.edges.iter().map(|edge| edge.down_bytes_per_s).collect());
    let edges = options::tabulate(input, &up.planned, &down.planned);

    let common = || budget::least(&edges, input) * (1.0 + input.margin) * (1.0 + 10.0 * ROUNDING);
    let deadline_s = match input.deadline {
        Deadline::Auto => common(),
        Deadline::Fixed(seconds) => seconds,
    };
    let budget = deadline_s / (1.0 + input.margin) * (1.0 - ROUNDING);
    let solution = solve(input, &edges, budget);
    let common_deadline_s = solution.standings.contains(&Standing::Crowded).then(common);
    let explainer = explain::Explainer { input, deadline_s, budget, common_deadline_s };
    let plans = (0..edges.len()).map(|e| {
        let (pick, standing) = (solution.picks[e], solution.standings[e]);
        let option = &edges[e].options[pick.option];
        let terms = option.terms_at(pick.share);
        let step_s = terms.total();
        EdgePlan {
            name: input.edges[e].name.clone(),
            cut: option.cut,
            feasible: standing == Standing::Meets,
            reason: explainer.reason(&input.edges[e], &edges[e], pick, standing),
            terms,
            step_s,
            weights_s: option.weights_s,
            slack_s: deadline_s - step_s,
            share: pick.share,
            reserved_up: up.reserved[e],
            reserved_down: down.reserved[e],
            memory_bytes: option.memory_bytes,
        }
    });
    Ok(Plan { deadline_s, edges: plans.collect(), optimality_gap: solution.gap })
}

struct Solution {
    picks: Vec<Pick>,
    standings: Vec<Standing>,
    gap: f64,
}

/// Cuts and shares of which no edge that can takes longer than `budget` seconds.
fn solve(input: &PlanInput, edges: &[EdgeOptions], budget: f64) -> Solution {
    let workers = input.cloud.workers as f64;
    let (standings, needed) = budget::divide(edges, budget, workers);
    let mut picks = vec![Pick { option: 0, share: 0.0 }; edges.len()];

    // What the edges that meet the deadline can spare makes the others as quick as it can.
    let missing: Vec<usize> = (0..edges.len()).filter(|&e| standings[e] != Standing::Meets).collect();
    let even = ((workers - needed) / missing.len().max(1) as f64).clamp(0.0, 1.0);
    for &e in &missing {
        picks[e] = edges[e].fastest_at(even);
    }
    let left = workers - missing.iter().map(|&e| picks[e].share).sum::<f64>();

    let meeting: Vec<usize> = (0..edges.len()).filter(|&e| standings[e] == Standing::Meets).collect();
    let tables: Vec<&EdgeOptions> = meeting.iter().map(|&e| &edges[e]).collect();
    let (chosen, gap) = match input.objective {
        Objective::Deepest => deepest::solve(&tables, budget, left, input.hysteresis),
        Objective::Fastest => {
            let tightest = if missing.is_empty() {
                budget.min(budget::least_within(&tables, left, input.hysteresis))
            } else {
                budget
            };
            fastest::solve(&tables, tightest, left, input.hysteresis)
        }
    };
    for (&e, pick) in meeting.iter().zip(chosen) {
        picks[e] = pick;
    }
    shares::hand_out(&mut picks, workers);
    Solution { picks, standings, gap }
}

#[cfg(test)]
mod tests;
