//! What flows between layers: feature maps or flat features of a batch, and gradients put into them.

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::given_gradient::backward_from;
use crate::kernels::Kernels;

/// A batch between two layers. The spec's shapes, which are checked before a half is built, say which
/// of the two a layer meets.
#[derive(Clone, Debug)]
pub(crate) enum Activation {
    /// `[batch, channels, height, width]`
    Maps(Tensor<4>),
    /// `[batch, features]`
    Features(Tensor<2>),
}

/// Moves `tensor`'s values out: without a copy where nothing else holds them.
pub(crate) fn into_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_into_vec().expect("tensors are f32 on a device that the host can read")
}

impl Activation {
    /// A batch of samples of `shape`; `values` holds `batch` times as many values as the shape.
    pub(crate) fn from_values(values: Vec<f32>, batch: usize, shape: &[usize], device: &Device) -> Self {
        if let [c, h, w] = *shape {
            Self::Maps(Tensor::from_data(TensorData::new(values, [batch, c, h, w]), device))
        } else {
            let features = shape.iter().product();
            Self::Features(Tensor::from_data(TensorData::new(values, [batch, features]), device))
        }
    }

    /// The values, sample by sample: without a copy where nothing else holds them.
    pub(crate) fn into_values(self) -> Vec<f32> {
        match self {
            Self::Maps(x) => into_values(x),
            Self::Features(x) => into_values(x),
        }
    }

    /// The maps that a layer over `[C, H, W]` works on.
    pub(crate) fn into_maps(self) -> Tensor<4> {
        match self {
            Self::Maps(x) => x,
            Self::Features(_) => unreachable!("checked shapes give this layer feature maps"),
        }
    }

    /// The features that a layer over `[N]` works on.
    pub(crate) fn into_features(self) -> Tensor<2> {
        match self {
            Self::Features(x) => x,
            Self::Maps(_) => unreachable!("checked shapes give this layer flat features"),
        }
    }

    /// A leaf of a new tape, whose gradient is kept.
    pub(crate) fn into_leaf(self) -> Self {
        match self {
            Self::Maps(x) => Self::Maps(x.inner().autodiff().require_grad()),
            Self::Features(x) => Self::Features(x.inner().autodiff().require_grad()),
        }
    }

    /// Whether a gradient put into it reaches anything.
    pub(crate) fn is_tracked(&self) -> bool {
        match self {
            Self::Maps(x) => x.is_tracked(),
            Self::Features(x) => x.is_tracked(),
        }
    }

    /// Runs the tape backwards from here with `gradient`, which has as many values as this.
    ///
    /// burn has no backward pass with a given gradient: it starts with ones. Where this crate has no operation of its
    /// own for that, the product's backward turns them into exactly `gradient`, signed zeros included. (A sum would do
    /// so too, but its order may depend on the threads, and it costs a pass.)
    pub(crate) fn backward(self, gradient: Vec<f32>, kernels: Kernels) -> Gradients {
        fn inject<const D: usize>(x: Tensor<D>, gradient: Vec<f32>, kernels: Kernels) -> Gradients {
            if kernels == Kernels::Own {
                return backward_from(x, gradient);
            }
            let data = TensorData::new(gradient, x.dims());
            let gradient = Tensor::<D>::from_data(data, &x.device().inner());
            (x * gradient).backward()
        }
        match self {
            Self::Maps(x) => inject(x, gradient, kernels),
            Self::Features(x) => inject(x, gradient, kernels),
        }
    }

    /// Takes the gradient of a leaf.
    pub(crate) fn take_gradient(&self, gradients: &mut Gradients) -> Option<Vec<f32>> {
        match self {
            Self::Maps(x) => x.grad_remove(gradients).map(into_values),
            Self::Features(x) => x.grad_remove(gradients).map(into_values),
        }
    }
}
