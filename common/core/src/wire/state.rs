//! A [`LayerState`] as a tensor on the wire: always f32, since a rounded weight would be another model.

use thiserror::Error;

use super::header::{TensorHeader, TensorKind};
use super::tensor::{TensorError, TensorMessage};
use crate::codec::Codec;
use crate::model::state::StateLengthError;
use crate::model::{LayerState, ModelSpec};

/// A state tensor that holds no state of the model.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StateTensorError {
    /// Its layers are not the model's.
    #[error("a state of layers {first}..{last} came, but model `{model}` has {len}")]
    Layers {
        /// The model's name.
        model: String,
        /// How many layers it has.
        len: usize,
        /// The first layer announced.
        first: usize,
        /// One past the last layer announced.
        last: usize,
    },
    /// Its values cannot be decoded.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// It has too many or too few values.
    #[error(transparent)]
    Length(#[from] StateLengthError),
}

/// The tensor of a whole model that is to be evaluated, made after round `round`; the state has no
/// moments.
pub fn encode_model(round: u32, state: LayerState) -> TensorMessage {
    let TensorMessage { header, body } = encode_state(round, 0, 0, state);
    TensorMessage { header: TensorHeader { kind: TensorKind::Model, ..header }, body }
}

/// The tensor of a state. `step` is 0 at the start of a round and its number of steps at its end.
pub fn encode_state(round: u32, attempt: u32, step: u32, state: LayerState) -> TensorMessage {
    let header = TensorHeader {
        round,
        attempt,
        step,
        first_layer: state.layers.start as u16,
        last_layer: state.layers.end as u16,
        ..TensorHeader::new(TensorKind::State, Codec::F32)
    };
    TensorMessage::encode(header, state.values, &[])
}

/// The state in a tensor, with `moments` moments per trained tensor.
///
/// # Errors
/// If the tensor is not a state of layers of `spec`.
pub fn decode_state(
    spec: &ModelSpec,
    moments: usize,
    tensor: TensorMessage,
) -> Result<LayerState, StateTensorError> {
    let layers = tensor.header.layers();
    if layers.end > spec.len() {
        let (model, len) = (spec.name.clone(), spec.len());
        return Err(StateTensorError::Layers { model, len, first: layers.start, last: layers.end });
    }
    let (values, _) = tensor.decode()?;
    Ok(LayerState::new(spec, layers, moments, values)?)
}
