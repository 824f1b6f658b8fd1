//! A run in which edges were deferred, left out or lost their state, computed in one place from what its events tell:
//! who was planned for, who came late, and what every global model was made of.

use std::collections::{BTreeMap, BTreeSet};

use partway_core::event::{EventKind, Recovery};
use partway_core::micro_batch::MicroBatch;
use partway_core::model::LayerState;

use crate::fake_model::Context;
use crate::ledger::Ledger;
use crate::scenario::{MODEL, Scenario};

/// What an edge trains from a global model on.
#[derive(Clone)]
struct Training {
    state: LayerState,
    steps: u64,
    missed: u32,
}

/// The run as its events tell it, computed in one place.
pub(crate) struct Retold<'a> {
    scenario: &'a Scenario,
    /// Rounds that are part of it, and the steps behind its moments, of the global model.
    pub(crate) global: (LayerState, u32, u64),
    /// Those who take part in the round, whose work goes on from round to round.
    training: BTreeMap<String, Training>,
    behind: BTreeMap<String, Training>,
    late: BTreeMap<String, Vec<Training>>,
    round: u32,
    /// The weights and the average of what there was when the round ended, if a model is made of it.
    next: Option<(Vec<(String, f64)>, LayerState)>,
}

impl<'a> Retold<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            global: (scenario.initial(&MODEL), 0, 0),
            training: BTreeMap::new(),
            behind: BTreeMap::new(),
            late: BTreeMap::new(),
            round: 0,
            next: None,
        }
    }

    fn fresh(&self) -> Training {
        Training { state: self.global.0.clone(), steps: 0, missed: 0 }
    }

    /// A round of an edge, all of it, as soon as it begins: nothing else changes what comes of it.
    fn train(&mut self, edge: &str) {
        let mut at = self.training.remove(edge).unwrap_or_else(|| self.fresh());
        let mut ledger = Ledger::new(1);
        for step in 0..self.scenario.steps {
            at.steps += 1;
            let number = u64::from(self.round * self.scenario.steps + step);
            let context = Context {
                edge,
                step: number,
                optimizer_step: self.global.2 + at.steps,
                micro_batch: MicroBatch::WHOLE,
            };
            MODEL.step(&mut at.state, None, &context, self.scenario.in_flight, &mut ledger);
        }
        self.training.insert(edge.to_owned(), at);
    }

    /// Takes in an event.
    ///
    /// # Panics
    /// If it contradicts those before it.
    pub(crate) fn observe(&mut self, kind: &EventKind) {
        match kind {
            // A coordinator that was started again: nothing is left but the global model.
            EventKind::ModelDetermined { .. } => {
                self.training.clear();
                self.behind.clear();
                self.late.clear();
            }
            EventKind::Planned { round, edges, .. } => {
                self.round = round - 1;
                let planned: BTreeSet<&String> = edges.iter().map(|planned| &planned.edge).collect();
                self.training.retain(|edge, _| planned.contains(edge));
                for edge in planned {
                    self.train(edge);
                }
            }
            EventKind::EdgeDeferred { edge, round, .. } => {
                assert_eq!(*round, self.round + 1);
                let training = self.training.remove(edge).expect("it takes part");
                assert!(self.behind.insert(edge.clone(), training).is_none(), "deferred twice");
            }
            EventKind::EdgeCaughtUp { edge, steps, .. } => {
                let training = self.behind.remove(edge).expect("it was deferred");
                assert_eq!(training.steps, *steps);
                self.late.entry(edge.clone()).or_default().push(training);
            }
            EventKind::EdgeDropped { edge, .. } => {
                self.training.remove(edge);
                self.behind.remove(edge);
            }
            EventKind::EdgeResumed { edge, how: Recovery::StateLost, .. } => {
                let was_behind = self.behind.remove(edge).is_some();
                if !was_behind {
                    self.training.remove(edge);
                    self.train(edge);
                }
            }
            EventKind::RoundDone { round, .. } => {
                let scenario = self.scenario;
                if round.is_multiple_of(scenario.aggregate_every) || *round == scenario.rounds {
                    self.next = Some(self.aggregate());
                }
            }
            EventKind::Aggregated { weights, .. } => {
                assert_eq!(Some(weights), self.next.as_ref().map(|(weights, _)| weights));
            }
            EventKind::Checkpointed { round } => {
                let rounds = round - self.global.1;
                let steps = self.global.2 + u64::from(rounds * self.scenario.steps);
                let steps = if self.scenario.reset_moments { 0 } else { steps };
                let (_, next) = self.next.take().expect("there was an aggregation");
                self.global = (next, *round, steps);
                self.training.clear();
                for training in self.behind.values_mut().chain(self.late.values_mut().flatten()) {
                    training.missed += 1;
                }
            }
            _ => {}
        }
    }

    fn aggregate(&mut self) -> (Vec<(String, f64)>, LayerState) {
        let mut models = Vec::new();
        let mut expected = BTreeMap::new();
        for edge in
            self.scenario.edges.iter().map(|edge| (&edge.name, edge)).collect::<BTreeMap<_, _>>().values()
        {
            let own =
                self.late.remove(&edge.name).into_iter().flatten().chain(self.training.remove(&edge.name));
            for Training { state, steps, missed } in own {
                let samples = self.scenario.trained_on(edge.samples) as f64;
                let weight = samples * steps as f64 * (1.0 / (1.0 + f64::from(missed)).sqrt());
                *expected.entry(edge.name.clone()).or_insert(0.0) += weight;
                models.push((weight, vec![state]));
            }
        }
        let mut next = MODEL.average(models);
        if self.scenario.reset_moments {
            next.reset_moments(&MODEL.spec);
        }
        (expected.into_iter().collect(), next)
    }
}
