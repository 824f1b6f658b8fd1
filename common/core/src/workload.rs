//! What one step of a batch asks of a device, layer by layer, and of a link, cut by cut.

use crate::codec::Codec;
use crate::model::{ModelCost, ModelSpec, state};
use crate::profile::LayerWork;
use crate::wire::HEADER_BYTES;
use crate::wire::tensor::body_bytes;

const VALUE_BYTES: f64 = 4.0;

/// Work of one step of `batch` samples in each layer.
///
/// Bytes are what a layer must at least touch: its input, output and weights forward; backward the
/// input, both gradients and, for the optimizer's step, weights, gradients and moments. Layers before
/// the first trained one have no backward pass.
pub fn layer_works(spec: &ModelSpec, cost: &ModelCost, batch: u32, moments: usize) -> Vec<LayerWork> {
    let batch = f64::from(batch);
    let first_trained = cost.first_trained().unwrap_or(spec.len());
    spec.layers
        .iter()
        .zip(&cost.layers)
        .enumerate()
        .map(|(index, (layer, cost))| {
            let (input, output) = (cost.input_elements as f64, cost.output_elements as f64);
            let params = cost.params as f64;
            let update = params * (3.0 + 2.0 * moments as f64);
            let backward = batch * (2.0 * input + output) + params + update;
            LayerWork {
                kind: layer.op.kind(),
                forward_flops: batch * cost.flops_forward as f64,
                backward_flops: batch * cost.flops_backward as f64,
                forward_bytes: VALUE_BYTES * (batch * (input + output) + params),
                backward_bytes: if index < first_trained { 0.0 } else { VALUE_BYTES * backward },
            }
        })
        .collect()
}

/// Elements of one sample at each cut: `L + 1` entries.
pub fn cut_elements(cost: &ModelCost) -> Vec<u64> {
    let first = cost.layers.first().map_or(0, |layer| layer.input_elements);
    std::iter::once(first).chain(cost.layers.iter().map(|layer| layer.output_elements)).collect()
}

/// Bytes of one step's activations and labels at each cut: `L + 1` entries, the last 0.
pub fn cut_bytes_up(cost: &ModelCost, batch: u32, codec: Codec) -> Vec<u64> {
    cut_bytes(cost, |_, elements| tensor_bytes(codec, elements * batch as usize, batch as usize))
}

/// Bytes of one step's cut gradient at each cut: `L + 1` entries, the last 0. Where nothing before the
/// cut is trained nobody needs it, so that it is a bare header.
pub fn cut_bytes_down(cost: &ModelCost, batch: u32, codec: Codec) -> Vec<u64> {
    cut_bytes(cost, |cut, elements| {
        let elements = if cost.needs_cut_gradient(cut) { elements } else { 0 };
        tensor_bytes(codec, elements * batch as usize, 0)
    })
}

fn cut_bytes(cost: &ModelCost, bytes: impl Fn(usize, usize) -> u64) -> Vec<u64> {
    let layers = cost.layers.len();
    let at = |(cut, elements): (usize, u64)| if cut == layers { 0 } else { bytes(cut, elements as usize) };
    cut_elements(cost).into_iter().enumerate().map(at).collect()
}

fn tensor_bytes(codec: Codec, values: usize, labels: usize) -> u64 {
    (HEADER_BYTES + body_bytes(codec, values, labels)) as u64
}

/// Bytes of the state of layers `[0, c)` at each cut: `L + 1` entries.
pub fn state_bytes(spec: &ModelSpec, moments: usize) -> Vec<u64> {
    let mut sum = 0;
    let each = (0..spec.len()).map(|layer| {
        sum += 4 * state::state_len(spec, layer..layer + 1, moments) as u64;
        sum
    });
    std::iter::once(0).chain(each).collect()
}

/// Largest tensor body that the conversation about this model can need, in bytes: what a receiver
/// allows before it allocates.
pub fn largest_body_bytes(spec: &ModelSpec, cost: &ModelCost, batch: u32, moments: usize) -> u64 {
    let activations = cut_bytes_up(cost, batch, Codec::F32).into_iter().max().unwrap_or(0);
    let state = state_bytes(spec, moments).last().copied().unwrap_or(0);
    activations.max(state).max(1 << 20)
}
