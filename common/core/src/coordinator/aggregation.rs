//! After a round: averaging where it is due, checkpoints.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Checkpoint, Job};
use super::member::Member;
use super::settings::{Settings, Topology};
use super::{Coordinator, Phase};
use crate::event::EventKind;
use crate::model::LayerState;

/// A weight, and all parts of a model.
type Contribution = (f64, Vec<LayerState>);

impl Settings {
    /// The parts of a model with moments that mean after `after` optimizer steps what they mean after `steps`: those
    /// of an edge that was not in all rounds are averaged with the others'.
    fn as_if_after(&self, after: u64, steps: u64, mut parts: Vec<LayerState>) -> Vec<LayerState> {
        if steps != after && !self.reset_moments {
            let factors = self.optimizer.moment_factors(steps, after);
            for part in &mut parts {
                part.scale_moments(&self.spec, &factors);
            }
        }
        parts
    }
}

impl Coordinator {
    /// All states of the round's end are here: averages them, or goes on with each.
    pub(super) fn close_round(&mut self, now: Duration) {
        if !self.settings.aggregates(self.round) {
            self.start_round(now, self.round + 1);
            return;
        }
        let (weights, mut models) = self.contributions();
        let one_model = match self.settings.topology {
            Topology::ReplicaPerEdge => None,
            // Behind a cut it waits for the client-side models' average.
            Topology::Shared => self.shared_end.take_if(|end| end.layers.start == 0),
            Topology::HandedOn => self.turns.model.take().map(Arc::unwrap_or_clone),
        };
        if let Some(model) = one_model {
            models = vec![(1.0, vec![model])];
        }
        self.phase = Phase::Aggregate { weights };
        let reset_moments = self.settings.reset_moments;
        self.push(Action::Compute(Job::Aggregate { round: self.round, models, reset_moments }));
    }

    /// Each edge's weight, and the models that there are to average with theirs: first what an edge has handed in
    /// late, then what it has done in the round.
    fn contributions(&mut self) -> (Vec<(String, f64)>, Vec<Contribution>) {
        let (topology, after) = (self.settings.topology, self.replica_steps(self.round + 1));
        let mut weights = Vec::new();
        let mut models = Vec::new();
        // The turns of an edge that has left since are in the model that was handed on.
        let in_round = |member: &Member| match topology {
            Topology::HandedOn => member.steps_done > 0,
            Topology::ReplicaPerEdge | Topology::Shared => member.takes_part(),
        };
        for (name, member) in &mut self.fleet {
            let samples = member.request.samples - self.settings.held_out(member.request.samples);
            let mut weight = None;
            for late in std::mem::take(&mut member.late_models) {
                let of_it = samples as f64 * late.steps as f64 * late.discount();
                *weight.get_or_insert(0.0) += of_it;
                models.push((of_it, self.settings.as_if_after(after, late.optimizer_steps, late.parts)));
            }
            if in_round(member) {
                let of_it = match topology {
                    Topology::HandedOn => member.steps_done as f64,
                    _ => samples as f64 * member.steps_done as f64,
                };
                *weight.get_or_insert(0.0) += of_it;
                let round = member.round.as_mut();
                let parts =
                    round.map(|round| [round.upload.take(), round.exported.take(), round.tail.take()]);
                let parts: Vec<LayerState> = parts.into_iter().flatten().flatten().collect();
                if !parts.is_empty() {
                    let steps = self.optimizer_steps + member.steps_done;
                    models.push((of_it, self.settings.as_if_after(after, steps, parts)));
                }
            }
            weights.extend(weight.map(|weight| (name.clone(), weight)));
        }
        (weights, models)
    }

    pub(super) fn handle_aggregated(&mut self, now: Duration, round: u32, state: LayerState) {
        let Phase::Aggregate { weights } = &mut self.phase else { return };
        if round != self.round {
            return;
        }
        let weights = std::mem::take(weights);
        self.aggregations += 1;
        let aggregation = self.aggregations;
        self.emit(now, EventKind::Aggregated { round: round + 1, aggregation, weights });
        self.age_late_models();
        self.global = Arc::new(self.joined_with_shared(round, state));
        self.optimizer_steps = match self.settings.topology {
            _ if self.settings.reset_moments => 0,
            Topology::ReplicaPerEdge => self.replica_steps(round + 1),
            Topology::Shared | Topology::HandedOn => self.model_steps,
        };
        self.global_rounds = round + 1;
        let last = self.global_rounds >= self.settings.max_rounds;
        if last || self.global_rounds.is_multiple_of(self.settings.checkpoint_every) {
            self.emit(now, EventKind::Checkpointed { round: self.global_rounds });
            self.push(Action::Checkpoint(Checkpoint {
                rounds: self.global_rounds,
                aggregations: self.aggregations,
                optimizer_steps: self.optimizer_steps,
                state: self.global.clone(),
            }));
        }
        self.evaluate_then_go_on(now);
    }

    /// Completes the average of client-side models with the shared server-side one. That has made as many
    /// optimizer steps as all edges together, so from here on their moments stand for as many.
    fn joined_with_shared(&mut self, round: u32, averaged: LayerState) -> LayerState {
        let Some(mut shared) = self.shared_end.take() else { return averaged };
        let (mut whole, settings) = (averaged, &self.settings);
        if settings.reset_moments {
            shared.reset_moments(&settings.spec);
        } else {
            let factors = settings.optimizer.moment_factors(self.replica_steps(round + 1), self.model_steps);
            whole.scale_moments(&settings.spec, &factors);
        }
        whole.append(shared);
        whole
    }
}
