//! The global model as files: `model.safetensors` (weights and buffers) and `model.toml` (layers).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use partway_core::model::state::{TensorSlot, slots, state_len};
use partway_core::model::{LayerState, ModelSpec};
use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::atomic_file;

/// Weights and buffers.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The model's layers.
pub const LAYERS_FILE: &str = "model.toml";

/// Under this key of the file's metadata stands a JSON object with the model's name and its rounds.
/// One key, because the format keeps metadata in no certain order: equal models make equal files.
const METADATA_KEY: &str = "partway";

/// What a weights file may have beyond the values: its header.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Why a model cannot be written or read.
#[derive(Debug, Error)]
pub enum ModelFileError {
    /// The file system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The state is not one of the whole model.
    #[error(
        "{values} values of layers {layers:?} with {moments} optimizer moments are not a whole model \
         `{model}`, which has {expected}"
    )]
    NotWhole {
        /// The model.
        model: String,
        /// Layers of the state.
        layers: std::ops::Range<usize>,
        /// Its moments.
        moments: usize,
        /// Its values.
        values: usize,
        /// Values that the whole model has with these moments.
        expected: usize,
    },
    /// The file is not a safetensors file.
    #[error("{} is not a usable safetensors file: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SafeTensorError,
    },
    /// The file is of another model.
    #[error("{} does not fit model `{model}`: {reason}", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model asked for.
        model: String,
        /// What differs.
        reason: String,
    },
}

/// SHA-256, in hexadecimal, of weights and buffers in canonical order as little-endian `f32`.
/// Optimizer moments are no part of it.
///
/// # Panics
/// If the state has fewer values than its layers ask for.
pub fn weights_sha256(spec: &ModelSpec, state: &LayerState) -> String {
    let mut hasher = Sha256::new();
    for slot in slots(spec, state.layers.clone(), state.moments) {
        hasher.update(little_endian(&state.values[slot.values]));
    }
    hex(&hasher.finalize())
}

/// Writes the global model, after `rounds` rounds, into a folder, without optimizer moments: weights,
/// and layers as [`ModelSpec::from_toml`] reads them.
///
/// # Errors
/// If the state is not the whole model, or a file cannot be written; files before it stay as they were.
pub fn write(dir: &Path, spec: &ModelSpec, state: &LayerState, rounds: u32) -> Result<(), ModelFileError> {
    write_weights(&dir.join(WEIGHTS_FILE), spec, state, rounds)?;
    replace(dir.join(LAYERS_FILE), spec.to_toml().as_bytes())
}

/// Writes the weights and buffers of a model after `rounds` rounds, as [`load`] reads them.
///
/// Tensors have the names and shapes of [`partway_core::model::TensorSpec`], which are those of
/// `PyTorch`: `[out, in / groups, k, k]` and `[out, in]`.
///
/// # Errors
/// As [`write()`].
pub fn write_weights(
    path: &Path,
    spec: &ModelSpec,
    state: &LayerState,
    rounds: u32,
) -> Result<(), ModelFileError> {
    let expected = state_len(spec, 0..spec.len(), state.moments);
    if state.layers != (0..spec.len()) || state.values.len() != expected {
        return Err(ModelFileError::NotWhole {
            model: spec.name.clone(),
            layers: state.layers.clone(),
            moments: state.moments,
            values: state.values.len(),
            expected,
        });
    }
    let tensors = slots(spec, 0..spec.len(), state.moments).into_iter().map(|slot| {
        let values = &state.values[slot.values.clone()];
        (slot.tensor.name.clone(), Named { slot, values })
    });
    let facts = serde_json::json!({ "model": spec.name, "rounds": rounds }).to_string();
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), facts)]);
    let weights = safetensors::serialize(tensors, Some(metadata))
        .map_err(|source| ModelFileError::Format { path: path.to_owned(), source })?;
    replace(path.to_owned(), &weights)
}

fn replace(path: PathBuf, bytes: &[u8]) -> Result<(), ModelFileError> {
    atomic_file::replace(&path, |file| file.write_all(bytes)).map_err(|source| ModelFileError::Io {
        action: "write",
        path,
        source,
    })
}

/// Reads weights and buffers of a whole model; the state has no optimizer moments.
///
/// # Errors
/// If the file cannot be read, or does not hold exactly the model's tensors as finite `f32`.
pub fn load(path: &Path, spec: &ModelSpec) -> Result<LayerState, ModelFileError> {
    let io = |source| ModelFileError::Io { action: "read", path: path.to_owned(), source };
    let other =
        |reason| ModelFileError::OtherModel { path: path.to_owned(), model: spec.name.clone(), reason };
    let len = state_len(spec, 0..spec.len(), 0);
    let bytes = fs::metadata(path).map_err(io)?.len();
    if bytes > 4 * len as u64 + MAX_HEADER_BYTES {
        return Err(other(format!("it has {bytes} bytes, the model's weights have {}", 4 * len)));
    }
    let bytes = fs::read(path).map_err(io)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|source| ModelFileError::Format { path: path.to_owned(), source })?;
    let mut values = vec![0.0; len];
    let slots = slots(spec, 0..spec.len(), 0);
    for TensorSlot { tensor, values: range, .. } in &slots {
        let name = &tensor.name;
        let found = file.tensor(name).map_err(|_| other(format!("it has no tensor `{name}`")))?;
        if found.dtype() != Dtype::F32 || found.shape() != tensor.shape {
            return Err(other(format!(
                "tensor `{name}` is {:?} of shape {:?}, the model has F32 of shape {:?}",
                found.dtype(),
                found.shape(),
                tensor.shape
            )));
        }
        let (quads, _) = found.data().as_chunks();
        for (value, bytes) in values[range.clone()].iter_mut().zip(quads) {
            *value = f32::from_le_bytes(*bytes);
        }
        if !values[range.clone()].iter().all(|value| value.is_finite()) {
            return Err(other(format!("tensor `{name}` has values that are not finite")));
        }
    }
    let is_known = |name: &&str| slots.iter().any(|slot| slot.tensor.name == *name);
    if let Some(unknown) = file.names().into_iter().filter(|name| !is_known(name)).min() {
        return Err(other(format!("it has a tensor `{unknown}`, which the model does not have")));
    }
    Ok(LayerState { layers: 0..spec.len(), moments: 0, values })
}

/// One tensor on its way into a file.
struct Named<'a> {
    slot: TensorSlot,
    values: &'a [f32],
}

impl View for Named<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.slot.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(little_endian(self.values))
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// The values' bytes.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

#[cfg(test)]
mod tests;
