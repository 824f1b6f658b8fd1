//! Which steps every version of every layer has seen, kept by an observer that sees all.

use std::collections::{BTreeMap, BTreeSet};
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

/// What a version of a layer comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The global model, by its number.
    pub(crate) global: u32,
    /// The steps since.
    pub(crate) steps: Vec<Step>,
}

/// The steps since a global model, by layer and digest of its values.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Steps of one edge before another's: 1 where they train side by side.
    turn: u64,
    seen: BTreeMap<(usize, u64), Arc<Origin>>,
    /// Counts the global models.
    globals: u32,
    /// Steps that are part of the last global model, and those of the next one.
    merged: BTreeSet<Step>,
    merging: BTreeSet<Step>,
}

impl Ledger {
    pub(crate) fn new(turn: u32) -> Self {
        let (merged, merging) = (BTreeSet::new(), BTreeSet::new());
        Self { turn: turn.into(), seen: BTreeMap::new(), globals: 0, merged, merging }
    }

    /// A model that everybody starts from.
    pub(crate) fn begin(&mut self, model: &FakeModel, global: &LayerState) {
        self.globals += 1;
        let origin = Arc::new(Origin { global: self.globals, steps: Vec::new() });
        for layer in model.trained_layers(global) {
            self.seen.insert((layer, model.digest(global, layer)), origin.clone());
        }
        self.merged.append(&mut self.merging);
    }

    /// Global models that were made after this one.
    pub(crate) fn missed(&self, origin: &Origin) -> u32 {
        self.globals - origin.global
    }

    /// An average begins. One before it that came to nothing has merged nothing.
    pub(crate) fn begin_merge(&mut self) {
        self.merging.clear();
    }

    /// A model with these steps is averaged.
    ///
    /// # Panics
    /// If one of them is part of a global model already.
    pub(crate) fn merge(&mut self, steps: &[Step]) {
        for step in steps {
            assert!(!self.merged.contains(step), "{step:?} is in a global model already");
            assert!(self.merging.insert(step.clone()), "{step:?} is in two models");
        }
    }

    /// A layer became another by a step, or by the forward pass before one.
    pub(crate) fn changed(&mut self, layer: usize, before: u64, after: u64, step: Option<Step>) {
        if before == after {
            return;
        }
        let mut steps = self.seen.get(&(layer, before)).cloned().unwrap_or_default();
        if let Some(step) = step {
            Arc::make_mut(&mut steps).steps.push(step);
        }
        self.seen.insert((layer, after), steps);
    }

    /// The steps that a state has seen, and since when.
    ///
    /// # Panics
    /// If its layers have not seen the same, or any twice, or any out of order.
    pub(crate) fn origin(&self, model: &FakeModel, state: &LayerState) -> Origin {
        let mut all: Option<Arc<Origin>> = None;
        for layer in model.trained_layers(state) {
            let digest = model.digest(state, layer);
            let steps = self.seen.get(&(layer, digest)).expect("every state comes from a known one");
            let first = all.get_or_insert_with(|| steps.clone());
            assert_eq!(first, steps, "layer {layer} has seen other steps than the layers before it");
        }
        let origin = Arc::unwrap_or_clone(all.unwrap_or_default());
        let steps = &origin.steps;
        let place = |step: &Step| (step.number / self.turn, step.edge.clone(), step.number);
        assert!(steps.is_sorted_by_key(place), "steps were trained out of order: {steps:?}");
        let mut sorted = steps.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), steps.len(), "a step was trained twice: {steps:?}");
        origin
    }
}
