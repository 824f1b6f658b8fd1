//! The edge's state machine, the mirror of [`crate::coordinator`]: asks to take part, standardizes,
//! trains its layers round by round, and comes back after whatever happened.
//!
//! It performs no I/O and reads no clock: the driver calls `handle_*` and takes actions with
//! [`Participant::poll_action`].

mod action;
mod evaluation;
mod hand_in;
mod micro_batches;
mod probing;
mod stepping;
mod tail;

use std::collections::VecDeque;
use std::time::Duration;

pub use action::{Action, Completed, Computed, Job, Outcome, Progress, Restored};

use crate::link::Transfer;
use crate::model::ModelCost;
use crate::standardize::Standardizer;
use crate::wire::{
    Assignment, CloudMessage, EdgeMessage, ResumePoint, Score, TensorKind, TensorMessage, TrainingRequest,
};
use stepping::InRound;

/// Longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The edge's state machine.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other, not one state")]
pub struct Participant {
    /// What it asks with; `resume` is filled in for each connection.
    request: TrainingRequest,
    /// Whether the operator lets raw samples leave: cut 0.
    raw_data_may_leave: bool,
    /// Whether the operator keeps the labels here.
    labels_stay: bool,
    /// How long it tries to reach the coordinator before it gives up.
    patience: Duration,
    connected: bool,
    /// Whether the coordinator has said anything on this connection. Until then it takes no large tensors.
    heard: bool,
    /// Since when there is no connection that was not put off, and how many attempts were made.
    lost_at: Duration,
    attempts: u32,
    /// Why the coordinator closes this connection without an answer.
    put_off: Option<String>,
    /// What was last said of why it waits.
    waits: Option<String>,
    session: Option<u64>,
    completed: Option<Completed>,
    assignment: Option<Box<Assignment>>,
    /// Whether the assignment came on this connection, and whether it still has to be answered.
    assigned: bool,
    owes_ready: bool,
    /// Whether the assignment's standardizer is known.
    standardized: bool,
    /// Preparations that the driver has not finished; the last one counts.
    preparing: u32,
    prepared: bool,
    /// Whether the client-side model in memory is what `completed` ended with.
    clean: bool,
    /// Whether the uplink probe is still to be sent, and the downlink probe still to come.
    owes_probe: bool,
    awaits_probe: bool,
    probe: Option<Transfer>,
    /// State tensors that came before the plan that they belong to, or before the others of it.
    early: Vec<TensorMessage>,
    /// Round and attempt of the last plan; older ones are copies.
    newest: Option<(u32, u32)>,
    round: Option<InRound>,
    /// Why it will not evaluate global models, if it was told to and cannot.
    evaluates_not: Option<String>,
    /// The last global model that it evaluated, by the round after which it was made.
    evaluated: Option<(u32, Result<Score, String>)>,
    ended: bool,
    actions: VecDeque<Action>,
}

impl Participant {
    /// An edge that starts at `now`, anew or from what its state folder holds.
    pub fn new(
        now: Duration,
        request: TrainingRequest,
        restored: Option<Restored>,
        patience: Duration,
    ) -> Self {
        let mut participant = Self {
            request,
            raw_data_may_leave: false,
            labels_stay: false,
            patience,
            connected: false,
            heard: false,
            lost_at: now,
            attempts: 0,
            put_off: None,
            waits: None,
            session: restored.map(|restored| restored.session),
            completed: restored.and_then(|restored| restored.completed),
            assignment: None,
            assigned: false,
            owes_ready: false,
            standardized: false,
            preparing: 0,
            prepared: false,
            clean: false,
            owes_probe: false,
            awaits_probe: false,
            probe: None,
            early: Vec::new(),
            newest: None,
            round: None,
            evaluates_not: None,
            evaluated: None,
            ended: false,
            actions: VecDeque::new(),
        };
        participant.push(Action::Connect);
        participant
    }

    /// Lets raw samples leave this edge, which cut 0 sends.
    #[must_use]
    pub fn with_raw_data(mut self, may_leave: bool) -> Self {
        self.raw_data_may_leave = may_leave;
        self
    }

    /// Keeps the labels on this edge: neither they nor how many there are of each are sent.
    #[must_use]
    pub fn with_labels_kept(mut self, are_kept: bool) -> Self {
        self.labels_stay = are_kept;
        if are_kept {
            self.request.labels.clear();
        }
        self
    }

    /// The next thing to do, or `None` until something else happens.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A connection was made.
    pub fn handle_connected(&mut self, _now: Duration) {
        if self.ended {
            return;
        }
        (self.connected, self.heard) = (true, false);
        (self.assigned, self.owes_ready) = (false, false);
        self.probe = None;
        let resume = self.session.map(|session| ResumePoint {
            session,
            completed: self.completed.map(|completed| (completed.round, completed.attempt)),
            prepared: self.prepared,
            live: self.round.as_ref().map(|round| (round.plan.round, round.plan.attempt)),
        });
        let request = TrainingRequest { resume, ..self.request.clone() };
        self.push(Action::Send(EdgeMessage::TrainingRequest(request)));
        self.push(Action::Report(Progress::Asked));
    }

    /// The connection is gone, or could not be made for the given reason.
    pub fn handle_disconnect(&mut self, now: Duration, reason: &str) {
        if self.ended {
            return;
        }
        let put_off = self.put_off.take();
        if self.connected {
            (self.connected, self.heard) = (false, false);
            if put_off.is_none() {
                self.lost_at = now;
                self.attempts = 0;
                self.push(Action::Report(Progress::Lost));
            }
        }
        if now >= self.lost_at + self.patience {
            let reason = match put_off {
                Some(reason) => {
                    format!("the coordinator put this edge off for {:?}: {reason}", self.patience)
                }
                None => format!("the coordinator could not be reached for {:?}: {reason}", self.patience),
            };
            self.finish(Outcome::Failed { reason });
            return;
        }
        let why = put_off.as_deref().unwrap_or(reason);
        if self.waits.as_deref() != Some(why) {
            self.waits = Some(why.to_owned());
            self.push(Action::Report(Progress::Waiting { reason: why.to_owned() }));
        }
        let pause = Duration::from_millis(100).saturating_mul(1 << self.attempts.min(10)).min(LONGEST_PAUSE);
        self.attempts += 1;
        self.push(Action::SetTimer(Some(now + pause)));
    }

    /// The time of the last [`Action::SetTimer`] has come.
    pub fn handle_timeout(&mut self, _now: Duration) {
        if !self.ended && !self.connected {
            self.push(Action::SetTimer(None));
            self.push(Action::Connect);
        }
    }

    /// A control message came.
    pub fn handle_message(&mut self, now: Duration, message: CloudMessage) {
        if self.ended {
            return;
        }
        self.heard = self.connected;
        match message {
            CloudMessage::Refused { reason } => {
                self.finish(Outcome::Failed {
                    reason: format!("the coordinator refused this edge: {reason}"),
                });
            }
            CloudMessage::NotYet { reason } => self.put_off = Some(reason),
            CloudMessage::Aborted { reason } => {
                self.finish(Outcome::Failed { reason: format!("the coordinator gave up: {reason}") });
            }
            CloudMessage::Finished { reason } => self.finish(Outcome::Finished { reason }),
            CloudMessage::Assignment(assignment) => self.handle_assignment(assignment),
            CloudMessage::Measure(of) => match self.assignment.clone() {
                Some(assignment) => self.push(Action::Compute(Job::Statistics { assignment, of })),
                None => self.fail("the coordinator asked for statistics before it sent a model"),
            },
            CloudMessage::Standardize(standardizer) => match self.assignment.clone() {
                Some(assignment) => self.prepare(assignment, standardizer),
                None => self.fail("the coordinator sent a standardizer before a model"),
            },
            CloudMessage::Resumed => {
                self.push(Action::Report(Progress::Resumed));
                self.send_again();
            }
            CloudMessage::Round(plan) => self.handle_round(now, plan),
            CloudMessage::HandIn { round, attempt } => self.handle_hand_in(round, attempt),
        }
    }

    fn handle_assignment(&mut self, assignment: Box<Assignment>) {
        if self.assigned {
            return;
        }
        let model = match assignment.model.clone().checked() {
            Ok(model) => model,
            Err(error) => {
                self.decline(format!("the model that the coordinator sent cannot be built: {error}"));
                return;
            }
        };
        if assignment.tail.is_some_and(|tail| tail as usize >= model.len())
            || assignment.least_cut as usize > assignment.cloud_end()
        {
            self.decline(format!("the coordinator sent cuts that `{}` does not have", model.name));
            return;
        }
        if let Some(limit) = self.request.memory_limit {
            let least = assignment.least_cut as usize;
            let moments = assignment.optimizer.moments().len() as u64;
            let batch = u64::from(assignment.batch_size);
            let tail = assignment.tail.map(|tail| tail as usize);
            let needed = ModelCost::of(&model).edge_memory_bytes(least, tail, batch, moments);
            if needed > limit {
                let tail = tail.map_or(String::new(), |tail| format!(" and those from {tail} on"));
                self.decline(format!(
                    "{least} layers of `{}`{tail} need {needed} bytes for batches of {batch}, the memory limit is {limit}",
                    model.name
                ));
                return;
            }
        }
        if self.session != Some(assignment.session) {
            self.session = Some(assignment.session);
            self.completed = None;
            // Within a session they may belong to a plan that is on its way.
            self.early.clear();
            self.newest = None;
            self.evaluated = None;
        }
        self.round = None;
        (self.assigned, self.owes_ready) = (true, true);
        (self.standardized, self.prepared) = (false, false);
        self.evaluates_not = self.refuse_evaluation(&assignment, &model);
        self.push(Action::Report(Progress::Assigned { model: model.name }));
        let standardizer = assignment.standardizer.clone();
        self.assignment = Some(assignment.clone());
        if let Some(standardizer) = standardizer {
            self.awaits_probe = false;
            self.prepare(assignment, standardizer);
        } else {
            // The probe may have overtaken the assignment.
            self.awaits_probe = self.probe.is_none();
            self.owes_probe = true;
            let of = assignment.measure.clone();
            self.push(Action::Compute(Job::Statistics { assignment, of }));
        }
    }

    fn prepare(&mut self, assignment: Box<Assignment>, standardizer: Standardizer) {
        if !std::mem::replace(&mut self.standardized, true) {
            self.preparing += 1;
            self.push(Action::Compute(Job::Prepare { assignment, standardizer }));
        }
    }

    /// A tensor came whole, in `seconds` from its first byte to its last.
    pub fn handle_tensor(&mut self, _now: Duration, tensor: TensorMessage, seconds: f64) {
        if self.ended {
            return;
        }
        let transfer = Transfer { bytes: tensor.wire_bytes(), seconds, paced_at: None };
        match tensor.header.kind {
            TensorKind::Probe => self.handle_probe(&tensor, transfer),
            TensorKind::State => self.handle_layers(tensor),
            TensorKind::CutGradient => self.handle_gradient(tensor, transfer),
            TensorKind::Model => self.handle_model(tensor),
            TensorKind::TailActivations => self.handle_tail_activations(tensor, transfer),
            TensorKind::Activations | TensorKind::TailGradient => {
                self.fail(&format!("the coordinator sent {}", tensor.header.kind));
            }
        }
    }

    /// A message or tensor came that cannot be understood.
    pub fn handle_malformed(&mut self, reason: &str) {
        if !self.ended {
            self.fail(reason);
        }
    }

    /// A job is done.
    pub fn handle_computed(&mut self, now: Duration, computed: Computed) {
        if self.ended {
            return;
        }
        match computed {
            Computed::Statistics { of, channels } => {
                self.send_first_probe();
                self.push(Action::Send(EdgeMessage::Statistics { of, channels }));
            }
            Computed::Prepared => {
                // One that was asked for on an earlier connection does not answer this one's assignment.
                self.preparing = self.preparing.saturating_sub(1);
                self.prepared = self.standardized && self.preparing == 0;
                self.clean = false;
                self.say_ready();
            }
            Computed::Evaluated { session, round, result } => {
                self.handle_model_evaluated(session, round, result);
            }
            Computed::Failed { reason } => self.fail(&reason),
            other => self.handle_round_computed(now, other),
        }
    }

    fn say_ready(&mut self) {
        if self.owes_ready && self.prepared && !self.awaits_probe {
            self.owes_ready = false;
            let downlink = self.probe.take();
            let evaluates_not = self.evaluates_not.clone();
            self.push(Action::Send(EdgeMessage::Ready { downlink, evaluates_not }));
        }
    }

    fn push(&mut self, action: Action) {
        let to_nobody = match action {
            Action::Send(_) => !self.connected,
            // What is held back here is sent when the coordinator says that it goes on.
            Action::SendTensor { .. } => !self.heard,
            _ => false,
        };
        if !to_nobody {
            self.actions.push_back(action);
        }
    }

    fn decline(&mut self, reason: String) {
        self.push(Action::Send(EdgeMessage::Declined { reason: reason.clone() }));
        self.finish(Outcome::Failed { reason });
    }

    fn fail(&mut self, reason: &str) {
        self.decline(reason.to_owned());
    }

    fn finish(&mut self, outcome: Outcome) {
        if !self.ended {
            self.ended = true;
            self.push(Action::Finish(outcome));
        }
    }
}
