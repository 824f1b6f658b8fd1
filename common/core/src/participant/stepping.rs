//! The edge's part of a round: begin, steps, end.

use std::time::Duration;

use super::Participant;
use super::action::{Action, Completed, Computed, Job, Progress};
use super::micro_batches::MicroBatches;
use crate::link::Transfer;
use crate::model::ModelCost;
use crate::wire::{EdgeMessage, RoundPlan, StartFrom, StepReport, TensorHeader, TensorMessage};

/// Where an edge is in a round.
#[derive(Debug)]
pub(super) struct InRound {
    pub(super) plan: RoundPlan,
    pub(super) stage: Stage,
    pub(super) step: u32,
    started_at: Duration,
    /// How far the step's micro-batches are.
    pub(super) micro_batches: MicroBatches,
    pub(super) moved: Option<TensorMessage>,
    /// A local step: the transfer of a probe that came since the last report.
    pub(super) probe: Option<Transfer>,
    /// What the last layers took in this step so far, and their loss and correct predictions.
    pub(super) tail: Option<(f64, f32, u32)>,
    uploads: Vec<TensorMessage>,
    reports: Vec<StepReport>,
    peak_rss_bytes: u64,
}

impl InRound {
    /// Whether a tensor is of the step that it is at.
    pub(super) fn is_at_step(&self, header: &TensorHeader) -> bool {
        (header.round, header.attempt, header.step) == (self.plan.round, self.plan.attempt, self.step)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Layers from the cloud are still to come.
    AwaitLayers,
    Begin,
    /// A micro-batch is being forwarded, and others may follow.
    Forward,
    /// All are forwarded, and what the next one waits for is still to come.
    Await,
    /// Labels on the edge: a micro-batch is in its last layers.
    Tail,
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
        let splits = plan.in_flight > 0 && assignment.batch_size.is_multiple_of(plan.in_flight);
        if plan.cut as usize > assignment.cloud_end() || plan.steps == 0 || !splits {
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
        let labels_leave = assignment.tail.is_none() && (plan.cut as usize) < assignment.model.len();
        if labels_leave && self.labels_stay {
            self.fail(&format!(
                "the coordinator asked for labels (cut {} of `{}`), which this edge was told to keep: it needs `training.labels = \"edge\"`",
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
            micro_batches: MicroBatches::of(&plan),
            moved: None,
            probe: None,
            tail: None,
            uploads: Vec::new(),
            reports: Vec::new(),
            peak_rss_bytes: 0,
        });
        self.begin_when_complete();
    }

    /// How many state tensors the cloud sends at the start of a round with this plan.
    fn awaited_blocks(&self, plan: &RoundPlan) -> usize {
        match plan.start {
            StartFrom::Initial => 0,
            StartFrom::Cloud => usize::from(plan.cut > 0) + usize::from(self.has_tail()),
            StartFrom::Own { .. } => {
                usize::from(self.completed.is_some_and(|completed| plan.cut > completed.cut))
            }
        }
    }

    /// Layers from the cloud: of the round that waits for them, or of one whose plan is still to come.
    pub(super) fn handle_layers(&mut self, tensor: TensorMessage) {
        let id = |tensor: &TensorMessage| (tensor.header.round, tensor.header.attempt);
        let awaited = self.round.as_ref().filter(|round| round.stage == Stage::AwaitLayers);
        let awaited = awaited.map(|round| (round.plan.round, round.plan.attempt));
        let is_new = self.newest.is_none_or(|newest| id(&tensor) > newest) || awaited == Some(id(&tensor));
        // A late copy must not take the place of what is needed.
        if is_new && self.early.first().is_none_or(|early| id(early) <= id(&tensor)) {
            let first = tensor.header.first_layer;
            self.early.retain(|early| id(early) == id(&tensor) && early.header.first_layer != first);
            // The head's layers and the tail's: no round has more.
            if self.early.len() < 2 {
                self.early.push(tensor);
            }
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
        let awaited = self.awaited_blocks(&plan);
        let mut blocks = Vec::new();
        if awaited > 0 {
            if self.early.len() < awaited || !self.early.iter().all(is_for) {
                return;
            }
            blocks = std::mem::take(&mut self.early);
        }
        // A round that is repeated after its end starts from the end of the one before.
        let follows =
            self.completed.is_some_and(|completed| completed.round.checked_add(1) == Some(plan.round));
        let rolled_back = !(self.clean && follows);
        self.clean = false;
        if let Some(round) = self.round.as_mut() {
            round.stage = Stage::Begin;
        }
        self.push(Action::Compute(Job::Begin { plan, blocks, rolled_back }));
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
            Computed::Forwarded { round, attempt, step, micro_batch, activations, seconds }
                if self.is_at(round, attempt, Stage::Forward) =>
            {
                self.handle_forwarded(step, micro_batch, activations, seconds);
            }
            Computed::TailStepped { round, attempt, step, micro_batch, gradient, loss, correct, seconds }
                if self.is_at(round, attempt, Stage::Tail) =>
            {
                self.handle_tail_stepped(step, micro_batch, gradient, (seconds, loss, correct));
            }
            Computed::Backwarded { round, attempt, step, micro_batch, seconds }
                if self.is_at(round, attempt, Stage::Backward) =>
            {
                self.handle_backwarded(now, step, micro_batch, seconds);
            }
            Computed::LocalStepped { round, attempt, step, loss, correct, seconds }
                if self.is_at(round, attempt, Stage::LocalStep) =>
            {
                let (local, downlink) =
                    (Some((loss, correct)), self.round.as_mut().and_then(|at| at.probe.take()));
                let report =
                    StepReport { step, backward_s: seconds, downlink, local, ..StepReport::default() };
                self.end_step(now, report);
            }
            Computed::RoundEnded { round, attempt, uploads, peak_rss_bytes } => {
                self.handle_round_ended(round, attempt, uploads, peak_rss_bytes);
            }
            // Of an attempt that was given up in the meantime.
            _ => {}
        }
    }

    pub(super) fn is_at(&self, round: u32, attempt: u32, stage: Stage) -> bool {
        self.round
            .as_ref()
            .is_some_and(|at| at.plan.round == round && at.plan.attempt == attempt && at.stage == stage)
    }

    fn start_step(&mut self, now: Duration, step: u32) {
        let end = self.assignment.as_ref().map_or(0, |assignment| assignment.cloud_end());
        let Some(round) = self.round.as_mut() else { return };
        round.step = step;
        round.started_at = now;
        round.micro_batches = MicroBatches::of(&round.plan);
        round.tail = None;
        let plan = round.plan;
        let job = if step == plan.steps {
            round.stage = Stage::End;
            Job::EndRound { plan }
        } else if plan.cut as usize == end {
            round.stage = Stage::LocalStep;
            Job::LocalStep { plan, step }
        } else {
            round.stage = Stage::Forward;
            Job::Forward { plan, step, micro_batch: round.micro_batches.next_forward() }
        };
        self.send_probe_beside(&job);
        self.push(Action::Compute(job));
    }

    pub(super) fn end_step(&mut self, now: Duration, report: StepReport) {
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
        uploads: Vec<TensorMessage>,
        peak_rss_bytes: u64,
    ) {
        if self.is_at(round, attempt, Stage::End) {
            let Some(at) = self.round.as_mut() else { return };
            at.stage = Stage::Done;
            at.uploads = uploads;
            at.peak_rss_bytes = peak_rss_bytes;
            let RoundPlan { cut, aggregate, steps, .. } = at.plan;
            self.completed = Some(Completed { round, attempt, cut, aggregate, steps });
            self.clean = true;
            self.send_round_end();
        } else if self.is_at(round, attempt, Stage::Done) {
            // The cloud has asked for its model since.
            if let Some(at) = self.round.as_mut() {
                at.uploads = uploads;
            }
            self.send_round_end();
        } else if self.round.is_none()
            && self.completed.is_some_and(|done| (done.round, done.attempt) == (round, attempt))
        {
            // Encoded once more after a restart.
            for tensor in uploads {
                self.push(Action::SendTensor { tensor, pace: None });
            }
            self.push(Action::Send(EdgeMessage::RoundDone { round, attempt, peak_rss_bytes }));
        }
    }

    fn send_round_end(&mut self) {
        let Some(at) = self.round.as_ref() else { return };
        let (round, attempt, peak_rss_bytes) = (at.plan.round, at.plan.attempt, at.peak_rss_bytes);
        for tensor in at.uploads.clone() {
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
        let (reports, moved) = (at.reports.clone(), at.moved.clone());
        let unanswered: Vec<TensorMessage> = at.micro_batches.unanswered().cloned().collect();
        if !reports.is_empty() {
            self.push(Action::Send(EdgeMessage::StepsDone { round, attempt, reports }));
        }
        if let Some(tensor) = moved {
            self.push(Action::SendTensor { tensor, pace: None });
        }
        for tensor in unanswered {
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
