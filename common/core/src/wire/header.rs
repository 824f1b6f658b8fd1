//! What precedes a tensor's values on the wire: 32 bytes, little-endian.
//!
//! ```text
//!  0      4    5     6        7        8       12        16     20       24       28            30           32
//!  +------+----+-----+--------+--------+-------+---------+------+--------+--------+-------------+------------+
//!  | PWT1 |kind|codec|exponent|selected| round | attempt | step | values | labels | first layer | last layer |
//!  +------+----+-----+--------+--------+-------+---------+------+--------+--------+-------------+------------+
//!     4     u8   u8     i8        u8      u32      u32      u32    u32      u32        u16          u16
//! ```
//! Tensors of a step have no layers: there, the first layer is the micro-batch and the last 0.

use std::ops::Range;

use super::tensor::{TensorError, with_labels};
use crate::codec::Codec;

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
    pub(super) fn is_gradient(self) -> bool {
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
    /// For a tensor of a step: which of its micro-batches.
    pub micro_batch: u16,
    /// Number of encoded values.
    pub values: u32,
    /// Number of labels after them.
    pub labels: u32,
    /// For a state: its first layer.
    pub first_layer: u16,
    /// For a state: one past its last layer.
    pub last_layer: u16,
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
            micro_batch: 0,
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
        let first = if self.kind.is_of_a_step() { self.micro_batch } else { self.first_layer };
        bytes[28..30].copy_from_slice(&first.to_le_bytes());
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
        let kind = kind.ok_or(TensorError::Header("its kind is unknown"))?;
        let (first, of_a_step) = (half(28), kind.is_of_a_step());
        let header = Self {
            kind,
            codec: Codec::from_code(bytes[5]).ok_or(TensorError::Header("its codec is unknown"))?,
            exponent: bytes[6].cast_signed(),
            selected: bytes[7] == 1,
            round: word(8),
            attempt: word(12),
            step: word(16),
            micro_batch: if of_a_step { first } else { 0 },
            values: word(20),
            labels: word(24),
            first_layer: if of_a_step { 0 } else { first },
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
    pub(super) fn least_body_bytes(&self) -> usize {
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
    pub(super) fn has_counts(&self) -> bool {
        self.selected || matches!(self.codec, Codec::Int8(_) | Codec::Int4(_))
    }

    /// The layers of a state.
    pub fn layers(&self) -> Range<usize> {
        self.first_layer.into()..self.last_layer.into()
    }
}
