//! Convolutions of small maps, forward and their input gradient, with the images side by side.
//!
//! The source is transposed to `[channel][pixel][image]`, so that vectors lie across images, and every place of
//! the result is a product of its own: of the weights, read where they lie in either direction, and those pixels
//! that its taps meet. So padding costs nothing, which is most of the sums on the smallest maps; strides need no
//! care; and weights need not be turned around.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::blocks::{SIDE, STAGE, STAGED, columns_to_rows, rows_to_columns};
use super::fresh::{Part, fresh};
use super::geometry::{ConvShape, Meeting};
use super::relu::rectified;
use super::scratch::Scratch;
use super::tile::{Product, Repeat, Term, multiply, tile_columns, tile_rows};

/// Fewest images: a vector full.
const IMAGES: usize = 16;
/// Sides of the output from which reading maps in place is as fast.
const SIDE_IN_PLACE: usize = 16;
/// Values of the transposed source that stay in the second-level cache.
const PART: usize = 96 << 10;
/// Channels of the source that are summed over at once, at least.
const CHANNELS: usize = 16;
/// Products with each value of the source that take as long as transposing it.
const TRANSPOSED: usize = 20;

/// A direction of a convolution with its arguments.
#[derive(Clone, Copy)]
pub(super) struct AcrossImages<'a> {
    pub(super) shape: &'a ConvShape,
    pub(super) direction: Direction,
    /// The input, or the output's gradient.
    pub(super) source: &'a [f32],
    /// `[out, in, kernel, kernel]`
    pub(super) weights: &'a [f32],
    /// `[out]`
    pub(super) bias: Option<&'a [f32]>,
    /// Whether results below zero become zero.
    pub(super) rectify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Output,
    InputGradient,
}

/// What a direction makes of a shape.
#[derive(Clone, Copy)]
struct Sizes {
    /// Channels of the source and of the result.
    sources: usize,
    results: usize,
    /// Pixels of their planes.
    source_plane: usize,
    result_plane: usize,
    /// From a channel's weights to the next one's.
    source_step: usize,
    result_step: usize,
}

impl Sizes {
    fn of(shape: &ConvShape, direction: Direction) -> Self {
        let [input, output] = [shape.input, shape.output()].map(|[height, width]| height * width);
        let (inner, outer) = (shape.taps(), shape.in_channels * shape.taps());
        let forward = Self {
            sources: shape.in_channels,
            results: shape.out_channels,
            source_plane: input,
            result_plane: output,
            source_step: inner,
            result_step: outer,
        };
        match direction {
            Direction::Output => forward,
            Direction::InputGradient => Self {
                sources: forward.results,
                results: forward.sources,
                source_plane: output,
                result_plane: input,
                source_step: outer,
                result_step: inner,
            },
        }
    }
}

impl AcrossImages<'_> {
    /// Whether this is the faster way: maps are small, and there are images to fill vectors with.
    pub(super) fn serves(shape: &ConvShape) -> bool {
        let filled = 8 * shape.batch.next_multiple_of(IMAGES) <= 9 * shape.batch;
        let small = shape.output().iter().all(|side| *side < SIDE_IN_PLACE);
        shape.groups == 1 && filled && small
    }

    /// The result; each value is the same for any number of threads.
    ///
    /// # Panics
    /// If a slice is not as long as the shape says.
    pub(super) fn run(&self, arch: Arch) -> Vec<f32> {
        arch.dispatch(Whole(*self))
    }
}

/// Along each axis, of every place of the result: the taps, and the places of the source that meet there.
type Met = [Vec<Vec<(usize, usize)>>; 2];

struct Whole<'a>(AcrossImages<'a>);

impl Whole<'_> {
    fn met(&self) -> Met {
        let Self(AcrossImages { shape, direction, .. }) = self;
        [0, 1].map(|axis| {
            let sides = [shape.output()[axis], shape.input[axis]];
            let mut met = vec![Vec::new(); sides[usize::from(*direction == Direction::InputGradient)]];
            for Meeting { input, output, tap } in shape.meetings(axis) {
                match direction {
                    Direction::Output => met[output].push((tap, input)),
                    Direction::InputGradient => met[input].push((tap, output)),
                }
            }
            met
        })
    }

    /// In how many blocks the result's channels are divided, so that threads are done at about one time: each block
    /// transposes the source anew, so there are no more of them than that takes.
    fn blocks(&self, vectors: &[usize], rows: usize, tall: usize) -> usize {
        let threads = rayon::current_num_threads();
        let most = threads.min(rows / tall).max(1);
        let time = |blocks: &usize| {
            let cost = rows.div_ceil(*blocks) * self.0.shape.taps() + TRANSPOSED;
            let mut busy = vec![0; threads];
            for vectors in (0..*blocks).flat_map(|_| vectors) {
                busy.sort_unstable();
                busy[0] += vectors * cost;
            }
            busy.into_iter().max()
        };
        (1..=most).min_by_key(time).unwrap_or(1)
    }
}

impl WithSimd for Whole<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self(work) = self;
        let (shape, sizes) = (work.shape, Sizes::of(work.shape, work.direction));
        let [input, weights, output] = shape.lens();
        let (source, result) = match work.direction {
            Direction::Output => (input, output),
            Direction::InputGradient => (output, input),
        };
        assert_eq!(work.source.len(), source, "the source's length");
        assert_eq!(work.weights.len(), weights, "the weights' length");
        assert!(work.bias.is_none_or(|bias| bias.len() == sizes.results), "the bias's length");
        let (met, tall) = (&self.met(), tile_rows::<S>());
        let tiles: Vec<(usize, usize)> = tile_columns::<S>(shape.batch).collect();
        let vectors: Vec<usize> = tiles.iter().map(|(_, vectors)| *vectors).collect();
        let blocks = self.blocks(&vectors, sizes.results, tall);
        let rows = sizes.results.div_ceil(blocks).next_multiple_of(tall).min(sizes.results);
        fresh(result, sizes.results * sizes.result_plane, |images| {
            let mut pieces: Vec<Piece> = (0..sizes.results)
                .step_by(rows)
                .flat_map(|row| tiles.iter().map(move |tile| (row, *tile)))
                .map(|(row, (image, vectors))| {
                    let images = image..shape.batch.min(image + vectors * S::F32_LANES);
                    Piece { work, sizes, met, row, images, vectors, result: Vec::new() }
                })
                .collect();
            for (image, result) in images.into_iter().enumerate() {
                let tile = tiles.partition_point(|(first, _)| *first <= image) - 1;
                let pieces = pieces.iter_mut().skip(tile).step_by(tiles.len());
                for (piece, result) in pieces.zip(result.divide(rows * sizes.result_plane)) {
                    piece.result.push(result);
                }
            }
            pieces.into_par_iter().for_each(|piece| simd.vectorize(piece));
        })
    }
}

/// Some channels of the result, of a tile of images.
struct Piece<'a> {
    work: AcrossImages<'a>,
    sizes: Sizes,
    met: &'a Met,
    /// First channel of the result.
    row: usize,
    images: Range<usize>,
    vectors: usize,
    /// Of each image `[channel][pixel]`.
    result: Vec<Part<'a, f32>>,
}

impl WithSimd for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, sizes, row, vectors, .. } = self;
        let wide = vectors * S::F32_LANES;
        let rows = self.result.first().map_or(0, |result| result.len() / sizes.result_plane);
        let starts: Vec<usize> = (row..row + rows).map(|row| row * sizes.result_step).collect();
        let part = (PART / (sizes.source_plane * wide)).max(CHANNELS).min(sizes.sources);
        let stride = sizes.result_plane * wide;
        let mut scratch = Scratch::take([part * sizes.source_plane * wide, rows * stride, STAGE]);
        let [panel, sums, stage] = scratch.buffers();
        let places = self.places(wide);
        for first in (0..sizes.sources).step_by(part) {
            let part = part.min(sizes.sources - first);
            self.transpose(first..first + part, wide, stage, panel);
            // All places for some rows, whose weights stay in the first-level cache meanwhile.
            let tall = tile_rows::<S>();
            for (starts, sums) in starts.chunks(tall).zip(sums.chunks_mut(tall * stride)) {
                for (place, terms) in places.iter().enumerate() {
                    let product = Product {
                        a: &work.weights[first * sizes.source_step..],
                        a_rows: starts,
                        a_len: (part - 1) * sizes.source_step + work.shape.taps(),
                        b: panel,
                        b_start: 0,
                        terms,
                        repeat: Repeat { times: part, a: sizes.source_step, b: sizes.source_plane * wide },
                        accumulate: first > 0,
                    };
                    multiply(simd, product, vectors, &mut sums[place * wide..], stride);
                }
            }
        }
        let sums = &mut sums[..rows * stride];
        if work.bias.is_some() || work.rectify {
            for (row, sums) in (row..).zip(sums.chunks_exact_mut(stride)) {
                let bias = work.bias.map_or(0.0, |bias| bias[row]);
                for sum in sums {
                    *sum = if work.rectify { rectified(*sum + bias) } else { *sum + bias };
                }
            }
        }
        columns_to_rows(sums, wide, self.result.into_iter().map(Part::clear));
    }
}

impl Piece<'_> {
    /// Of every place of the result the terms that one channel of the source adds.
    fn places(&self, wide: usize) -> Vec<Vec<Term>> {
        let Self { work: AcrossImages { shape, direction, .. }, met: [rows, columns], .. } = self;
        let width = match direction {
            Direction::Output => shape.input[1],
            Direction::InputGradient => shape.output()[1],
        };
        let place = |rows: &[(usize, usize)], columns: &[(usize, usize)]| {
            let pairs = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
            let term = |((down, row), (right, column)): (&(usize, usize), &(usize, usize))| Term {
                a: down * shape.kernel + right,
                b: (row * width + column) * wide,
            };
            pairs.map(term).collect()
        };
        rows.iter().flat_map(|row| columns.iter().map(|column| place(row, column))).collect()
    }

    /// Writes some channels of the source as `[channel][pixel][image]`, `wide` images each.
    #[inline(always)]
    fn transpose(&self, channels: Range<usize>, wide: usize, stage: &mut [f32], panel: &mut [f32]) {
        let Self { work, sizes: Sizes { sources, source_plane, .. }, images, .. } = self;
        let len = channels.len() * source_plane;
        for (first, panel) in (0..len).step_by(STAGED).zip(panel[..len * wide].chunks_mut(STAGED * wide)) {
            let some = STAGED.min(len - first);
            for lane in (0..images.len()).step_by(SIDE) {
                for (image, staged) in images.clone().skip(lane).zip(stage.chunks_exact_mut(STAGED)) {
                    let start = (image * sources + channels.start) * source_plane + first;
                    staged[..some].copy_from_slice(&work.source[start..][..some]);
                }
                rows_to_columns(stage, panel, wide, lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::archs;

    /// As for correlations: instructions that this processor may not need.
    #[test]
    fn every_vector_width_computes_the_same() {
        for (batch, stride, side) in [(16, 1, 4), (33, 2, 7), (100, 1, 2)] {
            let shape = ConvShape {
                batch,
                in_channels: 19,
                out_channels: 21,
                kernel: 3,
                stride,
                padding: 1,
                groups: 1,
                input: [side, side + 1],
            };
            let [input, weights, output] = shape.lens();
            let values = |len: usize| (0..len).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
            let (input, weights, gradient): (Vec<f32>, Vec<f32>, Vec<f32>) =
                (values(input), values(weights), values(output));
            for (direction, source) in [(Direction::Output, &input), (Direction::InputGradient, &gradient)] {
                let work = AcrossImages {
                    shape: &shape,
                    direction,
                    source,
                    weights: &weights,
                    bias: None,
                    rectify: false,
                };
                let mut results = archs::available().into_iter().map(|arch| work.run(arch));
                let first = results.next().expect("one is there");
                for other in results {
                    let differing = first.iter().zip(&other).position(|(a, b)| (a - b).abs() > 1e-4);
                    assert_eq!(differing, None, "{direction:?} of {shape:?}");
                }
            }
        }
    }
}
