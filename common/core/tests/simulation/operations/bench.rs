//! A coordinator with well-behaved edges around it, one operation after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use partway_core::codec::Codec;
use partway_core::coordinator::{
    Action, Computed, ConnectionId, Coordinator, Job, Received, Replica, Settings,
};
use partway_core::event::{Event, EventKind};
use partway_core::model::{LayerState, state::state_len};
use partway_core::standardize::Transform;
use partway_core::statistics::ChannelStatistics;
use partway_core::wire::{
    CloudMessage, EdgeMessage, RoundPlan, Score, StartFrom, TensorHeader, TensorKind, TensorMessage, message,
};

use super::request;
use super::stepped::{spoiled, state, stepped};
use crate::fake_model::{FakeModel, MOMENTS};
use crate::scenario::{LAYERS, REJOIN_WINDOW};

/// More than any one operation asks for.
const MOST_ACTIONS: usize = 60;

/// The edges' names; none must be empty.
pub(super) const NAMES: [&str; 4] = ["attic", "barn", "cellar", ""];

/// One operation. Connections and jobs are picked by number, modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Operation {
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

/// The far end of a connection, which does what it should when it is asked to proceed.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other, not one state")]
pub(super) struct Peer {
    name: usize,
    asked: bool,
    owes_statistics: Option<Transform>,
    owes_ready: bool,
    /// A global model that it has to evaluate.
    pub(super) owes_score: Option<u32>,
    pub(super) plan: Option<RoundPlan>,
    /// The cut of the round before.
    before: u32,
    step: u32,
    /// Micro-batches of that step that it has sent, and again.
    sent: u32,
    /// Whether the activations of that step's last layers have come.
    passed: bool,
    ended: bool,
}

/// The coordinator with everything around it.
pub(super) struct Bench {
    pub(super) coordinator: Coordinator,
    model: FakeModel,
    now: Duration,
    timer: Option<Duration>,
    pub(super) peers: BTreeMap<u64, Peer>,
    connections: u64,
    jobs: Vec<Job>,
    given: Vec<Computed>,
    /// Each plan that an edge, by its name, was given: round and attempt.
    plans: BTreeSet<(usize, u32, u32)>,
    /// Each replica's layers.
    placed: BTreeMap<Replica, Range<usize>>,
    /// Labels on the edge: where its last layers begin.
    tail: Option<usize>,
    pub(super) finished: bool,
    pub(super) events: Vec<EventKind>,
    /// The layers that edges were sent.
    pub(super) blocks: Vec<TensorMessage>,
    /// Why edges were turned away.
    pub(super) refused: Vec<String>,
}

impl Bench {
    pub(super) fn new(settings: Settings) -> Self {
        let mut bench = Self {
            tail: settings.tail,
            coordinator: Coordinator::new(Duration::ZERO, settings, None),
            model: FakeModel::new(),
            now: Duration::ZERO,
            timer: None,
            peers: BTreeMap::new(),
            connections: 0,
            jobs: Vec::new(),
            given: Vec::new(),
            plans: BTreeSet::new(),
            placed: BTreeMap::new(),
            finished: false,
            events: Vec::new(),
            blocks: Vec::new(),
            refused: Vec::new(),
        };
        bench.act();
        bench
    }

    fn pick(&self, number: usize) -> Option<u64> {
        self.peers.keys().nth(number % self.peers.len().max(1)).copied()
    }

    pub(super) fn operate(&mut self, operation: Operation) {
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
                if let Some(computed) = spoiled(&self.jobs[at], |job| self.compute(job)) {
                    self.jobs.remove(at);
                    self.coordinator.handle_computed(self.now, computed);
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

    /// Finishes the first of the jobs of some kind.
    pub(super) fn finish(&mut self, is_it: impl Fn(&Job) -> bool) {
        let number = self.first(is_it);
        self.operate(Operation::Finish(number));
    }

    /// The first of the jobs of some kind.
    pub(super) fn first(&self, is_it: impl Fn(&Job) -> bool) -> usize {
        self.jobs.iter().position(is_it).expect("there is such a job")
    }

    /// Finishes all jobs.
    pub(super) fn finish_all(&mut self) {
        while !self.jobs.is_empty() {
            self.operate(Operation::Finish(0));
        }
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
            if let Action::Send { message, .. } = &action {
                assert!(message::encode(message).is_ok(), "{message:?} cannot be sent");
            }
            match action {
                Action::Send { message: CloudMessage::Refused { reason }, .. } => self.refused.push(reason),
                Action::Send { to, message } => self.hear(to.0, message),
                Action::SendTensor { to, tensor, .. } if tensor.header.kind == TensorKind::Model => {
                    if let Some(peer) = self.peers.get_mut(&to.0) {
                        peer.owes_score = Some(tensor.header.round);
                    }
                }
                Action::SendTensor { tensor, .. } if tensor.header.kind == TensorKind::State => {
                    self.blocks.push(tensor);
                }
                Action::SendTensor { to, tensor, .. } => {
                    if let Some(peer) = self.peers.get_mut(&to.0)
                        && tensor.header.kind.is_of_a_step()
                        && peer.plan.is_some_and(|plan| {
                            (plan.round, plan.attempt) == (tensor.header.round, tensor.header.attempt)
                        })
                    {
                        let header = tensor.header;
                        let parts = peer.plan.map_or(1, |plan| plan.in_flight);
                        let (is_last, forward) = (
                            u32::from(header.micro_batch) + 1 == parts,
                            header.kind == TensorKind::TailActivations,
                        );
                        peer.passed = if forward { peer.passed || is_last } else { peer.passed && !is_last };
                        peer.step = header.step + u32::from(!forward && is_last);
                        peer.sent *= u32::from(!is_last);
                    }
                }
                Action::Compute(Job::Place { replica, layers, .. }) => {
                    self.placed.insert(replica, layers);
                }
                Action::SetTimer(at) => self.timer = at,
                Action::Close { connection, .. } => {
                    self.peers.remove(&connection.0);
                    self.coordinator.handle_disconnect(self.now, connection);
                }
                Action::Emit(event) => {
                    // A number that is not finite would be written as one that cannot be read.
                    let line = serde_json::to_string(&event).expect("events are JSON");
                    assert!(serde_json::from_str::<Event>(&line).is_ok(), "nobody can read {line}");
                    self.events.push(event.kind);
                }
                Action::Compute(Job::Discard { .. }) | Action::Checkpoint(_) => {}
                Action::Compute(job) => self.jobs.push(job),
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
                peer.owes_ready = assignment.standardizer.is_some();
                peer.owes_statistics = assignment.standardizer.is_none().then_some(assignment.measure);
            }
            CloudMessage::Measure(of) => peer.owes_statistics = Some(of),
            CloudMessage::Standardize(_) => peer.owes_ready = true,
            CloudMessage::Round(plan) => {
                let is_new = self.plans.insert((peer.name, plan.round, plan.attempt));
                assert!(is_new, "edge {} has had another {plan:?}", NAMES[peer.name]);
                peer.before = peer
                    .plan
                    .map_or(0, |before| if before.round == plan.round { peer.before } else { before.cut });
                (peer.plan, peer.step, peer.sent) = (Some(plan), 0, 0);
                (peer.passed, peer.ended) = (false, false);
            }
            CloudMessage::HandIn { round, attempt } => {
                let plan = peer.plan.as_mut().filter(|plan| (plan.round, plan.attempt) == (round, attempt));
                if let Some(plan) = plan {
                    peer.ended &= std::mem::replace(&mut plan.aggregate, true);
                }
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
        } else if let Some(of) = peer.owes_statistics.take() {
            let mut values = [0.0, 1.0, 4.0];
            of.apply(&mut values, 3).expect("one channel");
            let mut channel = ChannelStatistics::default();
            channel.push_all(&values);
            self.say(connection, EdgeMessage::Statistics { of, channels: vec![channel] });
        } else if std::mem::take(&mut peer.owes_ready) {
            self.say(connection, EdgeMessage::Ready { downlink: None, evaluates_not: None });
        } else if let Some(round) = peer.owes_score.take() {
            // Two of twenty samples are held out.
            let result = Ok(Score { correct: u64::from(round % 3), loss_sum: 0.5, samples: 2 });
            self.say(connection, EdgeMessage::Evaluated { round, result });
        } else if let Some(plan) = peer.plan {
            let (step, passed, before, ended) = (peer.step, peer.passed, peer.before, peer.ended);
            let local = plan.cut as usize == self.tail.unwrap_or(LAYERS);
            let sent = peer.sent;
            peer.sent += 1;
            if step == 0 && plan.start == (StartFrom::Own { upload_moved: true }) {
                self.send(connection, state(&self.model.spec, &plan, 0, plan.cut as usize..before as usize));
            }
            if step < plan.steps && !local {
                let kind = if passed { TensorKind::TailGradient } else { TensorKind::Activations };
                let ids = TensorHeader::new(kind, Codec::F32);
                let micro_batch = (sent % plan.in_flight) as u16;
                let (round, attempt) = (plan.round, plan.attempt);
                let header = TensorHeader { round, attempt, step, micro_batch, ..ids };
                let labels = if self.tail.is_some() { &[][..] } else { &[1] };
                self.send(connection, TensorMessage::encode(header, vec![1.0], labels));
            } else if !ended {
                if let Some(peer) = self.peers.get_mut(&connection) {
                    peer.ended = true;
                }
                if plan.aggregate && plan.cut > 0 {
                    self.send(connection, state(&self.model.spec, &plan, plan.steps, 0..plan.cut as usize));
                }
                if let Some(tail) = self.tail.filter(|_| plan.aggregate) {
                    self.send(connection, state(&self.model.spec, &plan, plan.steps, tail..LAYERS));
                }
                let RoundPlan { round, attempt, .. } = plan;
                self.say(connection, EdgeMessage::RoundDone { round, attempt, peak_rss_bytes: 0 });
            }
        }
    }

    fn compute(&self, job: Job) -> Option<Computed> {
        Some(match job {
            Job::Place { .. } | Job::Discard { .. } => return None,
            Job::Step(job) => stepped(job),
            Job::Export { replica, round, attempt } => {
                let layers = self.placed.get(&replica).expect("only placed replicas are exported").clone();
                let values = vec![0.5; state_len(&self.model.spec, layers.clone(), MOMENTS)];
                let state = LayerState { layers, moments: MOMENTS, values };
                Computed::Exported { replica, round, attempt, state }
            }
            Job::Aggregate { round, models, .. } => {
                let state = self.model.average(models);
                Computed::Aggregated { round, state }
            }
            Job::Evaluate { round, state, .. } => {
                let accuracy = 0.1 * f64::from(round);
                Computed::Evaluated { round, state, accuracy, loss: 1.0, samples: 1 }
            }
        })
    }

    /// Everybody leaves, everything that was begun is computed, every timer fires.
    pub(super) fn wind_down(&mut self) {
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
