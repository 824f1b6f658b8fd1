//! After a round: averaging where it is due, checkpoints.

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
        let layers = self.settings.spec.len();
        let mut weights = Vec::new();
        let mut parts = Vec::new();
        for (name, member) in self.fleet.iter_mut().filter(|(_, member)| !member.out) {
            let samples = member.request.samples - self.settings.held_out(member.request.samples);
            let weight = samples as f64 * member.steps_done as f64;
            weights.push((name.clone(), weight));
            let Some(round) = member.round.as_mut() else { continue };
            if let Some(upload) = round.upload.take() {
                parts.push((weight, upload, round.exported.take()));
            } else if let Some(whole) = round.exported.take() {
                debug_assert_eq!(whole.layers, 0..layers);
                parts.push((weight, whole, None));
            }
        }
        if let Some(shared) = self.shared_end.take() {
            parts = vec![(1.0, shared, None)];
        }
        let aggregation = self.aggregations + 1;
        self.emit(now, EventKind::Aggregated { round: self.round + 1, aggregation, weights });
        let reset_moments = self.settings.reset_moments;
        self.push(Action::Compute(Job::Aggregate { round: self.round, parts, reset_moments }));
    }

    pub(super) fn handle_aggregated(&mut self, now: Duration, round: u32, state: LayerState) {
        if !matches!(self.phase, Phase::Aggregate) || round != self.round {
            return;
        }
        self.aggregations += 1;
        self.global = Arc::new(state);
        self.global_rounds = round + 1;
        let last = self.global_rounds >= self.settings.max_rounds;
        if last || self.global_rounds.is_multiple_of(self.settings.checkpoint_every) {
            self.emit(now, EventKind::Checkpointed { round: self.global_rounds });
            self.push(Action::Checkpoint(Checkpoint {
                rounds: self.global_rounds,
                aggregations: self.aggregations,
                state: self.global.clone(),
                accuracy: None,
            }));
        }
        self.evaluate_then_go_on(now);
    }
}
