//! Transposing in blocks that stay in the first cache lines.

/// Side of a block.
pub(super) const SIDE: usize = 16;

/// A square block, row after row.
pub(super) type Block = [f32; SIDE * SIDE];

/// Rows become columns; `spare` is overwritten.
///
/// Interleaving the upper half of the rows with the lower rotates the bits of each value's index by one,
/// and four rotations swap row and column. Unlike a loop over both, compilers make vector instructions of it.
#[inline(always)]
pub(super) fn transpose(block: &mut Block, spare: &mut Block) {
    interleave(block, spare);
    interleave(spare, block);
    interleave(block, spare);
    interleave(spare, block);
}

#[inline(always)]
fn interleave(from: &Block, to: &mut Block) {
    let (upper, lower) = from.split_at(SIDE * SIDE / 2);
    for (pair, (a, b)) in to.as_chunks_mut::<2>().0.iter_mut().zip(upper.iter().zip(lower)) {
        *pair = [*a, *b];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let mut block: Block = std::array::from_fn(|at| at as f32);
        transpose(&mut block, &mut [0.0; SIDE * SIDE]);
        for (at, value) in block.iter().enumerate() {
            let expected = at % SIDE * SIDE + at / SIDE;
            assert!((value - expected as f32).abs() < 0.5, "{value} at {at}");
        }
    }
}
