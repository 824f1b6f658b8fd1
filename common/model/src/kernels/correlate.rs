//! Correlations as matrix products: weights `[results, depth]` times what the places see `[depth, places]`.
//!
//! Wide maps are read where they are: the places of a frame are numbered through from row to row, gaps
//! included, and a tap is a constant distance. Small maps, where the gaps would cost more than a copy, are
//! packed first, several images side by side.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::frame::Frame;
use super::geometry::Correlation;
use super::panel::Panel;
use super::relu::rectified;
use super::scratch::Scratch;
use super::tile::{Product, Run, SLACK, multiply, padded, tile_columns, tile_rows};

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
    /// `[groups * results, depth]`
    pub(super) weights: &'a [f32],
    /// `[groups * results]`
    pub(super) bias: Option<&'a [f32]>,
    /// Whether results below zero become zero.
    pub(super) rectify: bool,
}

impl Correlate<'_> {
    /// Writes the places of the grid into `result`; each is the same for any number of threads.
    ///
    /// # Panics
    /// If a slice is not as long as the correlation says.
    pub(super) fn run(&self, result: &mut [f32]) {
        self.run_on(Arch::new(), result);
    }

    fn run_on(&self, arch: Arch, result: &mut [f32]) {
        let shape = self.correlation;
        let (rows, image) = (shape.groups * shape.results, shape.result_image());
        assert_eq!(self.source.len(), shape.batch * shape.source_image(), "the source's length");
        assert_eq!(result.len(), shape.batch * image, "the result's length");
        assert_eq!(self.weights.len(), rows * shape.depth(), "the weights' length");
        assert!(self.bias.is_none_or(|bias| bias.len() == rows), "the bias's length");
        if reads_in_place(shape) {
            let strips = &strips(shape);
            result.par_chunks_mut(image).enumerate().for_each(|(image, result)| {
                arch.dispatch(InPlace { work: *self, strips, image, result });
            });
        } else {
            // As many as are packed at once, unless that left threads without work.
            let per_thread = shape.batch.div_ceil(rayon::current_num_threads());
            let most = (PACKED_COLUMNS / shape.places()).clamp(1, per_thread);
            let images = shape.batch.div_ceil(shape.batch.div_ceil(most));
            result.par_chunks_mut(images * image).enumerate().for_each(|(chunk, result)| {
                arch.dispatch(Packed { work: *self, first_image: chunk * images, result });
            });
        }
    }

    /// Adds the bias to sums `[rows][stride]`, of rows from `row` on, and puts them into one image of the
    /// result; `runs` says where the rows of the grid from `first` on lie among the sums.
    #[inline(always)]
    fn place(&self, result: &mut [f32], [row, first]: [usize; 2], sums: &[f32], stride: usize, runs: &[Run]) {
        let shape = self.correlation;
        let (width, spread) = (shape.result[1], shape.spread);
        let planes = result.chunks_exact_mut(shape.result_plane()).skip(row);
        for ((row, plane), sums) in (row..).zip(planes).zip(sums.chunks(stride)) {
            let bias = self.bias.map_or(0.0, |bias| bias[row]);
            let finished = |sum: f32| if self.rectify { rectified(sum + bias) } else { sum + bias };
            for (y, run) in (first..).zip(runs) {
                let result = &mut plane[(shape.first[0] + y * spread) * width + shape.first[1]..];
                let sums = &sums[run.start..][..run.len];
                if spread == 1 {
                    for (result, sum) in result[..run.len].iter_mut().zip(sums) {
                        *result = finished(*sum);
                    }
                } else {
                    for (result, sum) in result.iter_mut().step_by(spread).zip(sums) {
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
    taps: Vec<usize>,
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
        Strip { first, taps: frame.tap_starts(shape.sources), runs: frame.runs(), frame }
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
        let (depth, tall) = (shape.depth(), tile_rows::<S>());
        for Strip { first, frame, taps, runs } in strips {
            let stride = padded::<S>(frame.span());
            let lens = [frame.len(shape.sources), tall * stride, 0];
            let mut scratch = Scratch::take(lens);
            let [values, sums, _] = scratch.buffers();
            for group in 0..shape.groups {
                let channels = group * shape.sources..(group + 1) * shape.sources;
                frame.fill(shape, work.source, image, channels, values);
                let end = (group + 1) * shape.results;
                for row in (group * shape.results..end).step_by(tall) {
                    let rows = tall.min(end - row);
                    let starts = std::array::from_fn::<_, 8, _>(|r| (row + r) * depth);
                    let product = Product {
                        a: work.weights,
                        a_rows: &starts[..rows],
                        runs: &[Run { start: 0, len: depth }],
                        b: values,
                        b_rows: taps,
                        b_start: 0,
                        accumulate: false,
                    };
                    for (column, vectors) in tile_columns::<S>(frame.span()) {
                        let product = Product { b_start: column, ..product };
                        multiply(simd, product, vectors, &mut sums[column..], stride);
                    }
                    work.place(result, [row, *first], &sums[..rows * stride], stride, runs);
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
        let (taps, runs) = (frame.tap_starts(shape.sources), frame.runs());
        let columns = images * shape.places();
        let (depth, tall, stride) = (shape.depth(), tile_rows::<S>(), padded::<S>(columns));
        let part = (PACKED / stride).clamp(64, 1024).min(depth);
        // Of each tile: its first column, its vectors, its columns' sources, and its packed rows.
        let tiles: Vec<(usize, usize, Panel, Vec<usize>)> = tile_columns::<S>(columns)
            .map(|(column, vectors)| {
                let wide = vectors * S::F32_LANES;
                let rows = (0..part).map(|k| column * part + k * wide).collect();
                (column, vectors, Panel::new(&runs, column..column + wide), rows)
            })
            .collect();
        let lens = [frame.len(shape.sources), part * stride + SLACK, shape.results * stride];
        let mut scratch = Scratch::take(lens);
        let [values, packed, sums] = scratch.buffers();
        for group in 0..shape.groups {
            let channels = group * shape.sources..(group + 1) * shape.sources;
            frame.fill(shape, work.source, first_image, channels, values);
            for begin in (0..depth).step_by(part) {
                let taps = &taps[begin..depth.min(begin + part)];
                for (column, _, panel, _) in &tiles {
                    panel.pack(values, taps, &mut packed[column * part..]);
                }
                for row in (0..shape.results).step_by(tall) {
                    let rows = tall.min(shape.results - row);
                    let first = group * shape.results + row;
                    let starts = std::array::from_fn::<_, 8, _>(|r| (first + r) * depth + begin);
                    for (column, vectors, _, packed_rows) in &tiles {
                        let product = Product {
                            a: work.weights,
                            a_rows: &starts[..rows],
                            runs: &[Run { start: 0, len: taps.len() }],
                            b: packed,
                            b_rows: &packed_rows[..taps.len()],
                            b_start: 0,
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
                work.place(result, first, &sums[..shape.results * stride], stride, &runs);
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use pulp::x86::V3;

    use super::*;
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
            let [input, weights, output] = shape.lens();
            let values = |len: usize| (0..len).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
            let (source, weights): (Vec<f32>, Vec<f32>) = (values(input), values(weights));
            let correlation = &shape.forward();
            let work =
                Correlate { correlation, source: &source, weights: &weights, bias: None, rectify: false };
            let archs = [Some(Arch::new()), V3::try_new().map(Arch::V3), Some(Arch::Scalar)];
            let mut results = archs.into_iter().flatten().map(|arch| {
                let mut result = vec![0.0; output];
                work.run_on(arch, &mut result);
                result
            });
            let first = results.next().expect("one is there");
            for other in results {
                let differing = first.iter().zip(&other).position(|(a, b)| (a - b).abs() > 1e-4);
                assert_eq!(differing, None, "{shape:?}");
            }
        }
    }
}
