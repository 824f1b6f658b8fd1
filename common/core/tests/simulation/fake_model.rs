//! A stand-in for tensor work: exact, cheap, and dependent on everything that matters.
//!
//! Activations and gradients are one 64-bit hash each. Forward, a layer folds its state and the batch
//! into the hash; backward, it replaces its values and moments by a hash of what they were, of the
//! forward and the backward hash, of their position and of the optimizer step. So training at any cut
//! gives the bits of unsplit training, and any step that is lost, repeated, reordered or trained from
//! another state changes everything that follows. A step's micro-batches add up to one change, in their order.

use std::collections::BTreeMap;
use std::ops::Range;

use partway_core::aggregate;
use partway_core::micro_batch::MicroBatch;
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
    /// Which part of its batch.
    pub(crate) micro_batch: MicroBatch,
}

/// The hash that went into each layer, what the layer was then, and the hash that came out of the last.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    inputs: Vec<(u64, u64)>,
    pub(crate) output: u64,
}

/// What the micro-batches of a step so far do to each layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accumulated {
    count: u32,
    pushes: BTreeMap<usize, u64>,
}

/// A batch's parts, in order.
pub(crate) fn parts(context: Context<'_>, of: u32) -> impl Iterator<Item = Context<'_>> {
    (0..of).map(move |index| Context { micro_batch: MicroBatch { index, of }, ..context })
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
            let input = hash;
            let before = self.digest(state, layer);
            let range = self.values_of(state, layer);
            for (at, value) in state.values[range].iter_mut().enumerate() {
                if self.buffers[layer][at] {
                    *value = changed(*value, mix(hash, at as u64)).abs();
                }
            }
            let after = self.digest(state, layer);
            ledger.changed(layer, before, after, None);
            inputs.push((input, after));
            hash = mix(mix(hash, after), context.step);
        }
        Tape { inputs, output: hash }
    }

    /// Trains the layers of `state` with the gradient behind the last, if the micro-batch is the step's last one, and
    /// returns the one before the first.
    pub(crate) fn backward(
        &self,
        state: &mut LayerState,
        tape: &Tape,
        gradient: u64,
        context: &Context<'_>,
        accumulated: &mut Accumulated,
        ledger: &mut Ledger,
    ) -> u64 {
        let (mut gradient, part) = (gradient, context.micro_batch);
        if part.index == 0 {
            *accumulated = Accumulated::default();
        }
        assert_eq!(accumulated.count, part.index, "micro-batches come back in their order");
        accumulated.count += 1;
        for (layer, (input, forwarded)) in state.layers.clone().zip(&tape.inputs).rev() {
            let push = mix(mix(gradient, *input), context.optimizer_step);
            gradient = mix(mix(gradient, *forwarded), *input);
            let push = accumulated.pushes.get(&layer).map_or(push, |before| mix(*before, push));
            accumulated.pushes.insert(layer, push);
            if !part.is_last() {
                continue;
            }
            let before = self.digest(state, layer);
            let range = self.values_of(state, layer);
            for (at, value) in state.values[range].iter_mut().enumerate() {
                if !self.buffers[layer][at] {
                    *value = changed(*value, mix(push, at as u64));
                }
            }
            let step = Step { edge: context.edge.to_owned(), number: context.step };
            ledger.changed(layer, before, self.digest(state, layer), Some(step));
        }
        gradient
    }

    /// All that the last layers do for a micro-batch; returns the gradient before the first of them.
    pub(crate) fn finish(
        &self,
        state: &mut LayerState,
        input: u64,
        labels: &[u32],
        context: &Context<'_>,
        accumulated: &mut Accumulated,
        ledger: &mut Ledger,
    ) -> u64 {
        let tape = self.forward(state, input, context, ledger);
        self.backward(state, &tape, loss_gradient(tape.output, labels), context, accumulated, ledger)
    }

    /// One step without a cloud, of the layers `[0, L)`, the last of which may lie apart, in `of` parts. (Real ones are
    /// not split then: where the sum is that of the whole, nobody can tell.)
    pub(crate) fn step(
        &self,
        state: &mut LayerState,
        tail: Option<&mut LayerState>,
        context: &Context<'_>,
        of: u32,
        ledger: &mut Ledger,
    ) {
        let (mut below, mut above) = (Accumulated::default(), Accumulated::default());
        let Some(tail) = tail else {
            for part in parts(*context, of) {
                let (input, labels) = batch(&part);
                self.finish(state, input, &labels, &part, &mut below, ledger);
            }
            return;
        };
        for part in parts(*context, of) {
            let (input, labels) = batch(&part);
            let tape = self.forward(state, input, &part, ledger);
            let gradient = self.finish(tail, tape.output, &labels, &part, &mut above, ledger);
            self.backward(state, &tape, gradient, &part, &mut below, ledger);
        }
    }

    /// Averages full models as the cloud does.
    pub(crate) fn average(&self, models: Vec<(f64, Vec<LayerState>)>) -> LayerState {
        aggregate::average_parts(&self.spec, models).expect("finite full models with weights")
    }
}

/// A micro-batch's samples as a hash, and two labels.
pub(crate) fn batch(context: &Context<'_>) -> (u64, Vec<u32>) {
    let number = mix(context.step, u64::from(context.micro_batch.index));
    let hash = context.edge.bytes().fold(mix(1, number), |hash, byte| mix(hash, u64::from(byte)));
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
