//! Probes: the first, before the edge is ready, and those of rounds that it trains alone.

use super::Participant;
use super::action::{Action, Job};
use super::stepping::Stage;
use crate::link::Transfer;
use crate::probe;
use crate::wire::{RoundPlan, TensorMessage};

impl Participant {
    /// The probe that gives the first estimate of the uplink, once.
    pub(super) fn send_first_probe(&mut self) {
        if let Some(assignment) = &self.assignment
            && std::mem::take(&mut self.owes_probe)
        {
            let tensor = probe::first(assignment.probe_bytes as usize / 4);
            self.push(Action::SendTensor { tensor, pace: None });
        }
    }

    /// The probe that travels while a job is done, if there is one.
    pub(super) fn send_probe_beside(&mut self, job: &Job) {
        let Job::LocalStep { plan, step } = job else { return };
        let RoundPlan { steps, probe_bytes, .. } = *plan;
        if probe_bytes > 0 && probe::is_due(*step, steps) {
            let tensor = probe::tensor(plan, *step, probe_bytes);
            self.push(Action::SendTensor { tensor, pace: None });
        }
    }

    /// A probe: of the link before the first round, or while a round's steps are local.
    pub(super) fn handle_probe(&mut self, tensor: &TensorMessage, transfer: Transfer) {
        match self.round.as_mut() {
            Some(at) => {
                let is_of_it =
                    (tensor.header.round, tensor.header.attempt) == (at.plan.round, at.plan.attempt);
                if is_of_it && at.stage == Stage::LocalStep {
                    at.probe = Some(transfer);
                }
            }
            None => {
                self.probe = Some(transfer);
                self.awaits_probe = false;
                self.say_ready();
            }
        }
    }
}
