//! A stand-in for tensor work: exact, cheap, and dependent on everything that matters.
//!
//! Activations and gradients are one 64-bit hash each. Forward, a layer folds its state and the batch
//! into the hash; backward, it replaces its values and moments by a hash of what they were, of the
//! forward and the backward hash, of their position and of the optimizer step. So training at any cut
//! gives the bits of unsplit training, and any step that is lost, repeated, reordered or trained from
//! another state changes everything that follows.

use std::ops::Range;

use partway_core::aggregate;
use partway_core::model::{
    LayerOp, LayerSpec, LayerState, ModelSpec, TensorRole,
    state::{slots, state_len},
};

use crate::ledger::{Ledger, Step};

/// Optimizer moments of every trained tensor: momentum.
pub(crate) const MOMENTS: usize = 1;

/// Words that carry a hash over the wire, 16 bits in each, so that each is an exact `f32`.
const HASH_WORDS: usize = 4;

/// A model's layout, tabulated.
#[derive(Debug)]
pub(crate) struct FakeModel {
    pub(crate) spec: ModelSpec,
    /// Per layer, whether each of its values is a buffer, which the forward pass updates.
    buffers: Vec<Vec<bool>>,
}

/// Whose batch a step trains on, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) edge: &'a str,
    /// The step in the run, from 0.
    pub(crate) step: u64,
    /// Steps since the moments were last zero, from 1.
    pub(crate) optimizer_step: u64,
}

/// The hash that went into each layer, and the one that came out of the last.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    inputs: Vec<u64>,
    pub(crate) output: u64,
}

impl FakeModel {
    /// Convolution, batch norm, relu, flatten, linear, relu, linear: layers with and without
    /// parameters and buffers on both sides of most cuts.
    pub(crate) fn new() -> Self {
        let layer = |name: &str, op| LayerSpec { name: name.into(), op };
        let spec = ModelSpec {
            name: "fake".into(),
            input: [1, 2, 2],
            classes: 3,
            frozen: 0,
            layers: vec![
                layer(
                    "conv",
                    LayerOp::Conv2d {
                        in_channels: 1,
                        out_channels: 2,
                        kernel: 1,
                        stride: 1,
                        padding: 0,
                        groups: 1,
                        bias: true,
                    },
                ),
                layer("norm", LayerOp::BatchNorm2d { channels: 2 }),
                layer("relu1", LayerOp::Relu),
                layer("flatten", LayerOp::Flatten),
                layer("linear1", LayerOp::Linear { inputs: 8, outputs: 4, bias: true }),
                layer("relu2", LayerOp::Relu),
                layer("linear2", LayerOp::Linear { inputs: 4, outputs: 3, bias: true }),
            ],
        };
        let spec = spec.checked().expect("the layers fit");
        let buffers = (0..spec.len())
            .map(|layer| {
                let mut is_buffer = vec![false; state_len(&spec, layer..layer + 1, MOMENTS)];
                for slot in slots(&spec, layer..layer + 1, MOMENTS) {
                    is_buffer[slot.values].fill(slot.tensor.role != TensorRole::Trained);
                }
                is_buffer
            })
            .collect();
        Self { spec, buffers }
    }

    /// Where a layer's values lie in a state.
    fn values_of(&self, state: &LayerState, layer: usize) -> Range<usize> {
        let len = |layers: Range<usize>| layers.map(|layer| self.buffers[layer].len()).sum::<usize>();
        let start = len(state.layers.start..layer);
        start..start + self.buffers[layer].len()
    }

    /// What identifies the values of one layer.
    pub(crate) fn digest(&self, state: &LayerState, layer: usize) -> u64 {
        state.values[self.values_of(state, layer)]
            .iter()
            .fold(layer as u64, |hash, value| mix(hash, u64::from(value.to_bits())))
    }

    /// Layers of a state that training changes.
    pub(crate) fn trained_layers<'a>(&'a self, state: &LayerState) -> impl Iterator<Item = usize> + 'a {
        state.layers.clone().filter(|layer| !self.buffers[*layer].is_empty())
    }

    /// Runs the layers of `state` on `input`.
    pub(crate) fn forward(
        &self,
        state: &mut LayerState,
        input: u64,
        context: &Context<'_>,
        ledger: &mut Ledger,
    ) -> Tape {
        let mut inputs = Vec::with_capacity(state.layers.len());
        let mut hash = input;
        for layer in state.layers.clone() {
            inputs.push(hash);
            let before = self.digest(state, layer);
            let range = self.values_of(state, layer);
            for (at, value) in state.values[range].iter_mut().enumerate() {
                if self.buffers[layer][at] {
                    *value = changed(*value, mix(hash, at as u64)).abs();
                }
            }
            let after = self.digest(state, layer);
            ledger.changed(layer, before, after, None);
            hash = mix(mix(hash, after), context.step);
        }
        Tape { inputs, output: hash }
    }

    /// Trains the layers of `state` with the gradient behind the last, and returns the one before the
    /// first.
    pub(crate) fn backward(
        &self,
        state: &mut LayerState,
        tape: &Tape,
        gradient: u64,
        context: &Context<'_>,
        ledger: &mut Ledger,
    ) -> u64 {
        let mut gradient = gradient;
        for (layer, input) in state.layers.clone().zip(&tape.inputs).rev() {
            let before = self.digest(state, layer);
            let push = mix(mix(gradient, *input), context.optimizer_step);
            let range = self.values_of(state, layer);
            for (at, value) in state.values[range].iter_mut().enumerate() {
                if !self.buffers[layer][at] {
                    *value = changed(*value, mix(push, at as u64));
                }
            }
            let step = Step { edge: context.edge.to_owned(), number: context.step };
            ledger.changed(layer, before, self.digest(state, layer), Some(step));
            gradient = mix(mix(gradient, before), *input);
        }
        gradient
    }

    /// All that the last layers do in a step; returns the gradient before the first of them.
    pub(crate) fn finish(
        &self,
        state: &mut LayerState,
        input: u64,
        labels: &[u32],
        context: &Context<'_>,
        ledger: &mut Ledger,
    ) -> u64 {
        let tape = self.forward(state, input, context, ledger);
        self.backward(state, &tape, loss_gradient(tape.output, labels), context, ledger)
    }

    /// One step without a cloud, of the layers `[0, L)`, the last of which may lie apart.
    pub(crate) fn step(
        &self,
        state: &mut LayerState,
        tail: Option<&mut LayerState>,
        context: &Context<'_>,
        ledger: &mut Ledger,
    ) {
        let (input, labels) = batch(context);
        let Some(tail) = tail else {
            self.finish(state, input, &labels, context, ledger);
            return;
        };
        let tape = self.forward(state, input, context, ledger);
        let gradient = self.finish(tail, tape.output, &labels, context, ledger);
        self.backward(state, &tape, gradient, context, ledger);
    }

    /// Averages full models as the cloud does.
    pub(crate) fn average(&self, models: Vec<(f64, Vec<LayerState>)>) -> LayerState {
        aggregate::average_parts(&self.spec, models).expect("finite full models with weights")
    }
}

/// A batch's samples as a hash, and its labels.
pub(crate) fn batch(context: &Context<'_>) -> (u64, Vec<u32>) {
    let hash = context.edge.bytes().fold(mix(1, context.step), |hash, byte| mix(hash, u64::from(byte)));
    (hash, vec![(hash % 3) as u32, (hash / 3 % 3) as u32])
}

/// The gradient of the loss at the last layer's output.
pub(crate) fn loss_gradient(output: u64, labels: &[u32]) -> u64 {
    labels.iter().fold(mix(2, output), |hash, label| mix(hash, u64::from(*label)))
}

/// A hash as values for the wire.
pub(crate) fn to_values(hash: u64) -> Vec<f32> {
    (0..HASH_WORDS).map(|word| f32::from((hash >> (16 * word)) as u16)).collect()
}

/// A hash from the wire.
pub(crate) fn from_values(values: &[f32]) -> Result<u64, String> {
    if values.len() != HASH_WORDS || values.iter().any(|value| !value.is_finite()) {
        return Err("values that are not finite, or too many or too few".into());
    }
    Ok(values.iter().rev().fold(0, |hash, value| (hash << 16) | u64::from(*value as u16)))
}

/// What a value becomes: in `[-1, 1)`, so that averages stay finite.
fn changed(value: f32, push: u64) -> f32 {
    let hash = mix(u64::from(value.to_bits()), push);
    (hash >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Folds a word into a hash (the finalizer of Steele et al. 2014, `SplitMix`).
fn mix(hash: u64, word: u64) -> u64 {
    let mut mixed = hash.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
