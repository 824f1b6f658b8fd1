//! The weight gradient where there are so many weights and so few places that the weights themselves take the
//! time: each is written once, where it belongs.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::blocks::{Block, SIDE, transpose};
use super::frame::Frame;
use super::panel::Panel;
use super::scratch::Scratch;
use super::tile::{MOST_COLUMNS, Product, Run, multiply, tile_columns};
use super::weight_part::Arguments;

/// Weights from which this is worth while.
const WEIGHTS: usize = 1 << 20;
/// Places that are summed over at once: their values of some taps stay in the first-level cache.
const PLACES: usize = 256;

/// Whether this is the faster way.
pub(super) fn serves(arguments: &Arguments) -> bool {
    let shape = arguments.shape;
    // Tiles must end where rows of weights do.
    shape.groups == 1
        && shape.results * shape.depth() >= WEIGHTS
        && shape.depth().is_multiple_of(SIDE)
        && shape.grid[1] < SIDE
        && shape.places() <= PLACES
}

/// `[results, depth]`; each weight is summed over all images by one thread.
pub(super) fn weight_gradient(arguments: Arguments, arch: Arch) -> Vec<f32> {
    let shape = arguments.shape;
    let mut weights = vec![0.0; shape.results * shape.depth()];
    let rows = shape.results.div_ceil(rayon::current_num_threads()).next_multiple_of(8);
    weights.par_chunks_mut(rows * shape.depth()).enumerate().for_each(|(part, weights)| {
        arch.dispatch(Rows { arguments, first: part * rows, weights });
    });
    weights
}

/// Some output channels.
struct Rows<'a> {
    arguments: Arguments<'a>,
    first: usize,
    weights: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { arguments: Arguments { shape, input, gradient }, first, weights } = self;
        let (depth, plane, rows) = (shape.depth(), shape.places(), weights.len() / shape.depth());
        let at_once = (PLACES / plane).min(shape.batch);
        let most = (at_once * plane).next_multiple_of(SIDE);
        let wide = MOST_COLUMNS;
        let [mut block, mut spare]: [Block; 2] = [[0.0; SIDE * SIDE]; 2];
        for image in (0..shape.batch).step_by(at_once) {
            let images = at_once.min(shape.batch - image);
            let frame = Frame::new(shape, images, 0..shape.grid[0]);
            let (taps, runs) = (frame.tap_starts(shape.sources), frame.runs());
            let places = images * plane;
            let seen = Panel::new(&runs, 0..places.next_multiple_of(SIDE));
            let padded = places.next_multiple_of(SIDE);
            let mut scratch = Scratch::take([frame.len(shape.sources), rows * places, 2 * most * wide]);
            let [values, dense, packed] = scratch.buffers();
            let (packed, turned) = packed.split_at_mut(most * wide);
            frame.fill(shape, input, image, 0..shape.sources, values);
            for (row, dense) in dense[..rows * places].chunks_exact_mut(places).enumerate() {
                for (nth, dense) in dense.chunks_exact_mut(plane).enumerate() {
                    let source = ((image + nth) * shape.results + first + row) * plane;
                    dense.copy_from_slice(&gradient[source..][..plane]);
                }
            }
            let starts: Vec<usize> = (0..rows).map(|row| row * places).collect();
            for (column, vectors) in tile_columns::<S>(depth) {
                let wide = vectors * S::F32_LANES;
                let end = depth.min(column + wide);
                // What the taps see, `[tap][place]`, becomes `[place][tap]`.
                seen.pack(values, &taps[column..end], packed);
                for tap in (0..end - column).step_by(SIDE) {
                    for place in (0..padded).step_by(SIDE) {
                        for (row, seen) in
                            block.chunks_exact_mut(SIDE).zip(packed[tap * padded..].chunks(padded))
                        {
                            if let Some(seen) = seen.get(place..place + SIDE) {
                                row.copy_from_slice(seen);
                            }
                        }
                        transpose(&mut block, &mut spare);
                        let rows =
                            turned[place * wide..].chunks_exact_mut(wide).zip(block.chunks_exact(SIDE));
                        for (turned, row) in rows {
                            let some = (wide - tap).min(SIDE);
                            turned[tap..][..some].copy_from_slice(&row[..some]);
                        }
                    }
                }
                let b_rows: Vec<usize> = (0..places).map(|place| place * wide).collect();
                let product = Product {
                    a: dense,
                    a_rows: &starts,
                    runs: &[Run { start: 0, len: places }],
                    b: turned,
                    b_rows: &b_rows,
                    b_start: 0,
                    accumulate: image > 0,
                };
                multiply(simd, product, vectors, &mut weights[column..], depth);
            }
        }
    }
}
