//! Which values of each sample travel, and how their indices are written.
//!
//! ```text
//!  0         4     8      12
//!  +---------+-----+------+----------------------------------------------+
//!  | samples | len | kept | per sample: a bitmap, or increasing indices  |
//!  +---------+-----+------+----------------------------------------------+
//!     u32      u32   u32
//! ```
//! A bitmap has one bit for each of a sample's `len` values, from the lowest bit of the first byte, and
//! zeros up to whole bytes. Indices are u16 for up to 65,536 values, else u32. The bitmap is taken where
//! it is not longer: from `kept = len / 16` on, or `len / 32`.

use thiserror::Error;

const PREFIX: usize = 12;

/// The same number of values of every sample, at indices of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    len: usize,
    kept: usize,
    /// Sample by sample, increasing in each.
    indices: Vec<u32>,
}

/// A selection that cannot be read, or that belongs to other values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectionError {
    /// The bytes end before the indices do.
    #[error("a selection takes {expected} bytes, but only {actual} came")]
    Length {
        /// Bytes needed.
        expected: usize,
        /// Bytes present.
        actual: usize,
    },
    /// More than there is, nothing at all, or not the number of values that came with it.
    #[error("{kept} of {len} values of each of {samples} samples cannot be selected by {values} values")]
    Counts {
        /// Samples announced.
        samples: usize,
        /// Values per sample announced.
        len: usize,
        /// Values kept per sample announced.
        kept: usize,
        /// Values that came.
        values: usize,
    },
    /// Indices that repeat, go back, or lie outside the sample; or bits that are too many or too few.
    #[error("the indices of sample {sample} are not {kept} increasing ones below {len}")]
    Indices {
        /// The sample, from 0.
        sample: usize,
        /// Values kept per sample.
        kept: usize,
        /// Values per sample.
        len: usize,
    },
    /// Not one value for every index.
    #[error("{actual} values came for a selection of {expected}")]
    Values {
        /// Indices.
        expected: usize,
        /// Values.
        actual: usize,
    },
}

/// How one sample's indices are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bitmap,
    U16,
    U32,
}

impl Form {
    fn of(len: usize, kept: usize) -> Self {
        let list = if len <= 1 << 16 { Self::U16 } else { Self::U32 };
        if Self::Bitmap.bytes(len, kept) <= list.bytes(len, kept) { Self::Bitmap } else { list }
    }

    /// Bytes of one sample's indices.
    fn bytes(self, len: usize, kept: usize) -> usize {
        match self {
            Self::Bitmap => len.div_ceil(8),
            Self::U16 => kept.saturating_mul(2),
            Self::U32 => kept.saturating_mul(4),
        }
    }
}

/// Bytes of a selection of `kept` of `len` values in each of `samples` samples; saturates.
pub(crate) fn encoded_len(samples: usize, len: usize, kept: usize) -> usize {
    Form::of(len, kept).bytes(len, kept).saturating_mul(samples).saturating_add(PREFIX)
}

impl Selection {
    /// `indices` are those of sample after sample, `kept` of each, increasing, below `len`.
    pub(super) fn new(len: usize, kept: usize, indices: Vec<u32>) -> Self {
        Self { len, kept, indices }
    }

    /// Samples.
    pub fn samples(&self) -> usize {
        self.indices.len().checked_div(self.kept).unwrap_or(0)
    }

    /// Values of a sample.
    pub fn sample_len(&self) -> usize {
        self.len
    }

    /// Values kept of a sample.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The indices within their samples, sample by sample, increasing in each.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The selected ones of all values.
    ///
    /// # Panics
    /// If `all` are not as many values as the selection is made for.
    pub fn gather(&self, all: &[f32]) -> Vec<f32> {
        assert_eq!(all.len(), self.samples() * self.len, "a selection is gathered from its own batch");
        let mut values = Vec::with_capacity(self.indices.len());
        for (indices, all) in self.by_sample().zip(all.chunks_exact(self.len.max(1))) {
            values.extend(indices.iter().map(|index| all[*index as usize]));
        }
        values
    }

    /// All values, where those that were not selected are 0: the adjoint of [`Selection::gather`].
    ///
    /// # Errors
    /// If there is not one value for every index.
    pub fn scatter(&self, values: &[f32]) -> Result<Vec<f32>, SelectionError> {
        if values.len() != self.indices.len() {
            return Err(SelectionError::Values { expected: self.indices.len(), actual: values.len() });
        }
        let mut all = vec![0.0; self.samples() * self.len];
        let samples = self.by_sample().zip(values.chunks_exact(self.kept.max(1)));
        for ((indices, values), all) in samples.zip(all.chunks_exact_mut(self.len.max(1))) {
            for (index, value) in indices.iter().zip(values) {
                all[*index as usize] = *value;
            }
        }
        Ok(all)
    }

    fn by_sample(&self) -> impl Iterator<Item = &[u32]> {
        self.indices.chunks_exact(self.kept.max(1))
    }

    /// Appends the selection to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (samples, len, kept) = (self.samples(), self.len, self.kept);
        out.extend([samples, len, kept].iter().flat_map(|count| (*count as u32).to_le_bytes()));
        match Form::of(len, kept) {
            Form::Bitmap => {
                for indices in self.by_sample() {
                    let start = out.len();
                    out.resize(start + len.div_ceil(8), 0);
                    for index in indices {
                        out[start + *index as usize / 8] |= 1 << (index % 8);
                    }
                }
            }
            Form::U16 => out.extend(self.indices.iter().flat_map(|index| (*index as u16).to_le_bytes())),
            Form::U32 => out.extend(self.indices.iter().flat_map(|index| index.to_le_bytes())),
        }
    }
}

/// A selection as it came, with as many bytes as it needs.
#[derive(Debug)]
pub(crate) struct EncodedSelection<'a> {
    form: Form,
    samples: usize,
    len: usize,
    kept: usize,
    indices: &'a [u8],
}

impl<'a> EncodedSelection<'a> {
    /// The selection of `values` kept values that `bytes` begin with, and the bytes after it.
    ///
    /// # Errors
    /// If there is none, or one of another number of values.
    pub(crate) fn split_off(bytes: &'a [u8], values: usize) -> Result<(Self, &'a [u8]), SelectionError> {
        let too_short = |expected| SelectionError::Length { expected, actual: bytes.len() };
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX>().ok_or(too_short(PREFIX))?;
        let word = |at: usize| {
            u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]) as usize
        };
        let (samples, len, kept) = (word(0), word(4), word(8));
        if kept == 0 || kept > len || values == 0 || samples.checked_mul(kept) != Some(values) {
            return Err(SelectionError::Counts { samples, len, kept, values });
        }
        let expected = encoded_len(samples, len, kept);
        let (indices, rest) = rest.split_at_checked(expected - PREFIX).ok_or(too_short(expected))?;
        Ok((Self { form: Form::of(len, kept), samples, len, kept, indices }, rest))
    }

    /// The selection: 4 bytes for every kept value are allocated.
    ///
    /// # Errors
    /// If a sample's indices are not increasing ones within the sample.
    pub(crate) fn decode(self) -> Result<Selection, SelectionError> {
        let Self { form, samples, len, kept, indices: bytes } = self;
        let mut indices = Vec::with_capacity(samples * kept);
        for (sample, bytes) in bytes.chunks_exact(form.bytes(len, kept)).enumerate() {
            let start = indices.len();
            match form {
                Form::Bitmap => push_set_bits(bytes, kept, &mut indices),
                Form::U16 => {
                    let words = bytes.as_chunks::<2>().0;
                    indices.extend(words.iter().map(|word| u32::from(u16::from_le_bytes(*word))));
                }
                Form::U32 => {
                    indices.extend(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)));
                }
            }
            let these = &indices[start..];
            let fits = these.len() == kept
                && these.last().is_some_and(|last| (*last as usize) < len)
                && these.is_sorted_by(|a, b| a < b);
            if !fits {
                return Err(SelectionError::Indices { sample, kept, len });
            }
        }
        Ok(Selection { len, kept, indices })
    }
}

/// Appends the places of the set bits, at most one more than `most`.
fn push_set_bits(bytes: &[u8], most: usize, places: &mut Vec<u32>) {
    let end = places.len() + most;
    for (at, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mut word = u64::from_le_bytes(word);
        while word != 0 {
            if places.len() > end {
                return;
            }
            places.push(64 * at as u32 + word.trailing_zeros());
            word &= word - 1;
        }
    }
}
