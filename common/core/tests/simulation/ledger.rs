//! Which steps every version of every layer has seen, kept by an observer that sees all.

use std::collections::BTreeMap;
use std::sync::Arc;

use partway_core::model::LayerState;

use crate::fake_model::FakeModel;

/// One step of one edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) edge: String,
    /// The step in the run.
    pub(crate) number: u64,
}

/// The steps since the last global model, by layer and digest of its values.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Steps of one edge before another's: 1 where they train side by side.
    turn: u64,
    seen: BTreeMap<(usize, u64), Arc<Vec<Step>>>,
}

impl Ledger {
    pub(crate) fn new(turn: u32) -> Self {
        Self { turn: turn.into(), seen: BTreeMap::new() }
    }

    /// A model that everybody starts from.
    pub(crate) fn begin(&mut self, model: &FakeModel, global: &LayerState) {
        for layer in model.trained_layers(global) {
            self.seen.insert((layer, model.digest(global, layer)), Arc::default());
        }
    }

    /// A layer became another by a step, or by the forward pass before one.
    pub(crate) fn changed(&mut self, layer: usize, before: u64, after: u64, step: Option<Step>) {
        if before == after {
            return;
        }
        let mut steps = self.seen.get(&(layer, before)).cloned().unwrap_or_default();
        if let Some(step) = step {
            Arc::make_mut(&mut steps).push(step);
        }
        self.seen.insert((layer, after), steps);
    }

    /// The steps that a state has seen.
    ///
    /// # Panics
    /// If its layers have not seen the same, or any twice, or any out of order.
    pub(crate) fn steps(&self, model: &FakeModel, state: &LayerState) -> Vec<Step> {
        let mut all: Option<Arc<Vec<Step>>> = None;
        for layer in model.trained_layers(state) {
            let digest = model.digest(state, layer);
            let steps = self.seen.get(&(layer, digest)).expect("every state comes from a known one");
            let first = all.get_or_insert_with(|| steps.clone());
            assert_eq!(first, steps, "layer {layer} has seen other steps than the layers before it");
        }
        let steps = Arc::unwrap_or_clone(all.unwrap_or_default());
        let place = |step: &Step| (step.number / self.turn, step.edge.clone(), step.number);
        assert!(steps.is_sorted_by_key(place), "steps were trained out of order: {steps:?}");
        let mut sorted = steps.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), steps.len(), "a step was trained twice: {steps:?}");
        steps
    }
}
