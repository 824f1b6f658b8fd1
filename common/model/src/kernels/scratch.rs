//! Working memory of the kernels: a few buffers per thread, which keep the size that they once needed.

use std::cell::Cell;

/// Buffers that one piece of work needs at the same time.
const BUFFERS: usize = 3;

thread_local! {
    static KEPT: Cell<[Vec<f32>; BUFFERS]> = const { Cell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// This thread's buffers, taken for one piece of work; dropping it gives them back.
pub(super) struct Scratch([Vec<f32>; BUFFERS]);

impl Scratch {
    /// Buffers of at least these lengths, with arbitrary contents.
    pub(super) fn take(lens: [usize; BUFFERS]) -> Self {
        let mut buffers = KEPT.take();
        for (buffer, len) in buffers.iter_mut().zip(lens) {
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
        }
        Self(buffers)
    }

    pub(super) fn buffers(&mut self) -> [&mut [f32]; BUFFERS] {
        self.0.each_mut().map(Vec::as_mut_slice)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.set(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_it_needed() {
        let mut scratch = Scratch::take([10, 0, 3]);
        let [first, _, third] = scratch.buffers();
        assert_eq!((first.len(), third.len()), (10, 3));
        let place = first.as_ptr();
        drop(scratch);
        let mut again = Scratch::take([5, 1, 0]);
        let [first, ..] = again.buffers();
        assert_eq!((first.len(), first.as_ptr()), (10, place));
    }
}
