//! The edge's part of a round: begin, steps, end.

use std::time::Duration;

use super::Participant;
use super::action::{Action, Completed, Computed, Job, Progress};
use crate::link::Transfer;
use crate::model::ModelCost;
use crate::wire::{EdgeMessage, RoundPlan, StartFrom, StepReport, TensorMessage};

/// Where an edge is in a round.
#[derive(Debug)]
pub(super) struct InRound {
    pub(super) plan: RoundPlan,
    stage: Stage,
    step: u32,
    started_at: Duration,
    forward_s: f64,
    downlink: Option<Transfer>,
    /// What the cloud has not answered yet, for a replay.
    activations: Option<TensorMessage>,
    moved: Option<TensorMessage>,
    upload: Option<TensorMessage>,
    reports: Vec<StepReport>,
    peak_rss_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Layers from the cloud are still to come.
    AwaitLayers,
    Begin,
    Forward,
    AwaitGradient,
    Backward,
    LocalStep,
    End,
    Done,
}

impl Participant {
    pub(super) fn handle_round(&mut self, now: Duration, plan: RoundPlan) {
        let Some(assignment) = &self.assignment else {
            self.fail("the coordinator sent a round before a model");
            return;
        };
        if plan.cut as usize > assignment.model.len() || plan.steps == 0 {
            self.fail("the coordinator sent a plan that does not fit the model");
            return;
        }
        // Layers without parameters hide nothing: what they make of a sample is the sample.
        let first = ModelCost::of(&assignment.model).first_with_parameters().unwrap_or(0);
        if plan.cut as usize <= first && !self.raw_data_may_leave {
            self.fail(&format!(
                "the coordinator asked for raw data (cut {} of `{}`), which this edge was not told to send",
                plan.cut, assignment.model.name
            ));
            return;
        }
        let id = (plan.round, plan.attempt);
        if self.newest.is_some_and(|newest| id <= newest) {
            return;
        }
        self.newest = Some(id);
        self.push(Action::Report(Progress::Round {
            round: plan.round + 1,
            cut: plan.cut,
            deadline_s: plan.deadline_s,
        }));
        self.round = Some(InRound {
            plan,
            stage: Stage::AwaitLayers,
            step: 0,
            started_at: now,
            forward_s: 0.0,
            downlink: None,
            activations: None,
            moved: None,
            upload: None,
            reports: Vec::new(),
            peak_rss_bytes: 0,
        });
        self.begin_when_complete();
    }

    /// Whether the cloud sends layers at the start of a round with this plan.
    fn awaits_layers(&self, plan: &RoundPlan) -> bool {
        match plan.start {
            StartFrom::Initial => false,
            StartFrom::Cloud => plan.cut > 0,
            StartFrom::Own { .. } => self.completed.is_some_and(|completed| plan.cut > completed.cut),
        }
    }

    /// Layers from the cloud: of the round that waits for them, or of one whose plan is still to come.
    pub(super) fn handle_layers(&mut self, tensor: TensorMessage) {
        let id = |tensor: &TensorMessage| (tensor.header.round, tensor.header.attempt);
        let awaited = self.round.as_ref().filter(|round| round.stage == Stage::AwaitLayers);
        let awaited = awaited.map(|round| (round.plan.round, round.plan.attempt));
        let is_new = self.newest.is_none_or(|newest| id(&tensor) > newest) || awaited == Some(id(&tensor));
        // A late copy must not take the place of what is needed.
        if is_new && self.early.as_ref().is_none_or(|early| id(early) <= id(&tensor)) {
            self.early = Some(tensor);
            self.begin_when_complete();
        }
    }

    pub(super) fn begin_when_complete(&mut self) {
        let Some(plan) =
            self.round.as_ref().filter(|round| round.stage == Stage::AwaitLayers).map(|round| round.plan)
        else {
            return;
        };
        let is_for = |tensor: &TensorMessage| {
            (tensor.header.round, tensor.header.attempt) == (plan.round, plan.attempt)
        };
        let block = if self.awaits_layers(&plan) {
            match self.early.take() {
                Some(tensor) if is_for(&tensor) => Some(tensor),
                other => {
                    self.early = other;
                    return;
                }
            }
        } else {
            None
        };
        // A round that is repeated after its end starts from the end of the one before.
        let follows =
            self.completed.is_some_and(|completed| completed.round.checked_add(1) == Some(plan.round));
        let rolled_back = !(self.clean && follows);
        self.clean = false;
        if let Some(round) = self.round.as_mut() {
            round.stage = Stage::Begin;
        }
        self.push(Action::Compute(Job::Begin { plan, block, rolled_back }));
    }

    pub(super) fn handle_round_computed(&mut self, now: Duration, computed: Computed) {
        match computed {
            Computed::Begun { round, attempt, moved } if self.is_at(round, attempt, Stage::Begin) => {
                if let Some(tensor) = moved {
                    if let Some(at) = self.round.as_mut() {
                        at.moved = Some(tensor.clone());
                    }
                    self.push(Action::SendTensor { tensor, pace: None });
                }
                self.start_step(now, 0);
            }
            Computed::Forwarded { round, attempt, step, activations, seconds }
                if self.is_at(round, attempt, Stage::Forward) =>
            {
                let Some(at) = self.round.as_mut().filter(|at| at.step == step) else { return };
                at.stage = Stage::AwaitGradient;
                at.forward_s = seconds;
                at.activations = Some(activations.clone());
                let pace = at.plan.pace;
                self.push(Action::SendTensor { tensor: activations, pace });
            }
            Computed::Backwarded { round, attempt, step, seconds }
                if self.is_at(round, attempt, Stage::Backward) =>
            {
                let Some(at) = self.round.as_ref().filter(|at| at.step == step) else { return };
                let (forward_s, downlink) = (at.forward_s, at.downlink);
                self.end_step(
                    now,
                    StepReport { step, forward_s, backward_s: seconds, downlink, ..StepReport::default() },
                );
            }
            Computed::LocalStepped { round, attempt, step, loss, correct, seconds }
                if self.is_at(round, attempt, Stage::LocalStep) =>
            {
                let local = Some((loss, correct));
                self.end_step(now, StepReport { step, backward_s: seconds, local, ..StepReport::default() });
            }
            Computed::RoundEnded { round, attempt, upload, peak_rss_bytes } => {
                self.handle_round_ended(round, attempt, upload, peak_rss_bytes);
            }
            // Of an attempt that was given up in the meantime.
            _ => {}
        }
    }

    fn is_at(&self, round: u32, attempt: u32, stage: Stage) -> bool {
        self.round
            .as_ref()
            .is_some_and(|at| at.plan.round == round && at.plan.attempt == attempt && at.stage == stage)
    }

    fn start_step(&mut self, now: Duration, step: u32) {
        let layers = self.assignment.as_ref().map_or(0, |assignment| assignment.model.len());
        let Some(round) = self.round.as_mut() else { return };
        round.step = step;
        round.started_at = now;
        let plan = round.plan;
        let job = if step == plan.steps {
            round.stage = Stage::End;
            Job::EndRound { plan }
        } else if plan.cut as usize == layers {
            round.stage = Stage::LocalStep;
            Job::LocalStep { plan, step }
        } else {
            round.stage = Stage::Forward;
            Job::Forward { plan, step }
        };
        self.push(Action::Compute(job));
    }

    pub(super) fn handle_gradient(&mut self, _now: Duration, gradient: TensorMessage, transfer: Transfer) {
        let header = gradient.header;
        if !self.is_at(header.round, header.attempt, Stage::AwaitGradient) {
            return;
        }
        let Some(round) = self.round.as_mut().filter(|round| round.step == header.step) else { return };
        round.stage = Stage::Backward;
        round.downlink = Some(transfer);
        round.activations = None;
        round.moved = None;
        let (plan, step) = (round.plan, round.step);
        self.push(Action::Compute(Job::Backward { plan, step, gradient }));
    }

    fn end_step(&mut self, now: Duration, report: StepReport) {
        let Some(at) = self.round.as_mut() else { return };
        let report = StepReport { latency_s: now.saturating_sub(at.started_at).as_secs_f64(), ..report };
        at.reports.push(report);
        let (round, attempt) = (at.plan.round, at.plan.attempt);
        self.push(Action::Send(EdgeMessage::StepsDone { round, attempt, reports: vec![report] }));
        self.start_step(now, report.step + 1);
    }

    fn handle_round_ended(
        &mut self,
        round: u32,
        attempt: u32,
        upload: Option<TensorMessage>,
        peak_rss_bytes: u64,
    ) {
        if self.is_at(round, attempt, Stage::End) {
            let Some(at) = self.round.as_mut() else { return };
            at.stage = Stage::Done;
            at.upload = upload;
            at.peak_rss_bytes = peak_rss_bytes;
            let RoundPlan { cut, aggregate, steps, .. } = at.plan;
            self.completed = Some(Completed { round, attempt, cut, aggregate, steps });
            self.clean = true;
            self.send_round_end();
        } else if self.round.is_none()
            && self.completed.is_some_and(|done| (done.round, done.attempt) == (round, attempt))
        {
            // Encoded once more after a restart.
            if let Some(tensor) = upload {
                self.push(Action::SendTensor { tensor, pace: None });
            }
            self.push(Action::Send(EdgeMessage::RoundDone { round, attempt, peak_rss_bytes }));
        }
    }

    fn send_round_end(&mut self) {
        let Some(at) = self.round.as_ref() else { return };
        let (round, attempt, peak_rss_bytes) = (at.plan.round, at.plan.attempt, at.peak_rss_bytes);
        if let Some(tensor) = at.upload.clone() {
            self.push(Action::SendTensor { tensor, pace: None });
        }
        self.push(Action::Send(EdgeMessage::RoundDone { round, attempt, peak_rss_bytes }));
    }

    /// After a lost connection: everything that the cloud may have missed. It ignores what it has.
    pub(super) fn send_again(&mut self) {
        let Some(at) = self.round.as_ref() else {
            if let Some(completed) = self.completed {
                self.push(Action::Compute(Job::Upload(completed)));
            }
            return;
        };
        let RoundPlan { round, attempt, pace, .. } = at.plan;
        let (reports, moved, activations) = (at.reports.clone(), at.moved.clone(), at.activations.clone());
        if !reports.is_empty() {
            self.push(Action::Send(EdgeMessage::StepsDone { round, attempt, reports }));
        }
        if let Some(tensor) = moved {
            self.push(Action::SendTensor { tensor, pace: None });
        }
        if let Some(tensor) = activations {
            self.push(Action::SendTensor { tensor, pace });
        }
        if has_ended(self.round.as_ref()) {
            self.send_round_end();
        }
    }
}

/// Whether the round is done and its end durable.
pub(super) fn has_ended(round: Option<&InRound>) -> bool {
    round.is_some_and(|at| at.stage == Stage::Done)
}
