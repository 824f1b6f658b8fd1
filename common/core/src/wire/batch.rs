//! A step's two tensors: activations up, the cut gradient down. Written once for both sides: what one
//! leaves out, the other must put back in the same places.

use rand::Rng;

use super::header::{HEADER_BYTES, TensorHeader};
use super::tensor::{Decoded, TensorError, TensorMessage, body_bytes};
use crate::codec::{ActivationCodec, BatchShape, Codec, Selection, TopK};

/// Activations as the cloud gets them.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    /// All values of the batch; those that did not travel are 0.
    pub values: Vec<f32>,
    /// The labels, if they came along.
    pub labels: Vec<u32>,
    /// Which values travelled, if not all: the cut gradient returns at the same indices.
    pub selection: Option<Selection>,
}

/// The tensor of a batch's activations, and which of them travel if not all: what
/// [`decode_gradient`] needs. `header` says the ids; `draws` are those of [`TopK::draws`].
///
/// # Panics
/// If there are not as many values as the shape has.
pub fn encode_activations(
    header: TensorHeader,
    codec: ActivationCodec,
    values: Vec<f32>,
    shape: BatchShape,
    labels: &[u32],
    draws: &mut impl Rng,
) -> (TensorMessage, Option<Selection>) {
    let header = TensorHeader { codec: codec.values, ..header };
    let Some(top_k) = codec.top_k else {
        return (TensorMessage::encode_batch(header, values, shape, None, labels), None);
    };
    let selection = top_k.select(&values, shape, draws);
    let kept = selection.gather(&values);
    let shape = BatchShape::of(shape.samples, &[selection.kept()]);
    (TensorMessage::encode_batch(header, kept, shape, Some(&selection), labels), Some(selection))
}

/// The activations of a batch of this shape.
///
/// # Errors
/// If they cannot be decoded, or are selected from a batch of another shape: nothing of that shape is
/// allocated then. The number of values that are not selected ones is left to the training.
pub fn decode_activations(tensor: TensorMessage, shape: BatchShape) -> Result<Activations, TensorError> {
    let kind = tensor.header.kind;
    let Decoded { values, labels, selection } = tensor.decode_selected()?;
    let Some(selection) = selection else { return Ok(Activations { values, labels, selection }) };
    let (samples, len) = (selection.samples(), selection.sample_len());
    if (samples, len) != (shape.samples, shape.sample_len()) {
        let (expected_samples, expected_len) = (shape.samples, shape.sample_len());
        return Err(TensorError::Batch { kind, samples, len, expected_samples, expected_len });
    }
    let values = selection.scatter(&values)?;
    Ok(Activations { values, labels, selection: Some(selection) })
}

/// The tensor of a cut gradient: of the values that travelled only. `header` says codec and ids. An empty
/// one, where nobody needs it, is a bare header.
///
/// # Panics
/// If there are not as many values as the shape has, unless there are none.
pub fn encode_gradient(
    header: TensorHeader,
    gradient: Vec<f32>,
    shape: BatchShape,
    selection: Option<&Selection>,
) -> TensorMessage {
    match selection {
        _ if gradient.is_empty() => TensorMessage::encode(header, gradient, &[]),
        None => TensorMessage::encode_batch(header, gradient, shape, None, &[]),
        Some(selection) => {
            let shape = BatchShape::of(shape.samples, &[selection.kept()]);
            TensorMessage::encode_batch(header, selection.gather(&gradient), shape, None, &[])
        }
    }
}

/// The gradient of all values; it is 0 where the activations did not travel.
///
/// # Errors
/// If it cannot be decoded, or is not one value for each that travelled.
pub fn decode_gradient(
    tensor: TensorMessage,
    selection: Option<&Selection>,
) -> Result<Vec<f32>, TensorError> {
    let (values, _) = tensor.decode()?;
    match selection {
        Some(selection) if !values.is_empty() => Ok(selection.scatter(&values)?),
        _ => Ok(values),
    }
}

/// Bytes of a batch's activations and labels on the wire, with the header.
pub fn activation_bytes(codec: ActivationCodec, shape: BatchShape, labels: usize) -> u64 {
    let kept = codec.top_k.map(|top_k| top_k.kept(shape.sample_len()));
    body_bytes(codec.values, shape, kept, labels).saturating_add(HEADER_BYTES) as u64
}

/// Bytes of a batch's cut gradient on the wire, with the header, when `top_k` chose the activations.
pub fn gradient_bytes(codec: Codec, top_k: Option<TopK>, shape: BatchShape) -> u64 {
    let kept = top_k.map_or(shape, |top_k| BatchShape::of(shape.samples, &[top_k.kept(shape.sample_len())]));
    body_bytes(codec, kept, None, 0).saturating_add(HEADER_BYTES) as u64
}

#[cfg(test)]
mod tests;
