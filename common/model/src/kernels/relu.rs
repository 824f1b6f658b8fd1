//! Rectification as operations of burn's tape, by itself and after a sum. Other kernels do it on the way
//! where their output is all that it sees.

use burn::tensor::Tensor;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::flex::{Values, from_plain, from_taped, plain, register_tensor, take, taped, tensor};
use super::fresh::fresh;

/// Values that are worth a thread of their own.
const VALUES_PER_THREAD: usize = 1 << 14;

/// Zero where the value is below; NaN stays.
#[inline(always)]
pub(super) fn rectified(value: f32) -> f32 {
    if value <= 0.0 { 0.0 } else { value }
}

/// Zeroes the gradient where the rectified output is zero.
pub(super) fn mask(gradient: &mut [f32], output: &[f32]) {
    let arch = Arch::new();
    let parts = gradient.par_chunks_mut(VALUES_PER_THREAD).zip(output.par_chunks(VALUES_PER_THREAD));
    parts.for_each(|(gradient, output)| arch.dispatch(Mask { gradient, output }));
}

struct Mask<'a> {
    gradient: &'a mut [f32],
    output: &'a [f32],
}

impl NullaryFnOnce for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (gradient, output) in self.gradient.iter_mut().zip(self.output) {
            *gradient = if *output <= 0.0 { 0.0 } else { *gradient };
        }
    }
}

/// The sum, or the one where there is no other, rectified.
struct Rectify<'a> {
    values: &'a [f32],
    others: Option<&'a [f32]>,
    output: &'a mut [f32],
}

impl NullaryFnOnce for Rectify<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { values, others, output } = self;
        match others {
            Some(others) => {
                for ((value, other), output) in values.iter().zip(others).zip(output) {
                    *output = rectified(value + other);
                }
            }
            None => {
                for (value, output) in values.iter().zip(output) {
                    *output = rectified(*value);
                }
            }
        }
    }
}

fn rectify(values: &Values, others: Option<&Values>) -> FlexTensor {
    let arch = Arch::new();
    let output = fresh(values.len(), VALUES_PER_THREAD, |parts| {
        parts.into_par_iter().enumerate().for_each(|(part, output)| {
            let output = output.clear();
            let range = part * VALUES_PER_THREAD..part * VALUES_PER_THREAD + output.len();
            let others = others.map(|others| &others[range.clone()]);
            arch.dispatch(Rectify { values: &values[range], others, output });
        });
    });
    tensor(output, values.dims())
}

/// `max(input, 0)`.
///
/// # Panics
/// If the tensor is not on the CPU.
pub(crate) fn relu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if !input.is_autodiff() {
        return from_plain(rectify(&Values::of(&plain(input)), None));
    }
    let input = taped(input);
    let output = rectify(&Values::of(input.primitive()), None);
    from_taped(match Relu.prepare::<NoCheckpointing>([input.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Values::of(&output), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    })
}

/// `max(a + b, 0)` of two tensors of one shape.
///
/// # Panics
/// If a tensor is not on the CPU, or the shapes differ.
pub(crate) fn add_relu<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    assert_eq!(a.dims(), b.dims(), "the shapes of a sum");
    if !a.is_autodiff() && !b.is_autodiff() {
        return from_plain(rectify(&Values::of(&plain(a)), Some(&Values::of(&plain(b)))));
    }
    let (a, b) = (taped(a), taped(b));
    let output = rectify(&Values::of(a.primitive()), Some(&Values::of(b.primitive())));
    from_taped(match Relu.prepare::<NoCheckpointing>([a.node(), b.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Values::of(&output), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    })
}

/// Of one input or the sum of several.
#[derive(Debug)]
struct Relu;

impl<const N: usize> Backward<Flex, N> for Relu {
    /// The output.
    type State = Values;

    fn backward(self, ops: Ops<Values, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let mut gradient = take(gradients.consume::<Flex>(&ops.node));
        mask(&mut gradient, &ops.state);
        let gradient = tensor(gradient, ops.state.dims());
        for parent in ops.parents.into_iter().flatten() {
            register_tensor(gradients, parent.id, gradient.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_stays_and_lets_the_gradient_through() {
        let output = [-1.0, 0.0, 2.0, f32::NAN, f32::NEG_INFINITY].map(rectified);
        assert_eq!((output[..3].to_vec(), output[4]), (vec![0.0, 0.0, 2.0], 0.0));
        assert!(output[3].is_nan());
        let mut gradient = vec![1.0; 5];
        mask(&mut gradient, &output);
        assert_eq!(gradient, [0.0, 0.0, 1.0, 1.0, 0.0]);
    }
}
