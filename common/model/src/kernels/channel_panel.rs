//! The weight gradient where there are input channels enough to fill vectors with.
//!
//! For each tap it is the product of the output's gradient `[output channel, place]`, read where it lies, and
//! the input transposed to `[place, input channel]`. A tap's sum is over those places where it meets the input,
//! so that padding costs nothing, and a stride no more than to leave pixels out.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::blocks::{SIDE, STAGE, columns_to_rows};
use super::geometry::Correlation;
use super::lattice::Lattice;
use super::scratch::Scratch;
use super::tile::{Product, Term, multiply, tile_columns};
use super::weight_part::Arguments;

/// Values of the transposed input that stay in the second-level cache beside the gradient.
const PANEL: usize = 64 << 10;
/// Output channels of a piece of work, which repay transposing the input.
const ROWS: usize = 128;
/// Pieces to aim at: enough for the threads of one replica. More images' sums are added up afterwards.
const PIECES: usize = 8;
/// Weights whose sums are added up at once.
const SUMMED: usize = 1 << 14;

/// Products with each value of the input that repay transposing it.
const PRODUCTS: usize = 64;

/// Whether the input channels fill vectors, or nearly, and there is enough to multiply them with.
pub(super) fn serves(shape: &Correlation) -> bool {
    let filled = 4 * shape.sources.next_multiple_of(SIDE) <= 5 * shape.sources;
    filled && shape.results * shape.taps.len() >= PRODUCTS
}

/// `[groups * results, depth]`; the division of the sums follows from the shape alone.
pub(super) fn weight_gradient(arguments: Arguments, arch: Arch) -> Vec<f32> {
    arch.dispatch(Whole { arguments })
}

struct Whole<'a> {
    arguments: Arguments<'a>,
}

impl WithSimd for Whole<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { arguments } = self;
        let shape = arguments.shape;
        let (taps, depth) = (shape.taps.len(), shape.depth());
        let tiles: Vec<(usize, usize)> = tile_columns::<S>(shape.sources).collect();
        let parts = shape.groups * tiles.len() * shape.results.div_ceil(ROWS);
        let images = shape.batch.div_ceil(PIECES.div_ceil(parts));
        let len = shape.groups * shape.results * depth;
        // The first lane's sums are where the others' are added to.
        let mut weights = vec![0.0; len];
        let mut others = vec![0.0; (shape.batch.div_ceil(images) - 1) * len];
        let mut pieces = Vec::new();
        let lanes = std::iter::once(weights.as_mut_slice()).chain(others.chunks_exact_mut(len));
        for (lane, weights) in lanes.enumerate() {
            let images = lane * images..((lane + 1) * images).min(shape.batch);
            for (group, weights) in weights.chunks_exact_mut(shape.results * depth).enumerate() {
                for (block, weights) in weights.chunks_mut(ROWS * depth).enumerate() {
                    let first = pieces.len();
                    pieces.extend(tiles.iter().map(|(column, vectors)| Piece {
                        arguments,
                        images: images.clone(),
                        group,
                        column: *column,
                        vectors: *vectors,
                        row: block * ROWS,
                        weights: Vec::new(),
                    }));
                    for row in weights.chunks_exact_mut(depth) {
                        let mut rest = row;
                        for piece in &mut pieces[first..] {
                            let channels = (shape.sources - piece.column).min(piece.vectors * S::F32_LANES);
                            let (weights, later) = rest.split_at_mut(channels * taps);
                            piece.weights.push(weights);
                            rest = later;
                        }
                    }
                }
            }
        }
        pieces.into_par_iter().for_each(|piece| simd.vectorize(piece));
        let parts = weights.par_chunks_mut(SUMMED).enumerate();
        parts.for_each(|(part, weights)| {
            for lane in others.chunks_exact(len) {
                for (weight, sum) in weights.iter_mut().zip(&lane[part * SUMMED..]) {
                    *weight += sum;
                }
            }
        });
        weights
    }
}

/// Some images' share of the sums of one tile of input channels and some output channels.
struct Piece<'a> {
    arguments: Arguments<'a>,
    images: Range<usize>,
    group: usize,
    /// First input channel of the tile, and its vectors.
    column: usize,
    vectors: usize,
    /// First output channel, and of each from there on the weights `[input channel][tap]`.
    row: usize,
    weights: Vec<&'a mut [f32]>,
}

impl WithSimd for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { arguments: Arguments { shape, input, gradient }, images, vectors, mut weights, .. } = self;
        let (wide, taps, plane) = (vectors * S::F32_LANES, shape.taps.len(), shape.result_plane());
        let (first, end) = (self.column, shape.sources.min(self.column + wide));
        let channels = self.group * shape.sources + first..self.group * shape.sources + end;
        let row = self.group * shape.results + self.row;
        let starts: Vec<usize> = (row..row + weights.len()).map(|row| row * plane).collect();
        // Several small images at once, or a strip of a large one after the other.
        let whole = wide * Lattice::new(shape, 0..shape.grid[0]).pixels().max(1);
        let at_once = (PANEL / whole).clamp(1, images.len());
        let strips = whole.div_ceil(PANEL).clamp(1, shape.grid[0]);
        let stride = taps * wide;
        let mut scratch = Scratch::take([at_once * whole, weights.len() * stride, STAGE]);
        let [panel, sums, stage] = scratch.buffers();
        let mut terms = Vec::new();
        for image in images.clone().step_by(at_once) {
            let some = image..images.end.min(image + at_once);
            for strip in 0..strips {
                let lines = strip * shape.grid[0] / strips..(strip + 1) * shape.grid[0] / strips;
                let lattice = Lattice::new(shape, lines);
                lattice.transpose(input, some.clone(), channels.clone(), wide, stage, panel);
                for tap in 0..taps {
                    terms.clear();
                    for nth in 0..some.len() {
                        let (a, b) = (nth * shape.result_image(), nth * lattice.pixels());
                        lattice.meet(tap, |place, pixel| {
                            terms.push(Term { a: a + place, b: (b + pixel) * wide });
                        });
                    }
                    let product = Product {
                        a: &gradient[image * shape.result_image()..],
                        a_rows: &starts,
                        a_len: (some.len() - 1) * shape.result_image() + plane,
                        b: panel,
                        b_start: 0,
                        terms: &terms,
                        accumulate: image > images.start || strip > 0,
                    };
                    multiply(simd, product, vectors, &mut sums[tap * wide..], stride);
                }
            }
        }
        for (weights, sums) in weights.iter_mut().zip(sums.chunks_exact(stride)) {
            if taps == 1 {
                weights.copy_from_slice(&sums[..weights.len()]);
            } else {
                columns_to_rows(sums, wide, weights.chunks_exact_mut(taps));
            }
        }
    }
}
