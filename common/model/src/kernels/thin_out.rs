//! Every so many-th value of a row, and two rows in turns.

use super::blocks::SIDE;

/// Fills `kept` with every `step`-th value from `first` on, which is below `step`.
///
/// # Panics
/// If there are not so many.
#[inline(always)]
pub(super) fn thin_out(values: &[f32], first: usize, step: usize, kept: &mut [f32]) {
    match (step, first) {
        (1, _) => copy(values, kept),
        (2, 0) => {
            let pairs = values.as_chunks::<2>().0;
            let whole = kept.len().min(pairs.len());
            let (kept, last) = kept.split_at_mut(whole);
            pick::<0>(pairs, kept);
            if let [last, ..] = last {
                *last = values[2 * whole];
            }
        }
        (2, _) => pick::<1>(values.as_chunks::<2>().0, kept),
        _ => {
            for (nth, kept) in kept.iter_mut().enumerate() {
                *kept = values[first + nth * step];
            }
        }
    }
}

/// Of blocks whose length the compiler knows it makes vector instructions, and no call.
#[inline(always)]
fn copy(values: &[f32], kept: &mut [f32]) {
    let values = &values[..kept.len()];
    if let (Some(values), Some(kept)) = (values.as_array::<4>(), kept.as_mut_array::<4>()) {
        *kept = *values;
        return;
    }
    let ((blocks, rest), (kept, last)) = (values.as_chunks::<SIDE>(), kept.as_chunks_mut::<SIDE>());
    match (blocks, &mut *kept) {
        ([block], [kept]) => *kept = *block,
        ([one, two], [kept_one, kept_two]) => (*kept_one, *kept_two) = (*one, *two),
        (blocks, kept) => kept.copy_from_slice(blocks),
    }
    for (kept, value) in last.iter_mut().zip(rest) {
        *kept = *value;
    }
}

/// The first or the second of each pair.
#[inline(always)]
fn pick<const OF_PAIR: usize>(pairs: &[[f32; 2]], kept: &mut [f32]) {
    let ((pairs, rest), (kept, last)) =
        (pairs[..kept.len()].as_chunks::<SIDE>(), kept.as_chunks_mut::<SIDE>());
    for (kept, pairs) in kept.iter_mut().zip(pairs) {
        for (kept, pair) in kept.iter_mut().zip(pairs) {
            *kept = pair[OF_PAIR];
        }
    }
    for (kept, pair) in last.iter_mut().zip(rest) {
        *kept = pair[OF_PAIR];
    }
}

/// Fills `row` with `even` and `odd` in turns, each value as `finish` makes it; zeros stand for the one that is not
/// there.
#[inline(always)]
pub(super) fn interleave(
    even: Option<&[f32]>,
    odd: Option<&[f32]>,
    row: &mut [f32],
    finish: impl Fn(f32) -> f32,
) {
    let (pairs, last) = row.as_chunks_mut::<2>();
    match (even, odd) {
        (Some(even), Some(odd)) => {
            for (pair, (even, odd)) in pairs.iter_mut().zip(even.iter().zip(odd)) {
                *pair = [finish(*even), finish(*odd)];
            }
        }
        (Some(even), None) => {
            for (pair, even) in pairs.iter_mut().zip(even) {
                *pair = [finish(*even), 0.0];
            }
        }
        (None, Some(odd)) => {
            for (pair, odd) in pairs.iter_mut().zip(odd) {
                *pair = [0.0, finish(*odd)];
            }
        }
        (None, None) => pairs.fill([0.0; 2]),
    }
    if let [last] = last {
        *last = even.and_then(|even| even.get(pairs.len())).map_or(0.0, |value| finish(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_are_thinned_out() {
        let values: Vec<f32> = (0..80).map(|value| value as f32).collect();
        for len in 1..80 {
            for step in 1..4 {
                for first in 0..step.min(len) {
                    let expected: Vec<f32> = values[first..len].iter().step_by(step).copied().collect();
                    let mut kept = vec![-1.0; expected.len()];
                    thin_out(&values[..len], first, step, &mut kept);
                    assert_eq!(kept, expected, "{len} values from {first} by {step}");
                }
            }
        }
    }

    #[test]
    fn rows_in_turns_are_thinned_out_again() {
        let values: Vec<f32> = (1..80).map(|value| value as f32).collect();
        for len in 1..79usize {
            let (evens, odds) = (len.div_ceil(2), len / 2);
            let (even, odd) = (&values[..evens], &values[40..40 + odds]);
            for (even, odd) in [(Some(even), Some(odd)), (Some(even), None), (None, Some(odd)), (None, None)]
            {
                let mut row = vec![-1.0; len];
                interleave(even, odd, &mut row, |value| 2.0 * value);
                for (first, from) in [(0, even), (1, odd)] {
                    for (nth, value) in row.iter().skip(first).step_by(2).enumerate() {
                        let expected = from.map_or(0.0, |from| 2.0 * from[nth]);
                        assert!((value - expected).abs() < 0.5, "{nth} of {len} from {first}");
                    }
                }
            }
        }
    }
}
