//! The event loop over virtual time: the coordinator, the edges, and the connections between them.

mod connections;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use partway_core::coordinator::{self, ConnectionId, Outcome, Received, Replica};
use partway_core::event::Event;
use partway_core::participant;
use partway_core::wire::{CloudMessage, EdgeMessage, MessageError, TensorMessage, message};
use thiserror::Error;

use super::agenda::Agenda;
use super::cloud::{Cloud, Started};
use super::crew::Crew;
use super::edge::Edge;
use connections::{Connection, HANDSHAKE_TIMEOUT};

/// The least round trip that the two ends of a connection measure.
const LEAST_RTT: Duration = Duration::from_micros(100);
/// What precedes a control message, and a tensor's header and body, on the wire.
const MESSAGE_FRAME: u64 = 4;
const TENSOR_FRAME: u64 = 12;

/// What crosses a connection.
enum Payload<M> {
    Message(M),
    Tensor { tensor: TensorMessage, seconds: f64 },
}

/// What happens at a moment.
enum Happening {
    EdgeConnected {
        connection: u64,
    },
    CloudConnected {
        connection: u64,
    },
    ConnectFailed {
        connection: u64,
    },
    ToCloud {
        connection: u64,
        payload: Payload<EdgeMessage>,
    },
    ToEdge {
        connection: u64,
        payload: Payload<CloudMessage>,
    },
    EdgeNotices {
        connection: u64,
        reason: String,
    },
    CloudNotices {
        connection: u64,
    },
    /// An outage has lasted for as long as a connection may be silent.
    Silence {
        edge: usize,
    },
    /// What was sent has been lost for as long as a connection may be silent.
    Unheard {
        connection: u64,
    },
    EdgeDone {
        edge: usize,
    },
    EdgeTimer {
        edge: usize,
        timer: u64,
    },
    CloudTimer {
        timer: u64,
    },
    ReplicaDone(Replica),
    AggregationDone,
    EvaluationDone,
}

/// Why a run under the virtual clock cannot go on.
#[derive(Debug, Error)]
pub(super) enum WorldError<E> {
    /// What is to be said does not fit a control message.
    #[error("a message cannot be sent: {0}")]
    Message(#[from] MessageError),
    /// Nothing is left to happen.
    #[error("after {} s of virtual time nothing is left to happen, and training is not over", at.as_secs_f64())]
    Stuck {
        /// The virtual time.
        at: Duration,
    },
    /// The observer refuses.
    #[error(transparent)]
    Observer(E),
}

/// What the world tells.
pub(super) trait Observer {
    /// What it may fail with.
    type Error;
    /// The coordinator emitted an event.
    fn event(&mut self, event: &Event) -> Result<(), Self::Error>;
    /// The coordinator wants something durable.
    fn checkpoint(&mut self, checkpoint: &coordinator::Checkpoint) -> Result<(), Self::Error>;
    /// An edge has failed.
    fn edge_failed(&mut self, name: &str, reason: &str);
}

/// Everything.
pub(super) struct World {
    agenda: Agenda<Happening>,
    cloud: Cloud,
    /// In name order.
    edges: Vec<Edge>,
    connections: BTreeMap<u64, Connection>,
    numbered: u64,
    idle_timeout: Duration,
    crew: Crew,
    outcome: Option<Outcome>,
}

impl World {
    pub(super) fn new(cloud: Cloud, edges: Vec<Edge>, idle_timeout: Duration, crew: Crew) -> Self {
        let mut agenda = Agenda::new();
        for (edge, at) in edges.iter().enumerate() {
            for (from, until) in &at.link.outages {
                let silent = from.saturating_add(idle_timeout);
                if silent < *until {
                    agenda.plan(silent, Happening::Silence { edge });
                }
            }
        }
        let connections = BTreeMap::new();
        Self { agenda, cloud, edges, connections, numbered: 0, idle_timeout, crew, outcome: None }
    }

    /// Runs until training ends; `None` if it was interrupted.
    pub(super) fn run<O: Observer>(
        mut self,
        observer: &mut O,
        interrupted: &AtomicBool,
    ) -> Result<Option<Outcome>, WorldError<O::Error>> {
        self.act_cloud(observer)?;
        for edge in 0..self.edges.len() {
            self.act_edge(observer, edge)?;
        }
        while self.outcome.is_none() {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let Some(happening) = self.agenda.advance() else {
                return Err(WorldError::Stuck { at: self.agenda.now() });
            };
            let touched = self.handle(happening);
            self.act_cloud(observer)?;
            if let Some(edge) = touched {
                self.act_edge(observer, edge)?;
            }
        }
        Ok(self.outcome)
    }

    /// Lets something happen; returns the edge that it happened to, if any.
    fn handle(&mut self, happening: Happening) -> Option<usize> {
        let now = self.agenda.now();
        let mut started = Vec::new();
        let touched = match happening {
            Happening::EdgeConnected { connection } => {
                let at = self.connections.get_mut(&connection)?;
                at.open_at_edge = true;
                self.edges[at.edge].participant.handle_connected(now);
                Some(at.edge)
            }
            Happening::CloudConnected { connection } => {
                let at = self.connections.get_mut(&connection)?;
                at.open_at_cloud = true;
                self.cloud.coordinator.handle_connected(now, ConnectionId(connection));
                None
            }
            Happening::ConnectFailed { connection } => {
                let edge = self.connections.remove(&connection)?.edge;
                self.edges[edge].connection = None;
                let reason = format!("the handshake took longer than {HANDSHAKE_TIMEOUT:?}");
                self.edges[edge].participant.handle_disconnect(now, &reason);
                Some(edge)
            }
            Happening::ToCloud { connection, payload } => {
                self.reach_cloud(connection, payload);
                None
            }
            Happening::ToEdge { connection, payload } => self.reach_edge(connection, payload),
            Happening::EdgeNotices { connection, reason } => {
                let at = self.connections.get_mut(&connection)?;
                let (edge, was_open) = (at.edge, std::mem::take(&mut at.open_at_edge));
                self.forget_closed(connection);
                was_open.then(|| {
                    self.lose_at_edge(edge, connection, &reason);
                    edge
                })
            }
            Happening::CloudNotices { connection } => {
                let at = self.connections.get_mut(&connection)?;
                let was_open = std::mem::take(&mut at.open_at_cloud);
                self.forget_closed(connection);
                if was_open {
                    self.cloud.coordinator.handle_disconnect(now, ConnectionId(connection));
                }
                None
            }
            Happening::Silence { edge } => self.break_connection(edge),
            Happening::Unheard { connection } => {
                let edge = self.connections.get(&connection)?.edge;
                let is_current = self.edges[edge].connection == Some(connection);
                if is_current { self.break_connection(edge) } else { None }
            }
            Happening::EdgeDone { edge } => {
                let next = self.edges[edge].handle_done(now, &self.crew);
                self.plan_edge_done(edge, next);
                Some(edge)
            }
            Happening::EdgeTimer { edge, timer } => {
                if self.edges[edge].timers == timer {
                    self.edges[edge].participant.handle_timeout(now);
                }
                Some(edge)
            }
            Happening::CloudTimer { timer } => {
                if self.cloud.timers == timer {
                    self.cloud.coordinator.handle_timeout(now);
                }
                None
            }
            Happening::ReplicaDone(replica) => {
                self.cloud.handle_replica(now, &replica, &mut started);
                None
            }
            Happening::AggregationDone => {
                self.cloud.handle_aggregation(now);
                None
            }
            Happening::EvaluationDone => {
                self.cloud.handle_evaluation(now, &self.crew, &mut started);
                None
            }
        };
        self.plan_started(started);
        touched
    }

    fn reach_cloud(&mut self, connection: u64, payload: Payload<EdgeMessage>) {
        let now = self.agenda.now();
        let Some(at) = self.connections.get(&connection).filter(|at| at.open_at_cloud) else { return };
        let (from, coordinator) = (ConnectionId(connection), &mut self.cloud.coordinator);
        match payload {
            Payload::Message(message) => coordinator.handle_message(now, from, message),
            Payload::Tensor { tensor, seconds } => {
                let rtt_s = self.edges[at.edge].rtt.max(LEAST_RTT).as_secs_f64();
                coordinator.handle_tensor(now, from, tensor, Received { seconds, rtt_s });
            }
        }
    }

    fn reach_edge(&mut self, connection: u64, payload: Payload<CloudMessage>) -> Option<usize> {
        let now = self.agenda.now();
        let edge = self.connections.get(&connection).filter(|at| at.open_at_edge)?.edge;
        let participant = &mut self.edges[edge].participant;
        match payload {
            Payload::Message(message) => participant.handle_message(now, message),
            Payload::Tensor { tensor, seconds } => participant.handle_tensor(now, tensor, seconds),
        }
        Some(edge)
    }

    fn plan_edge_done(&mut self, edge: usize, at: Option<Duration>) {
        if let Some(at) = at {
            self.agenda.plan(at, Happening::EdgeDone { edge });
        }
    }

    fn plan_started(&mut self, started: Vec<Started>) {
        for started in started {
            match started {
                Started::Replica(replica, at) => self.agenda.plan(at, Happening::ReplicaDone(replica)),
                Started::Aggregation(at) => self.agenda.plan(at, Happening::AggregationDone),
                Started::Evaluation(at) => self.agenda.plan(at, Happening::EvaluationDone),
            }
        }
    }

    /// Does everything that the coordinator asks for.
    fn act_cloud<O: Observer>(&mut self, observer: &mut O) -> Result<(), WorldError<O::Error>> {
        use coordinator::Action;
        let now = self.agenda.now();
        while let Some(action) = self.cloud.coordinator.poll_action() {
            match action {
                Action::Send { to, message } => {
                    let bytes = message::encode(&message)?.len() as u64 + MESSAGE_FRAME;
                    self.send_down(to.0, bytes, None, |_| Payload::Message(message));
                }
                Action::SendTensor { to, tensor, pace } => {
                    let bytes = tensor.wire_bytes() + TENSOR_FRAME;
                    self.send_down(to.0, bytes, pace, |seconds| Payload::Tensor { tensor, seconds });
                }
                Action::Compute(job) => {
                    let mut started = Vec::new();
                    self.cloud.compute(now, &self.crew, job, &mut started);
                    self.plan_started(started);
                }
                Action::SetTimer(at) => {
                    self.cloud.timers += 1;
                    if let Some(at) = at {
                        self.agenda.plan(at, Happening::CloudTimer { timer: self.cloud.timers });
                    }
                }
                Action::Checkpoint(checkpoint) => {
                    observer.checkpoint(&checkpoint).map_err(WorldError::Observer)?;
                }
                Action::Emit(event) => observer.event(&event).map_err(WorldError::Observer)?,
                Action::Close { connection, reason } => self.close_from_cloud(connection.0, reason),
                Action::Finish(outcome) => {
                    self.outcome = Some(outcome);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Does everything that an edge asks for.
    fn act_edge<O: Observer>(&mut self, observer: &mut O, edge: usize) -> Result<(), WorldError<O::Error>> {
        use participant::Action;
        let now = self.agenda.now();
        while let Some(action) = self.edges[edge].participant.poll_action() {
            match action {
                Action::Connect => self.connect(edge),
                Action::Send(message) => {
                    let bytes = message::encode(&message)?.len() as u64 + MESSAGE_FRAME;
                    self.send_up(edge, bytes, None, |_| Payload::Message(message));
                }
                Action::SendTensor { tensor, pace } => {
                    let bytes = tensor.wire_bytes() + TENSOR_FRAME;
                    self.send_up(edge, bytes, pace, |seconds| Payload::Tensor { tensor, seconds });
                }
                Action::Compute(job) => {
                    let done = self.edges[edge].compute(now, &self.crew, job);
                    self.plan_edge_done(edge, done);
                }
                Action::SetTimer(at) => {
                    let at_edge = &mut self.edges[edge];
                    at_edge.timers += 1;
                    if let Some(at) = at {
                        self.agenda.plan(at, Happening::EdgeTimer { edge, timer: at_edge.timers });
                    }
                }
                Action::Report(_) => {}
                Action::Finish(outcome) => {
                    if let participant::Outcome::Failed { reason } = outcome {
                        observer.edge_failed(&self.edges[edge].name, &reason);
                    }
                    self.close_from_edge(edge);
                }
            }
        }
        Ok(())
    }
}
