//! The coordinator's process: what happens to it, and what it asks for.

use std::time::Duration;

use partway_core::coordinator::{Action, Computed, Coordinator, Job, Stragglers};
use partway_core::model::LayerState;

use super::{Happening, MOST_ACTIONS, World};
use crate::cloud::{Cloud, Workers};
use crate::scenario::LAYERS;

impl World {
    pub(super) fn start_cloud(&mut self) {
        self.run += 1;
        let settings = self.scenario.settings(&self.model, self.run);
        let coordinator = Coordinator::new(self.now, settings, self.checkpoint.clone());
        let workers = Workers::new(self.scenario.workers);
        // What was averaged but not kept is in no global model.
        self.ledger.begin_merge();
        if self.checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.rounds == 0) {
            let initial = self.scenario.initial(&self.model);
            // What was averaged and not kept is in no global model.
            self.ledger.begin_merge();
            self.ledger.begin(&self.model, &initial);
        }
        self.cloud = Some(Cloud { coordinator, workers, timers: 0 });
        self.coordinator(self.run, |_, _| {});
    }

    /// Tells the coordinator something, then does what it asks for.
    pub(super) fn coordinator(&mut self, run: u32, tell: impl FnOnce(&mut Coordinator, Duration)) {
        let now = self.now;
        let Some(cloud) = self.cloud.as_mut().filter(|_| self.run == run) else { return };
        tell(&mut cloud.coordinator, now);
        for count in 0.. {
            assert!(count < MOST_ACTIONS, "the coordinator asks for too much");
            let Some(action) = self.cloud.as_mut().and_then(|cloud| cloud.coordinator.poll_action()) else {
                break;
            };
            self.act_for_cloud(action);
        }
        let started = self.cloud.as_mut().map(|cloud| cloud.workers.dispatch()).unwrap_or_default();
        for replica in started {
            let takes = self.dice.ms(1, 15) / self.scenario.in_flight;
            self.schedule(now + takes, Happening::ReplicaComputed { run, replica });
        }
    }

    pub(super) fn act_for_cloud(&mut self, action: Action) {
        let (now, run) = (self.now, self.run);
        match action {
            Action::Send { to, message } => self.send_down(to.0, &message),
            Action::SendTensor { to, tensor, .. } => self.send_tensor_down(to.0, tensor),
            Action::Compute(job @ (Job::Aggregate { .. } | Job::Evaluate { .. })) => {
                let takes = match job {
                    Job::Evaluate { .. } => {
                        let (least, most) = self.scenario.evaluation_ms;
                        self.dice.ms(least, most)
                    }
                    _ => self.dice.ms(1, 20),
                };
                self.schedule(now + takes, Happening::GlobalComputed { run, job: Box::new(job) });
            }
            Action::Compute(job) => {
                if let Some(cloud) = &mut self.cloud {
                    cloud.workers.submit(job);
                }
            }
            Action::SetTimer(at) => {
                let Some(cloud) = &mut self.cloud else { return };
                cloud.timers += 1;
                let timer = cloud.timers;
                if let Some(at) = at {
                    self.schedule(at.max(now), Happening::CloudTimer { run, timer });
                }
            }
            Action::Checkpoint(checkpoint) => {
                // There is one after every aggregation: the global model, whole.
                self.ledger.begin(&self.model, &checkpoint.state);
                self.globals.insert(checkpoint.rounds - 1, (*checkpoint.state).clone());
                self.checkpoint = Some(checkpoint);
            }
            Action::Emit(event) => self.events.push(event),
            Action::Close { connection, reason } => {
                let Some(at) = self.connections.get(&connection.0) else { return };
                let heard = at.down.busy_until.max(now);
                let heard = heard + self.dice.ms(1, 50);
                self.schedule(heard, Happening::EdgeNotices { connection: connection.0, reason });
                let gone = heard + self.dice.ms(1, 50);
                self.schedule(gone, Happening::CloudNotices { connection: connection.0 });
            }
            Action::Finish(outcome) => {
                self.outcome = Some(outcome);
                self.ended_at = now;
                self.cloud = None;
                for (connection, at) in self.connections.clone() {
                    let heard = at.down.busy_until.max(now) + self.dice.ms(10, 50);
                    let reason = "the run is over".to_owned();
                    self.schedule(heard, Happening::EdgeNotices { connection, reason });
                }
            }
        }
    }

    pub(super) fn compute_global(&mut self, job: Job) -> Computed {
        match job {
            Job::Aggregate { round, models, reset_moments } => {
                self.check_models(&models);
                let mut state = self.model.average(models);
                if reset_moments {
                    state.reset_moments(&self.model.spec);
                }
                Computed::Aggregated { round, state }
            }
            Job::Evaluate { round, state, .. } => {
                let accuracy = self.scenario.accuracy(round);
                Computed::Evaluated { round, state, accuracy, loss: 1.0, samples: 10 }
            }
            _ => panic!("workers do the rest"),
        }
    }

    /// All parts of every contribution have seen the same steps, each once and never before, and its weight counts
    /// exactly these, less if they are not since the last global model.
    pub(super) fn check_models(&mut self, models: &[(f64, Vec<LayerState>)]) {
        self.ledger.begin_merge();
        for (weight, parts) in models {
            let whole = LayerState::joined(parts.iter().cloned()).expect("a contribution has layers");
            if self.scenario.has_one_model() {
                assert_eq!(whole.layers.start, 0, "the first layers are there");
            } else {
                assert_eq!(whole.layers, 0..LAYERS, "a contribution is a full model");
            }
            let origin = self.ledger.origin(&self.model, &whole);
            let (steps, missed) = (&origin.steps, self.ledger.missed(&origin));
            // What several edges have trained is not averaged.
            if whole.layers.end < LAYERS || !self.scenario.has_one_model() {
                let edge = &steps.first().expect("a contribution without a step").edge;
                assert!(steps.iter().all(|step| step.edge == *edge), "steps of two edges in one replica");
                let samples = self.edges.iter().find(|at| at.name == *edge).map_or(0, |at| at.samples);
                let discount = (1.0 + f64::from(missed)).powf(-0.5);
                let expected = self.scenario.trained_on(samples) as f64 * steps.len() as f64 * discount;
                assert!(
                    (weight - expected).abs() < 1e-9,
                    "edge {edge} has the weight {weight} for {origin:?} with {samples} samples"
                );
                let defers = matches!(self.scenario.stragglers, Stragglers::Defer { .. });
                assert!(missed == 0 || defers, "edge {edge} started from an old model: {origin:?}");
                if !self.scenario.has_one_model() {
                    self.ledger.merge(steps);
                }
            }
        }
    }
}
