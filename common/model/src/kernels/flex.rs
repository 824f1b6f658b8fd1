//! Between burn's tensors on the CPU and slices of values.

use std::ops::Deref;

use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_autodiff::grads::Gradients;
use burn_autodiff::{Autodiff, NodeId};
use burn_flex::{Flex, FlexTensor, Layout};

/// A tensor on a tape.
pub(super) type Taped = FloatTensor<Autodiff<Flex>>;

/// The values of a tensor in row-major order, shared with it where they lie so.
#[derive(Clone, Debug)]
pub(super) struct Values(FlexTensor);

impl Values {
    pub(super) fn of(tensor: &FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    pub(super) fn dims(&self) -> Vec<usize> {
        self.0.layout().shape().to_vec()
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0
            .as_slice()
            .expect("a contiguous tensor of f32: `Values::of` makes it contiguous, halves hold f32")
    }
}

/// The values of a tensor in row-major order, as the caller's own: without a copy where nothing else holds
/// them.
pub(super) fn take(tensor: FlexTensor) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("halves hold f32")
}

/// A tensor of `values`, without a copy.
pub(super) fn tensor(values: Vec<f32>, dims: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(dims.into()), DType::F32)
}

/// The tensor, which is on no tape.
pub(super) fn plain<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("the kernels are chosen for tensors on the CPU only")
}

/// The tensor as one of a tape: a constant where it is not on one.
pub(super) fn taped<const D: usize>(tensor: Tensor<D>) -> Taped {
    let tensor = if tensor.is_autodiff() { tensor } else { tensor.autodiff() };
    tensor.try_into_primitive::<Autodiff<Flex>>().expect("the kernels are chosen for tensors on the CPU only")
}

/// burn's tensor of one on a tape.
pub(super) fn from_taped<const D: usize>(tensor: Taped) -> Tensor<D> {
    Tensor::from_primitive::<Autodiff<Flex>>(tensor)
}

/// burn's tensor of one without a tape.
pub(super) fn from_plain<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(tensor)
}

/// Hands `gradient()` to a parent that wants one.
pub(super) fn register(
    gradients: &mut Gradients,
    parent: Option<NodeId>,
    dims: impl Into<Shape>,
    gradient: impl FnOnce() -> Vec<f32>,
) {
    if let Some(parent) = parent {
        register_tensor(gradients, parent, tensor(gradient(), dims));
    }
}

/// Adds a gradient to those of a parent.
pub(super) fn register_tensor(gradients: &mut Gradients, parent: NodeId, gradient: FlexTensor) {
    gradients.register::<Flex>(parent, gradient);
}
