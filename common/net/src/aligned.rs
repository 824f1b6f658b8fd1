//! A byte buffer whose storage is aligned for `f32`: a received tensor becomes numbers without a copy.

use bytes::Bytes;

const WORD: usize = size_of::<f32>();

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
#[derive(Clone, Debug, Default, PartialEq)]
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
