//! Correlations as matrix products: weights `[results, depth]` times what the places see `[depth, places]`.
//!
//! Wide maps are read where they are: the places of a frame are numbered through from row to row, gaps
//! included, and a tap is a constant distance. Small maps, where the gaps would cost more than a copy, are
//! packed first, several images side by side.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::frame::Frame;
use super::fresh::fresh;
use super::geometry::{Class, Correlation};
use super::panel::Panel;
use super::relu::rectified;
use super::scratch::Scratch;
use super::thin_out::interleave;
use super::tile::{Product, Repeat, Run, SLACK, Term, multiply, padded, tile_columns, tile_rows};

/// Values of a frame that stay in the second-level cache beside everything else.
const FRAME: usize = 96 << 10;
/// Places that are packed side by side, and values of the packed part of a product.
const PACKED_COLUMNS: usize = 384;
const PACKED: usize = 96 << 10;

/// A correlation with its arguments.
#[derive(Clone, Copy)]
pub(super) struct Correlate<'a> {
    pub(super) correlation: &'a Correlation,
    pub(super) source: &'a [f32],
    /// Of each class `[groups * results, sources, taps]`.
    pub(super) weights: &'a [&'a [f32]],
    /// `[groups * results]`
    pub(super) bias: Option<&'a [f32]>,
    /// Whether results below zero become zero.
    pub(super) rectify: bool,
}

impl Correlate<'_> {
    /// The result, zero where no class has a place; each value is the same for any number of threads.
    ///
    /// # Panics
    /// If a slice is not as long as the correlation says.
    pub(super) fn run(&self) -> Vec<f32> {
        self.run_on(Arch::new())
    }

    fn run_on(&self, arch: Arch) -> Vec<f32> {
        let shape = self.correlation;
        let (rows, image) = (shape.groups * shape.results, shape.result_image());
        assert_eq!(self.source.len(), shape.batch * shape.source_image(), "the source's length");
        assert_eq!(self.weights.len(), shape.classes.len(), "weights of each class");
        for (class, weights) in shape.classes.iter().zip(self.weights) {
            assert_eq!(weights.len(), rows * shape.sources * class.taps.len(), "the weights' length");
        }
        assert!(self.bias.is_none_or(|bias| bias.len() == rows), "the bias's length");
        let len = shape.batch * image;
        if shape.classes.is_empty() {
            return vec![0.0; len];
        }
        if reads_in_place(shape) {
            let strips = &strips(shape);
            fresh(len, image, |images| {
                images.into_par_iter().enumerate().for_each(|(image, result)| {
                    arch.dispatch(InPlace { work: *self, strips, image, result: result.clear() });
                });
            })
        } else {
            // As many as are packed at once, unless that left threads without work.
            let per_thread = shape.batch.div_ceil(rayon::current_num_threads());
            let most = (PACKED_COLUMNS / shape.places()).clamp(1, per_thread);
            let images = shape.batch.div_ceil(shape.batch.div_ceil(most));
            fresh(len, images * image, |chunks| {
                chunks.into_par_iter().enumerate().for_each(|(chunk, result)| {
                    arch.dispatch(Packed {
                        work: *self,
                        first_image: chunk * images,
                        result: result.clear(),
                    });
                });
            })
        }
    }

    /// Adds the bias to the sums of some classes, each `[rows][stride]`, of rows from `row` on, and puts them
    /// into one image of the result; `runs` says where the rows of the grid from `first` on lie among the sums.
    #[inline(always)]
    fn place(
        &self,
        result: &mut [f32],
        [row, first]: [usize; 2],
        classes: &[(&Class, &[f32])],
        stride: usize,
        runs: &[Run],
    ) {
        let shape = self.correlation;
        let (width, spread) = (shape.result[1], shape.spread);
        let rows = classes.first().map_or(0, |(_, sums)| sums.len() / stride);
        let planes = result.chunks_exact_mut(shape.result_plane()).skip(row).take(rows);
        for (nth, plane) in planes.enumerate() {
            let bias = self.bias.map_or(0.0, |bias| bias[row + nth]);
            let finished = |sum: f32| if self.rectify { rectified(sum + bias) } else { sum + bias };
            if let (1, [(_, sums)]) = (spread, classes) {
                let mut rest = &mut plane[first * width..];
                for run in runs {
                    let (result, later) = rest.split_at_mut(run.len);
                    for (result, sum) in result.iter_mut().zip(&sums[nth * stride + run.start..]) {
                        *result = finished(*sum);
                    }
                    rest = later;
                }
                continue;
            }
            for (y, run) in (first..).zip(runs) {
                let start = nth * stride + run.start;
                let rows = classes.iter().filter(|(class, _)| y < class.grid[0]);
                let rows = rows.map(|(class, sums)| (class.first, &sums[start..][..class.grid[1]]));
                if spread == 2 && classes.len() == shape.classes.len() {
                    // Whole rows at once, which vector instructions can write.
                    let mut taking_turns = [[None; 2]; 2];
                    rows.for_each(|([down, right], sums)| taking_turns[down][right] = Some(sums));
                    for (down, [even, odd]) in taking_turns.into_iter().enumerate() {
                        if even.is_some() || odd.is_some() {
                            let result = &mut plane[(down + y * 2) * width..][..width];
                            interleave(even, odd, result, finished);
                        }
                    }
                    continue;
                }
                for ([down, right], sums) in rows {
                    let result = &mut plane[(down + y * spread) * width..][..width];
                    for (result, sum) in result[right..].iter_mut().step_by(spread).zip(sums) {
                        *result = finished(*sum);
                    }
                }
            }
        }
    }
}

/// Whether the gaps of a frame cost less than packing: in cycles per factor and 48 places, of which a
/// tile of eight rows takes twelve, and packing three per row of the map that is copied.
fn reads_in_place(shape: &Correlation) -> bool {
    let tiles = shape.results.div_ceil(8) as f64;
    let span = Frame::new(shape, 1, 0..shape.grid[0]).span().next_multiple_of(16) as f64;
    let copied = 48.0 / shape.grid[1] as f64 + 1.0;
    12.0 * tiles * span / shape.places() as f64 <= 12.0 * tiles + 3.0 * copied
}

/// Rows of the grid whose frame stays in the cache.
struct Strip {
    first: usize,
    frame: Frame,
    /// Of each class.
    terms: Vec<Vec<Term>>,
    runs: Vec<Run>,
}

fn strips(shape: &Correlation) -> Vec<Strip> {
    let height = shape.grid[0];
    let whole = Frame::new(shape, 1, 0..height);
    let strips = (shape.sources * whole.channel()).div_ceil(FRAME).clamp(1, height);
    let strip = |strip: usize| {
        let rows = strip * height / strips..(strip + 1) * height / strips;
        let first = rows.start;
        let frame = Frame::new(shape, 1, rows);
        let terms = shape.classes.iter().map(|class| {
            let starts = frame.tap_starts_of(class.taps.clone(), shape.sources);
            starts.into_iter().enumerate().map(|(a, b)| Term { a, b }).collect()
        });
        let mut runs = frame.runs();
        if shape.spread == 1 && frame.pitch == shape.result[1] {
            // Nothing comes between the rows.
            runs = vec![Run { start: 0, len: frame.span() }];
        }
        Strip { first, terms: terms.collect(), runs, frame }
    };
    (0..strips).map(strip).collect()
}

/// One image, read in place.
struct InPlace<'a> {
    work: Correlate<'a>,
    strips: &'a [Strip],
    image: usize,
    result: &'a mut [f32],
}

impl WithSimd for InPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, strips, image, result } = self;
        let shape = work.correlation;
        let tall = tile_rows::<S>();
        for Strip { first, frame, terms, runs } in strips {
            let stride = padded::<S>(frame.span());
            let lens = [frame.len(shape.sources), shape.classes.len() * tall * stride, 0];
            let mut scratch = Scratch::take(lens);
            let [values, sums, _] = scratch.buffers();
            for group in 0..shape.groups {
                let channels = group * shape.sources..(group + 1) * shape.sources;
                frame.fill(shape, work.source, image, channels, values);
                let end = (group + 1) * shape.results;
                for row in (group * shape.results..end).step_by(tall) {
                    let rows = tall.min(end - row);
                    for ((weights, terms), sums) in
                        work.weights.iter().zip(terms).zip(sums.chunks_mut(tall * stride))
                    {
                        let starts = std::array::from_fn::<_, 8, _>(|r| (row + r) * terms.len());
                        let product = Product {
                            a: weights,
                            a_rows: &starts[..rows],
                            a_len: terms.len(),
                            b: values,
                            b_start: 0,
                            terms,
                            repeat: Repeat::ONCE,
                            accumulate: false,
                        };
                        for (column, vectors) in tile_columns::<S>(frame.span()) {
                            let product = Product { b_start: column, ..product };
                            multiply(simd, product, vectors, &mut sums[column..], stride);
                        }
                    }
                    let sums = sums.chunks(tall * stride).map(|sums| &sums[..rows * stride]);
                    let classes: Vec<(&Class, &[f32])> = shape.classes.iter().zip(sums).collect();
                    work.place(result, [row, *first], &classes, stride, runs);
                }
            }
        }
    }
}

/// Some images, packed side by side, a part of the depth after the other.
struct Packed<'a> {
    work: Correlate<'a>,
    first_image: usize,
    result: &'a mut [f32],
}

impl WithSimd for Packed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, first_image, result } = self;
        let shape = work.correlation;
        let images = result.len() / shape.result_image();
        let [height, width] = shape.grid;
        let frame = Frame::new(shape, images, 0..height);
        let runs = frame.runs();
        let columns = images * shape.places();
        let (tall, stride) = (tile_rows::<S>(), padded::<S>(columns));
        let part = (PACKED / stride).clamp(64, 1024).min(shape.depth());
        // Of each tile: its first column, its vectors, its columns' sources, and its packed rows.
        let tiles: Vec<(usize, usize, Panel, Vec<Term>)> = tile_columns::<S>(columns)
            .map(|(column, vectors)| {
                let wide = vectors * S::F32_LANES;
                (column, vectors, Panel::new(&runs, column..column + wide), Term::packed(part, wide))
            })
            .collect();
        let lens = [frame.len(shape.sources), part * stride + SLACK, shape.results * stride];
        let mut scratch = Scratch::take(lens);
        let [values, packed, sums] = scratch.buffers();
        for group in 0..shape.groups {
            let channels = group * shape.sources..(group + 1) * shape.sources;
            frame.fill(shape, work.source, first_image, channels, values);
            for (class, weights) in shape.classes.iter().zip(work.weights) {
                let taps = frame.tap_starts_of(class.taps.clone(), shape.sources);
                for begin in (0..taps.len()).step_by(part) {
                    let depth = taps.len();
                    let taps = &taps[begin..depth.min(begin + part)];
                    for (column, _, panel, _) in &tiles {
                        panel.pack(values, taps, &mut packed[column * part..]);
                    }
                    for row in (0..shape.results).step_by(tall) {
                        let rows = tall.min(shape.results - row);
                        let first = group * shape.results + row;
                        let starts = std::array::from_fn::<_, 8, _>(|r| (first + r) * depth + begin);
                        for (column, vectors, _, terms) in &tiles {
                            let product = Product {
                                a: weights,
                                a_rows: &starts[..rows],
                                a_len: taps.len(),
                                b: packed,
                                b_start: column * part,
                                terms: &terms[..taps.len()],
                                repeat: Repeat::ONCE,
                                accumulate: begin > 0,
                            };
                            let sums = &mut sums[row * stride + column..];
                            multiply(simd, product, *vectors, sums, stride);
                        }
                    }
                }
                for (image, result) in result.chunks_exact_mut(shape.result_image()).enumerate() {
                    // The sums have the runs of the frame without its gaps.
                    let dense = |row: usize| Run { start: (image * height + row) * width, len: width };
                    let runs: Vec<Run> = (0..height).map(dense).collect();
                    let first = [group * shape.results, 0];
                    let sums = &sums[..shape.results * stride];
                    work.place(result, first, &[(class, sums)], stride, &runs);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::archs;
    use crate::kernels::geometry::ConvShape;

    /// Instructions that this processor may not need, but others do.
    #[test]
    fn every_vector_width_computes_the_same() {
        let shape = |in_channels, out_channels, stride, side| ConvShape {
            batch: 5,
            in_channels,
            out_channels,
            kernel: 3,
            stride,
            padding: 1,
            groups: 1,
            input: [side, side + 1],
        };
        for shape in [shape(3, 13, 1, 20), shape(9, 22, 2, 11), shape(30, 40, 1, 3)] {
            let [input, weights, _] = shape.lens();
            let values = |len: usize| (0..len).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
            let (source, weights): (Vec<f32>, Vec<f32>) = (values(input), values(weights));
            let correlation = &shape.forward();
            let work =
                Correlate { correlation, source: &source, weights: &[&weights], bias: None, rectify: false };
            let mut results = archs::available().into_iter().map(|arch| work.run_on(arch));
            let first = results.next().expect("one is there");
            for other in results {
                let differing = first.iter().zip(&other).position(|(a, b)| (a - b).abs() > 1e-4);
                assert_eq!(differing, None, "{shape:?}");
            }
        }
    }
}
