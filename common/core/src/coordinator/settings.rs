//! What a coordinator is told before it starts.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::member::Slice;
use super::stragglers::Stragglers;
use crate::classes::fingerprint;
use crate::codec::{ActivationCodec, Codec};
use crate::config::{
    self, AggregateMoments, Algorithm, Config, ConfigError, FixedCut, LabelsAt, OnStraggler,
    StandardizeMethod,
};
use crate::holdout;
use crate::model::{LayerState, ModelCost, ModelSpec};
use crate::optimizer::Optimizer;
use crate::plan::{Deadline, Objective};
use crate::profile::DeviceProfile;
use crate::random::stream;
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

impl From<Algorithm> for Topology {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Centralized | Algorithm::SplitFedV2 => Self::Shared,
            Algorithm::Sequential => Self::HandedOn,
            Algorithm::SplitFedV1 | Algorithm::FedAvg => Self::ReplicaPerEdge,
        }
    }
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
    /// Names this training session. What an edge is told is [`session_of`] it.
    pub session: u64,
    /// Seed of everything random.
    pub seed: u64,
    /// The model.
    pub spec: ModelSpec,
    /// [`crate::classes::fingerprint`] of the classes' names, if they have any: every edge that names its classes
    /// must number them so.
    pub class_names: Option<u64>,
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
    /// Whether the edges keep their labels, and how many they have of each, to themselves.
    pub labels_stay: bool,
    /// Where the labels stay and the model is split: layers `[tail, L)` run on the edge too, the cloud's
    /// are `[cut, tail)`, and cuts go up to `tail`. The cloud then has one replica per edge.
    pub tail: Option<usize>,
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
    /// What happens to edges that take too long.
    pub stragglers: Stragglers,
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
    /// Micro-batches that each step's batch is split into; a divisor of the batch size.
    pub in_flight: u32,
    /// Replicas that the cloud trains at the same time.
    pub workers: usize,
    /// What the cloud's network carries per direction, in bytes per second.
    pub capacity: Option<f64>,
    /// Seconds per layer kind of one cloud worker.
    pub cloud_profile: DeviceProfile,
}

/// The session as an edge knows it. Each knows its own, so that none can come back as another one.
pub fn session_of(session: u64, edge: &str) -> u64 {
    stream(session, &["session", edge]).next_u64()
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
        let cost = ModelCost::of(&spec);
        let labels_stay = config.training.labels == LabelsAt::Edge;
        // Plain federated learning keeps them anyway, and all layers with them.
        let splits = config.training.algorithm != Algorithm::FedAvg;
        let classifier = || cost.last_with_parameters().unwrap_or(spec.len().saturating_sub(1));
        let tail = (labels_stay && splits).then(classifier);
        let first = cost.first_with_parameters().unwrap_or(0);
        let least_end = if config.data.allow_raw_data { 1 } else { first + 2 };
        if let Some(tail) = tail.filter(|tail| *tail < least_end && !config.plan.allow_local) {
            return Err(config.refuse_tail(tail, &spec));
        }
        let (least, most) = config.check_depth(spec.len(), tail)?;
        let topology = Topology::from(config.training.algorithm);
        // Layers without parameters before the first that has some hide nothing: such a cut sends raw data.
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
        config.check_micro_batches(&spec)?;
        let training = &config.training;
        Ok(Self {
            session,
            seed: config.seed,
            class_names: config.data.class_names.as_ref().and_then(|names| fingerprint(names.get())),
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
            labels_stay,
            tail,
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
            stragglers: match config.plan.on_straggler {
                OnStraggler::Wait => Stragglers::Wait,
                OnStraggler::Drop => Stragglers::Drop { factor: config.plan.straggler_factor.get() },
                OnStraggler::Defer => Stragglers::Defer { factor: config.plan.straggler_factor.get() },
            },
            min_edges: config.fleet.min_edges.get(),
            gather_timeout: config.fleet.gather_timeout,
            quorum: config.fleet.quorum.get(),
            rejoin_window: config.fleet.rejoin_window,
            checkpoint_every: config.fleet.checkpoint_every.get() as u32,
            activations: config.wire.activations,
            gradients: config.wire.gradients,
            in_flight: config.wire.in_flight.get() as u32,
            workers: config.cloud.workers.get(),
            capacity: Some(config.cloud.capacity_mbps.get() * 1e6 / 8.0),
            cloud_profile,
            spec,
        })
    }

    /// One past the last layer that the cloud may train.
    pub fn cloud_end(&self) -> usize {
        self.tail.unwrap_or(self.spec.len())
    }

    /// The layers of a whole model that an edge at `cut` has, each run of them.
    pub(super) fn edge_blocks(&self, state: &Arc<LayerState>, cut: usize) -> Vec<Slice> {
        let tail = self.tail.map(|tail| tail..self.spec.len());
        let layers = (cut > 0).then_some(0..cut).into_iter().chain(tail);
        layers.map(|layers| Slice { state: state.clone(), layers }).collect()
    }

    /// Whether the round (from 0) ends with an aggregation: every `aggregate_every`th and the last.
    pub fn aggregates(&self, round: u32) -> bool {
        (round + 1).is_multiple_of(self.aggregate_every) || round + 1 == self.max_rounds
    }

    /// Whether so many of all edges are the share that a round needs.
    pub(super) fn is_quorum(&self, edges: usize, all: usize) -> bool {
        config::is_quorum(self.quorum, edges, all)
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

    /// Whether another link would make another plan of an edge that trains alone.
    pub(super) fn probes_links(&self) -> bool {
        let is_free = self.cuts == Cuts::Planned && self.replan != Replan::Never;
        is_free && *self.depth.start() < self.cloud_end()
    }

    /// How many optimizer moments every trained tensor has.
    pub fn moments(&self) -> usize {
        self.optimizer.moments().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::builtin::builtin;

    /// The settings of a fleet of one, with `sets`, for a perceptron whose layers are flatten, linear, relu,
    /// linear, relu, linear.
    fn settings(sets: &[&str]) -> Result<Settings, String> {
        let text =
            "name = \"x\"\n[model]\narch = \"mlp\"\n[data]\ndataset = \"mnist\"\n[[edge]]\nname = \"a\"";
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = Config::parse(text, "x.toml", &sets).expect("the overrides are allowed");
        let spec = builtin("mlp", [1, 28, 28], 10).expect("it is built in");
        Settings::from_config(&config, spec, 1, DeviceProfile::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn with_the_labels_the_classifier_stays_and_cuts_end_before_it() {
        let cloud = settings(&[]).expect("it is right");
        assert_eq!((cloud.labels_stay, cloud.tail, cloud.cloud_end()), (false, None, cloud.spec.len()));
        let edge = settings(&["training.labels=edge"]).expect("it is right");
        let tail = edge.spec.len() - 1;
        assert_eq!((edge.labels_stay, edge.tail, edge.cloud_end()), (true, Some(tail), tail));
        assert_eq!(edge.depth, 2..=tail - 1);
        let local = settings(&["training.labels=edge", "plan.allow_local=true", "plan.fixed_cut=5"]);
        assert_eq!(local.expect("it is right").cuts, Cuts::Fixed(tail));
    }

    #[test]
    fn a_quorum_is_the_share_that_is_written() {
        for hundredths in 1..=100_usize {
            let sets = [format!("fleet.quorum={}.{:02}", hundredths / 100, hundredths % 100)];
            let settings = settings(&[&sets[0]]).expect("it is right");
            for all in 1..=1000 {
                let needed = (hundredths * all).div_ceil(100);
                assert!(settings.is_quorum(needed, all), "{needed} of {all} are {hundredths} %");
                assert!(!settings.is_quorum(needed - 1, all), "{} of {all} at {hundredths} %", needed - 1);
            }
        }
    }

    #[test]
    fn federated_learning_has_no_classifier_apart() {
        let fedavg = settings(&["training.algorithm=fedavg", "training.labels=edge"]).expect("it is right");
        assert_eq!((fedavg.labels_stay, fedavg.tail), (true, None));
        assert_eq!(fedavg.cuts, Cuts::Fixed(fedavg.spec.len()));
    }

    #[test]
    fn batches_of_models_that_normalize_over_them_are_not_split() {
        assert_eq!(settings(&["wire.in_flight=4"]).expect("nothing normalizes").in_flight, 4);
        let text = "name = \"x\"\n[model]\narch = \"resnet18\"\n[data]\ndataset = \"cifar10\"\n[[edge]]\nname = \"a\"";
        let of = |sets: &[&str], frozen: usize| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            let config = Config::parse(text, "x.toml", &sets).expect("the overrides are allowed");
            let spec = builtin("resnet18", [3, 32, 32], 10).expect("it is built in");
            let spec = ModelSpec { frozen, ..spec };
            let settings = Settings::from_config(&config, spec, 1, DeviceProfile::default());
            settings.map(|_| ()).map_err(|error| error.to_string())
        };
        let error = of(&["wire.in_flight=2"], 0).expect_err("it has batch norm");
        assert!(error.starts_with("--set wire.in_flight=2: `wire.in_flight = 2` is not allowed"), "{error}");
        assert!(
            error.contains("1 for `resnet18`, whose layer 1 (`bn1`) normalizes over the batch"),
            "{error}"
        );
        assert_eq!(of(&["wire.in_flight=2"], 13), Ok(()), "frozen layers use what they have learned");
        assert_eq!(of(&["wire.in_flight=2", "training.algorithm=fedavg"], 0), Ok(()));
    }

    #[test]
    fn a_model_that_leaves_the_cloud_nothing_is_refused() {
        let text = "name = \"x\"\n[model]\narch = \"mlp\"\n[data]\ndataset = \"mnist\"\n\
                    [training]\nlabels = \"edge\"\n[[edge]]\nname = \"a\"";
        let config = Config::parse(text, "x.toml", &[]).expect("it is right");
        let mut spec = builtin("mlp", [1, 28, 28], 10).expect("it is built in");
        spec.layers.drain(1..spec.layers.len() - 1);
        if let crate::model::LayerOp::Linear { inputs, .. } = &mut spec.layers[1].op {
            *inputs = 28 * 28;
        }
        let spec = spec.checked().expect("flatten and a classifier");
        let error = Settings::from_config(&config, spec, 1, DeviceProfile::default())
            .map_err(|error| error.to_string());
        let error = error.expect_err("the cloud has nothing");
        assert!(error.starts_with("x.toml:7: `training.labels = \"edge\"` is not allowed"), "{error}");
        assert!(error.contains("its layers from 1 on stay there"), "{error}");
    }
}
