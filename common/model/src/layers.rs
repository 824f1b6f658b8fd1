//! Forward passes of every layer kind; burn's tape gives their backward passes.
//!
//! A layer gets its tensors flat, in the canonical order of
//! [`ModelSpec::layer_tensors`](partway_core::model::ModelSpec::layer_tensors), and gives them the rank
//! that it needs.

mod batch_norm;
mod conv;
mod dropout;
mod gelu;
mod group_norm;
mod inverted_residual;
mod linear;
mod local_response_norm;
mod pool;
mod relu;
mod residual;

use burn::tensor::Tensor;
use burn::tensor::activation::relu6;
use partway_core::model::LayerOp;

use crate::activation::Activation;
use crate::kernels::Kernels;
use crate::step::StepContext;
pub(crate) use batch_norm::{BatchStatistics, updated_running};
use conv::Convolution;
use local_response_norm::Response;
use relu::relu;

/// One pass over a run of layers.
pub(crate) struct Pass<'a> {
    /// The step, which dropout draws for; `None` in inference.
    pub(crate) training: Option<&'a StepContext<'a>>,
    /// What each batch norm saw, in the canonical order; stays empty in inference.
    pub(crate) statistics: Vec<BatchStatistics>,
    kernels: Kernels,
}

impl<'a> Pass<'a> {
    /// A pass of a training step.
    pub(crate) fn training(step: &'a StepContext<'a>, kernels: Kernels) -> Self {
        Self { training: Some(step), statistics: Vec::new(), kernels }
    }

    /// A pass of inference, or through frozen layers.
    pub(crate) fn inference(kernels: Kernels) -> Self {
        Self { training: None, statistics: Vec::new(), kernels }
    }

    /// Whether `op` can do what a rectification after it would, at no cost.
    pub(crate) fn rectifies(op: &LayerOp) -> bool {
        matches!(op, LayerOp::Conv2d { .. } | LayerOp::BatchNorm2d { .. })
    }

    /// What the layer `index`, which is `op` over the flat `tensors`, makes of `input`; where `rectify`, a
    /// rectification after it, too, which an op that [rectifies](Pass::rectifies) does.
    pub(crate) fn layer(
        &mut self,
        index: usize,
        op: &LayerOp,
        tensors: &[Tensor<1>],
        input: Activation,
        rectify: bool,
    ) -> Activation {
        match *op {
            LayerOp::Conv2d { in_channels, out_channels, kernel, stride, padding, groups, .. } => {
                let shape = Convolution { in_channels, out_channels, kernel, stride, padding, groups };
                Activation::Maps(conv::conv2d(
                    input.into_maps(),
                    &tensors[0],
                    tensors.get(1),
                    shape,
                    rectify,
                    self.kernels,
                ))
            }
            LayerOp::BatchNorm2d { .. } => {
                Activation::Maps(batch_norm::batch_norm(input.into_maps(), tensors, rectify, self))
            }
            LayerOp::Linear { inputs, outputs, .. } => Activation::Features(linear::linear(
                input.into_features(),
                &tensors[0],
                tensors.get(1),
                inputs,
                outputs,
                self.kernels,
            )),
            LayerOp::GroupNorm { groups, .. } => {
                Activation::Maps(group_norm::group_norm(input.into_maps(), tensors, groups))
            }
            LayerOp::LocalResponseNorm { size, alpha, beta, k } => {
                let response = Response { size, alpha, beta, k };
                Activation::Maps(local_response_norm::local_response_norm(input.into_maps(), response))
            }
            LayerOp::Relu => match input {
                Activation::Maps(x) => Activation::Maps(relu(x, self.kernels)),
                Activation::Features(x) => Activation::Features(relu(x, self.kernels)),
            },
            LayerOp::Relu6 => match input {
                Activation::Maps(x) => Activation::Maps(relu6(x)),
                Activation::Features(x) => Activation::Features(relu6(x)),
            },
            LayerOp::Gelu => match input {
                Activation::Maps(x) => Activation::Maps(gelu::gelu(x)),
                Activation::Features(x) => Activation::Features(gelu::gelu(x)),
            },
            LayerOp::MaxPool2d { kernel, stride, padding } => {
                Activation::Maps(pool::max_pool2d(input.into_maps(), [kernel, stride, padding], self.kernels))
            }
            LayerOp::AvgPool2d { kernel, stride, padding } => {
                Activation::Maps(pool::avg_pool2d(input.into_maps(), kernel, stride, padding))
            }
            LayerOp::GlobalAvgPool => Activation::Maps(pool::global_avg_pool(input.into_maps())),
            LayerOp::Flatten => Activation::Features(input.into_maps().flatten(1, 3)),
            LayerOp::Dropout { p } => match (self.training, input) {
                (None, input) => input,
                (Some(step), Activation::Maps(x)) => Activation::Maps(dropout::dropout(x, p, index, step)),
                (Some(step), Activation::Features(x)) => {
                    Activation::Features(dropout::dropout(x, p, index, step))
                }
            },
            LayerOp::Residual { in_channels, out_channels, stride } => Activation::Maps(residual::residual(
                input.into_maps(),
                tensors,
                [in_channels, out_channels],
                stride,
                self,
            )),
            LayerOp::InvertedResidual { in_channels, out_channels, stride, expansion } => {
                Activation::Maps(inverted_residual::inverted_residual(
                    input.into_maps(),
                    tensors,
                    [in_channels, out_channels],
                    stride,
                    expansion,
                    self,
                ))
            }
        }
    }
}
