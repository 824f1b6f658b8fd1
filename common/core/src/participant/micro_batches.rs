//! A step's micro-batches on the edge: one is computed while others are on the wire and in the cloud.
//!
//! All of them go forward before the first comes back. So the wire has work as early as it can, and with equal
//! micro-batches a step takes no longer than the sum of its parts for one of them and, for each of the others, the
//! slowest resource. They go back in their order, whatever the order in which the gradients come: the sum of their
//! gradients is the same in every run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Participant;
use super::action::{Action, Job};
use super::stepping::Stage;
use crate::link::Transfer;
use crate::micro_batch::MicroBatch;
use crate::wire::{RoundPlan, StepReport, TensorMessage};

/// How far the micro-batches of one step are.
#[derive(Debug)]
pub(super) struct MicroBatches {
    of: u32,
    /// How many have gone forward, and how many back.
    forwarded: u32,
    backwarded: u32,
    forward_s: f64,
    backward_s: f64,
    downlink: Option<Transfer>,
    /// What the cloud has not answered yet, for a replay.
    unanswered: BTreeMap<u32, TensorMessage>,
    /// Gradients that wait for those before them, or for the edge.
    gradients: BTreeMap<u32, TensorMessage>,
}

impl MicroBatches {
    /// Those of a step that begins.
    pub(super) fn of(plan: &RoundPlan) -> Self {
        Self {
            of: plan.in_flight,
            forwarded: 0,
            backwarded: 0,
            forward_s: 0.0,
            backward_s: 0.0,
            downlink: None,
            unanswered: BTreeMap::new(),
            gradients: BTreeMap::new(),
        }
    }

    pub(super) fn next_forward(&self) -> MicroBatch {
        MicroBatch { index: self.forwarded, of: self.of }
    }

    fn next_backward(&self) -> MicroBatch {
        MicroBatch { index: self.backwarded, of: self.of }
    }

    /// Something was sent that the cloud is to answer.
    pub(super) fn sent(&mut self, tensor: TensorMessage) {
        self.unanswered.insert(tensor.header.micro_batch.into(), tensor);
    }

    /// An answer came; false if it answers nothing that was sent, or not for the first time.
    pub(super) fn answered(&mut self, answer: &TensorMessage, transfer: Transfer) -> bool {
        if self.unanswered.remove(&answer.header.micro_batch.into()).is_none() {
            return false;
        }
        self.downlink = Some(match self.downlink {
            Some(before) if self.of > 1 => Transfer {
                bytes: before.bytes.saturating_add(transfer.bytes),
                seconds: before.seconds + transfer.seconds,
                ..transfer
            },
            // Where a step has two answers the longer one says more of the link.
            Some(before) if before.bytes > transfer.bytes => before,
            _ => transfer,
        });
        true
    }

    /// What the cloud has not answered, in order.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &TensorMessage> {
        self.unanswered.values()
    }
}

impl Participant {
    /// A micro-batch's activations are there: they are sent, and the next one is computed meanwhile.
    pub(super) fn handle_forwarded(
        &mut self,
        step: u32,
        micro_batch: MicroBatch,
        activations: TensorMessage,
        seconds: f64,
    ) {
        let after_the_last = self.stage_after_forward();
        let Some(at) = self.round.as_mut().filter(|at| at.step == step) else { return };
        let (plan, parts) = (at.plan, &mut at.micro_batches);
        if micro_batch != parts.next_forward() {
            return;
        }
        parts.forwarded += 1;
        parts.forward_s += seconds;
        parts.sent(activations.clone());
        let next = parts.next_forward();
        self.push(Action::SendTensor { tensor: activations, pace: plan.pace });
        if micro_batch.is_last() {
            if let Some(at) = self.round.as_mut() {
                at.stage = after_the_last;
            }
            self.take_back();
        } else {
            self.push(Action::Compute(Job::Forward { plan, step, micro_batch: next }));
        }
    }

    /// The gradient at the cut of a micro-batch came, perhaps while another is being computed.
    pub(super) fn handle_gradient(&mut self, gradient: TensorMessage, transfer: Transfer) {
        let header = gradient.header;
        let has_tail = self.assignment.as_ref().is_some_and(|assignment| assignment.tail.is_some());
        let Some(at) = self.round.as_mut() else { return };
        let is_due = match at.stage {
            Stage::AwaitGradient => true,
            Stage::Forward | Stage::Backward => !has_tail,
            _ => false,
        };
        let is_of_it =
            (header.round, header.attempt, header.step) == (at.plan.round, at.plan.attempt, at.step);
        if !is_due || !is_of_it || !at.micro_batches.answered(&gradient, transfer) {
            return;
        }
        at.moved = None;
        at.micro_batches.gradients.insert(header.micro_batch.into(), gradient);
        self.take_back();
    }

    /// Takes the next micro-batch back, if all are forwarded, its gradient is there and no other is on its way.
    fn take_back(&mut self) {
        let Some(at) = self.round.as_mut().filter(|at| at.stage == Stage::AwaitGradient) else { return };
        let (plan, step, micro_batch) = (at.plan, at.step, at.micro_batches.next_backward());
        if let Some(gradient) = at.micro_batches.gradients.remove(&micro_batch.index) {
            at.stage = Stage::Backward;
            self.push(Action::Compute(Job::Backward { plan, step, micro_batch, gradient }));
        }
    }

    /// A micro-batch has gone back; after the last one the step is done.
    pub(super) fn handle_backwarded(
        &mut self,
        now: Duration,
        step: u32,
        micro_batch: MicroBatch,
        seconds: f64,
    ) {
        let Some(at) = self.round.as_mut().filter(|at| at.step == step) else { return };
        let parts = &mut at.micro_batches;
        if micro_batch != parts.next_backward() {
            return;
        }
        parts.backwarded += 1;
        parts.backward_s += seconds;
        if !micro_batch.is_last() {
            at.stage = Stage::AwaitGradient;
            self.take_back();
            return;
        }
        let MicroBatches { forward_s, backward_s, downlink, .. } = *parts;
        let (backward_s, local) = match at.tail {
            Some((tail_s, loss, correct)) => (tail_s + backward_s, Some((loss, correct))),
            None => (backward_s, None),
        };
        self.end_step(
            now,
            StepReport { step, forward_s, backward_s, downlink, local, ..StepReport::default() },
        );
    }
}
