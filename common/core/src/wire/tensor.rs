//! Tensors on the wire: a header ([`super::header`]), then raw little-endian values.
//!
//! The body is, if the header's `selected` is 1, a [`Selection`]; then `values` encoded values; zeros up to a
//! multiple of four bytes; and `labels` labels as u32.

use std::sync::{Arc, Weak};

use thiserror::Error;

use super::header::{HEADER_BYTES, TensorHeader, TensorKind};
use crate::codec::selection::{self, EncodedSelection};
use crate::codec::{self, BatchShape, Codec, CodecError, Selection, SelectionError};

/// A tensor that is not what its header says.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TensorError {
    /// The header is not of this protocol.
    #[error("a tensor's header is not valid: {0}")]
    Header(&'static str),
    /// The body is longer or shorter than the header says.
    #[error("the {kind} of round {}, step {} have {actual} bytes, but their header says {expected}", round.saturating_add(1), step.saturating_add(1))]
    Length {
        /// What it is.
        kind: TensorKind,
        /// Its round, from 0.
        round: u32,
        /// Its step, from 0.
        step: u32,
        /// Bytes by the header, at least.
        expected: usize,
        /// Bytes received.
        actual: usize,
    },
    /// The values cannot be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The indices of the values cannot be decoded.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The selection is of another batch.
    #[error(
        "the {kind} are selected from {len} values in each of {samples} samples, but there are {expected_len} in \
         each of {expected_samples}: check that both sides use the same cut and batch size"
    )]
    Batch {
        /// What it is.
        kind: TensorKind,
        /// Samples of the selection.
        samples: usize,
        /// Values of a sample of the selection.
        len: usize,
        /// Samples of the batch.
        expected_samples: usize,
        /// Values of a sample of the batch.
        expected_len: usize,
    },
}

/// Bytes of the encoded values with padding and labels after them; saturates.
pub(super) fn with_labels(values: usize, labels: usize) -> usize {
    values.checked_next_multiple_of(4).unwrap_or(usize::MAX).saturating_add(labels.saturating_mul(4))
}

/// Bytes of a tensor's body: the values of a batch, or `kept` of each sample if they are selected, and
/// labels.
pub(super) fn body_bytes(codec: Codec, shape: BatchShape, kept: Option<usize>, labels: usize) -> usize {
    let Some(kept) = kept else {
        return with_labels(codec::encoded_len(codec, shape), labels);
    };
    let indices = selection::encoded_len(shape.samples, shape.sample_len(), kept);
    let values = codec::encoded_len(codec, BatchShape::of(shape.samples, &[kept]));
    with_labels(indices.saturating_add(values), labels)
}

/// A tensor's bytes in storage aligned for `f32`, so that f32 values are taken without a copy; shared,
/// so that a replay costs none.
#[derive(Clone, Debug, PartialEq)]
pub struct Body(Arc<Vec<f32>>);

impl Body {
    /// Takes words as they are in memory (little-endian bytes).
    pub fn from_words(words: Vec<f32>) -> Self {
        Self(Arc::new(words))
    }

    /// The same body for as long as somebody keeps it.
    pub(crate) fn downgrade(&self) -> WeakBody {
        WeakBody(Arc::downgrade(&self.0))
    }

    fn into_words(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.0)
    }
}

/// A body that is here as long as a message that carries it.
#[derive(Clone, Debug)]
pub(crate) struct WeakBody(Weak<Vec<f32>>);

impl WeakBody {
    pub(crate) fn upgrade(&self) -> Option<Body> {
        self.0.upgrade().map(Body)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// A header with its body.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorMessage {
    /// What it is.
    pub header: TensorHeader,
    /// Its bytes.
    pub body: Body,
}

/// What a tensor's body says.
pub(super) struct Decoded {
    /// Those that travelled.
    pub(super) values: Vec<f32>,
    pub(super) labels: Vec<u32>,
    /// Which values they are, if not all.
    pub(super) selection: Option<Selection>,
}

impl TensorMessage {
    /// Encodes values and labels, without a batch's shape: as one group of integers where the codec has
    /// groups. `header` says kind, codec and ids; counts and exponent are set here.
    pub fn encode(header: TensorHeader, values: Vec<f32>, labels: &[u32]) -> Self {
        let shape = BatchShape::row(values.len());
        Self::encode_batch(header, values, shape, None, labels)
    }

    /// As [`TensorMessage::encode`], for values of this shape, behind their selection if there is one.
    pub(super) fn encode_batch(
        mut header: TensorHeader,
        values: Vec<f32>,
        shape: BatchShape,
        selection: Option<&Selection>,
        labels: &[u32],
    ) -> Self {
        header.values = values.len() as u32;
        header.labels = labels.len() as u32;
        header.selected = selection.is_some();
        let mut words = if header.codec == Codec::F32 && selection.is_none() {
            values
        } else {
            let mut bytes = Vec::new();
            if let Some(selection) = selection {
                selection.encode(&mut bytes);
            }
            if header.kind.is_gradient() {
                header.exponent = codec::encode_scaled(header.codec, shape, &values, &mut bytes);
            } else {
                codec::encode(header.codec, shape, &values, &mut bytes);
            }
            let mut words = Vec::with_capacity(bytes.len().div_ceil(4) + labels.len());
            words.resize(bytes.len().div_ceil(4), 0.0);
            bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
            words
        };
        words.extend_from_slice(bytemuck::cast_slice(labels));
        Self { header, body: Body::from_words(words) }
    }

    /// A tensor as it came.
    ///
    /// # Errors
    /// If the body's length is not what the header says, or less than that where the body has counts of
    /// its own, which decoding compares with its length.
    pub fn received(header: TensorHeader, words: Vec<f32>) -> Result<Self, TensorError> {
        let tensor = Self { header, body: Body::from_words(words) };
        tensor.check_length()?;
        Ok(tensor)
    }

    fn check_length(&self) -> Result<(), TensorError> {
        let TensorHeader { kind, round, step, .. } = self.header;
        let (expected, actual) = (self.header.least_body_bytes(), self.body.as_ref().len());
        if expected == actual || (expected < actual && self.header.has_counts()) {
            Ok(())
        } else {
            Err(TensorError::Length { kind, round, step, expected, actual })
        }
    }

    /// The values and labels. Free of copies for f32 when nobody else holds the body.
    ///
    /// # Errors
    /// If the values cannot be decoded, or are selected ones.
    pub fn decode(self) -> Result<(Vec<f32>, Vec<u32>), TensorError> {
        let Decoded { values, labels, selection } = self.decode_selected()?;
        match selection {
            None => Ok((values, labels)),
            Some(_) => Err(TensorError::Header("its values are selected ones")),
        }
    }

    /// All that the body says; it allocates no more than a few times the body.
    pub(super) fn decode_selected(self) -> Result<Decoded, TensorError> {
        self.check_length()?;
        let header = self.header;
        let mut words = self.body.into_words();
        let labels_at = words.len() - header.labels as usize;
        let labels = bytemuck::cast_slice(&words[labels_at..]).to_vec();
        words.truncate(labels_at);
        if header.codec == Codec::F32 && !header.selected {
            return Ok(Decoded { values: words, labels, selection: None });
        }
        let n = header.values as usize;
        let mut bytes: &[u8] = bytemuck::cast_slice(&words);
        let mut selection = None;
        if header.selected {
            let (encoded, rest) = EncodedSelection::split_off(bytes, n)?;
            (selection, bytes) = (Some(encoded), rest);
        }
        let mut values = Vec::new();
        let encoded = codec::without_padding(header.codec, bytes, n);
        codec::decode_scaled(header.codec, header.exponent, encoded, n, &mut values)?;
        let selection = selection.map(EncodedSelection::decode).transpose()?;
        Ok(Decoded { values, labels, selection })
    }

    /// Bytes of header and body together.
    pub fn wire_bytes(&self) -> u64 {
        (HEADER_BYTES + self.body.as_ref().len()) as u64
    }
}
