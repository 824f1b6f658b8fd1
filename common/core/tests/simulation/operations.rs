//! Lists of random operations against the coordinator alone: well-behaved edges, edges that send
//! anything at any time, results in any order. It never panics, never asks for more than a bounded
//! number of things, and ends once everybody is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use partway_core::aggregate;
use partway_core::codec::Codec;
use partway_core::coordinator::{
    Action, Computed, ConnectionId, Coordinator, Job, Received, Replica, Settings, Topology,
};
use partway_core::link::Transfer;
use partway_core::model::{LayerState, state::state_len};
use partway_core::statistics::ChannelStatistics;
use partway_core::wire::{
    CloudMessage, EdgeMessage, PROTOCOL_VERSION, ResumePoint, RoundPlan, StartFrom, StepReport, TensorHeader,
    TensorKind, TensorMessage, TrainingRequest,
};
use proptest::prelude::*;

use crate::fake_model::{FakeModel, MOMENTS};
use crate::scenario::{LAYERS, REJOIN_WINDOW, Scenario, device};

const NAMES: [&str; 4] = ["attic", "barn", "cellar", ""];

/// More than any one operation asks for.
const MOST_ACTIONS: usize = 60;

/// Longer than any coordinator of this size prints itself.
const MOST_BYTES: usize = 1 << 20;

/// One operation. Connections and jobs are picked by number, modulo how many there are.
#[derive(Clone, Debug)]
enum Operation {
    Connect,
    Disconnect(usize),
    /// What an honest edge does next.
    Proceed(usize),
    /// The result of a job that was asked for.
    Finish(usize),
    /// A result that was given before.
    Repeat(usize),
    /// A job goes wrong.
    Spoil(usize),
    Wait(u64),
    Say(usize, EdgeMessage),
    Send(usize, TensorMessage),
    Malformed(usize),
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(0.01), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e300), 0.0..1.0]
}

fn transfer() -> impl Strategy<Value = Transfer> {
    (any::<u64>(), number(), proptest::option::of(number())).prop_map(|(bytes, seconds, paced_at)| Transfer {
        bytes,
        seconds,
        paced_at,
    })
}

/// Round, attempt and step: mostly such as there are.
fn ids() -> impl Strategy<Value = (u32, u32, u32)> {
    prop_oneof![9 => (0..4u32, 0..3u32, 0..4u32), 1 => any::<(u32, u32, u32)>()]
}

fn resume() -> impl Strategy<Value = ResumePoint> {
    let place = || proptest::option::of(ids().prop_map(|(round, attempt, _)| (round, attempt)));
    (1..3u64, place(), any::<bool>(), place()).prop_map(|(session, completed, prepared, live)| ResumePoint {
        session,
        completed,
        prepared,
        live,
    })
}

fn message() -> impl Strategy<Value = EdgeMessage> {
    let channel = (any::<u64>(), number(), number(), number(), number())
        .prop_map(|(count, mean, m2, min, max)| ChannelStatistics { count, mean, m2, min, max });
    let report = (number(), number(), number(), proptest::option::of(transfer()));
    prop_oneof![
        (0..NAMES.len(), 0..3u64, proptest::option::of(resume())).prop_map(|(name, samples, resume)| {
            EdgeMessage::TrainingRequest(TrainingRequest { resume, ..request(NAMES[name], 20 + samples) })
        }),
        proptest::collection::vec(channel, 0..3).prop_map(EdgeMessage::Statistics),
        proptest::option::of(transfer()).prop_map(|downlink| EdgeMessage::Ready { downlink }),
        Just(EdgeMessage::Declined { reason: "no".into() }),
        (ids(), report, 0..100usize).prop_map(|((round, attempt, step), times, count)| {
            let (forward_s, backward_s, latency_s, downlink) = times;
            let report = StepReport { step, forward_s, backward_s, latency_s, downlink, local: None };
            EdgeMessage::StepsDone { round, attempt, reports: vec![report; count] }
        }),
        ids().prop_map(|(round, attempt, _)| EdgeMessage::RoundDone { round, attempt, peak_rss_bytes: 1 }),
    ]
}

fn tensor() -> impl Strategy<Value = TensorMessage> {
    let layers = (0..=LAYERS as u16 + 1, 0..=LAYERS as u16 + 1);
    let kind = prop_oneof![
        4 => Just(TensorKind::State),
        4 => Just(TensorKind::Activations),
        1 => Just(TensorKind::Probe),
        1 => Just(TensorKind::CutGradient)
    ];
    let value = prop_oneof![9 => Just(0.5f32), 1 => Just(f32::NAN)];
    (kind, ids(), layers, any::<bool>(), value, any::<bool>()).prop_map(
        |(kind, (round, attempt, step), (left, right), fits, value, half)| {
            let (first_layer, last_layer) = (left.min(right), left.max(right));
            let spec = FakeModel::new().spec;
            let layers = usize::from(first_layer)..usize::from(last_layer).min(LAYERS);
            let values = if fits && !layers.is_empty() { state_len(&spec, layers, MOMENTS) } else { 3 };
            let codec = if half { Codec::F16 } else { Codec::F32 };
            let header = TensorHeader {
                round,
                attempt,
                step,
                first_layer,
                last_layer,
                ..TensorHeader::new(kind, codec)
            };
            TensorMessage::encode(header, vec![value; values], &[1])
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => Just(Operation::Connect),
        1 => any::<usize>().prop_map(Operation::Disconnect),
        30 => any::<usize>().prop_map(Operation::Proceed),
        20 => any::<usize>().prop_map(Operation::Finish),
        2 => any::<usize>().prop_map(Operation::Repeat),
        1 => any::<usize>().prop_map(Operation::Spoil),
        1 => (0..40_000u64).prop_map(Operation::Wait),
        2 => (any::<usize>(), message()).prop_map(|(to, message)| Operation::Say(to, message)),
        2 => (any::<usize>(), tensor()).prop_map(|(to, tensor)| Operation::Send(to, tensor)),
        1 => any::<usize>().prop_map(Operation::Malformed),
    ]
}

fn request(name: &str, samples: u64) -> TrainingRequest {
    TrainingRequest {
        version: PROTOCOL_VERSION,
        name: name.into(),
        samples,
        labels: vec![samples],
        shape: [1, 2, 2],
        profile: device(),
        memory_limit: None,
        uplink_hint: None,
        resume: None,
    }
}

/// The far end of a connection, which does what it should when it is asked to proceed.
#[derive(Debug, Default)]
struct Peer {
    name: usize,
    asked: bool,
    owes_statistics: bool,
    owes_ready: bool,
    plan: Option<RoundPlan>,
    /// The cut of the round before.
    before: u32,
    step: u32,
    ended: bool,
}

/// The coordinator with everything around it.
struct Bench {
    coordinator: Coordinator,
    model: FakeModel,
    now: Duration,
    timer: Option<Duration>,
    peers: BTreeMap<u64, Peer>,
    connections: u64,
    jobs: Vec<Job>,
    given: Vec<Computed>,
    /// Where each replica's layers begin.
    placed: BTreeMap<Replica, usize>,
    finished: bool,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut bench = Self {
            coordinator: Coordinator::new(Duration::ZERO, settings, None),
            model: FakeModel::new(),
            now: Duration::ZERO,
            timer: None,
            peers: BTreeMap::new(),
            connections: 0,
            jobs: Vec::new(),
            given: Vec::new(),
            placed: BTreeMap::new(),
            finished: false,
        };
        bench.act();
        bench
    }

    fn pick(&self, number: usize) -> Option<u64> {
        self.peers.keys().nth(number % self.peers.len().max(1)).copied()
    }

    fn operate(&mut self, operation: Operation) {
        self.now += Duration::from_millis(1);
        match operation {
            Operation::Connect => {
                self.connections += 1;
                let name = self.connections as usize % 3;
                self.peers.insert(self.connections, Peer { name, ..Peer::default() });
                self.coordinator.handle_connected(self.now, ConnectionId(self.connections));
            }
            Operation::Disconnect(number) => {
                if let Some(connection) = self.pick(number) {
                    self.peers.remove(&connection);
                    self.coordinator.handle_disconnect(self.now, ConnectionId(connection));
                }
            }
            Operation::Proceed(number) => {
                if let Some(connection) = self.pick(number) {
                    self.proceed(connection);
                }
            }
            Operation::Finish(number) if !self.jobs.is_empty() => {
                let job = self.jobs.remove(number % self.jobs.len());
                if let Some(computed) = self.compute(job) {
                    self.given.push(computed.clone());
                    self.coordinator.handle_computed(self.now, computed);
                }
            }
            Operation::Repeat(number) if !self.given.is_empty() => {
                let computed = self.given[number % self.given.len()].clone();
                self.coordinator.handle_computed(self.now, computed);
            }
            Operation::Spoil(number) if !self.jobs.is_empty() => {
                let at = number % self.jobs.len();
                if let Job::Step(step) = self.jobs[at].clone() {
                    self.jobs.remove(at);
                    let (edge, round, attempt) = (step.edge, step.round, step.attempt);
                    let rejected = Computed::Rejected { edge, round, attempt, reason: "NaN".into() };
                    self.coordinator.handle_computed(self.now, rejected);
                }
            }
            Operation::Finish(_) | Operation::Repeat(_) | Operation::Spoil(_) => {}
            Operation::Wait(ms) => {
                self.now += Duration::from_millis(ms);
                if self.timer.is_some_and(|at| at <= self.now) {
                    self.timer = None;
                    self.coordinator.handle_timeout(self.now);
                }
            }
            Operation::Say(number, message) => {
                if let Some(connection) = self.pick(number) {
                    self.say(connection, message);
                }
            }
            Operation::Send(number, tensor) => {
                if let Some(connection) = self.pick(number) {
                    self.send(connection, tensor);
                }
            }
            Operation::Malformed(number) => {
                if let Some(connection) = self.pick(number) {
                    self.coordinator.handle_malformed(self.now, ConnectionId(connection), "noise");
                }
            }
        }
        self.act();
    }

    fn say(&mut self, connection: u64, message: EdgeMessage) {
        self.coordinator.handle_message(self.now, ConnectionId(connection), message);
    }

    fn send(&mut self, connection: u64, tensor: TensorMessage) {
        let received = Received { seconds: 0.01, rtt_s: 0.01 };
        self.coordinator.handle_tensor(self.now, ConnectionId(connection), tensor, received);
    }

    /// Takes what the coordinator asks for.
    fn act(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.coordinator.poll_action() {
            actions += 1;
            assert!(actions < MOST_ACTIONS, "one operation asks for more and more");
            assert!(!self.finished, "{action:?} follows the end");
            match action {
                Action::Send { to, message } => self.hear(to.0, message),
                Action::SendTensor { to, tensor, .. } => {
                    if let Some(peer) = self.peers.get_mut(&to.0)
                        && tensor.header.kind == TensorKind::CutGradient
                        && peer.plan.is_some_and(|plan| {
                            (plan.round, plan.attempt) == (tensor.header.round, tensor.header.attempt)
                        })
                    {
                        peer.step = tensor.header.step + 1;
                    }
                }
                Action::Compute(Job::Place { replica, from, .. }) => {
                    self.placed.insert(replica, from);
                }
                Action::Compute(job) => self.jobs.push(job),
                Action::SetTimer(at) => self.timer = at,
                Action::Close { connection, .. } => {
                    self.peers.remove(&connection.0);
                    self.coordinator.handle_disconnect(self.now, connection);
                }
                Action::Checkpoint(_) | Action::Emit(_) => {}
                Action::Finish(_) => self.finished = true,
            }
        }
        let waits = self.timer.is_some() || !self.jobs.is_empty() || !self.peers.is_empty();
        assert!(self.finished || waits, "nothing can wake it");
    }

    fn hear(&mut self, connection: u64, message: CloudMessage) {
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        match message {
            CloudMessage::Assignment(assignment) => {
                peer.owes_statistics = assignment.standardizer.is_none();
                peer.owes_ready = !peer.owes_statistics;
            }
            CloudMessage::Standardize(_) => peer.owes_ready = true,
            CloudMessage::Round(plan) => {
                peer.before = peer
                    .plan
                    .map_or(0, |before| if before.round == plan.round { peer.before } else { before.cut });
                (peer.plan, peer.step, peer.ended) = (Some(plan), 0, false);
            }
            _ => {}
        }
    }

    /// Does what is next for an honest edge.
    fn proceed(&mut self, connection: u64) {
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        if !peer.asked {
            peer.asked = true;
            let request = request(NAMES[peer.name], 20);
            self.say(connection, EdgeMessage::TrainingRequest(request));
        } else if std::mem::take(&mut peer.owes_statistics) {
            let mut channel = ChannelStatistics::default();
            channel.push_all(&[0.0, 1.0, 4.0]);
            self.say(connection, EdgeMessage::Statistics(vec![channel]));
        } else if std::mem::take(&mut peer.owes_ready) {
            self.say(connection, EdgeMessage::Ready { downlink: None });
        } else if let Some(plan) = peer.plan {
            let (step, before, ended) = (peer.step, peer.before, peer.ended);
            let local = plan.cut as usize == LAYERS;
            if step == 0 && plan.start == (StartFrom::Own { upload_moved: true }) {
                self.send(connection, self.state(&plan, 0, plan.cut as usize..before as usize));
            }
            if step < plan.steps && !local {
                let ids = TensorHeader::new(TensorKind::Activations, Codec::F32);
                let header = TensorHeader { round: plan.round, attempt: plan.attempt, step, ..ids };
                self.send(connection, TensorMessage::encode(header, vec![1.0], &[1]));
            } else if !ended {
                if let Some(peer) = self.peers.get_mut(&connection) {
                    peer.ended = true;
                }
                if plan.aggregate && plan.cut > 0 {
                    self.send(connection, self.state(&plan, plan.steps, 0..plan.cut as usize));
                }
                let RoundPlan { round, attempt, .. } = plan;
                self.say(connection, EdgeMessage::RoundDone { round, attempt, peak_rss_bytes: 0 });
            }
        }
    }

    fn state(&self, plan: &RoundPlan, step: u32, layers: std::ops::Range<usize>) -> TensorMessage {
        let header = TensorHeader {
            round: plan.round,
            attempt: plan.attempt,
            step,
            first_layer: layers.start as u16,
            last_layer: layers.end.max(layers.start) as u16,
            ..TensorHeader::new(TensorKind::State, Codec::F32)
        };
        let values = state_len(&self.model.spec, layers.start..layers.end.max(layers.start), MOMENTS);
        TensorMessage::encode(header, vec![0.25; values], &[])
    }

    fn compute(&self, job: Job) -> Option<Computed> {
        Some(match job {
            Job::Place { .. } => return None,
            Job::Step(step) => {
                let ids = TensorHeader::new(TensorKind::CutGradient, step.gradients);
                let (round, attempt) = (step.round, step.attempt);
                let header = TensorHeader { round, attempt, step: step.step, ..ids };
                Computed::Stepped {
                    edge: step.edge,
                    round,
                    attempt,
                    step: step.step,
                    reply: TensorMessage::encode(header, vec![1.0], &[]),
                    loss: 1.0,
                    correct: 1,
                    seconds: 0.01,
                }
            }
            Job::Export { replica, round, attempt } => {
                let from = *self.placed.get(&replica).expect("only placed replicas are exported");
                let values = vec![0.5; state_len(&self.model.spec, from..LAYERS, MOMENTS)];
                let state = LayerState { layers: from..LAYERS, moments: MOMENTS, values };
                Computed::Exported { replica, round, attempt, state }
            }
            Job::Aggregate { round, parts, .. } => {
                let whole: Vec<(f64, LayerState)> = parts
                    .into_iter()
                    .map(|(weight, mut lower, upper)| {
                        if let Some(upper) = upper {
                            lower.append(upper);
                        }
                        (weight, lower)
                    })
                    .collect();
                let parts: Vec<(f64, &LayerState)> =
                    whole.iter().map(|(weight, state)| (*weight, state)).collect();
                let state = aggregate::average(&self.model.spec, &parts).expect("whole finite models");
                Computed::Aggregated { round, state }
            }
            Job::Evaluate { round, .. } => {
                Computed::Evaluated { round, accuracy: 0.1 * f64::from(round), loss: 1.0, samples: 1 }
            }
        })
    }

    /// Everybody leaves, everything that was begun is computed, every timer fires.
    fn wind_down(&mut self) {
        for _ in 0..1000 {
            if self.finished {
                return;
            }
            if !self.peers.is_empty() {
                self.operate(Operation::Disconnect(0));
            } else if !self.jobs.is_empty() {
                self.operate(Operation::Finish(0));
            } else {
                self.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
            }
        }
        panic!("everybody is gone, and it still goes on");
    }
}

fn two_edges(quorum: f64) -> Bench {
    let scenario = Scenario { quorum, min_edges: 2, steps: 2, ..Scenario::new(1) };
    let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
    for operation in [Operation::Connect, Operation::Connect, Operation::Proceed(0), Operation::Proceed(1)] {
        bench.operate(operation);
    }
    bench
}

#[test]
fn data_that_cannot_be_standardized_concerns_its_own_edge_only() {
    let mut bench = two_edges(0.5);
    bench.operate(Operation::Proceed(0));
    let nothing = vec![ChannelStatistics { mean: f64::NAN, count: 1, ..ChannelStatistics::default() }];
    bench.operate(Operation::Say(1, EdgeMessage::Statistics(nothing)));
    assert!(!bench.finished && bench.peers.len() == 1);
    bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
    bench.operate(Operation::Proceed(0));
    assert!(bench.peers[&1].plan.is_some(), "the other edge trains");
}

#[test]
fn a_link_that_is_said_to_be_absurd_stops_nobody() {
    for (bytes, seconds) in [(1, 1e30), (u64::MAX, 1e-30)] {
        let mut bench = two_edges(1.0);
        bench.operate(Operation::Proceed(0));
        bench.operate(Operation::Proceed(1));
        let downlink = Some(Transfer { bytes, seconds, paced_at: None });
        bench.operate(Operation::Say(0, EdgeMessage::Ready { downlink }));
        bench.operate(Operation::Proceed(1));
        let training = bench.peers.values().filter(|peer| peer.plan.is_some()).count();
        assert_eq!(training, 2, "both train");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_list_of_operations_breaks_the_coordinator(
        operations in proptest::collection::vec(operation(), 0..300),
        shared in any::<bool>(),
        seed in any::<u64>(),
        target in proptest::option::of(0.0..0.5),
    ) {
        let base = if shared { Scenario::centralized(seed) } else { Scenario::new(seed).any_depth() };
        let scenario = Scenario {
            quorum: 0.3,
            min_edges: 2,
            rounds: 4,
            aggregate_every: 2,
            steps: 2,
            target_accuracy: target,
            ..base
        };
        prop_assert_eq!(scenario.topology == Topology::Shared, shared);
        let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
        // Two edges to begin with.
        let begin = [Operation::Connect, Operation::Connect, Operation::Proceed(0), Operation::Proceed(1)];
        for operation in begin.into_iter().chain(operations) {
            bench.operate(operation);
        }
        prop_assert!(format!("{:?}", bench.coordinator).len() < MOST_BYTES, "it keeps too much");
        bench.wind_down();
    }
}
