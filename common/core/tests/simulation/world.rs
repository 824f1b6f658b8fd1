//! The event loop over everything: virtual clock, edges, coordinator, connections, faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use partway_core::coordinator::{self, Checkpoint, ConnectionId, Coordinator, Job, Outcome, Received};
use partway_core::event::Event;
use partway_core::participant::{self, Participant};
use partway_core::wire::{
    CloudMessage, EdgeMessage, PROTOCOL_VERSION, TensorHeader, TensorMessage, TrainingRequest, message,
};

use crate::cloud::{Cloud, Workers};
use crate::edge::{Edge, Folder, Process, Surroundings, Worker};
use crate::fake_model::FakeModel;
use crate::ledger::Ledger;
use crate::network::{Connection, Dice, Link, Pipe};
use crate::scenario::{Fault, PATIENCE, Report, Scenario, device};

/// More events than any of these runs has: a livelock.
const MOST_EVENTS: u64 = 200_000;

/// More actions than one event ever asks for.
const MOST_ACTIONS: usize = 200;

/// Something that crosses a connection.
#[derive(Clone, Debug)]
enum Payload<M> {
    Message(M),
    Tensor(TensorMessage, Duration),
}

#[derive(Clone, Debug)]
enum Happening {
    Connected { connection: u64 },
    ConnectFailed { edge: usize, process: u32 },
    ToCloud { connection: u64, payload: Payload<EdgeMessage> },
    ToEdge { connection: u64, payload: Payload<CloudMessage> },
    CloudNotices { connection: u64 },
    EdgeNotices { connection: u64, reason: String },
    EdgeComputed { edge: usize, process: u32 },
    EdgeTimer { edge: usize, process: u32, timer: u64 },
    CloudTimer { run: u32, timer: u64 },
    ReplicaComputed { run: u32, replica: coordinator::Replica },
    GlobalComputed { run: u32, job: Box<Job> },
    Start { edge: usize },
    StartCloud,
    Fault(Fault),
}

/// Everything.
pub(crate) struct World {
    scenario: Scenario,
    model: Arc<FakeModel>,
    now: Duration,
    dice: Dice,
    queue: BTreeMap<(Duration, u64), Happening>,
    happened: u64,
    edges: Vec<Edge>,
    links: Vec<Link>,
    /// How many times as long as the fastest an edge may take.
    slowness: Vec<u32>,
    unreachable_until: Vec<Duration>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    cloud: Option<Cloud>,
    /// Counts the coordinator's processes.
    run: u32,
    checkpoint: Option<Checkpoint>,
    ledger: Ledger,
    outcome: Option<Outcome>,
    ended_at: Duration,
    events: Vec<Event>,
}

impl World {
    pub(crate) fn new(scenario: Scenario, model: Arc<FakeModel>) -> Self {
        let mut dice = Dice::new(scenario.seed);
        let links = scenario
            .edges
            .iter()
            .map(|_| Link { copies: scenario.copies, ..Link::drawn(&mut dice) })
            .collect();
        let slowness = scenario.edges.iter().map(|_| 1 + dice.below(8) as u32).collect();
        let edges = scenario.edges.iter().map(|setup| Edge {
            name: setup.name.clone(),
            samples: setup.samples,
            memory_limit: setup.memory_limit,
            poison: setup.poison,
            folder: Folder::default(),
            process: None,
            processes: 0,
            outcome: None,
        });
        let mut world = Self {
            model,
            now: Duration::ZERO,
            dice,
            queue: BTreeMap::new(),
            happened: 0,
            edges: edges.collect(),
            links,
            slowness,
            unreachable_until: vec![Duration::ZERO; scenario.edges.len()],
            connections: BTreeMap::new(),
            next_connection: 0,
            cloud: None,
            run: 0,
            checkpoint: None,
            ledger: Ledger::default(),
            outcome: None,
            ended_at: Duration::ZERO,
            events: Vec::new(),
            scenario,
        };
        world.schedule(Duration::ZERO, Happening::StartCloud);
        for edge in 0..world.edges.len() {
            let at = match world.scenario.edges[edge].starts_at {
                Some(at) => at,
                None => world.dice.ms(0, 50),
            };
            world.schedule(at, Happening::Start { edge });
        }
        for (at, fault) in world.scenario.faults.clone() {
            world.schedule(at, Happening::Fault(fault));
        }
        world
    }

    /// Runs until nothing is left to happen.
    ///
    /// # Panics
    /// If the coordinator waits for something that will never come, or something happens without end.
    pub(crate) fn run(mut self) -> Report {
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            self.happened += 1;
            assert!(self.happened < MOST_EVENTS, "this goes on for ever: {happening:?} at {at:?}");
            self.handle(happening);
        }
        let Some(outcome) = self.outcome else {
            panic!("nothing is left to happen, but the run has not ended: {}", self.describe());
        };
        for edge in &self.edges {
            assert!(edge.process.is_none(), "edge {} never ends: {:?}", edge.name, edge.process);
        }
        Report {
            outcome,
            checkpoint: self.checkpoint,
            events: self.events,
            ended_at: self.ended_at,
            edges: self.edges.into_iter().map(|edge| edge.outcome).collect(),
        }
    }

    fn describe(&self) -> String {
        let participants: Vec<_> =
            self.edges.iter().map(|edge| edge.process.as_ref().map(|process| &process.participant)).collect();
        let outcomes: Vec<_> = self.edges.iter().map(|edge| &edge.outcome).collect();
        let coordinator = self.cloud.as_ref().map(|cloud| &cloud.coordinator);
        format!("at {:?}\n{coordinator:#?}\n{participants:#?}\n{outcomes:#?}", self.now)
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.happened += 1;
        self.queue.insert((at, self.happened), happening);
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Connected { connection } => self.connected(connection),
            Happening::ConnectFailed { edge, process } => {
                self.participant(edge, process, |participant, now| {
                    participant.handle_disconnect(now, "nobody listens there");
                });
            }
            Happening::ToCloud { connection, payload } => self.reach_cloud(connection, payload),
            Happening::ToEdge { connection, payload } => self.reach_edge(connection, payload),
            Happening::CloudNotices { connection } => {
                let run = self.connections[&connection].run;
                self.coordinator(run, |coordinator, now| {
                    coordinator.handle_disconnect(now, ConnectionId(connection));
                });
            }
            Happening::EdgeNotices { connection, reason } => {
                let Connection { edge, process, .. } = self.connections[&connection];
                let Some(alive) = self.process(edge, process) else { return };
                if alive.connection == Some(connection) {
                    alive.connection = None;
                    self.participant(edge, process, |participant, now| {
                        participant.handle_disconnect(now, &reason);
                    });
                }
            }
            Happening::EdgeComputed { edge, process } => self.edge_computed(edge, process),
            Happening::EdgeTimer { edge, process, timer } => {
                if self.process(edge, process).is_some_and(|alive| alive.timers == timer) {
                    self.participant(edge, process, Participant::handle_timeout);
                }
            }
            Happening::CloudTimer { run, timer } => {
                if self.cloud.as_ref().is_some_and(|cloud| cloud.timers == timer) {
                    self.coordinator(run, Coordinator::handle_timeout);
                }
            }
            Happening::ReplicaComputed { run, replica } => {
                if run != self.run {
                    return;
                }
                let Some(cloud) = &mut self.cloud else { return };
                let computed = cloud.workers.finish(&replica, &self.model, &mut self.ledger);
                self.coordinator(run, |coordinator, now| {
                    if let Some(computed) = computed {
                        coordinator.handle_computed(now, computed);
                    }
                });
            }
            Happening::GlobalComputed { run, job } => {
                let computed = self.compute_global(*job);
                self.coordinator(run, |coordinator, now| coordinator.handle_computed(now, computed));
            }
            Happening::Start { edge } => self.start_edge(edge),
            Happening::StartCloud => self.start_cloud(),
            Happening::Fault(fault) => self.fault(fault),
        }
    }

    // Edges.

    fn process(&mut self, edge: usize, process: u32) -> Option<&mut Process> {
        let edge = &mut self.edges[edge];
        edge.process.as_mut().filter(|_| edge.processes == process)
    }

    fn start_edge(&mut self, edge: usize) {
        let it = &mut self.edges[edge];
        if it.process.is_some() || self.outcome.is_some() {
            return;
        }
        it.processes += 1;
        it.outcome = None;
        let request = TrainingRequest {
            version: PROTOCOL_VERSION,
            name: it.name.clone(),
            samples: it.samples,
            labels: vec![it.samples, 0, 0],
            shape: self.model.spec.input,
            profile: device(),
            memory_limit: it.memory_limit,
            uplink_hint: None,
            resume: None,
        };
        let participant =
            Participant::new(self.now, request, it.folder.restore(), PATIENCE).with_raw_data(true);
        it.process = Some(Process {
            participant,
            worker: Worker::default(),
            jobs: std::collections::VecDeque::new(),
            connection: None,
            timers: 0,
        });
        let process = it.processes;
        self.participant(edge, process, |_, _| {});
    }

    /// Tells a participant something, then does what it asks for.
    fn participant(&mut self, edge: usize, process: u32, tell: impl FnOnce(&mut Participant, Duration)) {
        let now = self.now;
        let Some(alive) = self.process(edge, process) else { return };
        tell(&mut alive.participant, now);
        for count in 0.. {
            assert!(count < MOST_ACTIONS, "edge {edge} asks for too much");
            let Some(action) = self.process(edge, process).and_then(|alive| alive.participant.poll_action())
            else {
                return;
            };
            self.act_for_edge(edge, process, action);
        }
    }

    fn act_for_edge(&mut self, edge: usize, process: u32, action: participant::Action) {
        let now = self.now;
        match action {
            participant::Action::Connect => self.connect(edge, process),
            participant::Action::Send(message) => self.send_up(edge, process, &message),
            participant::Action::SendTensor { tensor, .. } => self.send_tensor_up(edge, process, tensor),
            participant::Action::Compute(job) => {
                let Some(alive) = self.process(edge, process) else { return };
                alive.jobs.push_back(job);
                if alive.jobs.len() == 1 {
                    self.start_job(edge, process);
                }
            }
            participant::Action::SetTimer(at) => {
                let Some(alive) = self.process(edge, process) else { return };
                alive.timers += 1;
                let timer = alive.timers;
                if let Some(at) = at {
                    self.schedule(at.max(now), Happening::EdgeTimer { edge, process, timer });
                }
            }
            participant::Action::Report(_) => {}
            participant::Action::Finish(outcome) => {
                let connection = self.process(edge, process).and_then(|alive| alive.connection);
                self.edges[edge].process = None;
                self.edges[edge].outcome = Some(outcome);
                if let Some(connection) = connection {
                    let heard = self.connections[&connection].up.busy_until.max(now);
                    let notices = heard + self.dice.ms(1, 30);
                    self.schedule(notices, Happening::CloudNotices { connection });
                }
            }
        }
    }

    fn start_job(&mut self, edge: usize, process: u32) {
        let takes = self.dice.ms(1, 15) * self.slowness[edge];
        self.schedule(self.now + takes, Happening::EdgeComputed { edge, process });
    }

    fn edge_computed(&mut self, edge: usize, process: u32) {
        let (model, ledger) = (&self.model, &mut self.ledger);
        let it = &mut self.edges[edge];
        let Some(alive) = it.process.as_mut().filter(|_| it.processes == process) else { return };
        let Some(job) = alive.jobs.pop_front() else { return };
        let mut around =
            Surroundings { name: &it.name, folder: &mut it.folder, poison: &mut it.poison, model, ledger };
        let computed = alive.worker.handle(&mut around, job);
        let more = !alive.jobs.is_empty();
        if more {
            self.start_job(edge, process);
        }
        self.participant(edge, process, |participant, now| participant.handle_computed(now, computed));
    }

    // The cloud.

    fn start_cloud(&mut self) {
        self.run += 1;
        let settings = self.scenario.settings(&self.model, self.run);
        let coordinator = Coordinator::new(self.now, settings, self.checkpoint.clone());
        let workers = Workers::new(self.scenario.workers);
        if self.checkpoint.is_none() {
            let initial = self.scenario.initial(&self.model);
            self.ledger.begin(&self.model, &initial);
        }
        self.cloud = Some(Cloud { coordinator, workers, timers: 0 });
        self.coordinator(self.run, |_, _| {});
    }

    /// Tells the coordinator something, then does what it asks for.
    fn coordinator(&mut self, run: u32, tell: impl FnOnce(&mut Coordinator, Duration)) {
        let now = self.now;
        let Some(cloud) = self.cloud.as_mut().filter(|_| self.run == run) else { return };
        tell(&mut cloud.coordinator, now);
        for count in 0.. {
            assert!(count < MOST_ACTIONS, "the coordinator asks for too much");
            let Some(action) = self.cloud.as_mut().and_then(|cloud| cloud.coordinator.poll_action()) else {
                break;
            };
            self.act_for_cloud(action);
        }
        let started = self.cloud.as_mut().map(|cloud| cloud.workers.dispatch()).unwrap_or_default();
        for replica in started {
            let takes = self.dice.ms(1, 15);
            self.schedule(now + takes, Happening::ReplicaComputed { run, replica });
        }
    }

    fn act_for_cloud(&mut self, action: coordinator::Action) {
        use coordinator::Action;
        let (now, run) = (self.now, self.run);
        match action {
            Action::Send { to, message } => self.send_down(to.0, &message),
            Action::SendTensor { to, tensor, .. } => self.send_tensor_down(to.0, tensor),
            Action::Compute(job @ (Job::Aggregate { .. } | Job::Evaluate { .. })) => {
                let takes = match job {
                    Job::Evaluate { .. } => {
                        let (least, most) = self.scenario.evaluation_ms;
                        self.dice.ms(least, most)
                    }
                    _ => self.dice.ms(1, 20),
                };
                self.schedule(now + takes, Happening::GlobalComputed { run, job: Box::new(job) });
            }
            Action::Compute(job) => {
                if let Some(cloud) = &mut self.cloud {
                    cloud.workers.submit(job);
                }
            }
            Action::SetTimer(at) => {
                let Some(cloud) = &mut self.cloud else { return };
                cloud.timers += 1;
                let timer = cloud.timers;
                if let Some(at) = at {
                    self.schedule(at.max(now), Happening::CloudTimer { run, timer });
                }
            }
            Action::Checkpoint(checkpoint) => self.checkpoint = Some(checkpoint),
            Action::Emit(event) => self.events.push(event),
            Action::Close { connection, reason } => {
                let Some(at) = self.connections.get(&connection.0) else { return };
                let heard = at.down.busy_until.max(now);
                let heard = heard + self.dice.ms(1, 50);
                self.schedule(heard, Happening::EdgeNotices { connection: connection.0, reason });
                let gone = heard + self.dice.ms(1, 50);
                self.schedule(gone, Happening::CloudNotices { connection: connection.0 });
            }
            Action::Finish(outcome) => {
                self.outcome = Some(outcome);
                self.ended_at = now;
                self.cloud = None;
                for (connection, at) in self.connections.clone() {
                    let heard = at.down.busy_until.max(now) + self.dice.ms(10, 50);
                    let reason = "the run is over".to_owned();
                    self.schedule(heard, Happening::EdgeNotices { connection, reason });
                }
            }
        }
    }

    fn compute_global(&mut self, job: Job) -> coordinator::Computed {
        match job {
            Job::Aggregate { round, parts, reset_moments } => {
                self.check_parts(&parts);
                let mut state = self.model.average(parts);
                if reset_moments {
                    state.reset_moments(&self.model.spec);
                }
                self.ledger.begin(&self.model, &state);
                coordinator::Computed::Aggregated { round, state }
            }
            Job::Evaluate { round, .. } => {
                let accuracy = self.scenario.accuracy(round);
                coordinator::Computed::Evaluated { round, accuracy, loss: 1.0, samples: 10 }
            }
            _ => panic!("workers do the rest"),
        }
    }

    /// Both halves of every contribution have seen the same steps, each once, and its weight counts
    /// exactly these.
    fn check_parts(
        &self,
        parts: &[(f64, partway_core::model::LayerState, Option<partway_core::model::LayerState>)],
    ) {
        for (weight, lower, upper) in parts {
            let mut whole = lower.clone();
            if let Some(upper) = upper.clone() {
                whole.append(upper);
            }
            let steps = self.ledger.steps(&self.model, &whole);
            if !self.scenario.shared() {
                let edge = &steps.first().expect("a contribution without a step").edge;
                assert!(steps.iter().all(|step| step.edge == *edge), "steps of two edges in one replica");
                let samples = self.edges.iter().find(|at| at.name == *edge).map_or(0, |at| at.samples);
                let expected = samples as f64 * steps.len() as f64;
                assert!(
                    (weight - expected).abs() < 1e-9,
                    "edge {edge} has the weight {weight} for {steps:?} with {samples} samples"
                );
            }
        }
    }

    // The network.

    fn connect(&mut self, edge: usize, process: u32) {
        let link = self.links[edge];
        let round_trip = 2 * link.latency + self.dice.between(Duration::ZERO, link.jitter);
        let at = self.now + round_trip;
        if self.cloud.is_none() || self.unreachable_until[edge] > self.now {
            self.schedule(at, Happening::ConnectFailed { edge, process });
            return;
        }
        self.next_connection += 1;
        let connection = self.next_connection;
        let pipe = Pipe::new(at);
        let made = Connection { edge, process, run: self.run, link, up: pipe, down: pipe };
        self.connections.insert(connection, made);
        self.schedule(at, Happening::Connected { connection });
    }

    fn connected(&mut self, connection: u64) {
        let Connection { edge, process, run, up, .. } = self.connections[&connection];
        if self.cloud.is_none() || run != self.run || up.dead_from <= self.now {
            self.handle(Happening::ConnectFailed { edge, process });
            return;
        }
        self.coordinator(run, |coordinator, now| {
            coordinator.handle_connected(now, ConnectionId(connection));
        });
        let Some(alive) = self.process(edge, process) else {
            let notices = self.now + self.dice.ms(1, 2000);
            self.schedule(notices, Happening::CloudNotices { connection });
            return;
        };
        alive.connection = Some(connection);
        self.participant(edge, process, Participant::handle_connected);
    }

    fn send_up(&mut self, edge: usize, process: u32, message: &EdgeMessage) {
        let Some(connection) = self.process(edge, process).and_then(|alive| alive.connection) else { return };
        let bytes = message::encode(message).expect("it is short");
        let message: EdgeMessage = message::decode(&bytes).expect("it was encoded");
        let Some(at) = self.connections.get_mut(&connection) else { return };
        let link = at.link;
        let arrives = at.up.message(self.now, &link, &mut self.dice);
        // An edge that asks twice is turned away: that is no copy's doing.
        let copied = !matches!(message, EdgeMessage::TrainingRequest(_));
        let copy = link.copy(&mut self.dice).filter(|_| copied);
        self.deliver(arrives, copy, Happening::ToCloud { connection, payload: Payload::Message(message) });
    }

    fn send_down(&mut self, connection: u64, message: &CloudMessage) {
        let bytes = message::encode(message).expect("it is short");
        let message: CloudMessage = message::decode(&bytes).expect("it was encoded");
        let Some(at) = self.connections.get_mut(&connection) else { return };
        let link = at.link;
        let arrives = at.down.message(self.now, &link, &mut self.dice);
        let copy = link.copy(&mut self.dice);
        self.deliver(arrives, copy, Happening::ToEdge { connection, payload: Payload::Message(message) });
    }

    fn send_tensor_up(&mut self, edge: usize, process: u32, tensor: TensorMessage) {
        let Some(connection) = self.process(edge, process).and_then(|alive| alive.connection) else { return };
        let link = self.connections[&connection].link;
        let (payload, arrives, copy) = self.tensor(link, tensor);
        self.deliver(arrives, copy, Happening::ToCloud { connection, payload });
    }

    fn send_tensor_down(&mut self, connection: u64, tensor: TensorMessage) {
        let Some(link) = self.connections.get(&connection).map(|at| at.link) else { return };
        let (payload, arrives, copy) = self.tensor(link, tensor);
        self.deliver(arrives, copy, Happening::ToEdge { connection, payload });
    }

    fn tensor<M>(&mut self, link: Link, tensor: TensorMessage) -> (Payload<M>, Duration, Option<Duration>) {
        let header = TensorHeader::decode(&tensor.header.encode()).expect("it was encoded");
        let tensor = TensorMessage { header, ..tensor };
        let takes = link.tensor(tensor.wire_bytes(), &mut self.dice);
        let copy = link.copy(&mut self.dice);
        (Payload::Tensor(tensor, takes), self.now + takes, copy)
    }

    fn deliver(&mut self, at: Duration, copy: Option<Duration>, happening: Happening) {
        if let Some(later) = copy {
            self.schedule(at + later, happening.clone());
        }
        self.schedule(at, happening);
    }

    fn reach_cloud(&mut self, connection: u64, payload: Payload<EdgeMessage>) {
        let Connection { run, up, link, .. } = self.connections[&connection];
        if up.dead_from <= self.now {
            return;
        }
        let from = ConnectionId(connection);
        self.coordinator(run, |coordinator, now| match payload {
            Payload::Message(message) => coordinator.handle_message(now, from, message),
            Payload::Tensor(tensor, took) => {
                let received =
                    Received { seconds: took.as_secs_f64(), rtt_s: 2.0 * link.latency.as_secs_f64() };
                coordinator.handle_tensor(now, from, tensor, received);
            }
        });
    }

    fn reach_edge(&mut self, connection: u64, payload: Payload<CloudMessage>) {
        let Connection { edge, process, down, .. } = self.connections[&connection];
        let Some(alive) = self.process(edge, process) else { return };
        if alive.connection != Some(connection) || down.dead_from <= self.now {
            return;
        }
        self.participant(edge, process, |participant, now| match payload {
            Payload::Message(message) => participant.handle_message(now, message),
            Payload::Tensor(tensor, took) => participant.handle_tensor(now, tensor, took.as_secs_f64()),
        });
    }

    // Faults.

    fn fault(&mut self, fault: Fault) {
        if self.outcome.is_some() {
            return;
        }
        match fault {
            Fault::Cut { edge, unreachable } => {
                self.unreachable_until[edge] = self.unreachable_until[edge].max(self.now + unreachable);
                self.cut(edge, true);
            }
            Fault::Crash { edge, restart, folder_lost } => {
                self.cut(edge, false);
                self.edges[edge].process = None;
                if folder_lost {
                    self.edges[edge].folder = Folder::default();
                }
                if let Some(after) = restart {
                    self.schedule(self.now + after, Happening::Start { edge });
                }
            }
            Fault::Start { edge } => self.start_edge(edge),
            Fault::CrashCloud { restart } if self.cloud.is_some() => {
                self.cloud = None;
                self.run += 1;
                for (connection, at) in self.connections.clone() {
                    if at.run + 1 == self.run {
                        let notices = self.now + self.dice.ms(1, 2000);
                        let reason = "the coordinator is gone".to_owned();
                        self.schedule(notices, Happening::EdgeNotices { connection, reason });
                    }
                }
                self.schedule(self.now + restart, Happening::StartCloud);
            }
            Fault::CrashCloud { .. } => {}
        }
    }

    /// Cuts every connection of an edge: what is on its way arrives up to some moment, then nothing.
    fn cut(&mut self, edge: usize, edge_lives: bool) {
        let now = self.now;
        let mine: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, at)| at.edge == edge && at.up.dead_from == Duration::MAX)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in mine {
            let (up, down) = (now + self.dice.ms(0, 60), now + self.dice.ms(0, 60));
            if let Some(at) = self.connections.get_mut(&connection) {
                at.up.dead_from = up;
                at.down.dead_from = down;
            }
            let cloud_notices = now + self.dice.ms(60, 1000);
            self.schedule(cloud_notices, Happening::CloudNotices { connection });
            if edge_lives {
                let edge_notices = now + self.dice.ms(60, 1000);
                let reason = "timed out".to_owned();
                self.schedule(edge_notices, Happening::EdgeNotices { connection, reason });
            }
        }
    }
}
