//! Transposing in blocks that stay in the first cache lines.

/// Side of a block.
pub(super) const SIDE: usize = 16;

/// Weights of a usual kernel.
pub(super) const TAPS: usize = 9;

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
fn interleave<const N: usize>(from: &[f32; N], to: &mut [f32; N]) {
    let (upper, lower) = from.split_at(N / 2);
    for (pair, (a, b)) in to.as_chunks_mut::<2>().0.iter_mut().zip(upper.iter().zip(lower)) {
        *pair = [*a, *b];
    }
}

/// Values that a row has in a stage.
pub(super) const STAGED: usize = 512;

/// Values of sixteen rows that are copied side by side before they are transposed: read one after the other,
/// rows are prefetched.
pub(super) const STAGE: usize = SIDE * STAGED;

/// Writes the staged rows as columns: to `panel`, whose rows are `wide`, from `lane` of each on.
#[inline(always)]
pub(super) fn rows_to_columns(stage: &[f32], panel: &mut [f32], wide: usize, lane: usize) {
    let [mut block, mut spare]: [Block; 2] = [[0.0; SIDE * SIDE]; 2];
    for (nth, columns) in panel.chunks_mut(SIDE * wide).enumerate() {
        for (row, staged) in block.chunks_exact_mut(SIDE).zip(stage.chunks_exact(STAGED)) {
            row.copy_from_slice(&staged[nth * SIDE..][..SIDE]);
        }
        transpose(&mut block, &mut spare);
        for (column, row) in columns.chunks_exact_mut(wide).zip(block.chunks_exact(SIDE)) {
            match column[lane..].first_chunk_mut::<SIDE>() {
                Some(target) => target.copy_from_slice(row),
                None => column[lane..].copy_from_slice(&row[..wide - lane]),
            }
        }
    }
}

/// The other way: fills rows of one length with the columns of `values`, whose own rows are `wide`.
#[inline(always)]
pub(super) fn columns_to_rows<'r>(values: &[f32], wide: usize, rows: impl Iterator<Item = &'r mut [f32]>) {
    let mut rows = rows;
    let [mut block, mut spare]: [Block; 2] = [[0.0; SIDE * SIDE]; 2];
    for lane in (0..wide).step_by(SIDE) {
        let mut group = <[&mut [f32]; SIDE]>::default();
        group.iter_mut().zip(&mut rows).for_each(|(place, row)| *place = row);
        let len = group[0].len();
        for first in (0..len).step_by(SIDE) {
            let some = SIDE.min(len - first);
            for (row, values) in block.chunks_exact_mut(SIDE).zip(values[first * wide..].chunks(wide)) {
                match values[lane..].first_chunk::<SIDE>() {
                    Some(values) => row.copy_from_slice(values),
                    None => row[..wide - lane].copy_from_slice(&values[lane..wide]),
                }
            }
            transpose(&mut block, &mut spare);
            for (target, row) in group.iter_mut().zip(block.chunks_exact(SIDE)) {
                if let Some(target) = target.get_mut(first..first + some) {
                    // Of a length that the compiler knows it makes no call.
                    if let Some(target) = target.as_mut_array::<SIDE>() {
                        target.copy_from_slice(row);
                    } else {
                        target.copy_from_slice(&row[..some]);
                    }
                }
            }
        }
    }
}

/// As [`columns_to_rows`] for rows of [`TAPS`], one after the other: all but the last column as half a square.
#[inline(always)]
pub(super) fn columns_to_taps(values: &[f32], wide: usize, rows: &mut [f32]) {
    const HALF: usize = TAPS - 1;
    let [mut half, mut spare] = [[0.0; SIDE * HALF]; 2];
    let mut last = [0.0; SIDE];
    for (lane, rows) in rows.as_chunks_mut::<TAPS>().0.chunks_mut(SIDE).enumerate() {
        let columns = half.as_chunks_mut::<SIDE>().0.iter_mut().chain([&mut last]);
        for (column, values) in columns.zip(values.chunks_exact(wide)) {
            match values[lane * SIDE..].first_chunk::<SIDE>() {
                Some(values) => *column = *values,
                None => column[..wide - lane * SIDE].copy_from_slice(&values[lane * SIDE..]),
            }
        }
        interleave(&half, &mut spare);
        interleave(&spare, &mut half);
        interleave(&half, &mut spare);
        for (row, (most, last)) in rows.iter_mut().zip(spare.as_chunks::<HALF>().0.iter().zip(&last)) {
            let (first, end) = row.split_at_mut(HALF);
            first.copy_from_slice(most);
            end[0] = *last;
        }
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

    #[test]
    fn a_matrix_is_turned_there_and_back() {
        for (rows, columns, wide) in
            [(3, 5, 16), (16, 40, 16), (16, 33, 20), (2, 9, 4), (16, 9, 16), (13, 9, 20)]
        {
            let values: Vec<f32> = (0..rows * columns).map(|value| value as f32).collect();
            let mut stage = vec![-1.0; STAGE];
            for (staged, row) in stage.chunks_exact_mut(STAGED).zip(values.chunks_exact(columns)) {
                staged[..columns].copy_from_slice(row);
            }
            let mut turned = vec![-1.0; columns * wide];
            rows_to_columns(&stage, &mut turned, wide, 0);
            for (column, turned) in turned.chunks_exact(wide).enumerate() {
                let expected: Vec<f32> = values.iter().skip(column).step_by(columns).copied().collect();
                assert_eq!(turned[..rows], expected);
            }
            let mut back = vec![-1.0; rows * columns];
            columns_to_rows(&turned, wide, back.chunks_exact_mut(columns));
            assert_eq!(back, values, "{rows} by {columns} in {wide}");
            if columns == TAPS {
                back.fill(-1.0);
                columns_to_taps(&turned, wide, &mut back);
                assert_eq!(back, values, "{rows} rows of taps in {wide}");
            }
        }
    }
}
