//! The state of a run of layers as bare values: what a moved cut, an aggregation, a snapshot and a
//! checkpoint carry.
//!
//! Per layer, per tensor in canonical order ([`ModelSpec::tensors`]): its values, then, for a trained
//! tensor, each optimizer moment. Layers are contiguous, so a cut splits a state by slicing. Nothing
//! else is state: batch order, dropout masks and Adam's step number are functions of the step.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ModelSpec, TensorRole, TensorSpec};

/// Weights, buffers and optimizer moments of `layers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerState {
    /// Which layers.
    pub layers: Range<usize>,
    /// Moments per trained tensor: the length of [`crate::optimizer::Optimizer::moments`].
    pub moments: usize,
    /// The values, in the module's order.
    pub values: Vec<f32>,
}

/// A state whose length is not what the spec says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the state of layers {layers:?} with {moments} optimizer moments has {expected} values, not {actual}"
)]
pub struct StateLengthError {
    /// Which layers.
    pub layers: Range<usize>,
    /// Moments per trained tensor.
    pub moments: usize,
    /// Values that the spec asks for.
    pub expected: usize,
    /// Values present.
    pub actual: usize,
}

/// Where one tensor lies in a state.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSlot {
    /// The tensor.
    pub tensor: TensorSpec,
    /// Its values.
    pub values: Range<usize>,
    /// Its moments, in the optimizer's order; empty for a buffer.
    pub moments: Vec<Range<usize>>,
}

/// Where each tensor of `layers` lies in a state with `moments` moments.
pub fn slots(spec: &ModelSpec, layers: Range<usize>, moments: usize) -> Vec<TensorSlot> {
    let mut at = 0;
    let mut take = |n: usize| {
        at += n;
        at - n..at
    };
    let mut all = Vec::new();
    for tensor in spec.tensors(layers) {
        let n = tensor.len();
        let kept = if tensor.role == TensorRole::Trained { moments } else { 0 };
        let values = take(n);
        let moments = (0..kept).map(|_| take(n)).collect();
        all.push(TensorSlot { tensor, values, moments });
    }
    all
}

/// Values in a state of `layers` with `moments` moments.
pub fn state_len(spec: &ModelSpec, layers: Range<usize>, moments: usize) -> usize {
    spec.tensors(layers)
        .iter()
        .map(|tensor| tensor.len() * if tensor.role == TensorRole::Trained { 1 + moments } else { 1 })
        .sum()
}

impl LayerState {
    /// The state before the first step: initial values by (seed, tensor name), moments zero.
    pub fn initial(spec: &ModelSpec, layers: Range<usize>, moments: usize, seed: u64) -> Self {
        let mut values = vec![0.0; state_len(spec, layers.clone(), moments)];
        for slot in slots(spec, layers.clone(), moments) {
            values[slot.values].copy_from_slice(&slot.tensor.initial_values(seed));
        }
        Self { layers, moments, values }
    }

    /// A state from values that came from outside.
    ///
    /// # Errors
    /// If there are more or fewer values than the spec asks for.
    pub fn new(
        spec: &ModelSpec,
        layers: Range<usize>,
        moments: usize,
        values: Vec<f32>,
    ) -> Result<Self, StateLengthError> {
        let expected = state_len(spec, layers.clone(), moments);
        if values.len() == expected {
            Ok(Self { layers, moments, values })
        } else {
            Err(StateLengthError { layers, moments, expected, actual: values.len() })
        }
    }

    /// Takes `[cut, end)` away and returns it; `[start, cut)` stays.
    ///
    /// # Panics
    /// If `cut` is outside the layers.
    #[must_use]
    pub fn split_off(&mut self, spec: &ModelSpec, cut: usize) -> Self {
        assert!(self.layers.start <= cut && cut <= self.layers.end, "cut {cut} is outside {:?}", self.layers);
        let at = state_len(spec, self.layers.start..cut, self.moments);
        let values = self.values.split_off(at);
        let layers = cut..self.layers.end;
        self.layers.end = cut;
        Self { layers, moments: self.moments, values }
    }

    /// A copy of some of the layers.
    ///
    /// # Panics
    /// If `layers` is not within this state's.
    #[must_use]
    pub fn slice(&self, spec: &ModelSpec, layers: Range<usize>) -> Self {
        let own = &self.layers;
        assert!(own.start <= layers.start && layers.end <= own.end, "{layers:?} is outside {own:?}");
        let start = state_len(spec, own.start..layers.start, self.moments);
        let len = state_len(spec, layers.clone(), self.moments);
        Self { layers, moments: self.moments, values: self.values[start..start + len].to_vec() }
    }

    /// Appends the state of the layers that follow.
    ///
    /// # Panics
    /// If `next` does not start where this ends, or has other moments.
    pub fn append(&mut self, next: Self) {
        assert_eq!(self.layers.end, next.layers.start, "states must be of adjoining layers");
        assert_eq!(self.moments, next.moments, "states must have the same moments");
        self.layers.end = next.layers.end;
        self.values.extend(next.values);
    }

    /// The state of all the layers of some states of adjoining layers, in order; `None` of none.
    ///
    /// # Panics
    /// As [`Self::append`].
    pub fn joined(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        parts.into_iter().reduce(|mut whole, next| {
            whole.append(next);
            whole
        })
    }

    /// The same weights and buffers with `moments` moments per trained tensor, all zero: what training
    /// starts from.
    #[must_use]
    pub fn with_zero_moments(&self, spec: &ModelSpec, moments: usize) -> Self {
        let layers = self.layers.clone();
        let mut values = vec![0.0; state_len(spec, layers.clone(), moments)];
        let ours = slots(spec, layers.clone(), self.moments);
        for (from, to) in ours.into_iter().zip(slots(spec, layers.clone(), moments)) {
            values[to.values].copy_from_slice(&self.values[from.values]);
        }
        Self { layers, moments, values }
    }

    /// Whether every value is a number that can be trained on.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    /// Whether those of these layers that are frozen are what they are in the whole model `global`, which has as
    /// many moments.
    pub fn keeps_frozen(&self, spec: &ModelSpec, global: &Self) -> bool {
        let frozen = self.layers.start..self.layers.end.min(spec.frozen);
        if frozen.is_empty() {
            return true;
        }
        let before = state_len(spec, 0..frozen.start, self.moments);
        let len = state_len(spec, frozen, self.moments);
        self.values[..len] == global.values[before..before + len]
    }

    /// A copy of weights and buffers, without the moments.
    #[must_use]
    pub fn without_moments(&self, spec: &ModelSpec) -> Self {
        let mut values = Vec::with_capacity(state_len(spec, self.layers.clone(), 0));
        for slot in slots(spec, self.layers.clone(), self.moments) {
            values.extend_from_slice(&self.values[slot.values]);
        }
        Self { layers: self.layers.clone(), moments: 0, values }
    }

    /// Multiplies each moment by its factor; 1 leaves it as it is, bit for bit.
    pub fn scale_moments(&mut self, spec: &ModelSpec, factors: &[f64]) {
        for slot in slots(spec, self.layers.clone(), self.moments) {
            for (range, factor) in slot.moments.into_iter().zip(factors) {
                for value in &mut self.values[range] {
                    *value = (f64::from(*value) * factor) as f32;
                }
            }
        }
    }

    /// Sets every moment to zero: `aggregate_moments = "reset"`.
    pub fn reset_moments(&mut self, spec: &ModelSpec) {
        for slot in slots(spec, self.layers.clone(), self.moments) {
            for range in slot.moments {
                self.values[range].fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::builtin::builtin;
    use crate::model::{LayerOp, LayerSpec};

    #[test]
    fn without_moments_weights_and_buffers_are_left() {
        let layer = |name: &str, op| LayerSpec { name: name.into(), op };
        let spec = ModelSpec {
            name: "norm".into(),
            input: [1, 1, 1],
            classes: 1,
            frozen: 0,
            layers: vec![
                layer("norm", LayerOp::BatchNorm2d { channels: 1 }),
                layer("flatten", LayerOp::Flatten),
                layer("linear", LayerOp::Linear { inputs: 1, outputs: 1, bias: true }),
            ],
        };
        let spec = spec.checked().expect("the layers fit");
        // Weight and bias with two moments each, running mean and variance; weight and bias again.
        let values = [1.0, -1.0, -1.0, 2.0, -2.0, -2.0, 3.0, 4.0, 5.0, -5.0, -5.0, 6.0, -6.0, -6.0];
        let state = LayerState::new(&spec, 0..3, 2, values.to_vec()).expect("so many values");
        let bare = LayerState { layers: 0..3, moments: 0, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(state.without_moments(&spec), bare);
        assert_eq!(bare.without_moments(&spec), bare);
    }

    #[test]
    fn frozen_layers_are_compared_wherever_a_state_begins() {
        let spec = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
        let spec = ModelSpec { frozen: 4, ..spec };
        let global = LayerState::initial(&spec, 0..spec.len(), 1, 1);
        for layers in [0..2, 0..8, 3..4, 3..12, 4..12, 9..12] {
            let mut state = global.slice(&spec, layers.clone());
            assert!(state.keeps_frozen(&spec, &global));
            let last = state.values.len() - 1;
            state.values[last] += 1.0;
            assert_eq!(
                state.keeps_frozen(&spec, &global),
                layers.end > 4,
                "{layers:?}: what is trained may change"
            );
            state.values[0] += 1.0;
            assert_eq!(state.keeps_frozen(&spec, &global), layers.start >= 4, "{layers:?}");
        }
    }

    #[test]
    fn moments_are_scaled_each_by_its_own_factor_and_nothing_else() {
        let spec = builtin("mlp", [1, 2, 2], 3).expect("it is built in");
        let ones = |moments| {
            let values = vec![1.0; state_len(&spec, 0..spec.len(), moments)];
            LayerState { layers: 0..spec.len(), moments, values }
        };
        let mut state = ones(2);
        state.scale_moments(&spec, &[2.0, 0.5]);
        for slot in slots(&spec, 0..spec.len(), 2) {
            assert!(state.values[slot.values].iter().all(|value| value.to_bits() == 1.0f32.to_bits()));
            for (range, expected) in slot.moments.into_iter().zip([2.0f32, 0.5]) {
                assert!(state.values[range].iter().all(|value| value.to_bits() == expected.to_bits()));
            }
        }
        let mut same = LayerState::initial(&spec, 0..spec.len(), 2, 1);
        let before = same.clone();
        same.scale_moments(&spec, &[1.0, 1.0]);
        assert_eq!(same, before);
    }
}
