//! A tape's way back from a gradient that is given, on the CPU: burn by itself starts with ones.

use burn::tensor::{Bytes, DType, Gradients, Shape, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients as TapeGradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor, Layout};

/// Runs the tape of `output` backwards from `gradient`, which has as many values.
///
/// # Panics
/// If the tensor is not on a tape of the CPU.
pub(crate) fn backward_from<const D: usize>(output: Tensor<D>, gradient: Vec<f32>) -> Gradients {
    let gradient = on_cpu(gradient, output.dims());
    let output = output.try_into_primitive::<Autodiff<Flex>>().expect("it is on a tape of the CPU");
    // A value of no meaning behind the output: the ones that burn starts with are put there.
    let root = on_cpu(vec![0.0], [1]);
    let root = match Given.prepare::<NoCheckpointing>([output.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(gradient, root),
        OpsKind::UnTracked(prepared) => prepared.finish(root),
    };
    Tensor::<1>::from_primitive::<Autodiff<Flex>>(root).backward()
}

fn on_cpu(values: Vec<f32>, dims: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(dims.into()), DType::F32)
}

/// Stands behind the output of a tape; its gradient is the one that is given, whatever comes from behind.
#[derive(Debug)]
struct Given;

impl Backward<Flex, 1> for Given {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, gradients: &mut TapeGradients, _: &mut Checkpointer) {
        let _ones = gradients.consume::<Flex>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            gradients.register::<Flex>(parent.id, ops.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::activation::into_values;

    #[test]
    fn the_gradient_reaches_the_tape_as_it_is() {
        let values = vec![1.5, -2.0, 0.25, 8.0, -0.5, 3.0];
        let given = vec![-0.0, 0.0, 1e-40, f32::MAX, -3.25, 1.0];
        let leaf = || {
            let data = TensorData::new(values.clone(), [2, 3]);
            Tensor::<2>::from_data(data, &Device::flex()).autodiff().require_grad()
        };
        let itself = leaf();
        let mut gradients = backward_from(itself.clone(), given.clone());
        let through = into_values(itself.grad_remove(&mut gradients).expect("it is a leaf"));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&through), bits(&given), "signed zeros and subnormal numbers too");

        let squared = leaf();
        let mut gradients = backward_from(squared.clone() * squared.clone(), vec![1.0; 6]);
        let slope = into_values(squared.grad_remove(&mut gradients).expect("it is a leaf"));
        assert_eq!(slope, values.iter().map(|value| 2.0 * value).collect::<Vec<_>>());
    }
}
