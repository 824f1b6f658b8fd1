//! The weight gradient: for each tap and output channel, the sum over images and places of what the tap
//! sees times the output's gradient.
//!
//! It is the product of the input's frame `[taps, places]`, read in place, and the output's gradient
//! transposed to `[places, channels]`. Work is divided by output channel groups, input channels, and into
//! a few lanes of images; the lanes' sums are added up in order. All of it follows from the shape alone, so
//! that the sums are the same for any number of threads.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::blocks::{Block, SIDE, transpose};
use super::depthwise::Depthwise;
use super::frame::Frame;
use super::geometry::{ConvShape, Correlation};
use super::scratch::Scratch;
use super::tile::{MOST_COLUMNS, Product, multiply, padded, tile_columns};

/// Places of which the transposed gradient stays in the cache, a tile's columns wide.
const PLACES: usize = 768;
/// Values of a frame that stay in the second-level cache beside it.
const FRAME: usize = 96 << 10;
/// Pieces of work to aim at: enough for the threads of one replica.
const PIECES: usize = 8;

/// How the sum is divided; a function of the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Division {
    /// Images of a lane.
    images: usize,
    lanes: usize,
    /// Input channels of a piece.
    channels: usize,
    blocks: usize,
}

impl Division {
    fn of(shape: &Correlation) -> Self {
        // Sums of lanes are written and read once more, which many weights would not repay.
        let weights = shape.groups * shape.results * shape.depth();
        let lanes = match weights {
            0..0x2_0000 => 8,
            0x2_0000..0x8_0000 => 4,
            0x8_0000..0x10_0000 => 2,
            _ => 1,
        };
        let images = shape.batch.div_ceil(lanes);
        let lanes = shape.batch.div_ceil(images);
        let blocks = PIECES.div_ceil(lanes * shape.groups).min(shape.sources);
        let channels = shape.sources.div_ceil(blocks);
        Self { images, lanes, channels, blocks: shape.sources.div_ceil(channels) }
    }
}

/// The gradient of the weights, `[out, in / groups, kernel, kernel]`, from the input and the output's
/// gradient.
///
/// # Panics
/// If a slice is not as long as the shape says.
pub fn weight_gradient(shape: &ConvShape, input: &[f32], gradient: &[f32]) -> Vec<f32> {
    let [input_len, weight_len, output_len] = shape.lens();
    assert_eq!(input.len(), input_len, "the input's length");
    assert_eq!(gradient.len(), output_len, "the gradient's length");
    let correlation = &shape.forward();
    if Depthwise::serves(correlation) {
        return Depthwise { correlation, input, gradient }.weight_gradient();
    }
    let work = Work { shape: correlation, input, gradient, division: Division::of(correlation) };
    Arch::new().dispatch(Whole { work, len: weight_len })
}

#[derive(Clone, Copy)]
struct Work<'a> {
    shape: &'a Correlation,
    input: &'a [f32],
    gradient: &'a [f32],
    division: Division,
}

struct Whole<'a> {
    work: Work<'a>,
    len: usize,
}

impl WithSimd for Whole<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { work, len } = self;
        let Work { shape, division, .. } = work;
        let (taps, width) = (shape.taps.len(), padded::<S>(shape.results));
        // Sums `[lane][group][channel, tap][width]`, a piece being some channels of these.
        let rows = shape.depth() * width;
        let mut sums = vec![0.0; division.lanes * shape.groups * rows];
        let pieces: Vec<(usize, &mut [f32])> = sums
            .chunks_mut(rows)
            .flat_map(|sums| sums.chunks_mut(division.channels * taps * width))
            .enumerate()
            .collect();
        pieces.into_par_iter().for_each(|(piece, sums)| {
            let (block, outer) = (piece % division.blocks, piece / division.blocks);
            let (group, lane) = (outer % shape.groups, outer / shape.groups);
            let channel = block * division.channels;
            let images = lane * division.images..((lane + 1) * division.images).min(shape.batch);
            simd.vectorize(Piece { work, images, group, channel, sums });
        });
        let mut result = vec![0.0; len];
        let groups = result.chunks_mut(shape.results * shape.depth()).enumerate();
        let parts: Vec<_> = groups
            .flat_map(|(group, weights)| {
                let parts = weights.chunks_mut(SIDE * shape.depth()).enumerate();
                parts.map(move |(part, weights)| (group, part * SIDE, weights))
            })
            .collect();
        parts.into_par_iter().for_each(|(group, column, weights)| {
            let lanes: Vec<&[f32]> = sums.chunks(rows).skip(group).step_by(shape.groups).collect();
            simd.vectorize(Gather { lanes, width, column, depth: shape.depth(), weights });
        });
        result
    }
}

/// Some output channels' weights, `[channel][depth]`, from the lanes' sums `[depth][width]`.
struct Gather<'a> {
    lanes: Vec<&'a [f32]>,
    width: usize,
    /// First channel.
    column: usize,
    depth: usize,
    weights: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { lanes, width, column, depth, weights } = self;
        let used = (width - column).min(SIDE);
        let [mut block, mut spare]: [Block; 2] = [[0.0; SIDE * SIDE]; 2];
        for first in (0..depth).step_by(SIDE) {
            let some = (depth - first).min(SIDE);
            for (nth, lane) in lanes.iter().enumerate() {
                let rows = lane[first * width..].chunks_exact(width).take(some);
                for (row, sums) in block.chunks_exact_mut(SIDE).zip(rows) {
                    let (row, sums) = (&mut row[..used], &sums[column..][..used]);
                    if nth == 0 {
                        row.copy_from_slice(sums);
                    } else {
                        for (sum, part) in row.iter_mut().zip(sums) {
                            *sum += part;
                        }
                    }
                }
            }
            transpose(&mut block, &mut spare);
            for (weights, row) in weights.chunks_exact_mut(depth).zip(block.chunks_exact(SIDE)) {
                weights[first..][..some].copy_from_slice(&row[..some]);
            }
        }
    }
}

/// Some images' share of the sums of some channels.
struct Piece<'a> {
    work: Work<'a>,
    images: std::ops::Range<usize>,
    group: usize,
    /// First of the channels, in the group.
    channel: usize,
    /// `[channel, tap][width]`
    sums: &'a mut [f32],
}

impl WithSimd for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, images, group, channel, sums } = self;
        let shape = work.shape;
        let (width, height) = (padded::<S>(shape.results), shape.grid[0]);
        let channels = sums.len() / width / shape.taps.len();
        let per_image = channels * Frame::new(shape, 1, 0..height).channel();
        // Several small images at once, or a strip of a large one after the other.
        let at_once = (FRAME / per_image).clamp(1, PLACES.div_ceil(shape.places()));
        let strips = per_image.div_ceil(FRAME).clamp(1, height);
        let first = group * shape.sources + channel;
        for image in images.clone().step_by(at_once) {
            let some = at_once.min(images.end - image);
            for strip in 0..strips {
                let rows = strip * height / strips..(strip + 1) * height / strips;
                let part = Part { work, image, images: some, rows, group, channels: first..first + channels };
                part.add::<S>(simd, sums, width);
            }
        }
    }
}

/// What is in one frame.
struct Part<'a> {
    work: Work<'a>,
    image: usize,
    images: usize,
    rows: std::ops::Range<usize>,
    group: usize,
    channels: std::ops::Range<usize>,
}

impl Part<'_> {
    #[inline(always)]
    fn add<S: Simd>(self, simd: S, sums: &mut [f32], width: usize) {
        let Self { work, image, images, rows, group, channels } = self;
        let (shape, columns) = (work.shape, work.shape.grid[1]);
        let frame = Frame::new(shape, images, rows.clone());
        let (taps, runs) = (frame.tap_starts(channels.len()), frame.runs());
        // Rows of the grid whose transposed gradient stays in the cache.
        let block = (PLACES / columns).clamp(1, runs.len());
        let starts: Vec<usize> = (0..block * columns).collect();
        let lens = [frame.len(channels.len()), block * columns * MOST_COLUMNS, 0];
        let mut scratch = Scratch::take(lens);
        let [values, transposed, _] = scratch.buffers();
        frame.fill(shape, work.input, image, channels, values);
        for (nth, runs) in runs.chunks(block).enumerate() {
            let places = runs.len() * columns;
            for (column, vectors) in tile_columns::<S>(shape.results) {
                let wide = vectors * S::F32_LANES;
                let panel = &mut transposed[..places * wide];
                let lines = (nth * block..nth * block + runs.len()).map(|line| {
                    let (image, row) = (image + line / rows.len(), rows.start + line % rows.len());
                    (image * shape.groups + group) * shape.results * shape.result_plane() + row * columns
                });
                fill_panel(work, lines, column, wide, panel);
                let b_rows: Vec<usize> = starts[..places].iter().map(|place| place * wide).collect();
                let product = Product {
                    a: values,
                    a_rows: &taps,
                    runs,
                    b: panel,
                    b_rows: &b_rows,
                    b_start: 0,
                    accumulate: true,
                };
                multiply(simd, product, vectors, &mut sums[column..], width);
            }
        }
    }
}

/// Writes the gradient's channels from `channel` on into `panel` `[place][wide]`; `lines` are where rows of
/// the grid lie in the group's first channel. What comes behind the last channel is arbitrary.
#[inline(always)]
fn fill_panel(
    work: Work,
    lines: impl Iterator<Item = usize>,
    channel: usize,
    wide: usize,
    panel: &mut [f32],
) {
    let Work { shape, gradient, .. } = work;
    let (columns, plane) = (shape.grid[1], shape.result_plane());
    let used = wide.min(shape.results - channel);
    let [mut block, mut spare]: [Block; 2] = [[0.0; SIDE * SIDE]; 2];
    for (start, panel) in lines.zip(panel.chunks_exact_mut(columns * wide)) {
        for (first, places) in (0..columns).step_by(SIDE).zip(panel.chunks_mut(SIDE * wide)) {
            let some = (columns - first).min(SIDE);
            for lane in (0..used).step_by(SIDE) {
                for (row, channel) in block.chunks_exact_mut(SIDE).zip(channel + lane..channel + used) {
                    let line = &gradient[start + channel * plane + first..][..some];
                    match line.as_array::<SIDE>() {
                        Some(line) => row.copy_from_slice(line),
                        None => row[..some].copy_from_slice(line),
                    }
                }
                transpose(&mut block, &mut spare);
                for (place, row) in places.chunks_exact_mut(wide).zip(block.chunks_exact(SIDE)) {
                    match place[lane..].first_chunk_mut::<SIDE>() {
                        Some(place) => place.copy_from_slice(row),
                        None => place[lane..].copy_from_slice(&row[..wide - lane]),
                    }
                }
            }
        }
    }
}
