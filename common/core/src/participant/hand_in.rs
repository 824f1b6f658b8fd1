//! A round that the others leave behind: the cloud wants this edge's part of the model at its end.

use super::Participant;
use super::action::{Action, Completed, Job};
use super::stepping::Stage;
use crate::wire::RoundPlan;

impl Participant {
    /// The round ends as one that ends with an aggregation. If it has ended already, its durable end is sent.
    pub(super) fn handle_hand_in(&mut self, round: u32, attempt: u32) {
        let id = (round, attempt);
        let ended = match (&mut self.round, &mut self.completed) {
            (Some(at), _) if (at.plan.round, at.plan.attempt) == id => {
                let is_known = std::mem::replace(&mut at.plan.aggregate, true);
                let RoundPlan { cut, steps, .. } = at.plan;
                let ended = Completed { round, attempt, cut, aggregate: true, steps };
                (!is_known && matches!(at.stage, Stage::End | Stage::Done)).then_some(ended)
            }
            (None, Some(completed)) if (completed.round, completed.attempt) == id => {
                let is_known = std::mem::replace(&mut completed.aggregate, true);
                (!is_known).then_some(*completed)
            }
            _ => None,
        };
        if let Some(completed) = ended {
            self.push(Action::Compute(Job::Upload(completed)));
        }
    }
}
