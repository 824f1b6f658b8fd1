//! A topology, its settings and what goes wrong: one run of the simulation, named by its seed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use partway_core::codec::Codec;
use partway_core::coordinator::{
    Checkpoint, Cuts, Evaluation, Outcome, Replan, Settings, Stragglers, Topology,
};
use partway_core::event::{Event, EventKind, Recovery};
use partway_core::holdout::held_out;
use partway_core::model::LayerState;
use partway_core::optimizer::Optimizer;
use partway_core::participant;
use partway_core::plan::{Deadline, Objective};
use partway_core::profile::{DeviceProfile, KindModel, Line};
use partway_core::standardize::Method;

use crate::edge::Poison;
use crate::fake_model::{FakeModel, MOMENTS};
use crate::network::Dice;
use crate::world::World;

/// How long an edge tries to reach the coordinator.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// How long a lost edge may stay away.
pub(crate) const REJOIN_WINDOW: Duration = Duration::from_mins(1);

/// All layers.
pub(crate) const LAYERS: usize = 7;

pub(crate) static MODEL: LazyLock<Arc<FakeModel>> = LazyLock::new(|| Arc::new(FakeModel::new()));

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection of an edge is lost, and there is no other for a while.
    Cut { edge: usize, unreachable: Duration },
    /// An edge's process dies; it may come back, and its folder with it.
    Crash { edge: usize, restart: Option<Duration>, folder_lost: bool },
    /// An edge computes so many times as slowly as the fastest from here on.
    Slow { edge: usize, slowness: u32 },
    /// An edge is started, if it does not run.
    Start { edge: usize },
    /// The coordinator's process dies and continues from its last checkpoint.
    CrashCloud { restart: Duration },
}

/// One edge of the topology.
#[derive(Clone, Debug)]
pub(crate) struct EdgeSetup {
    pub(crate) name: String,
    pub(crate) samples: u64,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) poison: Option<Poison>,
    pub(crate) starts_at: Option<Duration>,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// Whether the run starts from a model that the edges cannot make by themselves.
    pub(crate) given: bool,
    pub(crate) edges: Vec<EdgeSetup>,
    pub(crate) topology: Topology,
    /// Labels on the edge: where its last layers begin.
    pub(crate) tail: Option<usize>,
    pub(crate) cuts: Cuts,
    pub(crate) depth: RangeInclusive<usize>,
    pub(crate) rounds: u32,
    pub(crate) aggregate_every: u32,
    pub(crate) steps: u32,
    /// Micro-batches of each step.
    pub(crate) in_flight: u32,
    pub(crate) reset_moments: bool,
    pub(crate) deadline: Deadline,
    pub(crate) stragglers: Stragglers,
    pub(crate) quorum: f64,
    pub(crate) min_edges: usize,
    pub(crate) workers: usize,
    /// Of the cloud's network, in bytes per second.
    pub(crate) capacity: Option<f64>,
    pub(crate) standardization: Method,
    /// The share that edges hold out, if they evaluate.
    pub(crate) holdout: Option<f64>,
    pub(crate) target_accuracy: Option<f64>,
    pub(crate) evaluation_ms: (u64, u64),
    pub(crate) copies: f64,
    pub(crate) faults: Vec<(Duration, Fault)>,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) events: Vec<Event>,
    /// When the coordinator ended.
    pub(crate) ended_at: Duration,
    pub(crate) edges: Vec<Option<participant::Outcome>>,
}

/// Into how many parts steps are split, as the seed will have it.
fn parts(seed: u64) -> u32 {
    [1, 2, 3, 4, 6, 12][Dice::new(seed).below(6) as usize]
}

/// Prints the scenario when its test fails, so that it can be run again.
struct Replay<'a>(&'a Scenario);

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this run fails: {:?}", self.0);
        }
    }
}

impl Scenario {
    /// Three edges of different sizes that cut anywhere within `1..L`, anew in every round. Their steps are in as many
    /// parts as the seed says.
    pub(crate) fn new(seed: u64) -> Self {
        let edge = |(name, samples): (&str, u64)| EdgeSetup {
            name: name.into(),
            samples,
            memory_limit: None,
            poison: None,
            starts_at: None,
        };
        Self {
            seed,
            given: false,
            edges: [("attic", 30), ("barn", 10), ("cellar", 25)].map(edge).into(),
            topology: Topology::ReplicaPerEdge,
            tail: None,
            cuts: Cuts::Random,
            depth: 1..=LAYERS - 1,
            rounds: 5,
            aggregate_every: 3,
            steps: 3,
            in_flight: parts(seed),
            reset_moments: false,
            deadline: Deadline::Auto,
            stragglers: Stragglers::Wait,
            quorum: 1.0,
            min_edges: 3,
            workers: 2,
            capacity: None,
            standardization: Method::Zscore,
            holdout: None,
            target_accuracy: None,
            evaluation_ms: (1, 100),
            copies: 0.0,
            faults: Vec::new(),
        }
    }

    pub(crate) fn centralized(seed: u64) -> Self {
        Self { topology: Topology::Shared, cuts: Cuts::Fixed(0), depth: 0..=0, ..Self::new(seed) }
    }

    /// One server-side model behind one common cut, drawn anew at every aggregation.
    pub(crate) fn shared_behind_a_cut(seed: u64) -> Self {
        Self { topology: Topology::Shared, ..Self::new(seed) }
    }

    /// One model that goes from edge to edge, cut anywhere.
    pub(crate) fn handed_on(seed: u64) -> Self {
        Self { topology: Topology::HandedOn, ..Self::new(seed).any_depth() }
    }

    /// Samples per step: two in each part.
    pub(crate) fn batch_size(&self) -> u32 {
        2 * self.in_flight
    }

    /// Steps in one part: simulated times are not those that a plan of several expects.
    pub(crate) fn in_one_part(self) -> Self {
        Self { in_flight: 1, ..self }
    }

    pub(crate) fn cut_at(self, cut: usize) -> Self {
        Self { cuts: Cuts::Fixed(cut), depth: cut..=cut, ..self }
    }

    /// Random cuts from raw data to plain federated learning.
    pub(crate) fn any_depth(self) -> Self {
        Self { depth: 0..=LAYERS, ..self }
    }

    /// The labels stay on the edges, with the last layer or the last three. What was cut behind these is
    /// trained on the edge alone.
    pub(crate) fn labels_on_the_edge(self) -> Self {
        let tail = [LAYERS - 1, LAYERS - 3][self.seed as usize % 2];
        let most = if *self.depth.end() == LAYERS { tail } else { (*self.depth.end()).min(tail - 1) };
        let cuts = match self.cuts {
            Cuts::Fixed(cut) => Cuts::Fixed(cut.min(most)),
            cuts => cuts,
        };
        Self { tail: Some(tail), cuts, depth: (*self.depth.start()).min(most)..=most, ..self }
    }

    pub(crate) fn fault(mut self, at: Duration, fault: Fault) -> Self {
        self.faults.push((at, fault));
        self
    }

    /// Whether all edges' batches train one model, or one server-side half.
    pub(crate) fn has_one_model(&self) -> bool {
        self.topology != Topology::ReplicaPerEdge
    }

    /// Steps of one edge before another's.
    pub(crate) fn turn(&self) -> u32 {
        if self.topology == Topology::HandedOn { self.steps } else { 1 }
    }

    /// Runs it.
    ///
    /// # Panics
    /// If the run hangs, never ends, or counts a step twice; prints the scenario then.
    pub(crate) fn run(&self) -> Report {
        let _replay = Replay(self);
        self.simulate()
    }

    fn simulate(&self) -> Report {
        World::new(self.clone(), MODEL.clone()).run()
    }

    /// Runs it, which must give the model that undisturbed training in one place gives.
    pub(crate) fn run_exactly(&self) -> Report {
        let _replay = Replay(self);
        let report = self.simulate();
        let expected = self.expected(&MODEL, self.rounds, &report.common_cuts());
        match &report.outcome {
            Outcome::Finished { state, rounds, .. } => {
                assert_eq!(*rounds, self.rounds, "every round counts");
                assert!(bits(state) == bits(&expected), "the final model is not the undisturbed one");
            }
            Outcome::Aborted { reason } => panic!("the run was aborted: {reason}"),
        }
        report
    }

    pub(crate) fn initial(&self, model: &FakeModel) -> LayerState {
        let seed = if self.given { !self.seed } else { self.seed };
        LayerState::initial(&model.spec, 0..model.spec.len(), MOMENTS, seed)
    }

    /// What is left of so many samples to train on.
    pub(crate) fn trained_on(&self, samples: u64) -> u64 {
        samples - self.holdout.map_or(0, |share| held_out(samples, share))
    }

    /// How good the global model is after a round (from 0): by turns good and bad.
    pub(crate) fn accuracy(&self, round: u32) -> f64 {
        if (round / self.aggregate_every).is_multiple_of(2) { 0.9 } else { 0.1 }
    }

    /// How many of so many samples it gets right then.
    pub(crate) fn correct(&self, round: u32, samples: u64) -> u64 {
        (self.accuracy(round) * samples as f64).round() as u64
    }

    pub(crate) fn settings(&self, model: &FakeModel, run: u32) -> Settings {
        Settings {
            session: u64::from(run),
            seed: self.seed,
            spec: model.spec.clone(),
            class_names: None,
            standardization: self.standardization,
            evaluation: self.holdout.map_or(Evaluation::Cloud, |holdout| Evaluation::Edges { holdout }),
            optimizer: Optimizer::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0 },
            batch_size: self.batch_size(),
            steps_per_round: self.steps,
            aggregate_every: self.aggregate_every,
            max_rounds: self.rounds,
            target_accuracy: self.target_accuracy,
            reset_moments: self.reset_moments,
            topology: self.topology,
            labels_stay: self.tail.is_some(),
            tail: self.tail,
            cuts: self.cuts,
            depth: self.depth.clone(),
            replan: Replan::EveryRound,
            deadline: self.deadline,
            objective: Objective::Deepest,
            margin: 0.15,
            stragglers: self.stragglers,
            min_edges: self.min_edges,
            gather_timeout: Duration::from_secs(30),
            quorum: self.quorum,
            rejoin_window: REJOIN_WINDOW,
            checkpoint_every: self.aggregate_every,
            activations: Codec::F32.into(),
            gradients: Codec::F32,
            in_flight: self.in_flight,
            workers: self.workers,
            capacity: self.capacity,
            cloud_profile: device(),
        }
    }
}

impl Report {
    /// How edges came back, in order.
    pub(crate) fn recoveries(&self) -> Vec<(&str, Recovery)> {
        let recoveries = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::EdgeResumed { edge, how, .. } => Some((edge.as_str(), *how)),
            _ => None,
        });
        recoveries.collect()
    }

    /// The first edge's cut in each round that counts.
    pub(crate) fn common_cuts(&self) -> BTreeMap<u32, usize> {
        let cuts = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::Planned { round, edges, .. } => Some((round - 1, edges.first()?.cut as usize)),
            _ => None,
        });
        cuts.collect()
    }

    /// When an event of some kind first happened.
    pub(crate) fn first(&self, is_it: impl Fn(&EventKind) -> bool) -> Duration {
        let event = self.events.iter().find(|event| is_it(&event.kind));
        Duration::from_secs_f64(event.expect("it happens in every run").at)
    }

    /// When the last edge had joined.
    pub(crate) fn gathered_at(&self) -> Duration {
        self.first(|kind| matches!(kind, EventKind::ModelDetermined { .. }))
    }

    /// When the first round began.
    pub(crate) fn trained_at(&self) -> Duration {
        self.first(|kind| matches!(kind, EventKind::Planned { .. }))
    }

    pub(crate) fn aborted(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Aborted { reason } => Some(reason),
            Outcome::Finished { .. } => None,
        }
    }
}

/// A state's values as bits, so that every difference counts.
pub(crate) fn bits(state: &LayerState) -> Vec<u32> {
    state.values.iter().map(|value| value.to_bits()).collect()
}

/// A device whose layers take a millisecond and more.
pub(crate) fn device() -> DeviceProfile {
    let line = Line { per_flop: 1e-6, per_byte: 0.0, fixed: 1e-3 };
    let other = Some(KindModel { forward: line, backward: line });
    DeviceProfile { source: "simulated".into(), other, ..DeviceProfile::default() }
}
