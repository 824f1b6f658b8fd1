//! A fully connected layer's three products, and as an operation of burn's tape.

use burn::tensor::Tensor;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::dots::{Dots, add_dots};
use super::flex::{Taped, Values, from_plain, from_taped, plain, register, taped, tensor};
use super::fresh::fresh;
use super::scratch::Scratch;
use super::tile::{MOST_COLUMNS, Product, Repeat, SLACK, Term, multiply, tile_columns};

/// Sizes of a linear layer and a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    batch: usize,
    inputs: usize,
    outputs: usize,
}

/// `input weight^T + bias`.
///
/// # Shapes
/// `input` `[batch, inputs]`, `weight` `[outputs, inputs]`, `bias` `[outputs]`; the result is
/// `[batch, outputs]`.
///
/// # Panics
/// If a tensor is not on the CPU or the shapes do not fit.
pub(crate) fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let ([batch, inputs], [outputs, columns]) = (input.dims(), weight.dims());
    assert_eq!(inputs, columns, "the weight's columns");
    assert!(bias.as_ref().is_none_or(|bias| bias.dims() == [outputs]), "the bias's length");
    let sizes = Sizes { batch, inputs, outputs };
    let is_taped =
        input.is_autodiff() || weight.is_autodiff() || bias.as_ref().is_some_and(Tensor::is_autodiff);
    if !is_taped {
        let bias = bias.map(plain);
        return from_plain(sizes.forward(&plain(input), &plain(weight), bias.as_ref()));
    }
    let (input, weight) = (taped(input), taped(weight));
    from_taped(match bias.map(taped) {
        Some(bias) => {
            let output = sizes.forward(input.primitive(), weight.primitive(), Some(bias.primitive()));
            record(sizes, &[input, weight, bias], output)
        }
        None => {
            let output = sizes.forward(input.primitive(), weight.primitive(), None);
            record(sizes, &[input, weight], output)
        }
    })
}

/// Puts the product of input and weight, plus with `N` = 3 the bias, on their tape.
fn record<const N: usize>(sizes: Sizes, parents: &[Taped; N], output: FlexTensor) -> Taped {
    let nodes = parents.each_ref().map(Taped::node);
    match Linear.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let [input, weight] = [0, 1].map(|parent: usize| Values::of(parents[parent].primitive()));
            prepared.finish((sizes, input, weight), output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    }
}

#[derive(Debug)]
struct Linear;

impl<const N: usize> Backward<Flex, N> for Linear {
    /// With input and weight.
    type State = (Sizes, Values, Values);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = Values::of(&gradients.consume::<Flex>(&ops.node));
        let (sizes, input, weight) = ops.state;
        let Sizes { batch, inputs, outputs } = sizes;
        let parent = |parent: usize| ops.parents.get(parent)?.as_ref().map(|node| node.id);
        register(gradients, parent(0), [batch, inputs], || {
            product(&gradient, [batch, outputs], &weight, inputs)
        });
        register(gradients, parent(1), [outputs, inputs], || {
            let turned = turned(&gradient, [batch, outputs]);
            product(&turned, [outputs, batch], &input, inputs)
        });
        register(gradients, parent(2), [outputs], || {
            let mut sums = vec![0.0; outputs];
            for row in gradient.chunks_exact(outputs) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            sums
        });
    }
}

impl Sizes {
    fn forward(&self, input: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
        let bias = bias.map(Values::of);
        let values = self.output(&Values::of(input), &Values::of(weight), bias.as_deref());
        tensor(values, [self.batch, self.outputs])
    }

    /// Dot products, since both factors lie in rows.
    fn output(&self, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let Self { batch, inputs, outputs } = *self;
        let columns: Vec<usize> = (0..outputs).map(|output| output * inputs).collect();
        let (rows, arch) = (rows_at_once(batch), Arch::new());
        fresh(batch * outputs, rows * outputs, |parts| {
            parts.into_par_iter().enumerate().for_each(|(part, results)| {
                let results = results.clear();
                if let Some(bias) = bias {
                    results.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
                }
                let starts: Vec<usize> =
                    (part * rows..).take(results.len() / outputs).map(|row| row * inputs).collect();
                let dots = Dots { a: input, a_rows: &starts, b: weight, b_rows: &columns, len: inputs };
                arch.dispatch(Forward { dots, results, outputs });
            });
        })
    }
}

/// Rows that make one piece of work: a tile's, or more if there are few threads.
fn rows_at_once(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads()).next_multiple_of(8)
}

struct Forward<'a> {
    dots: Dots<'a>,
    results: &'a mut [f32],
    outputs: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        add_dots(simd, self.dots, self.results, self.outputs);
    }
}

/// `[columns][rows]` of `[rows][columns]`.
fn turned(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let mut result = vec![0.0; rows * columns];
    for (row, values) in values.chunks_exact(columns).enumerate() {
        for (result, value) in result.chunks_exact_mut(rows).zip(values) {
            result[row] = *value;
        }
    }
    result
}

/// `a b` of `a` `[rows][depth]` and `b` `[depth][columns]`.
fn product(a: &[f32], [rows, depth]: [usize; 2], b: &[f32], columns: usize) -> Vec<f32> {
    let (at_once, arch) = (rows_at_once(rows), Arch::new());
    fresh(rows * columns, at_once * columns, |parts| {
        parts.into_par_iter().enumerate().for_each(|(part, results)| {
            let results = results.clear();
            let a = &a[part * at_once * depth..][..results.len() / columns * depth];
            arch.dispatch(Rows { a, depth, b, columns, results });
        });
    })
}

/// Some rows of a product.
struct Rows<'a> {
    a: &'a [f32],
    depth: usize,
    b: &'a [f32],
    columns: usize,
    results: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, depth, b, columns, results } = self;
        let rows = a.len() / depth;
        let starts: Vec<usize> = (0..rows).map(|row| row * depth).collect();
        // Packed columns of `b`, and the results of one tile's columns.
        let mut scratch = Scratch::take([depth * MOST_COLUMNS + SLACK, rows * MOST_COLUMNS, 0]);
        let [packed, sums, _] = scratch.buffers();
        for (column, vectors) in tile_columns::<S>(columns) {
            let wide = vectors * S::F32_LANES;
            let used = wide.min(columns - column);
            for (packed, b) in packed.chunks_exact_mut(wide).zip(b.chunks_exact(columns)) {
                packed[..used].copy_from_slice(&b[column..][..used]);
            }
            let product = Product {
                a,
                a_rows: &starts,
                a_len: depth,
                b: packed,
                b_start: 0,
                terms: &Term::packed(depth, wide),
                repeat: Repeat::ONCE,
                accumulate: false,
            };
            multiply(simd, product, vectors, sums, wide);
            for (result, sums) in results.chunks_exact_mut(columns).zip(sums.chunks_exact(wide)) {
                result[column..][..used].copy_from_slice(&sums[..used]);
            }
        }
    }
}
