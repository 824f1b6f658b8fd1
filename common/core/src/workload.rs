//! What one step of a batch asks of a device, layer by layer, and of a link, cut by cut.

use crate::codec::{ActivationCodec, BatchShape, Codec, TopK};
use crate::model::{ModelCost, ModelSpec, state};
use crate::profile::LayerWork;
use crate::wire::batch::{activation_bytes, gradient_bytes};

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

/// Bytes of one step's activations and labels at each cut, exactly as they travel: `L + 1` entries, the
/// last 0.
///
/// # Panics
/// If the spec is not one that [`ModelSpec::checked`] accepts.
pub fn cut_bytes_up(spec: &ModelSpec, batch: u32, codec: ActivationCodec) -> Vec<u64> {
    cut_bytes(spec, batch, |_, shape| activation_bytes(codec, shape, batch as usize))
}

/// Bytes of one step's cut gradient at each cut, exactly as it travels: `L + 1` entries, the last 0.
/// Where nothing before the cut is trained nobody needs it, so that it is a bare header.
///
/// # Panics
/// If the spec is not one that [`ModelSpec::checked`] accepts.
pub fn cut_bytes_down(
    spec: &ModelSpec,
    batch: u32,
    activations: ActivationCodec,
    gradients: Codec,
) -> Vec<u64> {
    let cost = ModelCost::of(spec);
    cut_bytes(spec, batch, |cut, shape| {
        if cost.needs_cut_gradient(cut) {
            gradient_bytes(gradients, activations.top_k, shape)
        } else {
            gradient_bytes(gradients, None, BatchShape::row(0))
        }
    })
}

/// As [`cut_bytes_up`] and [`cut_bytes_down`] where the labels stay on the edge with the layers from `tail`
/// on: activations and the gradient at the tail up, activations at the tail and cut gradient down.
/// `tail + 1` entries each, the last 0.
///
/// # Panics
/// If the spec is not one that [`ModelSpec::checked`] accepts.
pub fn passed_bytes(
    spec: &ModelSpec,
    batch: u32,
    tail: usize,
    activations: ActivationCodec,
    gradients: Codec,
) -> (Vec<u64>, Vec<u64>) {
    let down = cut_bytes_down(spec, batch, activations, gradients);
    let gradient_up = down[tail];
    let passed = cut_bytes(spec, batch, |_, shape| activation_bytes(activations, shape, 0));
    let activations_down = passed[tail];
    let at =
        |cut| if cut == tail { (0, 0) } else { (passed[cut] + gradient_up, activations_down + down[cut]) };
    (0..=tail).map(at).unzip()
}

fn cut_bytes(spec: &ModelSpec, batch: u32, bytes: impl Fn(usize, BatchShape) -> u64) -> Vec<u64> {
    let shapes = spec.shapes().expect("bytes are counted for a checked spec");
    let at = |(cut, shape): (usize, &Vec<usize>)| {
        if cut == spec.len() { 0 } else { bytes(cut, BatchShape::of(batch as usize, shape)) }
    };
    shapes.iter().enumerate().map(at).collect()
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

/// Largest tensor body that the conversation about this model can need, by any codec, in bytes: what a
/// receiver allows before it allocates.
///
/// # Panics
/// If the spec is not one that [`ModelSpec::checked`] accepts.
pub fn largest_body_bytes(spec: &ModelSpec, batch: u32, moments: usize) -> u64 {
    // Indices of all values are the most that a selection can add.
    let everything = Some(TopK { fraction: 1.0, alpha: 0.0 });
    let codecs = Codec::ALL
        .into_iter()
        .flat_map(|values| [None, everything].map(|top_k| ActivationCodec { values, top_k }));
    let activations = codecs.flat_map(|codec| cut_bytes_up(spec, batch, codec)).max().unwrap_or(0);
    let state = state_bytes(spec, moments).last().copied().unwrap_or(0);
    activations.max(state).max(1 << 20)
}

#[cfg(test)]
mod tests;
