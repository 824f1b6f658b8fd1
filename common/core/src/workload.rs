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

/// As [`cut_bytes_up`] and [`cut_bytes_down`] where the labels stay on the edge with the layers from `tail`
/// on: activations and the gradient at the tail up, activations at the tail and cut gradient down.
/// `tail + 1` entries each, the last 0.
pub fn passed_bytes(
    cost: &ModelCost,
    batch: u32,
    tail: usize,
    activations: Codec,
    gradients: Codec,
) -> (Vec<u64>, Vec<u64>) {
    let values: Vec<usize> =
        cut_elements(cost).into_iter().map(|elements| elements as usize * batch as usize).collect();
    let at = |cut: usize| {
        if cut == tail {
            return (0, 0);
        }
        let gradient = |cut: usize| {
            let values = if cost.needs_cut_gradient(cut) { values[cut] } else { 0 };
            tensor_bytes(gradients, values, 0)
        };
        let up = tensor_bytes(activations, values[cut], 0) + gradient(tail);
        let down = tensor_bytes(activations, values[tail], 0) + gradient(cut);
        (up, down)
    };
    (0..=tail).map(at).unzip()
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

/// Bytes of the state of an edge's layers at each cut: `[0, c)` and, where the labels stay there,
/// `[tail, L)`; up to the tail or L.
pub fn edge_state_bytes(spec: &ModelSpec, tail: Option<usize>, moments: usize) -> Vec<u64> {
    let mut bytes = state_bytes(spec, moments);
    if let Some(tail) = tail {
        let stays = bytes[spec.len()] - bytes[tail];
        bytes.truncate(tail + 1);
        for bytes in &mut bytes {
            *bytes += stays;
        }
    }
    bytes
}

/// Largest tensor body that the conversation about this model can need, in bytes: what a receiver
/// allows before it allocates.
pub fn largest_body_bytes(spec: &ModelSpec, cost: &ModelCost, batch: u32, moments: usize) -> u64 {
    let activations = cut_bytes_up(cost, batch, Codec::F32).into_iter().max().unwrap_or(0);
    let state = state_bytes(spec, moments).last().copied().unwrap_or(0);
    activations.max(state).max(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::builtin::builtin;

    #[test]
    fn with_the_labels_on_the_edge_two_tensors_go_each_way_and_no_label() {
        let lenet5 = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
        let cost = ModelCost::of(&lenet5);
        let (up, down) = passed_bytes(&cost, 64, 11, Codec::F32, Codec::F16);
        let tail = (32 + 64 * 84 * 2, 32 + 64 * 84 * 4);
        // Behind the second pooling there are 16 maps of 5 x 5.
        assert_eq!(up[6], (32 + 64 * 400 * 4) + tail.0);
        assert_eq!(down[6], (32 + 64 * 400 * 2) + tail.1);
        assert_eq!(down[0], 32 + tail.1, "nobody needs the gradient of raw inputs");
        assert_eq!((up.len(), up[11], down[11]), (12, 0, 0), "the edge is alone at the tail");
    }

    #[test]
    fn the_layers_that_stay_are_sent_at_every_cut() {
        let lenet5 = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
        let all = state_bytes(&lenet5, 1);
        assert_eq!(edge_state_bytes(&lenet5, None, 1), all);
        let with_tail = edge_state_bytes(&lenet5, Some(11), 1);
        assert_eq!(with_tail.len(), 12);
        assert_eq!((with_tail[0], with_tail[11]), (4 * 2 * (84 * 10 + 10), all[12]));
    }

    #[test]
    fn frozen_layers_ask_for_no_backward_pass_and_no_gradient() {
        let free = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
        let frozen = ModelSpec { frozen: 4, ..free.clone() };
        let (free_cost, cost) = (ModelCost::of(&free), ModelCost::of(&frozen));
        let works = layer_works(&frozen, &cost, 8, 1);
        // The next layer with parameters, the first that is trained, is layer 7.
        assert!(works[..7].iter().all(|work| work.backward_flops + work.backward_bytes <= 0.0));
        assert_eq!(works[8..], layer_works(&free, &free_cost, 8, 1)[8..]);

        let down = cut_bytes_down(&cost, 8, Codec::F32);
        assert!(down[..=7].iter().all(|bytes| *bytes == HEADER_BYTES as u64), "{down:?}");
        assert_eq!(down[8..], cut_bytes_down(&free_cost, 8, Codec::F32)[8..]);
        assert_eq!(cut_bytes_up(&cost, 8, Codec::F32), cut_bytes_up(&free_cost, 8, Codec::F32));
        // Its convolutions have no moments.
        let params = free_cost.params(0..4);
        assert_eq!(state_bytes(&free, 1)[4] - state_bytes(&frozen, 1)[4], 4 * params);
    }
}
