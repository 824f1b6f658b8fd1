//! Labels on the edge: its last layers, between the two halves of the cloud's part of a step.

use super::Participant;
use super::action::{Action, Job};
use super::stepping::Stage;
use crate::link::Transfer;
use crate::wire::TensorMessage;

impl Participant {
    /// What follows the activations at the cut.
    pub(super) fn stage_after_forward(&self) -> Stage {
        match &self.assignment {
            Some(assignment) if assignment.tail.is_some() => Stage::AwaitActivations,
            _ => Stage::AwaitGradient,
        }
    }

    /// The activations before the last layers came.
    pub(super) fn handle_tail_activations(&mut self, activations: TensorMessage, transfer: Transfer) {
        let header = activations.header;
        if !self.is_at(header.round, header.attempt, Stage::AwaitActivations) {
            return;
        }
        let Some(round) = self.round.as_mut().filter(|round| round.step == header.step) else { return };
        if !round.micro_batches.answered(&activations, transfer) {
            return;
        }
        (round.stage, round.moved) = (Stage::Tail, None);
        let (plan, step) = (round.plan, round.step);
        self.push(Action::Compute(Job::Tail { plan, step, activations }));
    }

    /// The last layers are trained: their gradient goes to the cloud.
    pub(super) fn handle_tail_stepped(&mut self, step: u32, gradient: TensorMessage, did: (f64, f32, u32)) {
        let Some(round) = self.round.as_mut().filter(|round| round.step == step) else { return };
        round.stage = Stage::AwaitGradient;
        round.tail = Some(did);
        round.micro_batches.sent(gradient.clone());
        let pace = round.plan.pace;
        self.push(Action::SendTensor { tensor: gradient, pace });
    }
}
