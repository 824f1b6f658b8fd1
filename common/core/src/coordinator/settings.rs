//! What a coordinator is told before it starts.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::codec::Codec;
use crate::model::ModelSpec;
use crate::optimizer::Optimizer;
use crate::plan::{Deadline, Objective};
use crate::profile::DeviceProfile;
use crate::standardize::Method;

/// Which server-side models there are, and who updates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// A replica per edge; both halves averaged at aggregations: `splitfed-v1`, and `fedavg` at c = L.
    ReplicaPerEdge,
    /// One server-side model, updated by the edges' batches in edge order: `centralized` at c = 0.
    Shared,
}

/// How the cut of each edge is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// By the planner.
    Planned,
    /// The same for everyone, always.
    Fixed(usize),
    /// Drawn anew for every edge and round.
    Random,
}

/// When a new plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replan {
    /// Before every round.
    EveryRound,
    /// When a link's or device's estimate or the fleet has changed.
    OnChange,
    /// Never after the first.
    Never,
}

/// Everything that a coordinator must know; checked by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names this training session.
    pub session: u64,
    /// Seed of everything random.
    pub seed: u64,
    /// The model.
    pub spec: ModelSpec,
    /// How data is standardized.
    pub standardization: Method,
    /// The optimizer of both halves.
    pub optimizer: Optimizer,
    /// Samples per step.
    pub batch_size: u32,
    /// Steps per round.
    pub steps_per_round: u32,
    /// Rounds between aggregations.
    pub aggregate_every: u32,
    /// Rounds at most.
    pub max_rounds: u32,
    /// Where training may stop.
    pub target_accuracy: Option<f64>,
    /// Whether moments start anew after an aggregation instead of being averaged.
    pub reset_moments: bool,
    /// Which server-side models there are.
    pub topology: Topology,
    /// How cuts are found.
    pub cuts: Cuts,
    /// Cuts that a plan may give.
    pub depth: RangeInclusive<usize>,
    /// When a new plan is made.
    pub replan: Replan,
    /// The latency deadline.
    pub deadline: Deadline,
    /// What the planner aims for.
    pub objective: Objective,
    /// Relative reserve on predicted latencies.
    pub margin: f64,
    /// Edges to wait for.
    pub min_edges: usize,
    /// How long to wait for them.
    pub gather_timeout: Duration,
    /// Share of the edges that a round needs.
    pub quorum: f64,
    /// How long a lost edge may stay away.
    pub rejoin_window: Duration,
    /// Rounds between checkpoints; a multiple of `aggregate_every`.
    pub checkpoint_every: u32,
    /// Codec of the activations.
    pub activations: Codec,
    /// Codec of the cut gradients.
    pub gradients: Codec,
    /// Replicas that the cloud trains at the same time.
    pub workers: usize,
    /// What the cloud's network carries per direction, in bytes per second.
    pub capacity: Option<f64>,
    /// Seconds per layer kind of one cloud worker.
    pub cloud_profile: DeviceProfile,
}

impl Settings {
    /// Whether the round (from 0) ends with an aggregation: every `aggregate_every`th and the last.
    pub fn aggregates(&self, round: u32) -> bool {
        (round + 1).is_multiple_of(self.aggregate_every) || round + 1 == self.max_rounds
    }

    /// Optimizer steps since the moments were last zero, before the first step of a round.
    pub fn optimizer_steps(&self, round: u32) -> u64 {
        let rounds = if self.reset_moments { round % self.aggregate_every } else { round };
        u64::from(rounds) * u64::from(self.steps_per_round)
    }

    /// How many optimizer moments every trained tensor has.
    pub fn moments(&self) -> usize {
        self.optimizer.moments().len()
    }
}
