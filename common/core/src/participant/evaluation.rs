//! Global models that the cloud wants evaluated on the samples that this edge holds out. They come
//! between two rounds, so that no step is timed beside an evaluation.

use super::Participant;
use super::action::{Action, Job, Progress};
use super::stepping::has_ended;
use crate::model::{ModelCost, ModelSpec};
use crate::wire::{Assignment, EdgeMessage, Score, TensorMessage};

impl Participant {
    /// Why the whole model cannot be evaluated here, if that is asked for and memory does not hold it.
    pub(super) fn refuse_evaluation(&self, assignment: &Assignment, model: &ModelSpec) -> Option<String> {
        let limit = self.request.memory_limit.filter(|_| assignment.holdout.is_some())?;
        let batch = u64::from(assignment.batch_size);
        let needed = ModelCost::of(model).inference_memory_bytes(batch);
        (needed > limit).then(|| {
            format!(
                "all of `{}` needs {needed} bytes to evaluate batches of {batch}, the memory limit is {limit}",
                model.name
            )
        })
    }

    /// A global model came. One that was evaluated before is answered, not evaluated again.
    pub(super) fn handle_model(&mut self, model: TensorMessage) {
        let made_after = model.header.round;
        let is_late = self.round.as_ref().is_some_and(|round| round.plan.round > made_after);
        let Some(session) = self.session.filter(|_| self.prepared && !is_late) else { return };
        if let Some((round, result)) = self.evaluated.clone()
            && round >= made_after
        {
            if round == made_after {
                self.push(Action::Send(EdgeMessage::Evaluated { round, result }));
            }
            return;
        }
        // Its work is in the model, or was left out of it: either way the round is over.
        if !has_ended(self.round.as_ref()) {
            self.round = None;
        }
        self.clean = false;
        self.push(Action::Compute(Job::Evaluate { session, model }));
    }

    pub(super) fn handle_model_evaluated(&mut self, session: u64, round: u32, result: Result<Score, String>) {
        // Another session's model of the same round is another one.
        if self.session != Some(session) {
            return;
        }
        self.evaluated = Some((round, result.clone()));
        self.push(Action::Report(Progress::Evaluated { round: round + 1, result: result.clone() }));
        self.push(Action::Send(EdgeMessage::Evaluated { round, result }));
    }
}
