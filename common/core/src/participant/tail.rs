//! Labels on the edge: its last layers, between the two halves of the cloud's part of a step.

use super::Participant;
use super::action::Action;
use crate::link::Transfer;
use crate::micro_batch::MicroBatch;
use crate::wire::{TensorKind, TensorMessage};

impl Participant {
    /// Whether there are such layers: what was sent forward is answered with activations, and their gradient with that
    /// at the cut.
    pub(super) fn has_tail(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| assignment.tail.is_some())
    }

    /// A micro-batch's activations before the last layers came, perhaps while another is being computed.
    pub(super) fn handle_tail_activations(&mut self, activations: TensorMessage, transfer: Transfer) {
        let header = activations.header;
        if !self.has_tail() {
            return;
        }
        let Some(at) = self.round.as_mut().filter(|at| at.is_at_step(&header)) else { return };
        if !at.micro_batches.answered(TensorKind::Activations, &activations, transfer) {
            return;
        }
        at.moved = None;
        at.micro_batches.activations.insert(header.micro_batch.into(), activations);
        self.take_next();
    }

    /// The last layers are done with a micro-batch: their gradient goes to the cloud. `did` is how long it took, in
    /// seconds, its mean loss, and how many were right.
    pub(super) fn handle_tail_stepped(
        &mut self,
        step: u32,
        micro_batch: MicroBatch,
        gradient: TensorMessage,
        did: (f64, f32, u32),
    ) {
        let Some(at) = self.round.as_mut().filter(|at| at.step == step) else { return };
        if micro_batch != at.micro_batches.next_tail() {
            return;
        }
        at.micro_batches.tailed += 1;
        let (seconds, loss, correct) = at.tail.unwrap_or_default();
        // The means of equal parts.
        at.tail = Some((seconds + did.0, loss + did.1 / micro_batch.of as f32, correct + did.2));
        at.micro_batches.sent(gradient.clone());
        let pace = at.plan.pace;
        self.push(Action::SendTensor { tensor: gradient, pace });
        self.go_on();
    }
}
