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
use super::geometry::{ConvShape, Meeting};
use super::relu::rectified;
use super::scratch::Scratch;
use super::tile::{Product, Term, multiply, tile_columns, tile_rows};

/// Fewest images: a vector full.
const IMAGES: usize = 16;
/// Sides of the output from which reading maps in place is as fast.
const SIDE_IN_PLACE: usize = 16;
/// Values of the transposed source that stay in the second-level cache.
const PART: usize = 96 << 10;
/// Channels of the source that are summed over at once, at least.
const CHANNELS: usize = 16;

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

struct Whole<'a>(AcrossImages<'a>);

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
        let tiles: Vec<(usize, usize)> = tile_columns::<S>(shape.batch).collect();
        let mut met = vec![Vec::new(); sizes.result_plane];
        for Meeting { input, output, tap } in shape.meetings() {
            match work.direction {
                Direction::Output => met[output].push((tap, input)),
                Direction::InputGradient => met[input].push((tap, output)),
            }
        }
        // Each piece of the rows transposes the source anew, so there are no more of them than threads need.
        let blocks = rayon::current_num_threads().div_ceil(tiles.len());
        let rows = sizes.results.div_ceil(blocks).next_multiple_of(tile_rows::<S>()).min(sizes.results);
        let mut pieces: Vec<Piece> = tiles
            .iter()
            .flat_map(|(image, vectors)| {
                let images = *image..shape.batch.min(image + vectors * S::F32_LANES);
                (0..sizes.results).step_by(rows).map(move |row| (row, images.clone(), *vectors))
            })
            .map(|(row, images, vectors)| Piece {
                work,
                sizes,
                met: &met,
                row,
                images,
                vectors,
                result: Vec::new(),
            })
            .collect();
        let mut result = vec![0.0; result];
        let per_tile = sizes.results.div_ceil(rows);
        for (image, result) in result.chunks_exact_mut(sizes.results * sizes.result_plane).enumerate() {
            let tile = tiles.partition_point(|(first, _)| *first <= image) - 1;
            let pieces = &mut pieces[tile * per_tile..][..per_tile];
            for (piece, result) in pieces.iter_mut().zip(result.chunks_mut(rows * sizes.result_plane)) {
                piece.result.push(result);
            }
        }
        pieces.into_par_iter().for_each(|piece| simd.vectorize(piece));
        result
    }
}

/// Some channels of the result, of a tile of images.
struct Piece<'a> {
    work: AcrossImages<'a>,
    sizes: Sizes,
    /// Of every place of the result: the taps, and the pixels of the source that meet there.
    met: &'a [Vec<(usize, usize)>],
    /// First channel of the result.
    row: usize,
    images: Range<usize>,
    vectors: usize,
    /// Of each image `[channel][pixel]`.
    result: Vec<&'a mut [f32]>,
}

impl WithSimd for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, sizes, met, row, vectors, .. } = self;
        let wide = vectors * S::F32_LANES;
        let rows = self.result.first().map_or(0, |result| result.len() / sizes.result_plane);
        let starts: Vec<usize> = (row..row + rows).map(|row| row * sizes.result_step).collect();
        let part = (PART / (sizes.source_plane * wide)).max(CHANNELS).min(sizes.sources);
        let stride = sizes.result_plane * wide;
        let mut scratch = Scratch::take([part * sizes.source_plane * wide, rows * stride, STAGE]);
        let [panel, sums, stage] = scratch.buffers();
        let mut terms = vec![Vec::new(); met.len()];
        for first in (0..sizes.sources).step_by(part) {
            let part = part.min(sizes.sources - first);
            self.transpose(first..first + part, wide, stage, panel);
            for (terms, met) in terms.iter_mut().zip(met) {
                terms.clear();
                for channel in 0..part {
                    terms.extend(met.iter().map(|(tap, pixel)| Term {
                        a: channel * sizes.source_step + tap,
                        b: (channel * sizes.source_plane + pixel) * wide,
                    }));
                }
            }
            // All places for some rows, whose weights stay in the first-level cache meanwhile.
            let tall = tile_rows::<S>();
            for (starts, sums) in starts.chunks(tall).zip(sums.chunks_mut(tall * stride)) {
                for (place, terms) in terms.iter().enumerate() {
                    let product = Product {
                        a: &work.weights[first * sizes.source_step..],
                        a_rows: starts,
                        a_len: (part - 1) * sizes.source_step + work.shape.taps(),
                        b: panel,
                        b_start: 0,
                        terms,
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
        columns_to_rows(sums, wide, self.result.into_iter());
    }
}

impl Piece<'_> {
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
