//! A step's micro-batches on the edge: one is computed while others are on the wire and in the cloud.
//!
//! All of them go forward before the first comes back. So the wire has work as early as it can, and with equal
//! micro-batches a step takes no longer than the sum of its parts for one of them and, for each of the others, the
//! slowest resource. They go back in their order, whatever the order in which the gradients come: the sum of their
//! gradients is the same in every run. Where the labels stay on the edge they pass its last layers in that order, too,
//! and before others go back, since the cloud waits for them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Participant;
use super::action::{Action, Job};
use super::stepping::Stage;
use crate::link::Transfer;
use crate::micro_batch::MicroBatch;
use crate::wire::{RoundPlan, StepReport, TensorKind, TensorMessage};

/// How far the micro-batches of one step are.
#[derive(Debug)]
pub(super) struct MicroBatches {
    of: u32,
    /// How many have gone forward, through the edge's last layers if the labels stay here, and back.
    forwarded: u32,
    pub(super) tailed: u32,
    backwarded: u32,
    forward_s: f64,
    backward_s: f64,
    downlink: Option<Transfer>,
    /// What the cloud has not answered yet, for a replay.
    unanswered: BTreeMap<u32, TensorMessage>,
    /// Activations before the last layers, and gradients, that wait for those before them, or for the edge.
    pub(super) activations: BTreeMap<u32, TensorMessage>,
    gradients: BTreeMap<u32, TensorMessage>,
}

impl MicroBatches {
    /// Those of a step that begins.
    pub(super) fn of(plan: &RoundPlan) -> Self {
        Self {
            of: plan.in_flight,
            forwarded: 0,
            tailed: 0,
            backwarded: 0,
            forward_s: 0.0,
            backward_s: 0.0,
            downlink: None,
            unanswered: BTreeMap::new(),
            activations: BTreeMap::new(),
            gradients: BTreeMap::new(),
        }
    }

    pub(super) fn next_forward(&self) -> MicroBatch {
        MicroBatch { index: self.forwarded, of: self.of }
    }

    pub(super) fn next_tail(&self) -> MicroBatch {
        MicroBatch { index: self.tailed, of: self.of }
    }

    fn next_backward(&self) -> MicroBatch {
        MicroBatch { index: self.backwarded, of: self.of }
    }

    /// Something was sent that the cloud is to answer.
    pub(super) fn sent(&mut self, tensor: TensorMessage) {
        self.unanswered.insert(tensor.header.micro_batch.into(), tensor);
    }

    /// An answer to a tensor of kind `to` came; false if none such was sent, or it was answered before.
    pub(super) fn answered(&mut self, to: TensorKind, answer: &TensorMessage, transfer: Transfer) -> bool {
        let part = answer.header.micro_batch.into();
        if self.unanswered.get(&part).is_none_or(|sent| sent.header.kind != to) {
            return false;
        }
        self.unanswered.remove(&part);
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
            self.go_on();
        } else {
            self.push(Action::Compute(Job::Forward { plan, step, micro_batch: next }));
        }
    }

    /// The gradient at the cut of a micro-batch came, perhaps while another is being computed.
    pub(super) fn handle_gradient(&mut self, gradient: TensorMessage, transfer: Transfer) {
        let header = gradient.header;
        let to = if self.has_tail() { TensorKind::TailGradient } else { TensorKind::Activations };
        let Some(at) = self.round.as_mut().filter(|at| at.is_at_step(&header)) else { return };
        if !at.micro_batches.answered(to, &gradient, transfer) {
            return;
        }
        at.moved = None;
        at.micro_batches.gradients.insert(header.micro_batch.into(), gradient);
        self.take_next();
    }

    /// The edge is done with a micro-batch, all of which have gone forward.
    pub(super) fn go_on(&mut self) {
        if let Some(at) = self.round.as_mut() {
            at.stage = Stage::Await;
        }
        self.take_next();
    }

    /// Takes the next micro-batch through the last layers or back, if all are forwarded, what it waits for is there and
    /// no other is being computed.
    pub(super) fn take_next(&mut self) {
        let Some(at) = self.round.as_mut().filter(|at| at.stage == Stage::Await) else { return };
        let (plan, step, parts) = (at.plan, at.step, &mut at.micro_batches);
        let (tail, back) = (parts.next_tail(), parts.next_backward());
        let job = if let Some(activations) = parts.activations.remove(&tail.index) {
            at.stage = Stage::Tail;
            Job::Tail { plan, step, micro_batch: tail, activations }
        } else if let Some(gradient) = parts.gradients.remove(&back.index) {
            at.stage = Stage::Backward;
            Job::Backward { plan, step, micro_batch: back, gradient }
        } else {
            return;
        };
        self.push(Action::Compute(job));
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
            self.go_on();
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
