//! What each layer costs per sample: multiply-adds, FLOPs, parameters, bytes. Counts only, no times.

mod operation;

use std::ops::Range;

use super::spec::ModelSpec;
use operation::{Count, Operation};

/// Bytes of one value in memory: all tensors are f32.
const VALUE_BYTES: u64 = 4;

/// Cost of one layer, per sample. Counts saturate at [`u64::MAX`]: a spec with absurd sizes looks
/// absurdly expensive, and is refused by any limit, instead of wrapping around to something cheap.
///
/// One multiply-add is 2 FLOPs, and so is not the same as one FLOP: `macs` counts convolutions and
/// linear layers only, `flops_*` everything, by these conventions (`n` is the number of elements):
///
/// | layer | forward | backward: weights | backward: input |
/// |---|---|---|---|
/// | convolution, linear | 2 per multiply-add, plus 1 per output for a bias | the same | 2 per multiply-add |
/// | batch norm, group norm | 8n: mean 1, variance 3, normalize 2, affine 2 | 5n: normalize again 2, scale 2, shift 1 | 4n |
/// | local response norm of `s` channels | (s + 5)n: square, window, scale and shift, power, divide | | (s + 8)n |
/// | relu, dropout | n | | n |
/// | relu6 | 2n | | n |
/// | gelu | 5n, the error function as 1 | | 11n |
/// | max pool `k` | `k*k - 1` comparisons per output | | 1 per output |
/// | average pool `k` | `k*k` per output | | `k*k + 1` per output |
/// | global average pool | n inputs | | 1 per channel |
/// | flatten | 0 | | 0 |
/// | residual, inverted residual | its parts, plus 1 per output for the sum | its parts | its parts, plus 1 per input to join both paths |
///
/// Padding pixels count as multiplied. A frozen layer has no backward pass, and its batch norms take 4n
/// (normalize, affine) and its dropouts nothing. Work per batch rather than per sample (roots, running
/// statistics) and drawing dropout's mask are not counted.
///
/// Nothing asks for the input gradient of the first layer that is trained, nor of those before it, so
/// their `macs_backward` and `flops_backward` leave it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerCost {
    /// Multiply-adds of the forward pass.
    pub macs: u64,
    /// Multiply-adds of the backward pass: weight gradient and input gradient.
    pub macs_backward: u64,
    /// FLOPs of the forward pass.
    pub flops_forward: u64,
    /// FLOPs of the backward pass: weight gradient and input gradient.
    pub flops_backward: u64,
    /// Weights and biases; the same for any number of samples.
    pub params: u64,
    /// Running statistics; the same for any number of samples.
    pub buffers: u64,
    /// Whether the parameters are trained: there are some, and the layer is not frozen.
    pub trained: bool,
    /// Elements of the input.
    pub input_elements: u64,
    /// Elements of the output: the smashed data, if the cut is after this layer.
    pub output_elements: u64,
    /// Bytes of the input as f32.
    pub input_bytes: u64,
    /// Bytes of the output as f32.
    pub output_bytes: u64,
    /// Activations that a training step keeps until the backward pass: what the layer keeps inside
    /// (a max pool's positions, dropout's mask, a residual block's intermediate results) and, where
    /// its own or the previous layer's gradient reads it, its input. So a sum over adjoining layers
    /// counts every tensor once.
    pub saved_elements: u64,
    /// Activations that a frozen layer holds while it computes, and then gives up; 0 if it is not frozen.
    pub passing_elements: u64,
}

/// Cost of every layer of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelCost {
    /// One entry per layer, in order.
    pub layers: Vec<LayerCost>,
}

impl ModelCost {
    /// The costs of a model.
    ///
    /// ```
    /// use partway_core::model::{ModelCost, builtin::builtin};
    /// let lenet5 = builtin("lenet5", [1, 28, 28], 10)?;
    /// let cost = ModelCost::of(&lenet5);
    /// assert_eq!(cost.total_macs(), 416_520);
    /// // After pool1, LeNet-5 sends more than the raw image of 28 * 28 bytes.
    /// assert_eq!(cost.layers[2].output_bytes, 4_704);
    /// # Ok::<(), partway_core::model::builtin::BuiltinError>(())
    /// ```
    ///
    /// # Panics
    /// If the spec is not one that [`ModelSpec::checked`] accepts.
    pub fn of(spec: &ModelSpec) -> Self {
        let shapes = spec.shapes().expect("costs are counted for a checked spec");
        let elements =
            |shape: &[usize]| shape.iter().fold(1u64, |product, side| product.saturating_mul(*side as u64));
        let mut trained_before = false;
        let mut previous_reads_output = false;
        let mut layers = Vec::with_capacity(spec.len());
        for (index, (layer, shapes)) in spec.layers.iter().zip(shapes.windows(2)).enumerate() {
            let (input, output) = (elements(&shapes[0]), elements(&shapes[1]));
            let frozen = spec.is_frozen(index);
            let operation = Operation::of(&layer.op, input, output, frozen);
            let trained = operation.params.0 > 0 && !frozen;
            let goes_backward = trained || trained_before;
            let backward = |weights: Count, to_input: Count| {
                let weights = if trained { weights } else { Count::default() };
                (weights + if trained_before { to_input } else { Count::default() }).0
            };
            let saved = if operation.reads_input || previous_reads_output { input } else { 0 };
            let inside = operation.kept_inside.0;
            layers.push(LayerCost {
                macs: operation.macs.0,
                macs_backward: backward(operation.macs_backward, operation.macs_to_input),
                flops_forward: operation.flops_forward.0,
                flops_backward: backward(operation.flops_backward, operation.flops_to_input),
                params: operation.params.0,
                buffers: operation.buffers.0,
                trained,
                input_elements: input,
                output_elements: output,
                input_bytes: input.saturating_mul(VALUE_BYTES),
                output_bytes: output.saturating_mul(VALUE_BYTES),
                saved_elements: if goes_backward { inside.saturating_add(saved) } else { 0 },
                passing_elements: if frozen {
                    input.saturating_add(inside).saturating_add(output)
                } else {
                    0
                },
            });
            trained_before |= trained;
            previous_reads_output = operation.reads_output && goes_backward;
        }
        Self { layers }
    }

    /// Forward multiply-adds of `layers`, per sample.
    ///
    /// # Panics
    /// As do all these sums: if the model does not have these layers.
    pub fn macs(&self, layers: Range<usize>) -> u64 {
        self.sum(layers, |layer| layer.macs)
    }

    /// Forward FLOPs of `layers`, per sample.
    pub fn flops_forward(&self, layers: Range<usize>) -> u64 {
        self.sum(layers, |layer| layer.flops_forward)
    }

    /// Backward FLOPs of `layers`, per sample.
    pub fn flops_backward(&self, layers: Range<usize>) -> u64 {
        self.sum(layers, |layer| layer.flops_backward)
    }

    /// Weights and biases of `layers`.
    pub fn params(&self, layers: Range<usize>) -> u64 {
        self.sum(layers, |layer| layer.params)
    }

    /// Running statistics of `layers`.
    pub fn buffers(&self, layers: Range<usize>) -> u64 {
        self.sum(layers, |layer| layer.buffers)
    }

    /// Activations of `layers` that a training step keeps, per sample.
    pub fn saved_elements(&self, layers: Range<usize>) -> u64 {
        self.sum(layers, |layer| layer.saved_elements)
    }

    /// Forward multiply-adds of the whole model, per sample: T.
    pub fn total_macs(&self) -> u64 {
        self.macs(0..self.layers.len())
    }

    /// Weights and biases of the whole model.
    pub fn total_params(&self) -> u64 {
        self.params(0..self.layers.len())
    }

    /// Multiply-adds of one training step per sample: `3T - m1`, for forward, weight gradients and
    /// input gradients, where m1 is the first trained layer's input gradient, which nothing needs. Frozen
    /// layers only run forward.
    pub fn training_macs(&self) -> u64 {
        self.sum(0..self.layers.len(), |layer| layer.macs.saturating_add(layer.macs_backward))
    }

    /// The first layer with parameters, if any. What reaches it still determines the raw inputs: a
    /// cut at or before it sends raw data.
    pub fn first_with_parameters(&self) -> Option<usize> {
        self.layers.iter().position(|layer| layer.params > 0)
    }

    /// The last layer with parameters, if any: the classifier, which stays on the edge with the labels.
    pub fn last_with_parameters(&self) -> Option<usize> {
        self.layers.iter().rposition(|layer| layer.params > 0)
    }

    /// The first layer that is trained, if any: the backward pass ends there.
    pub fn first_trained(&self) -> Option<usize> {
        self.layers.iter().position(|layer| layer.trained)
    }

    /// Whether layers `[0, cut)` train anything, so that somebody needs the gradient at the cut.
    pub fn needs_cut_gradient(&self, cut: usize) -> bool {
        self.first_trained().is_some_and(|first| first < cut)
    }

    /// Bytes of tensors that training `layers` holds at once, for `batch` samples and `moments`
    /// optimizer moments per trained value: the weights, and where they are trained their gradients and
    /// moments; the buffers; the saved activations, and the last layer's output with its gradient (for
    /// an edge with layers `[0, c)`: the smashed data, kept until its gradient has come, and the cut
    /// gradient), or what the largest frozen layer holds, if that is more.
    ///
    /// A kernel's scratch space, the next batch and the program itself are not in it.
    ///
    /// # Panics
    /// If the model does not have these layers.
    pub fn training_memory_bytes(&self, layers: Range<usize>, batch: u64, moments: u64) -> u64 {
        let own = &self.layers[layers.clone()];
        let output = own.last().map_or(0, |layer| layer.output_elements);
        let kept = self.saved_elements(layers.clone()).saturating_add(output.saturating_mul(2));
        let passing = own.iter().map(|layer| layer.passing_elements).max().unwrap_or(0);
        self.sum(layers, |layer| {
            let copies = if layer.trained { moments.saturating_add(2) } else { 1 };
            layer.params.saturating_mul(copies).saturating_add(layer.buffers)
        })
        .saturating_add(kept.max(passing).saturating_mul(batch))
        .saturating_mul(VALUE_BYTES)
    }

    /// Bytes of tensors that an edge with layers `[0, cut)` and, where the labels stay there, `[tail, L)`
    /// holds at once: [`Self::training_memory_bytes`] of both, and the tail's gradient for the cloud.
    ///
    /// # Panics
    /// If the model does not have these layers.
    pub fn edge_memory_bytes(&self, cut: usize, tail: Option<usize>, batch: u64, moments: u64) -> u64 {
        let head = self.training_memory_bytes(0..cut, batch, moments);
        let Some(tail) = tail else { return head };
        let gradient = self.layers.get(tail).map_or(0, |layer| layer.input_bytes.saturating_mul(batch));
        head.saturating_add(self.training_memory_bytes(tail..self.layers.len(), batch, moments))
            .saturating_add(gradient)
    }

    /// Bytes of tensors that the whole model needs at once to evaluate `batch` samples at a time, from
    /// the moment its weights come over the wire: weights and buffers, as they came and as tensors, and
    /// what the largest layer reads, makes and holds inside.
    pub fn inference_memory_bytes(&self, batch: u64) -> u64 {
        let layers = 0..self.layers.len();
        let held = self.params(layers.clone()).saturating_add(self.buffers(layers)).saturating_mul(2);
        let at = |layer: &LayerCost| {
            layer.input_elements.saturating_add(layer.output_elements).saturating_add(layer.saved_elements)
        };
        let largest = self.layers.iter().map(at).max().unwrap_or(0);
        held.saturating_add(largest.saturating_mul(batch)).saturating_mul(VALUE_BYTES)
    }

    fn sum(&self, layers: Range<usize>, count: impl Fn(&LayerCost) -> u64) -> u64 {
        self.layers[layers].iter().map(count).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests;
