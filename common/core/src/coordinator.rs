//! The coordinator's state machine: Gather, Standardize, then rounds of Train with an Aggregate every
//! few of them and an Evaluate that overlaps the next (in the cloud) or precedes it (on the edges),
//! until Finished or Aborted.
//!
//! It performs no I/O and reads no clock. The driver calls `handle_*` with what happened and when,
//! then takes what is to be done with [`Coordinator::poll_action`] until there is nothing left.

mod action;
mod aggregation;
mod blocks;
mod connections;
mod deadlines;
mod deferral;
mod evaluation;
mod forecast;
mod gathering;
mod member;
mod probing;
mod recovery;
mod rounds;
mod settings;
mod step_turns;
mod steps;
mod stragglers;
mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

pub use action::{Action, Checkpoint, Computed, ConnectionId, Job, Outcome, Replica, StepJob, StepPart};
pub use forecast::{Outlook, forecast_edges};
pub use settings::{Cuts, Evaluation, Replan, Settings, Topology, session_of};
pub use stragglers::Stragglers;

use crate::event::{Event, EventKind};
use crate::excerpt::excerpt;
use crate::link::Transfer;
use crate::model::LayerState;
use crate::standardize::{Standardizer, Transform};
use crate::wire::{CloudMessage, EdgeMessage, TensorKind, TensorMessage};
use connections::{Caller, Connections};
use deadlines::Deadlines;
use evaluation::EdgeEvaluation;
use forecast::Forecast;
use member::Member;
use step_turns::StepTurn;
use turns::Turns;

/// How a tensor came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Received {
    /// From its first byte to its last, in seconds.
    pub seconds: f64,
    /// Round-trip time of the connection, in seconds.
    pub rtt_s: f64,
}

/// Where the run is.
#[derive(Debug)]
enum Phase {
    /// Edges ask to take part.
    Gather,
    /// Edges answer with statistics and get ready.
    Standardize,
    /// A round is being trained.
    Train {
        since: Duration,
    },
    /// The round is over and its models are being averaged, with these weights.
    Aggregate {
        weights: Vec<(String, f64)>,
    },
    /// The edges evaluate the global model; the next round, if there is one, begins after that.
    EdgeEvaluation,
    /// The last round is over; the last evaluation runs in the cloud.
    LastEvaluation,
    Ended,
}

/// The coordinator's state machine.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    phase: Phase,
    connections: Connections,
    fleet: BTreeMap<String, Member>,
    forecast: Forecast,
    /// What the statistics that edges send are of.
    measured: Transform,
    standardizer: Option<Standardizer>,
    /// The round that is trained or was trained last, from 0.
    round: u32,
    aggregations: u32,
    /// Rounds that are part of `global`.
    global_rounds: u32,
    /// The last global model.
    global: Arc<LayerState>,
    /// What the edges have answered of the global model that they evaluate.
    evaluation: Option<EdgeEvaluation>,
    /// Optimizer steps behind its moments: Adam's `t`.
    optimizer_steps: u64,
    /// Likewise of the shared model at the start of the round, or of the one handed on at that of the turn.
    model_steps: u64,
    /// Whether the edges can make the model that the run starts from by themselves: it is random.
    is_seeded: bool,
    /// The shared server-side model at the start of the round and, once exported, at its end.
    shared_start: Option<member::Slice>,
    shared_end: Option<LayerState>,
    turns: Turns,
    shared_blocks: blocks::SharedBlocks,
    started_at: Duration,
    deadlines: Deadlines,
    /// When an edge last said something; none once all who had not were given up for that.
    last_word: Option<Duration>,
    /// Where a barrier is looked at first: an edge that it waited for when that was last asked.
    awaited: Option<String>,
    /// Of a shared model.
    step_turn: Option<StepTurn>,
    actions: VecDeque<Action>,
}

impl Coordinator {
    /// A coordinator that starts at `now`, from the seed's random model or from a checkpoint.
    ///
    /// # Panics
    /// If the checkpoint is not of the whole model that the settings describe.
    pub fn new(now: Duration, settings: Settings, checkpoint: Option<Checkpoint>) -> Self {
        let layers = 0..settings.spec.len();
        let is_seeded = checkpoint.is_none();
        let (round, aggregations, optimizer_steps, global) = match checkpoint {
            Some(checkpoint) => {
                assert_eq!(checkpoint.state.layers, layers, "a checkpoint holds the whole model");
                let Checkpoint { rounds, aggregations, optimizer_steps, state, .. } = checkpoint;
                (rounds, aggregations, optimizer_steps, state)
            }
            None => {
                let initial = LayerState::initial(&settings.spec, layers, settings.moments(), settings.seed);
                (0, 0, 0, Arc::new(initial))
            }
        };
        let mut coordinator = Self {
            forecast: Forecast::new(&settings),
            settings,
            phase: Phase::Gather,
            connections: Connections::default(),
            fleet: BTreeMap::new(),
            measured: Transform::Identity,
            standardizer: None,
            round,
            aggregations,
            global_rounds: round,
            global,
            evaluation: None,
            optimizer_steps,
            model_steps: optimizer_steps,
            is_seeded,
            shared_start: None,
            shared_end: None,
            turns: Turns::default(),
            shared_blocks: blocks::SharedBlocks::default(),
            started_at: now,
            deadlines: Deadlines::default(),
            last_word: None,
            awaited: None,
            step_turn: None,
            actions: VecDeque::new(),
        };
        coordinator.set_timer();
        coordinator
    }

    /// The next thing to do, or `None` until something else happens.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A control message came.
    pub fn handle_message(&mut self, now: Duration, from: ConnectionId, message: EdgeMessage) {
        if self.has_ended() {
            return;
        }
        if let Some(caller) = self.connections.get(from).cloned() {
            self.dispatch_message(now, from, caller, message);
            self.set_timer();
        }
    }

    fn dispatch_message(&mut self, now: Duration, from: ConnectionId, caller: Caller, message: EdgeMessage) {
        let Caller::Edge(edge) = caller else {
            match message {
                EdgeMessage::TrainingRequest(request) => self.handle_request(now, from, request),
                _ => self.refuse_connection(now, from, "the first message must be a training request"),
            }
            return;
        };
        self.note_word(now);
        match message {
            EdgeMessage::TrainingRequest(_) => {
                self.refuse_edge(now, &edge, "it asked to take part a second time on one connection");
            }
            EdgeMessage::Statistics { of, channels } => self.handle_statistics(now, &edge, &of, channels),
            EdgeMessage::Ready { downlink, evaluates_not } => {
                let evaluates_not = evaluates_not.map(|reason| excerpt(&reason));
                self.handle_ready(now, &edge, downlink, evaluates_not);
            }
            EdgeMessage::Evaluated { round, result } => {
                let result = result.map_err(|reason| excerpt(&reason));
                self.handle_edge_evaluated(now, &edge, round, result);
            }
            EdgeMessage::Declined { reason } => {
                self.refuse_edge(now, &edge, &format!("it cannot take part: {}", excerpt(&reason)));
            }
            EdgeMessage::StepsDone { round, attempt, reports } => {
                for report in reports {
                    // One that makes no sense ends the connection, and what it brought.
                    if self.connections.get(from).is_none() {
                        break;
                    }
                    self.handle_step_done(now, &edge, round, attempt, report);
                }
            }
            EdgeMessage::RoundDone { round, attempt, peak_rss_bytes } => {
                self.handle_round_done(now, &edge, round, attempt, peak_rss_bytes);
            }
        }
    }

    /// A tensor came whole.
    pub fn handle_tensor(
        &mut self,
        now: Duration,
        from: ConnectionId,
        tensor: TensorMessage,
        received: Received,
    ) {
        let Some(Caller::Edge(edge)) = self.connections.get(from).cloned() else { return };
        if self.has_ended() {
            return;
        }
        let is_paced = tensor.header.kind.is_of_a_step();
        let paced_at = self.pace_up(&edge).filter(|_| is_paced);
        let transfer = Transfer { bytes: tensor.wire_bytes(), seconds: received.seconds, paced_at };
        if tensor.header.kind != TensorKind::Probe {
            self.forecast.observe_uplink(&edge, transfer, received.rtt_s);
        }
        match tensor.header.kind {
            TensorKind::Probe => self.handle_probe(now, &edge, tensor.header, transfer, received.rtt_s),
            TensorKind::Activations | TensorKind::TailGradient => {
                self.handle_activations(now, &edge, tensor, received);
            }
            TensorKind::State => self.handle_state(now, &edge, tensor),
            kind @ (TensorKind::CutGradient | TensorKind::TailActivations | TensorKind::Model) => {
                self.refuse_edge(now, &edge, &format!("it sent a {kind}"));
            }
        }
        self.set_timer();
    }

    /// A message or tensor came that cannot be understood, or one that is due cannot be sent.
    pub fn handle_malformed(&mut self, now: Duration, from: ConnectionId, reason: &str) {
        let reason = &excerpt(reason);
        match self.connections.get(from).cloned() {
            Some(Caller::Edge(edge)) => self.refuse_edge(now, &edge, reason),
            Some(Caller::Unknown { .. }) => self.refuse_connection(now, from, reason),
            None => {}
        }
        self.set_timer();
    }

    /// A job is done.
    pub fn handle_computed(&mut self, now: Duration, computed: Computed) {
        if self.has_ended() {
            return;
        }
        match computed {
            Computed::Stepped { edge, round, attempt, step, micro_batch, reply, loss, correct, seconds } => {
                if self.is_current(&edge, round, attempt) {
                    self.handle_stepped(now, &edge, (step, micro_batch), reply, (loss, correct), seconds);
                }
            }
            Computed::Passed { edge, round, attempt, step, micro_batch, reply, seconds } => {
                if self.is_current(&edge, round, attempt) {
                    self.handle_passed(now, &edge, (step, micro_batch), reply, seconds);
                }
            }
            Computed::Rejected { edge, round, attempt, reason } => {
                if self.is_current(&edge, round, attempt) {
                    self.handle_rejected(now, &edge, &reason);
                }
            }
            Computed::Exported { replica, round, attempt, state } => {
                self.handle_exported(now, &replica, round, attempt, state);
            }
            Computed::Aggregated { round, state } => self.handle_aggregated(now, round, state),
            Computed::Evaluated { round, state, accuracy, loss, samples } => {
                self.emit(now, EventKind::Evaluated { round: round + 1, accuracy, loss, samples });
                self.handle_evaluated(now, round, state, accuracy);
            }
            Computed::Failed { reason } => self.abort(now, reason),
        }
        self.set_timer();
    }

    /// The time of the last [`Action::SetTimer`] has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.timer_came();
        self.turn_away_the_silent(now);
        match self.phase {
            Phase::Ended | Phase::Aggregate { .. } | Phase::LastEvaluation => {}
            Phase::Gather if now >= self.started_at + self.settings.gather_timeout => {
                self.gather_is_over(now);
            }
            Phase::EdgeEvaluation => {
                self.give_up_the_lost(now);
                self.go_on_without_the_silent(now);
                self.end_edge_evaluation(now);
            }
            _ => {
                self.drop_the_lost(now);
                self.handle_stragglers(now);
                self.go_on_without_the_silent(now);
            }
        }
        self.set_timer();
    }

    fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn emit(&mut self, now: Duration, kind: EventKind) {
        self.push(Action::Emit(Event { at: now.as_secs_f64(), kind }));
    }

    /// Sends to an edge, if it is connected: what it misses is sent again when it is back.
    fn send(&mut self, edge: &str, message: CloudMessage) {
        if let Some(to) = self.fleet.get(edge).and_then(|member| member.connection) {
            self.push(Action::Send { to, message });
        }
    }

    /// Sends a tensor to an edge, if it is connected.
    fn send_tensor(&mut self, edge: &str, tensor: TensorMessage) {
        // What is reserved is reserved for the split layer's data.
        let is_of_a_step = tensor.header.kind.is_of_a_step();
        let pace = self.forecast.pace_down(edge).filter(|_| is_of_a_step);
        if let Some(to) = self.fleet.get(edge).and_then(|member| member.connection) {
            self.push(Action::SendTensor { to, tensor, pace });
        }
    }

    /// Ends the run without a result.
    fn abort(&mut self, now: Duration, reason: String) {
        self.emit(now, EventKind::Aborted { reason: reason.clone() });
        self.say_goodbye(&CloudMessage::Aborted { reason: reason.clone() });
        self.end(Outcome::Aborted { reason });
    }

    /// Ends the run with a global model, after so many rounds.
    fn finish(
        &mut self,
        now: Duration,
        (rounds, state): (u32, Arc<LayerState>),
        reason: String,
        target_reached: bool,
    ) {
        self.emit(now, EventKind::Finished { round: rounds, reason: reason.clone(), target_reached });
        self.say_goodbye(&CloudMessage::Finished { reason });
        self.end(Outcome::Finished { rounds, state, target_reached });
    }

    /// The last action: whatever happens from here on has no effect.
    fn end(&mut self, outcome: Outcome) {
        self.phase = Phase::Ended;
        self.set_timer();
        self.push(Action::Finish(outcome));
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// An edge that holds up a barrier, if there is one. Whoever held it up before is looked at first, and the others
    /// from there on, so that all looks together pass over the fleet but a few times.
    fn find_awaited(&self, holds_up: impl Fn(&String, &Member) -> bool) -> Option<String> {
        let from = self.awaited.as_deref().unwrap_or_default();
        let later = self.fleet.range::<str, _>((Bound::Included(from), Bound::Unbounded));
        let earlier = self.fleet.range::<str, _>((Bound::Unbounded, Bound::Excluded(from)));
        later.chain(earlier).find(|(name, member)| holds_up(name, member)).map(|(name, _)| name.clone())
    }

    /// Whether somebody holds up a barrier.
    fn waits_for(&mut self, awaited: Option<String>) -> bool {
        self.awaited = awaited;
        self.awaited.is_some()
    }
}
