//! Working memory of the kernels: a few buffers per thread, which keep the size that they once needed.

use std::cell::RefCell;

/// Buffers that one piece of work needs at the same time.
const BUFFERS: usize = 3;

thread_local! {
    static SCRATCH: RefCell<[Vec<f32>; BUFFERS]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Runs `work` on buffers of these lengths with arbitrary contents. `work` must not hand out work to
/// other threads: this one might then take over a piece that needs the buffers, too.
pub(super) fn with_scratch<R>(lens: [usize; BUFFERS], work: impl FnOnce([&mut [f32]; BUFFERS]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffers| {
        let [a, b, c] = buffers;
        let [first, second, third] = lens;
        work([sized(a, first), sized(b, second), sized(c, third)])
    })
}

fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
