//! What a coordinator is told before it starts.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::codec::{ActivationCodec, Codec};
use crate::config::{self, AggregateMoments, Algorithm, Config, ConfigError, FixedCut, StandardizeMethod};
use crate::holdout;
use crate::model::{ModelCost, ModelSpec};
use crate::optimizer::Optimizer;
use crate::plan::{Deadline, Objective};
use crate::profile::DeviceProfile;
use crate::standardize::Method;

/// Which server-side models there are, and who updates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// A replica per edge; both halves averaged at aggregations: `splitfed-v1`, and `fedavg` at c = L.
    ReplicaPerEdge,
    /// One server-side model, updated by the edges' batches in edge order: `splitfed-v2`, whose edges have
    /// client-side models of their own behind one common cut, and `centralized` at c = 0.
    Shared,
    /// One model, which the edges train by turns of a round's steps each: `sequential`.
    HandedOn,
}

/// Whose samples the global model is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evaluation {
    /// The cloud's own, while the next round is trained.
    Cloud,
    /// A part of every edge's shard, before the next round.
    Edges {
        /// The share that is held out: see [`crate::holdout`].
        holdout: f64,
    },
}

/// How the cut of each edge is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// By the planner.
    Planned,
    /// The same for everyone, always.
    Fixed(usize),
    /// Drawn anew for every edge and round; a common cut, for every aggregation.
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
    /// Whose samples measure the accuracy.
    pub evaluation: Evaluation,
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
    /// How the activations travel.
    pub activations: ActivationCodec,
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
    /// The settings that a configuration describes for a model and a calibrated cloud.
    ///
    /// # Errors
    /// If the configured cuts do not fit the model, or would send raw data without permission, or if
    /// edges are to evaluate a model that fits none of them.
    pub fn from_config(
        config: &Config,
        spec: ModelSpec,
        session: u64,
        cloud_profile: DeviceProfile,
    ) -> Result<Self, ConfigError> {
        let (least, most) = config.check_depth(spec.len())?;
        let topology = match config.training.algorithm {
            Algorithm::Centralized | Algorithm::SplitFedV2 => Topology::Shared,
            Algorithm::Sequential => Topology::HandedOn,
            Algorithm::SplitFedV1 | Algorithm::FedAvg => Topology::ReplicaPerEdge,
        };
        // Layers without parameters before the first that has some hide nothing: such a cut sends raw data.
        let first = ModelCost::of(&spec).first_with_parameters().unwrap_or(0);
        let raw_is_allowed = config.data.allow_raw_data || most == 0;
        let least = if raw_is_allowed || config.plan.fixed_cut.is_some() {
            least
        } else {
            least.max(first + 1).min(most)
        };
        if !raw_is_allowed && least <= first {
            return Err(config.refuse_raw_cut(least, &spec));
        }
        config.check_edge_evaluation(&spec)?;
        let training = &config.training;
        Ok(Self {
            session,
            seed: config.seed,
            standardization: match config.data.standardize {
                StandardizeMethod::MinMax => Method::MinMax,
                StandardizeMethod::None => Method::None,
                StandardizeMethod::Zscore => Method::Zscore,
                StandardizeMethod::Log => Method::Log,
                StandardizeMethod::UnitNorm => Method::UnitNorm,
            },
            evaluation: match config.data.holdout {
                Some(share) => Evaluation::Edges { holdout: share.get() },
                None => Evaluation::Cloud,
            },
            optimizer: training.optimizer,
            batch_size: training.batch_size.get() as u32,
            steps_per_round: training.steps_per_round.get() as u32,
            aggregate_every: training.aggregate_every.get() as u32,
            max_rounds: training.max_rounds.get() as u32,
            target_accuracy: training.target_accuracy.map(config::Share::get),
            reset_moments: training.aggregate_moments == AggregateMoments::Reset,
            topology,
            cuts: match config.plan.fixed_cut {
                Some(FixedCut::Random) => Cuts::Random,
                Some(FixedCut::At(cut)) => Cuts::Fixed(cut),
                None if least == most => Cuts::Fixed(least),
                None => Cuts::Planned,
            },
            depth: least..=most,
            replan: match config.plan.replan {
                config::Replan::EveryRound => Replan::EveryRound,
                config::Replan::OnChange => Replan::OnChange,
                config::Replan::Never => Replan::Never,
            },
            deadline: match config.plan.deadline {
                config::Deadline::Auto => Deadline::Auto,
                config::Deadline::Fixed(time) => Deadline::Fixed(time.as_secs_f64()),
            },
            objective: match config.plan.objective {
                config::Objective::Deepest => Objective::Deepest,
                config::Objective::Fastest => Objective::Fastest,
            },
            margin: config.plan.margin.get(),
            min_edges: config.fleet.min_edges.get(),
            gather_timeout: config.fleet.gather_timeout,
            quorum: config.fleet.quorum.get(),
            rejoin_window: config.fleet.rejoin_window,
            checkpoint_every: config.fleet.checkpoint_every.get() as u32,
            activations: config.wire.activations,
            gradients: config.wire.gradients,
            workers: config.cloud.workers.get(),
            capacity: Some(config.cloud.capacity_mbps.get() * 1e6 / 8.0),
            cloud_profile,
            spec,
        })
    }

    /// Whether the round (from 0) ends with an aggregation: every `aggregate_every`th and the last.
    pub fn aggregates(&self, round: u32) -> bool {
        (round + 1).is_multiple_of(self.aggregate_every) || round + 1 == self.max_rounds
    }

    /// The share of its samples that an edge holds out, if it is to evaluate.
    pub fn holdout(&self) -> Option<f64> {
        match self.evaluation {
            Evaluation::Cloud => None,
            Evaluation::Edges { holdout } => Some(holdout),
        }
    }

    /// How many of its samples an edge holds out to evaluate on.
    pub fn held_out(&self, samples: u64) -> u64 {
        self.holdout().map_or(0, |share| holdout::held_out(samples, share))
    }

    /// How many optimizer moments every trained tensor has.
    pub fn moments(&self) -> usize {
        self.optimizer.moments().len()
    }
}
