//! The inner loop of every matrix product here: one tile of results, held in vector registers.

use std::array::from_fn;

use pulp::{Simd, WithSimd};

/// Most vectors that a tile is wide.
const VECTORS: usize = 3;

/// Most columns of a tile, with the widest vectors that there are.
pub(super) const MOST_COLUMNS: usize = 16 * VECTORS;

/// Values that may be read behind the last that counts: a tile is as wide as whole vectors.
pub(super) const SLACK: usize = MOST_COLUMNS;

/// Values that lie one after the other: where they start, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Where the factors of one term lie: that of `a` from the row's start, the columns of `b` from theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) a: usize,
    pub(super) b: usize,
}

/// Terms that come several times, each time so much further on in `a` and in `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeat {
    pub(super) times: usize,
    pub(super) a: usize,
    pub(super) b: usize,
}

impl Repeat {
    pub(super) const ONCE: Self = Self { times: 1, a: 0, b: 0 };
}

impl Term {
    /// A row of `a` from its start, with packed columns of `b`, `wide` values each.
    pub(super) fn packed(terms: usize, wide: usize) -> Vec<Self> {
        (0..terms).map(|term| Self { a: term, b: term * wide }).collect()
    }
}

/// `sum over terms of a[row][term] * b[term][column]`, where both factors lie scattered: this is what lets a
/// convolution read its arguments in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product<'a> {
    pub(super) a: &'a [f32],
    /// Where each row starts in `a`.
    pub(super) a_rows: &'a [usize],
    /// How far a row reaches from its start.
    pub(super) a_len: usize,
    pub(super) b: &'a [f32],
    /// Where the columns of each term start, which is where terms count from.
    pub(super) b_start: usize,
    /// In the order of summation.
    pub(super) terms: &'a [Term],
    /// How often the terms come again, further on.
    pub(super) repeat: Repeat,
    /// Whether to go on from what the results hold; else from zero.
    pub(super) accumulate: bool,
}

/// Rows of the tallest tile: with three vectors of results each, one of `a` and three of `b`, they fill
/// the registers.
pub(super) const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 4 }
}

/// How `columns` columns are divided into tiles of whole vectors, as even as can be: start and vectors
/// of each.
pub(super) fn tile_columns<S: Simd>(columns: usize) -> impl Iterator<Item = (usize, usize)> {
    let vectors = columns.div_ceil(S::F32_LANES);
    let tiles = vectors.div_ceil(VECTORS);
    let edge = move |tile: usize| tile * vectors / tiles;
    (0..tiles).map(move |tile| (edge(tile) * S::F32_LANES, edge(tile + 1) - edge(tile)))
}

/// `columns`, filled up to whole vectors.
pub(super) fn padded<S: Simd>(columns: usize) -> usize {
    columns.next_multiple_of(S::F32_LANES)
}

/// Computes any number of rows and up to three vectors of columns into `results`, whose rows are
/// `stride` apart. Each result is summed in the order of the terms, whatever tile it falls into.
///
/// # Panics
/// If a part of the product lies outside of its slice.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    product: Product,
    vectors: usize,
    results: &mut [f32],
    stride: usize,
) {
    let (mut product, mut results) = (product, results);
    let tall = tile_rows::<S>();
    while !product.a_rows.is_empty() {
        let rows = match product.a_rows.len() {
            rows if rows >= tall => tall,
            rows if rows >= 6 => 6,
            rows if rows >= 4 => 4,
            rows if rows >= 2 => 2,
            _ => 1,
        };
        let (now, later) = product.a_rows.split_at(rows);
        let part = Product { a_rows: now, ..product };
        match vectors {
            1 => tile::<S, 1>(simd, rows, part, results, stride),
            2 => tile::<S, 2>(simd, rows, part, results, stride),
            3 => tile::<S, 3>(simd, rows, part, results, stride),
            _ => unreachable!("`tile_columns` makes tiles of one to {VECTORS} vectors"),
        }
        product.a_rows = later;
        if !later.is_empty() {
            results = &mut results[rows * stride..];
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const V: usize>(simd: S, rows: usize, product: Product, results: &mut [f32], stride: usize) {
    match rows {
        8 => simd.vectorize(Tile::<8, V> { product, results, stride }),
        6 => simd.vectorize(Tile::<6, V> { product, results, stride }),
        4 => simd.vectorize(Tile::<4, V> { product, results, stride }),
        2 => simd.vectorize(Tile::<2, V> { product, results, stride }),
        1 => simd.vectorize(Tile::<1, V> { product, results, stride }),
        _ => unreachable!("tiles have 8, 6, 4, 2 or 1 rows"),
    }
}

/// `R` rows by `V` vectors.
struct Tile<'a, const R: usize, const V: usize> {
    product: Product<'a>,
    results: &'a mut [f32],
    stride: usize,
}

/// The `V` vectors at the start of `values`.
#[inline(always)]
fn load<S: Simd, const V: usize>(values: &[f32]) -> [S::f32s; V] {
    let (vectors, _) = S::as_simd_f32s(values);
    from_fn(|v| vectors[v])
}

impl<const R: usize, const V: usize> WithSimd for Tile<'_, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product, results, stride } = self;
        let Product { a, a_rows, a_len, b, b_start, terms, repeat, accumulate } = product;
        let width = V * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        if accumulate {
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = load::<S, V>(&results[r * stride..][..width]);
            }
        }
        let rows: [&[f32]; R] = from_fn(|r| &a[a_rows[r]..][..a_len]);
        let b = &b[b_start..];
        for time in 0..repeat.times {
            let (further_a, further_b) = (time * repeat.a, time * repeat.b);
            for term in terms {
                let columns = load::<S, V>(&b[further_b + term.b..][..width]);
                let at = further_a + term.a;
                for r in 0..R {
                    let factor = simd.splat_f32s(rows[r][at]);
                    for v in 0..V {
                        sums[r][v] = simd.mul_add_e_f32s(factor, columns[v], sums[r][v]);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let (vectors, _) = S::as_mut_simd_f32s(&mut results[r * stride..][..width]);
            vectors.copy_from_slice(sums);
        }
    }
}
