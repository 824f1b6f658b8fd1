//! The weight gradient where there are input channels enough to fill vectors with.
//!
//! For each tap it is the product of the output's gradient `[output channel, place]`, read where it lies, and
//! the input transposed to `[place, input channel]`. A tap's sum is over those places where it meets the input,
//! so that padding costs nothing, and a stride no more than to leave pixels out.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::blocks::{SIDE, STAGE, TAPS, columns_to_rows, columns_to_taps};
use super::fresh::{Part, fresh};
use super::geometry::Correlation;
use super::lattice::Lattice;
use super::scratch::Scratch;
use super::thin_out::thin_out;
use super::tile::{Product, Repeat, Term, multiply, tile_columns};
use super::weight_part::Arguments;

/// Values of the transposed input that stay in the second-level cache beside the gradient.
const PANEL: usize = 64 << 10;
/// Output channels of a piece of work, which repay transposing the input.
const ROWS: usize = 128;
/// Pieces to aim at: enough for the threads of one replica. More images' sums are added up afterwards.
const PIECES: usize = 8;
/// Pixels of a map that are worth to be copied next to those of other images.
const PACKED_PLANE: usize = 64;
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
        let (rows, lanes) = (shape.groups * shape.results, shape.batch.div_ceil(images));
        let len = rows * depth;
        // The first lane's sums are where the others' are added to.
        let mut others = Vec::new();
        let mut weights = fresh(len, depth, |first| {
            others = fresh((lanes - 1) * len, depth, |others| {
                let mut rows = first.into_iter().chain(others);
                let mut pieces = Vec::new();
                for outer in 0..lanes * shape.groups {
                    let (lane, group) = (outer / shape.groups, outer % shape.groups);
                    for row in (0..shape.results).step_by(ROWS) {
                        let first = pieces.len();
                        pieces.extend(tiles.iter().map(|(column, vectors)| Piece {
                            arguments,
                            images: lane * images..((lane + 1) * images).min(shape.batch),
                            group,
                            column: *column,
                            vectors: *vectors,
                            row,
                            weights: Vec::new(),
                        }));
                        for row in rows.by_ref().take(ROWS.min(shape.results - row)) {
                            let mut rest = row;
                            for piece in &mut pieces[first..] {
                                let channels =
                                    (shape.sources - piece.column).min(piece.vectors * S::F32_LANES);
                                let (weights, later) = rest.split_at(channels * taps);
                                piece.weights.push(weights);
                                rest = later;
                            }
                        }
                    }
                }
                pieces.into_par_iter().for_each(|piece| simd.vectorize(piece));
            });
        });
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
    weights: Vec<Part<'a, f32>>,
}

impl WithSimd for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { arguments: Arguments { shape, input, gradient }, images, vectors, weights, .. } = self;
        let (wide, taps, plane) = (vectors * S::F32_LANES, shape.taps.len(), shape.result_plane());
        let (first, end) = (self.column, shape.sources.min(self.column + wide));
        let channels = self.group * shape.sources + first..self.group * shape.sources + end;
        let row = self.group * shape.results + self.row;
        // Several small images at once, or a strip of a large one after the other.
        let whole = wide * Lattice::new(shape, 0..shape.grid[0]).pixels().max(1);
        let at_once = (PANEL / whole).clamp(1, images.len());
        let strips = whole.div_ceil(PANEL).clamp(1, shape.grid[0]);
        let stride = taps * wide;
        // Maps that end within a few cache lines are brought together, image after image.
        let pack = plane <= PACKED_PLANE;
        let packed = if pack { weights.len() * gathered_row(at_once * plane) } else { 0 };
        let mut scratch = Scratch::take([at_once * whole, weights.len() * stride, STAGE.max(packed)]);
        let [panel, sums, stage] = scratch.buffers();
        let mut terms = Vec::new();
        for image in images.clone().step_by(at_once) {
            let some = image..images.end.min(image + at_once);
            for strip in 0..strips {
                let lines = strip * shape.grid[0] / strips..(strip + 1) * shape.grid[0] / strips;
                let lattice = Lattice::new(shape, lines);
                lattice.transpose(input, some.clone(), channels.clone(), wide, stage, panel);
                // The stage has done its work.
                let (a, a_row, a_image) = if pack {
                    gather(shape, gradient, some.clone(), row..row + weights.len(), stage);
                    (&*stage, gathered_row(some.len() * plane), plane)
                } else {
                    let first = image * shape.result_image() + row * plane;
                    (&gradient[first..], plane, shape.result_image())
                };
                let starts: Vec<usize> = (0..weights.len()).map(|row| row * a_row).collect();
                for tap in 0..taps {
                    terms.clear();
                    for nth in 0..some.len() {
                        let (a, b) = (nth * a_image, nth * lattice.pixels());
                        lattice.meet(tap, |place, pixel| {
                            terms.push(Term { a: a + place, b: (b + pixel) * wide });
                        });
                    }
                    let product = Product {
                        a,
                        a_rows: &starts,
                        a_len: (some.len() - 1) * a_image + plane,
                        b: panel,
                        b_start: 0,
                        terms: &terms,
                        repeat: Repeat::ONCE,
                        accumulate: image > images.start || strip > 0,
                    };
                    multiply(simd, product, vectors, &mut sums[tap * wide..], stride);
                }
            }
        }
        for (weights, sums) in Part::clear_all(weights).into_iter().zip(sums.chunks_exact(stride)) {
            match taps {
                1 => weights.copy_from_slice(&sums[..weights.len()]),
                TAPS => columns_to_taps(sums, wide, weights),
                _ => columns_to_rows(sums, wide, weights.chunks_exact_mut(taps)),
            }
        }
    }
}

/// From one gathered row to the next: a cache line more than its values, so that not all rows share a few sets.
fn gathered_row(values: usize) -> usize {
    values + SIDE
}

/// Copies some rows of the gradient (counted over all groups) of some images as `[row][image][place]`.
#[inline(always)]
fn gather(
    shape: &Correlation,
    gradient: &[f32],
    images: Range<usize>,
    rows: Range<usize>,
    gathered: &mut [f32],
) {
    let plane = shape.result_plane();
    let row = gathered_row(images.len() * plane);
    for (nth, image) in images.enumerate() {
        let maps = gradient[image * shape.result_image() + rows.start * plane..].chunks_exact(plane);
        for (map, gathered) in maps.zip(gathered.chunks_exact_mut(row)).take(rows.len()) {
            thin_out(map, 0, 1, &mut gathered[nth * plane..][..plane]);
        }
    }
}
