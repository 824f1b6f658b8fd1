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
use super::channel_panel;
use super::depthwise::Depthwise;
use super::frame::Frame;
use super::geometry::{ConvShape, Correlation};
use super::tile::padded;
use super::weight_part::{Arguments, PLACES, Part};

/// Values of a frame that stay in the second-level cache beside the gradient.
const FRAME: usize = 96 << 10;
/// Factors per place, channels times taps, up to which dot products beat transposing the gradient; and values
/// of the gradient that stay in the cache meanwhile.
const NARROW: usize = 64;
const DOTTED: usize = 160 << 10;
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
    weight_gradient_on(Arch::new(), shape, input, gradient)
}

fn weight_gradient_on(arch: Arch, shape: &ConvShape, input: &[f32], gradient: &[f32]) -> Vec<f32> {
    let [input_len, weight_len, output_len] = shape.lens();
    assert_eq!(input.len(), input_len, "the input's length");
    assert_eq!(gradient.len(), output_len, "the gradient's length");
    let correlation = &shape.forward();
    if Depthwise::serves(correlation) {
        return Depthwise { correlation, input, gradient }.weight_gradient();
    }
    let arguments = Arguments { shape: correlation, input, gradient };
    if channel_panel::serves(correlation) {
        return channel_panel::weight_gradient(arguments, arch);
    }
    arch.dispatch(Whole { arguments, division: Division::of(correlation), len: weight_len })
}

struct Whole<'a> {
    arguments: Arguments<'a>,
    division: Division,
    len: usize,
}

impl WithSimd for Whole<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { arguments, division, len } = self;
        let shape = arguments.shape;
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
            simd.vectorize(Piece { arguments, images, group, channel, sums });
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
    arguments: Arguments<'a>,
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
        let Self { arguments, images, group, channel, sums } = self;
        let shape = arguments.shape;
        let (width, height) = (padded::<S>(shape.results), shape.grid[0]);
        let channels = sums.len() / width / shape.taps.len();
        let whole = Frame::new(shape, 1, 0..height);
        let per_image = channels * whole.channel();
        // Each place needs a position of its own, which much padding around a small kernel denies it.
        let narrow = shape.depth() <= NARROW && shape.grid[1] <= whole.pitch;
        // Several small images at once, or a strip of a large one after the other.
        let places = if narrow { DOTTED / shape.results } else { PLACES };
        let at_once = (FRAME / per_image).clamp(1, places.div_ceil(shape.places()));
        let strips = per_image.div_ceil(FRAME).clamp(1, height);
        let first = group * shape.sources + channel;
        for image in images.clone().step_by(at_once) {
            let some = at_once.min(images.end - image);
            for strip in 0..strips {
                let rows = strip * height / strips..(strip + 1) * height / strips;
                let part =
                    Part { arguments, image, images: some, rows, group, channels: first..first + channels };
                if narrow {
                    part.add_dots(simd, sums, width);
                } else if shape.grid[1] < SIDE {
                    part.add_packed(simd, sums, width);
                } else {
                    part.add_products(simd, sums, width);
                }
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
        let shape = |batch, in_channels, out_channels, side| ConvShape {
            batch,
            in_channels,
            out_channels,
            kernel: 3,
            stride: 1,
            padding: 1,
            groups: 1,
            input: [side, side + 1],
        };
        for shape in [shape(5, 3, 13, 20), shape(3, 9, 22, 18), shape(5, 30, 40, 3), shape(2, 352, 334, 2)] {
            let [input, _, output] = shape.lens();
            let values = |len: usize| (0..len).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
            let (input, gradient): (Vec<f32>, Vec<f32>) = (values(input), values(output));
            let mut results = archs::available()
                .into_iter()
                .map(|arch| weight_gradient_on(arch, &shape, &input, &gradient));
            let first = results.next().expect("one is there");
            for other in results {
                let differing = first.iter().zip(&other).position(|(a, b)| (a - b).abs() > 1e-3);
                assert_eq!(differing, None, "{shape:?}");
            }
        }
    }
}
