//! A byte buffer whose storage is aligned for `f32`: a received tensor becomes numbers without a copy.

use bytes::Bytes;

const WORD: usize = size_of::<f32>();

/// Bytes on their way into an [`AlignedBytes`], piece by piece, each copied once to where it stays.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    words: Vec<f32>,
    /// Bytes of a word that is not whole yet.
    part: [u8; WORD],
    part_len: usize,
}

impl Filling {
    /// Room for `len` bytes; what is not filled costs no memory.
    pub(crate) fn with_capacity(len: usize) -> Self {
        Self { words: Vec::with_capacity(len.div_ceil(WORD)), ..Self::default() }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.words.len() * WORD + self.part_len
    }

    /// Appends a piece, of any length and alignment.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        if self.part_len > 0 {
            let (more, rest) = piece.split_at(piece.len().min(WORD - self.part_len));
            self.part[self.part_len..][..more.len()].copy_from_slice(more);
            self.part_len += more.len();
            if self.part_len < WORD {
                return;
            }
            self.words.push(f32::from_ne_bytes(self.part));
            (self.part_len, piece) = (0, rest);
        }
        let (words, rest) = piece.as_chunks::<WORD>();
        self.words.extend(words.iter().map(|word| f32::from_ne_bytes(*word)));
        self.part[..rest.len()].copy_from_slice(rest);
        self.part_len = rest.len();
    }

    /// All that has come.
    pub(crate) fn finish(mut self) -> AlignedBytes {
        let len = self.len();
        if self.part_len > 0 {
            self.part[self.part_len..].fill(0);
            self.words.push(f32::from_ne_bytes(self.part));
        }
        AlignedBytes { words: self.words, len }
    }
}

/// Bytes stored in a `Vec<f32>`: 4-byte aligned, the last word padded with zeros.
///
/// The values are what the bytes are on this machine. The wire is little-endian, so on a big-endian
/// machine the reader swaps them.
///
/// ```
/// use partway_net::AlignedBytes;
/// let sent = AlignedBytes::from(vec![1.0_f32, -2.5]).into_bytes();
/// let mut received = AlignedBytes::zeroed(sent.len());
/// received.as_bytes_mut().copy_from_slice(&sent);
/// assert_eq!(received.into_f32(), Ok(vec![1.0, -2.5]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct AlignedBytes {
    words: Vec<f32>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes. The system hands out zeroed pages lazily: untouched bytes cost no memory.
    pub fn zeroed(len: usize) -> Self {
        Self { words: vec![0.0; len.div_ceil(WORD)], len }
    }

    /// A copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.as_bytes_mut().copy_from_slice(bytes);
        copy
    }

    /// Length in bytes, without the padding.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, without the padding.
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// The bytes, without the padding.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }

    /// The `f32` values in place; `None` if the length is no multiple of 4.
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.len.is_multiple_of(WORD).then_some(&self.words)
    }

    /// The `f32` values, without a copy; gives the bytes back if the length is no multiple of 4.
    pub fn into_f32(self) -> Result<Vec<f32>, Self> {
        if self.len.is_multiple_of(WORD) { Ok(self.words) } else { Err(self) }
    }

    /// Shared bytes to send, without a copy.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

/// Equal bytes, whatever numbers they are: one that is none equals nothing.
impl PartialEq for AlignedBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for AlignedBytes {}

impl From<Vec<f32>> for AlignedBytes {
    fn from(words: Vec<f32>) -> Self {
        let len = words.len() * WORD;
        Self { words, len }
    }
}

impl From<AlignedBytes> for Bytes {
    fn from(bytes: AlignedBytes) -> Self {
        bytes.into_bytes()
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_memory_is_bytes_and_numbers() {
        let values = vec![1.5_f32, f32::MIN_POSITIVE, -0.0];
        let address = values.as_ptr() as usize;
        let aligned = AlignedBytes::from(values.clone());
        assert_eq!(aligned.len(), 12);
        assert_eq!(aligned.as_bytes()[..4], 1.5_f32.to_ne_bytes());
        let back = aligned.clone().into_f32().expect("12 is a multiple of 4");
        assert_eq!(back, values);
        let values_back = AlignedBytes::from(values).into_f32().expect("12 is a multiple of 4");
        assert_eq!(values_back.as_ptr() as usize, address, "no copy was made");
        let shared = AlignedBytes::from(values_back).into_bytes();
        assert_eq!(shared.as_ptr() as usize, address, "no copy was made");
    }

    #[test]
    fn pieces_of_any_length_become_one() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1003).collect();
        for first in 0..9 {
            for length in [1, 2, 3, 4, 5, 7, 64, 997] {
                let mut filling = Filling::with_capacity(bytes.len());
                let room = filling.words.capacity();
                filling.push(&bytes[..first]);
                bytes[first..].chunks(length).for_each(|piece| filling.push(piece));
                assert_eq!(filling.len(), bytes.len());
                assert_eq!(filling.words.capacity(), room, "nothing was moved");
                assert_eq!(filling.finish(), AlignedBytes::copy_from(&bytes), "{first} {length}");
            }
        }
        assert_eq!(Filling::with_capacity(0).finish(), AlignedBytes::zeroed(0));
    }

    #[test]
    fn odd_lengths_are_padded_but_never_shown() {
        let mut aligned = AlignedBytes::copy_from(&[1, 2, 3, 4, 5]);
        assert_eq!(aligned.as_bytes(), [1, 2, 3, 4, 5]);
        assert_eq!(aligned.as_bytes_mut().len(), 5);
        assert_eq!(aligned.as_f32(), None);
        let back = aligned.into_f32().expect_err("5 bytes are no f32 values");
        assert_eq!(back.as_bytes(), [1, 2, 3, 4, 5]);
        assert_eq!(AlignedBytes::zeroed(0).into_f32(), Ok(vec![]));
    }
}
