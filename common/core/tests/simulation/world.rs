//! The event loop over everything: virtual clock, edges, coordinator, connections, faults.

mod crossing;
mod disasters;
mod processes;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use partway_core::coordinator::{self, Checkpoint, ConnectionId, Coordinator, Job, Outcome};
use partway_core::event::Event;
use partway_core::model::LayerState;
use partway_core::participant::Participant;
use partway_core::wire::{CloudMessage, EdgeMessage, RoundPlan, TensorMessage};

use crate::cloud::Cloud;
use crate::edge::{Edge, Folder};
use crate::fake_model::FakeModel;
use crate::ledger::Ledger;
use crate::network::{Connection, Dice, Link};
use crate::scenario::{Fault, Report, Scenario};

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
    /// The plan that each edge (by its index) was given, by the coordinator's process, round and attempt.
    plans: BTreeMap<(u32, usize, u32, u32), RoundPlan>,
    /// The global models, by the round after which they were made.
    globals: BTreeMap<u32, LayerState>,
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
            checkpoint: scenario.given.then(|| Checkpoint::before_training(scenario.initial(&model))),
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
            ledger: Ledger::new(scenario.turn()),
            plans: BTreeMap::new(),
            globals: BTreeMap::new(),
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
}
