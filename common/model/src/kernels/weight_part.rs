//! What one frame adds to the weight gradient.

use std::ops::Range;

use pulp::Simd;

use super::blocks::{Block, SIDE, transpose};
use super::dots::{Dots, add_dots};
use super::frame::Frame;
use super::geometry::Correlation;
use super::panel::Panel;
use super::scratch::Scratch;
use super::tile::{MOST_COLUMNS, Product, Repeat, Run, Term, multiply, tile_columns, tile_rows};

/// Places of which the transposed gradient stays in the cache, a tile's columns wide.
pub(super) const PLACES: usize = 768;

/// Values of the whole transposed gradient that stay in the cache.
const PACKED: usize = 96 << 10;

/// What the weight gradient is made of.
#[derive(Clone, Copy)]
pub(super) struct Arguments<'a> {
    /// The forward pass.
    pub(super) shape: &'a Correlation,
    pub(super) input: &'a [f32],
    /// At the output.
    pub(super) gradient: &'a [f32],
}

/// What is in one frame.
pub(super) struct Part<'a> {
    pub(super) arguments: Arguments<'a>,
    pub(super) image: usize,
    pub(super) images: usize,
    /// Of the grid.
    pub(super) rows: Range<usize>,
    pub(super) group: usize,
    /// Of the input, counted over all groups.
    pub(super) channels: Range<usize>,
}

impl Part<'_> {
    /// Where the rows of the frame lie in the gradient's first channel of the group.
    fn lines(&self) -> impl Iterator<Item = usize> {
        let shape = self.arguments.shape;
        let (rows, group, columns) = (self.rows.clone(), self.group, shape.grid[1]);
        let image = shape.results * shape.result_plane();
        (self.image..self.image + self.images).flat_map(move |nth| {
            rows.clone().map(move |row| (nth * shape.groups + group) * image + row * columns)
        })
    }

    /// Adds the products of taps and transposed gradient to `sums` `[channel, tap][width]`.
    #[inline(always)]
    pub(super) fn add_products<S: Simd>(self, simd: S, sums: &mut [f32], width: usize) {
        let Self { arguments, image, images, ref rows, ref channels, .. } = self;
        let (shape, columns) = (arguments.shape, arguments.shape.grid[1]);
        let frame = Frame::new(shape, images, rows.clone());
        let (taps, runs) = (frame.tap_starts(channels.len()), frame.runs());
        // Rows of the grid whose transposed gradient stays in the cache.
        let block = (PLACES / columns).clamp(1, runs.len());
        let lens = [frame.len(channels.len()), block * columns * MOST_COLUMNS, 0];
        let mut scratch = Scratch::take(lens);
        let [values, transposed, _] = scratch.buffers();
        frame.fill(shape, arguments.input, image, channels.clone(), values);
        for (nth, runs) in runs.chunks(block).enumerate() {
            let places = runs.len() * columns;
            for (column, vectors) in tile_columns::<S>(shape.results) {
                let wide = vectors * S::F32_LANES;
                let panel = &mut transposed[..places * wide];
                fill_panel(arguments, self.lines().skip(nth * block), column, wide, panel);
                let product = Product {
                    a: values,
                    a_rows: &taps,
                    a_len: reach(runs),
                    b: panel,
                    b_start: 0,
                    terms: &terms(runs, wide),
                    repeat: Repeat::ONCE,
                    accumulate: true,
                };
                multiply(simd, product, vectors, &mut sums[column..], width);
            }
        }
    }

    /// As [`Part::add_products`] for small maps, whose rows are too short to be read in place: what each tap
    /// sees is packed first, and the whole gradient transposed.
    #[inline(always)]
    pub(super) fn add_packed<S: Simd>(self, simd: S, sums: &mut [f32], width: usize) {
        let Self { arguments, image, images, ref rows, ref channels, .. } = self;
        let (shape, columns) = (arguments.shape, arguments.shape.grid[1]);
        let frame = Frame::new(shape, images, rows.clone());
        let (taps, runs) = (frame.tap_starts(channels.len()), frame.runs());
        let block = (PACKED / width / columns).clamp(1, runs.len());
        let (most, tall) = (block * columns, tile_rows::<S>());
        let tiles: Vec<(usize, usize)> = tile_columns::<S>(shape.results).collect();
        let mut scratch = Scratch::take([frame.len(channels.len()), most * width, most * tall]);
        let [values, transposed, packed] = scratch.buffers();
        frame.fill(shape, arguments.input, image, channels.clone(), values);
        for (nth, runs) in runs.chunks(block).enumerate() {
            let places = runs.len() * columns;
            for (column, vectors) in &tiles {
                let wide = vectors * S::F32_LANES;
                let panel = &mut transposed[column * places..][..places * wide];
                fill_panel(arguments, self.lines().skip(nth * block), *column, wide, panel);
            }
            let terms: Vec<Vec<Term>> =
                tiles.iter().map(|(_, vectors)| Term::packed(places, vectors * S::F32_LANES)).collect();
            let seen = Panel::new(runs, 0..places);
            let starts: Vec<usize> = (0..tall).map(|row| row * places).collect();
            for (taps, sums) in taps.chunks(tall).zip(sums.chunks_mut(tall * width)) {
                seen.pack(values, taps, packed);
                for ((column, vectors), terms) in tiles.iter().zip(&terms) {
                    let product = Product {
                        a: packed,
                        a_rows: &starts[..taps.len()],
                        a_len: places,
                        b: transposed,
                        b_start: column * places,
                        terms,
                        repeat: Repeat::ONCE,
                        accumulate: true,
                    };
                    multiply(simd, product, *vectors, &mut sums[*column..], width);
                }
            }
        }
    }

    /// As [`Part::add_products`], by dot products of what a tap sees and the gradient, both with the frame's
    /// gaps, where the gradient is zero.
    #[inline(always)]
    pub(super) fn add_dots<S: Simd>(self, simd: S, sums: &mut [f32], width: usize) {
        let Self {
            arguments: Arguments { shape, input, gradient },
            image,
            images,
            ref rows,
            ref channels,
            ..
        } = self;
        let frame = Frame::new(shape, images, rows.clone());
        let (taps, runs) = (frame.tap_starts(channels.len()), frame.runs());
        let len = reach(&runs);
        let mut scratch = Scratch::take([frame.len(channels.len()), shape.results * len, 0]);
        let [values, spaced, _] = scratch.buffers();
        frame.fill(shape, input, image, channels.clone(), values);
        for (result, spaced) in spaced.chunks_exact_mut(len).take(shape.results).enumerate() {
            let mut end = 0;
            for (run, line) in runs.iter().zip(self.lines()) {
                spaced[end..run.start].fill(0.0);
                end = run.start + run.len;
                let line = &gradient[line + result * shape.result_plane()..][..run.len];
                spaced[run.start..end].copy_from_slice(line);
            }
        }
        let columns: Vec<usize> = (0..shape.results).map(|result| result * len).collect();
        let dots = Dots { a: values, a_rows: &taps, b: spaced, b_rows: &columns, len };
        add_dots(simd, dots, sums, width);
    }
}

/// How far the runs reach.
fn reach(runs: &[Run]) -> usize {
    runs.last().map_or(0, |run| run.start + run.len)
}

/// The places of the runs, with the rows of a panel `[place][wide]`.
fn terms(runs: &[Run], wide: usize) -> Vec<Term> {
    let places = runs.iter().flat_map(|run| run.start..run.start + run.len);
    places.enumerate().map(|(place, a)| Term { a, b: place * wide }).collect()
}

/// Writes the gradient's channels from `channel` on into `panel` `[place][wide]`; `lines` are where rows of
/// the grid lie in the group's first channel. What comes behind the last channel is arbitrary.
#[inline(always)]
fn fill_panel(
    arguments: Arguments,
    lines: impl Iterator<Item = usize>,
    channel: usize,
    wide: usize,
    panel: &mut [f32],
) {
    let Arguments { shape, gradient, .. } = arguments;
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
                        Some(target) => target.copy_from_slice(row),
                        None => place[lane..].copy_from_slice(&row[..wide - lane]),
                    }
                }
            }
        }
    }
}
