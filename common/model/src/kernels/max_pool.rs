//! Max pooling, and as an operation of burn's tape.

use burn::tensor::Tensor;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::Flex;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::flex::{Values, from_plain, from_taped, plain, register, taped, tensor};
use super::fresh::fresh;

/// Pixels that are worth a thread of their own.
const PIXELS_PER_THREAD: usize = 1 << 14;

/// Sizes of a max pool with square windows beside a padding of minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolShape {
    kernel: usize,
    stride: usize,
    padding: usize,
    /// `[batch, channels, height, width]`
    input: [usize; 4],
}

impl PoolShape {
    /// The shape, where the kernels serve it: every window sees a pixel, and a place in it fits a byte.
    pub(crate) fn new(kernel: usize, stride: usize, padding: usize, input: [usize; 4]) -> Option<Self> {
        let [.., height, width] = input;
        let serves = (1..=16).contains(&kernel)
            && stride > 0
            && padding < kernel
            && height.min(width) + 2 * padding >= kernel
            // The last window must begin before the padding behind the input.
            && [height, width].iter().all(|side| (side + 2 * padding - kernel) / stride * stride < side + padding)
            && input.iter().all(|side| *side > 0);
        serves.then_some(Self { kernel, stride, padding, input })
    }

    fn output(&self) -> [usize; 2] {
        let [.., height, width] = self.input;
        [height, width].map(|side| (side + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    fn planes(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn plane(&self) -> usize {
        self.input[2] * self.input[3]
    }

    /// Planes that make one piece of work.
    fn planes_at_once(&self) -> usize {
        PIXELS_PER_THREAD.div_ceil(self.plane())
    }

    /// Windows of two by two pixels, side by side: these are worth code of their own.
    fn is_halving(&self) -> bool {
        let Self { kernel, stride, padding, .. } = *self;
        [kernel, stride, padding] == [2, 2, 0]
    }

    /// The pixels under the window at `place` of an axis that has `side`: the first one, how many, and
    /// the place of the first in the window.
    fn window(&self, place: usize, side: usize) -> (usize, usize, usize) {
        let begin = place * self.stride;
        let first = begin.saturating_sub(self.padding);
        let end = (begin + self.kernel).saturating_sub(self.padding).min(side);
        (first, end - first, first + self.padding - begin)
    }
}

/// Largest value under each window: `[batch, c, h, w]` to `[batch, c, (h + 2 padding - kernel) / stride + 1,
/// ...]`. Of equal values the first counts; NaN is larger than any.
///
/// # Panics
/// If the tensor is not on the CPU or not as `shape` says.
pub(crate) fn max_pool2d(input: Tensor<4>, shape: PoolShape) -> Tensor<4> {
    let [batch, channels, ..] = shape.input;
    let [height, width] = shape.output();
    let dims = [batch, channels, height, width];
    if !input.is_autodiff() {
        let (output, _) = largest(&shape, &Values::of(&plain(input)));
        return from_plain(tensor(output, dims));
    }
    let input = taped(input);
    let (output, places) = largest(&shape, &Values::of(input.primitive()));
    let output = tensor(output, dims);
    from_taped(match MaxPool.prepare::<NoCheckpointing>([input.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((shape, places), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    })
}

#[derive(Debug)]
struct MaxPool;

impl Backward<Flex, 1> for MaxPool {
    /// With where in its window each value of the output came from.
    type State = (PoolShape, Vec<u8>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = Values::of(&gradients.consume::<Flex>(&ops.node));
        let (shape, places) = ops.state;
        let [parent] = ops.parents.map(|node| node.map(|node| node.id));
        register(gradients, parent, shape.input, || spread(&shape, &places, &gradient));
    }
}

/// The output, and the place in its window, row by row, of each value.
fn largest(shape: &PoolShape, input: &[f32]) -> (Vec<f32>, Vec<u8>) {
    let [height, width] = shape.output();
    let (some, plane) = (shape.planes_at_once(), height * width);
    let (len, part, arch) = (shape.planes() * plane, some * plane, Arch::new());
    let mut output = Vec::new();
    let places = fresh(len, part, |places| {
        output = fresh(len, part, |output| {
            let parts = output.into_par_iter().zip(places).zip(input.par_chunks(some * shape.plane()));
            parts.for_each(|((output, places), input)| {
                arch.dispatch(Largest { shape, input, output: output.clear(), places: places.clear() });
            });
        });
    });
    (output, places)
}

/// The input's gradient.
fn spread(shape: &PoolShape, places: &[u8], gradient: &[f32]) -> Vec<f32> {
    let [height, width] = shape.output();
    let (some, plane) = (shape.planes_at_once(), height * width);
    let arch = Arch::new();
    fresh(shape.planes() * shape.plane(), some * shape.plane(), |parts| {
        let parts = parts.into_par_iter().zip(places.par_chunks(some * plane));
        parts.zip(gradient.par_chunks(some * plane)).for_each(|((result, places), gradient)| {
            arch.dispatch(Spread { shape, places, gradient, result: result.clear() });
        });
    })
}

/// Some planes forward.
struct Largest<'a> {
    shape: &'a PoolShape,
    input: &'a [f32],
    output: &'a mut [f32],
    places: &'a mut [u8],
}

impl NullaryFnOnce for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { shape, input, output, places } = self;
        let [.., height, width] = shape.input;
        let [_, columns] = shape.output();
        let plane = output.len() / (input.len() / shape.plane());
        let planes = output.chunks_exact_mut(plane).zip(places.chunks_exact_mut(plane));
        for (input, (output, places)) in input.chunks_exact(shape.plane()).zip(planes) {
            let rows = output.chunks_exact_mut(columns).zip(places.chunks_exact_mut(columns));
            for (y, (output, places)) in rows.enumerate() {
                if shape.is_halving() {
                    let (upper, lower) = input[2 * y * width..][..2 * width].split_at(width);
                    halve(upper, lower, output, places);
                    continue;
                }
                let (top, tall, first_row) = shape.window(y, height);
                for (x, (output, place)) in output.iter_mut().zip(places).enumerate() {
                    let (left, wide, first_column) = shape.window(x, width);
                    let mut best = (f32::NEG_INFINITY, first_row * shape.kernel + first_column);
                    for row in 0..tall {
                        let start = (first_row + row) * shape.kernel + first_column;
                        for (column, value) in input[(top + row) * width + left..][..wide].iter().enumerate()
                        {
                            best = larger(best, (*value, start + column));
                        }
                    }
                    (*output, *place) = (best.0, best.1 as u8);
                }
            }
        }
    }
}

/// One row of windows of two by two.
#[inline(always)]
fn halve(upper: &[f32], lower: &[f32], output: &mut [f32], places: &mut [u8]) {
    let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
    let pixels = upper.iter().zip(lower);
    for (([a, b], [c, d]), (output, place)) in pixels.zip(output.iter_mut().zip(places)) {
        let best = larger(larger(larger((*a, 0u8), (*b, 1)), (*c, 2)), (*d, 3));
        (*output, *place) = best;
    }
}

/// The second if it is larger, or NaN.
#[inline(always)]
fn larger<P>(best: (f32, P), next: (f32, P)) -> (f32, P) {
    if next.0 > best.0 || next.0.is_nan() { next } else { best }
}

/// Some planes backward.
struct Spread<'a> {
    shape: &'a PoolShape,
    places: &'a [u8],
    gradient: &'a [f32],
    result: &'a mut [f32],
}

impl NullaryFnOnce for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { shape, places, gradient, result } = self;
        let [.., height, width] = shape.input;
        let [_, columns] = shape.output();
        let plane = gradient.len() / (result.len() / shape.plane());
        let planes = gradient.chunks_exact(plane).zip(places.chunks_exact(plane));
        for (result, (gradient, places)) in result.chunks_exact_mut(shape.plane()).zip(planes) {
            let rows = gradient.chunks_exact(columns).zip(places.chunks_exact(columns));
            for (y, (gradient, places)) in rows.enumerate() {
                if shape.is_halving() {
                    let (upper, lower) = result[2 * y * width..][..2 * width].split_at_mut(width);
                    double(gradient, places, upper, lower);
                    continue;
                }
                let (top, _, first_row) = shape.window(y, height);
                for (x, (gradient, place)) in gradient.iter().zip(places).enumerate() {
                    let (left, _, first_column) = shape.window(x, width);
                    let (row, column) = (*place as usize / shape.kernel, *place as usize % shape.kernel);
                    result[(top + row - first_row) * width + left + column - first_column] += gradient;
                }
            }
        }
    }
}

/// As [`halve`], backward.
#[inline(always)]
fn double(gradient: &[f32], places: &[u8], upper: &mut [f32], lower: &mut [f32]) {
    for (row, rows) in [(upper, [0u8, 1]), (lower, [2, 3])] {
        let windows = row.as_chunks_mut::<2>().0.iter_mut();
        for (pixels, (gradient, place)) in windows.zip(gradient.iter().zip(places)) {
            *pixels = rows.map(|other| if *place == other { *gradient } else { 0.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_counts_and_nan_is_the_largest() {
        let shape = PoolShape::new(2, 2, 0, [1, 1, 2, 8]).expect("the kernels serve it");
        let nan = f32::NAN;
        let input = [1.0, 1.0, -3.0, nan, nan, 9.0, -5.0, -5.0, 1.0, 0.0, 7.0, 2.0, 1.0, nan, -5.0, -4.0];
        let (output, places) = largest(&shape, &input);
        assert!(output[1].is_nan() && output[2].is_nan(), "{output:?}");
        assert_eq!((output[0], output[3], places), (1.0, -4.0, vec![0, 1, 3, 3]));
        let gradient = spread(&shape, &[0, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(gradient[..8], [1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(gradient[8..], [0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 4.0]);
    }

    #[test]
    fn windows_overlap_and_reach_into_the_padding() {
        let shape = PoolShape::new(3, 2, 1, [1, 1, 3, 3]).expect("the kernels serve it");
        let (output, places) = largest(&shape, &[1.0, 2.0, 3.0, 4.0, 9.0, 6.0, 7.0, 8.0, 5.0]);
        assert_eq!(output, [9.0; 4]);
        let gradient = spread(&shape, &places, &[1.0; 4]);
        assert_eq!(gradient, [0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn shapes_without_a_pixel_under_a_window_are_left_to_burn() {
        assert_eq!(PoolShape::new(2, 3, 1, [1, 1, 3, 3]).map(|shape| shape.output()), Some([2, 2]));
        assert!(PoolShape::new(2, 4, 1, [1, 1, 3, 4]).is_some());
        assert_eq!(PoolShape::new(1, 3, 1, [1, 1, 3, 3]), None);
        assert_eq!(PoolShape::new(17, 1, 0, [1, 1, 20, 20]), None);
        assert_eq!(PoolShape::new(3, 1, 0, [1, 1, 2, 20]), None);
    }
}
