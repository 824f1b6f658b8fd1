//! After a round: averaging where it is due, checkpoints, evaluation, the end of the run.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Checkpoint, Job};
use super::{Coordinator, Phase};
use crate::event::EventKind;
use crate::model::LayerState;

impl Coordinator {
    /// All states of the round's end are here: averages them, or goes on with each.
    pub(super) fn close_round(&mut self, now: Duration) {
        if !self.settings.aggregates(self.round) {
            self.start_round(now, self.round + 1);
            return;
        }
        let mut weights = Vec::new();
        let mut models = Vec::new();
        for (name, member) in self.fleet.iter_mut().filter(|(_, member)| !member.out) {
            let weight = member.request.samples as f64 * member.steps_done as f64;
            weights.push((name.clone(), weight));
            let Some(round) = member.round.as_mut() else { continue };
            let parts = [round.upload.take(), round.exported.take(), round.tail.take()];
            let parts: Vec<LayerState> = parts.into_iter().flatten().collect();
            if !parts.is_empty() {
                models.push((weight, parts));
            }
        }
        if let Some(shared) = self.shared_end.take() {
            models = vec![(1.0, vec![shared])];
        }
        let aggregation = self.aggregations + 1;
        self.emit(now, EventKind::Aggregated { round: self.round + 1, aggregation, weights });
        let reset_moments = self.settings.reset_moments;
        self.push(Action::Compute(Job::Aggregate { round: self.round, models, reset_moments }));
    }

    pub(super) fn handle_aggregated(&mut self, now: Duration, round: u32, state: LayerState) {
        if !matches!(self.phase, Phase::Aggregate) || round != self.round {
            return;
        }
        self.aggregations += 1;
        self.global = Arc::new(state);
        self.global_rounds = round + 1;
        let last = self.global_rounds >= self.settings.max_rounds;
        self.evaluate();
        if last || self.global_rounds.is_multiple_of(self.settings.checkpoint_every) {
            self.emit(now, EventKind::Checkpointed { round: self.global_rounds });
            self.push(Action::Checkpoint(Checkpoint {
                rounds: self.global_rounds,
                aggregations: self.aggregations,
                state: self.global.clone(),
                accuracy: None,
            }));
        }
        if last {
            self.phase = Phase::LastEvaluation;
        } else {
            self.start_round(now, round + 1);
        }
    }

    /// Has the global model evaluated.
    pub(super) fn evaluate(&mut self) {
        if let Some(standardizer) = self.standardizer.clone() {
            let (round, state) = (self.global_rounds.saturating_sub(1), self.global.clone());
            self.push(Action::Compute(Job::Evaluate { round, state, standardizer }));
        }
    }

    pub(super) fn handle_evaluated(
        &mut self,
        now: Duration,
        round: u32,
        accuracy: f64,
        loss: f64,
        samples: u64,
    ) {
        self.emit(now, EventKind::Evaluated { round: round + 1, accuracy, loss, samples });
        // A slow evaluation may end after the next aggregation: the target counts for its own model only.
        if round + 1 != self.global_rounds {
            return;
        }
        match self.settings.target_accuracy {
            Some(target) if accuracy >= target => {
                let reason = format!("the accuracy target was met: {accuracy:.4} >= {target}");
                self.finish(now, reason, true);
            }
            _ if matches!(self.phase, Phase::LastEvaluation) => {
                let reason = match self.settings.target_accuracy {
                    Some(target) => {
                        format!("max_rounds were done at accuracy {accuracy:.4}, target {target}")
                    }
                    None => format!("max_rounds were done at accuracy {accuracy:.4}"),
                };
                self.finish(now, reason, false);
            }
            _ => {}
        }
    }
}
