//! Results in memory that is written for the first time by the threads that compute them.
//!
//! `vec![0.0; len]` clears all of it on one thread, which reads and writes every line of it once more than is needed
//! and leaves the others waiting.

#![allow(
    unsafe_code,
    reason = "memory that is not cleared needs it: every part is cleared when it is taken, and all must have been"
)]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A part of a result, not yet cleared.
pub(super) struct Part<'a, T> {
    values: &'a mut [MaybeUninit<T>],
    /// Values of parts that have been.
    cleared: &'a AtomicUsize,
}

impl<'a, T: Copy + Default> Part<'a, T> {
    /// Parts of `len` values each; the last may be shorter.
    pub(super) fn divide(self, len: usize) -> impl Iterator<Item = Self> {
        let Self { values, cleared } = self;
        values.chunks_mut(len.max(1)).map(move |values| Part { values, cleared })
    }

    /// The first `len` values, and the rest.
    pub(super) fn split_at(self, len: usize) -> (Self, Self) {
        let Self { values, cleared } = self;
        let (values, rest) = values.split_at_mut(len);
        (Self { values, cleared }, Self { values: rest, cleared })
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The values, cleared: best by the thread that writes them, just before it does.
    pub(super) fn clear(self) -> &'a mut [T] {
        let Self { values, cleared } = self;
        values.fill(MaybeUninit::new(T::default()));
        cleared.fetch_add(values.len(), Ordering::Relaxed);
        // SAFETY: each of the values has been written right above.
        unsafe { values.assume_init_mut() }
    }

    /// As [`Part::clear`] for many short parts of one result: counting them one by one would wait for the memory.
    pub(super) fn clear_all(parts: Vec<Self>) -> Vec<&'a mut [T]> {
        let mut values: Vec<&mut [MaybeUninit<T>]> = Vec::with_capacity(parts.len());
        let mut counts = parts.first().map(|part| (part.cleared, 0));
        for part in parts {
            part.values.fill(MaybeUninit::new(T::default()));
            match &mut counts {
                Some((cleared, sum)) if std::ptr::eq(*cleared, part.cleared) => *sum += part.values.len(),
                _ => {
                    part.cleared.fetch_add(part.values.len(), Ordering::Relaxed);
                }
            }
            values.push(part.values);
        }
        if let Some((cleared, sum)) = counts {
            cleared.fetch_add(sum, Ordering::Relaxed);
        }
        // SAFETY: each of the values has been written right above.
        values.into_iter().map(|values| unsafe { values.assume_init_mut() }).collect()
    }
}

/// `len` values, from `write`, which gets them in parts of `part` each (the last may be shorter) and has to clear
/// every one.
///
/// # Panics
/// If `write` leaves a part out.
pub(super) fn fresh<T: Copy + Default>(len: usize, part: usize, write: impl FnOnce(Vec<Part<T>>)) -> Vec<T> {
    let mut result: Vec<T> = Vec::with_capacity(len);
    let cleared = AtomicUsize::new(0);
    let parts = result.spare_capacity_mut()[..len].chunks_mut(part.max(1));
    write(parts.map(|values| Part { values, cleared: &cleared }).collect());
    assert_eq!(cleared.into_inner(), len, "every part of a result is written");
    // SAFETY: there is room for so many, and each part adds its values at most once, after writing them all, so
    // that together they are all of the `len` values.
    unsafe { result.set_len(len) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cleared_and_what_is_written_stays() {
        let result = fresh(7, 6, |parts| {
            for (nth, part) in parts.into_iter().flat_map(|part| part.divide(3)).enumerate() {
                let (values, rest) = part.split_at(1);
                assert_eq!(values.len() + rest.clear().len(), 3.min(7 - 3 * nth));
                let values = values.clear();
                assert!(values.iter().all(|value| *value == 0u32));
                values[0] = nth as u32 + 1;
            }
        });
        assert_eq!(result, [1, 0, 0, 2, 0, 0, 3]);
        assert_eq!(fresh::<u8>(0, 4, |parts| assert!(parts.is_empty())), [0; 0]);
    }

    #[test]
    fn parts_of_two_results_are_cleared_together() {
        let mut other = Vec::new();
        let result = fresh::<u32>(5, 2, |parts| {
            other = fresh(3, 2, |more| {
                let all = Part::clear_all(parts.into_iter().chain(more).collect());
                assert_eq!(all.iter().map(|values| values.len()).collect::<Vec<_>>(), [2, 2, 1, 2, 1]);
                all.into_iter().enumerate().for_each(|(nth, values)| values[0] = nth as u32);
            });
        });
        assert_eq!((result, other), (vec![0, 0, 1, 0, 2], vec![3, 0, 4]));
    }

    #[test]
    #[should_panic(expected = "every part of a result is written")]
    fn a_part_that_is_left_out_is_noticed() {
        fresh(7, 3, |parts| parts.into_iter().skip(1).for_each(|part| part.clear()[0] = 1.0f32));
    }
}
