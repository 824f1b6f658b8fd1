//! Tensors on the wire: a small fixed header, then raw little-endian values.
//!
//! ```text
//!  0      4    5     6        7        8       12        16     20       24       28            30           32
//!  +------+----+-----+--------+--------+-------+---------+------+--------+--------+-------------+------------+
//!  | PWT1 |kind|codec|exponent|selected| round | attempt | step | values | labels | first layer | last layer |
//!  +------+----+-----+--------+--------+-------+---------+------+--------+--------+-------------+------------+
//!     4     u8   u8     i8        u8      u32      u32      u32    u32      u32        u16          u16
//! ```
//! The body is, if `selected` is 1, a [`Selection`]; then `values` encoded values; zeros up to a multiple
//! of four bytes; and `labels` labels as u32.

use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use crate::codec::selection::{self, EncodedSelection};
use crate::codec::{self, BatchShape, Codec, CodecError, Selection, SelectionError};

/// Bytes of a [`TensorHeader`].
pub const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"PWT1";

/// What a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TensorKind {
    /// Smashed data: the activations at the cut, edge to cloud, followed by the batch's labels unless
    /// these stay on the edge.
    Activations,
    /// The gradient at the cut, cloud to edge.
    CutGradient,
    /// Weights, buffers and optimizer moments of some layers ([`crate::model::LayerState`]).
    State,
    /// Values without meaning, sent to measure a link.
    Probe,
    /// Where the labels stay on the edge: the activations before its last layers, cloud to edge.
    TailActivations,
    /// The gradient of these activations, edge to cloud.
    TailGradient,
    /// Weights and buffers of the whole global model, which an edge is to evaluate.
    Model,
}

impl TensorKind {
    const ALL: [Self; 7] = [
        Self::Activations,
        Self::CutGradient,
        Self::State,
        Self::Probe,
        Self::TailActivations,
        Self::TailGradient,
        Self::Model,
    ];

    /// Whether they are activations, of which some may be left out.
    fn is_activations(self) -> bool {
        matches!(self, Self::Activations | Self::TailActivations)
    }

    /// Whether it is a gradient, which f16 needs scaled.
    fn is_gradient(self) -> bool {
        matches!(self, Self::CutGradient | Self::TailGradient)
    }

    /// Whether it crosses the wire in every step: what rates are reserved for.
    pub fn is_of_a_step(self) -> bool {
        !matches!(self, Self::State | Self::Probe | Self::Model)
    }

    fn code(self) -> u8 {
        self as u8
    }
}

impl std::fmt::Display for TensorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Activations => "activations",
            Self::CutGradient => "cut gradient",
            Self::State => "state",
            Self::Probe => "probe",
            Self::TailActivations => "tail activations",
            Self::TailGradient => "tail gradient",
            Self::Model => "model",
        })
    }
}

/// What precedes a tensor's values.
///
/// ```
/// use partway_core::{codec::Codec, wire::{TensorHeader, TensorKind}};
/// let header = TensorHeader { values: 6, labels: 2, ..TensorHeader::new(TensorKind::Activations, Codec::F32) };
/// assert_eq!(TensorHeader::decode(&header.encode()), Ok(header));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// What it is.
    pub kind: TensorKind,
    /// How the values are encoded.
    pub codec: Codec,
    /// Power of two by which the encoded values were multiplied.
    pub exponent: i8,
    /// Whether the values are selected ones, behind their indices.
    pub selected: bool,
    /// The round that it belongs to.
    pub round: u32,
    /// The attempt at that round.
    pub attempt: u32,
    /// The step in that round.
    pub step: u32,
    /// Number of encoded values.
    pub values: u32,
    /// Number of labels after them.
    pub labels: u32,
    /// For a state: its first layer.
    pub first_layer: u16,
    /// For a state: one past its last layer.
    pub last_layer: u16,
}

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

impl TensorHeader {
    /// A header with everything else zero.
    pub fn new(kind: TensorKind, codec: Codec) -> Self {
        Self {
            kind,
            codec,
            exponent: 0,
            selected: false,
            round: 0,
            attempt: 0,
            step: 0,
            values: 0,
            labels: 0,
            first_layer: 0,
            last_layer: 0,
        }
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind.code();
        bytes[5] = self.codec.code();
        bytes[6] = self.exponent.cast_unsigned();
        bytes[7] = self.selected.into();
        for (at, value) in [self.round, self.attempt, self.step, self.values, self.labels].iter().enumerate()
        {
            bytes[8 + 4 * at..12 + 4 * at].copy_from_slice(&value.to_le_bytes());
        }
        bytes[28..30].copy_from_slice(&self.first_layer.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.last_layer.to_le_bytes());
        bytes
    }

    /// A header from the wire.
    ///
    /// # Errors
    /// If magic, kind, codec, selection or layers make no sense.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, TensorError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if bytes[..4] != MAGIC {
            return Err(TensorError::Header("it does not start with PWT1"));
        }
        let kind = TensorKind::ALL.into_iter().find(|kind| kind.code() == bytes[4]);
        let header = Self {
            kind: kind.ok_or(TensorError::Header("its kind is unknown"))?,
            codec: Codec::from_code(bytes[5]).ok_or(TensorError::Header("its codec is unknown"))?,
            exponent: bytes[6].cast_signed(),
            selected: bytes[7] == 1,
            round: word(8),
            attempt: word(12),
            step: word(16),
            values: word(20),
            labels: word(24),
            first_layer: half(28),
            last_layer: half(30),
        };
        if bytes[7] > 1 || (header.selected && !header.kind.is_activations()) {
            return Err(TensorError::Header("only activations can be selected ones"));
        }
        if !header.kind.is_of_a_step() && header.codec != Codec::F32 {
            return Err(TensorError::Header("only activations and gradients have another codec than f32"));
        }
        if header.first_layer > header.last_layer {
            return Err(TensorError::Header("its layers are in the wrong order"));
        }
        Ok(header)
    }

    /// Bytes of the body that belongs to this header; the least, where counts in the body add to them.
    fn least_body_bytes(&self) -> usize {
        let values = self.values as usize;
        let values = match self.codec {
            Codec::F32 => values.saturating_mul(4),
            Codec::F16 | Codec::Bf16 => values.saturating_mul(2),
            Codec::Int8(_) => values,
            Codec::Int4(_) => values.div_ceil(2),
        };
        with_labels(values, self.labels as usize)
    }

    /// Whether counts in the body add to what the header says.
    fn has_counts(&self) -> bool {
        self.selected || matches!(self.codec, Codec::Int8(_) | Codec::Int4(_))
    }

    /// The layers of a state.
    pub fn layers(&self) -> Range<usize> {
        self.first_layer.into()..self.last_layer.into()
    }
}

/// Bytes of the encoded values with padding and labels after them; saturates.
fn with_labels(values: usize, labels: usize) -> usize {
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

    fn into_words(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.0)
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
