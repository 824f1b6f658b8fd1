//! Products of rows with rows: tiles of dot products, for factors that lie one after the other in both.

use std::array::from_fn;

use pulp::{Simd, WithSimd};

/// Rows of a tile, and its columns where there are registers for them.
const ROWS: usize = 4;
const COLUMNS: usize = 4;

/// `sum over k < len of a[row + k] * b[column + k]`, for every row and column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dots<'a> {
    pub(super) a: &'a [f32],
    /// Where each row starts in `a`.
    pub(super) a_rows: &'a [usize],
    pub(super) b: &'a [f32],
    /// Where each column starts in `b`.
    pub(super) b_rows: &'a [usize],
    pub(super) len: usize,
}

/// Adds all products to `results`, whose rows are `stride` apart.
///
/// # Panics
/// If a row or column is not inside of its slice.
#[inline(always)]
pub(super) fn add_dots<S: Simd>(simd: S, dots: Dots, results: &mut [f32], stride: usize) {
    let wide = if S::REGISTER_COUNT >= 32 { COLUMNS } else { COLUMNS / 2 };
    for (rows, results) in dots.a_rows.chunks(ROWS).zip(results.chunks_mut(ROWS * stride)) {
        for (part, columns) in dots.b_rows.chunks(wide).enumerate() {
            let dots = Dots { a_rows: rows, b_rows: columns, ..dots };
            let results = &mut results[part * wide..];
            if wide == COLUMNS {
                simd.vectorize(Tile::<COLUMNS> { dots, results, stride });
            } else {
                simd.vectorize(Tile::<{ COLUMNS / 2 }> { dots, results, stride });
            }
        }
    }
}

/// Up to `ROWS` rows and `C` columns; what is missing is filled up by repeating the last.
struct Tile<'a, const C: usize> {
    dots: Dots<'a>,
    results: &'a mut [f32],
    stride: usize,
}

impl<const C: usize> WithSimd for Tile<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dots: Dots { a, a_rows, b, b_rows, len }, results, stride } = self;
        let rows: [&[f32]; ROWS] = from_fn(|r| &a[a_rows[r.min(a_rows.len() - 1)]..][..len]);
        let columns: [&[f32]; C] = from_fn(|c| &b[b_rows[c.min(b_rows.len() - 1)]..][..len]);
        let (rows, row_ends) = vectors::<S, ROWS>(rows);
        let (columns, column_ends) = vectors::<S, C>(columns);
        let mut sums = [[simd.splat_f32s(0.0); C]; ROWS];
        let whole = len / S::F32_LANES;
        let (rows, columns): ([_; ROWS], [_; C]) =
            (rows.map(|row| &row[..whole]), columns.map(|row| &row[..whole]));
        for k in 0..whole {
            let columns: [S::f32s; C] = from_fn(|c| columns[c][k]);
            for r in 0..ROWS {
                let row = rows[r][k];
                for c in 0..C {
                    sums[r][c] = simd.mul_add_e_f32s(row, columns[c], sums[r][c]);
                }
            }
        }
        if len > whole * S::F32_LANES {
            for r in 0..ROWS {
                let row = simd.partial_load_f32s(row_ends[r]);
                for c in 0..C {
                    let column = simd.partial_load_f32s(column_ends[c]);
                    sums[r][c] = simd.mul_add_e_f32s(row, column, sums[r][c]);
                }
            }
        }
        for r in 0..a_rows.len() {
            for c in 0..b_rows.len() {
                results[r * stride + c] += simd.reduce_sum_f32s(sums[r][c]);
            }
        }
    }
}

/// Each row's whole vectors, and its end.
#[inline(always)]
fn vectors<S: Simd, const N: usize>(rows: [&[f32]; N]) -> ([&[S::f32s]; N], [&[f32]; N]) {
    let split = rows.map(|row| S::as_simd_f32s(row));
    (split.map(|(whole, _)| whole), split.map(|(_, end)| end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::archs;

    struct Add<'a>(Dots<'a>, &'a mut [f32], usize);

    impl WithSimd for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            add_dots(simd, self.0, self.1, self.2);
        }
    }

    #[test]
    fn every_pair_is_multiplied_once() {
        let value = |seed: usize| move |at: usize| ((at * seed) % 13) as f32 - 6.0;
        let (a, b): (Vec<f32>, Vec<f32>) =
            ((0..900).map(value(7)).collect(), (0..900).map(value(5)).collect());
        for (rows, columns, len) in [(1, 1, 1), (4, 4, 16), (5, 7, 33), (9, 3, 60), (6, 11, 15)] {
            let a_rows: Vec<usize> = (0..rows).map(|row| 61 * row + 1).collect();
            let b_rows: Vec<usize> = (0..columns).map(|column| 67 * column).collect();
            let dots = Dots { a: &a, a_rows: &a_rows, b: &b, b_rows: &b_rows, len };
            for arch in archs::available() {
                let mut results = vec![1.0; rows * (columns + 2)];
                arch.dispatch(Add(dots, &mut results, columns + 2));
                for (row, a_row) in a_rows.iter().enumerate() {
                    for (column, b_row) in b_rows.iter().enumerate() {
                        let expected: f32 = (0..len).map(|k| a[a_row + k] * b[b_row + k]).sum();
                        let actual = results[row * (columns + 2) + column] - 1.0;
                        assert!(
                            (actual - expected).abs() < 1e-2,
                            "{rows} by {columns} of {len}: {actual} {expected}"
                        );
                    }
                    assert!(results[row * (columns + 2) + columns..][..2].iter().all(|rest| *rest < 1.5));
                }
            }
        }
    }
}
