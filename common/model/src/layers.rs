//! Forward passes of every layer kind; burn's tape gives their backward passes.
//!
//! A layer gets its tensors flat, in the canonical order of
//! [`ModelSpec::layer_tensors`](partway_core::model::ModelSpec::layer_tensors), and gives them the rank
//! that it needs.

mod batch_norm;
mod conv;
mod dropout;
mod linear;
mod pool;
mod residual;

use burn::tensor::{Tensor, activation::relu};
use partway_core::model::LayerOp;

use crate::activation::Activation;
use crate::step::StepContext;
pub(crate) use batch_norm::{BatchStatistics, updated_running};
use conv::Convolution;

/// One pass over a run of layers.
pub(crate) struct Pass<'a> {
    /// The step, which dropout draws for; `None` in inference.
    pub(crate) training: Option<&'a StepContext<'a>>,
    /// What each batch norm saw, in the canonical order; stays empty in inference.
    pub(crate) statistics: Vec<BatchStatistics>,
}

impl Pass<'_> {
    /// What the layer `index`, which is `op` over the flat `tensors`, makes of `input`.
    pub(crate) fn layer(
        &mut self,
        index: usize,
        op: &LayerOp,
        tensors: &[Tensor<1>],
        input: Activation,
    ) -> Activation {
        match *op {
            LayerOp::Conv2d { in_channels, out_channels, kernel, stride, padding, groups, .. } => {
                let shape = Convolution { in_channels, out_channels, kernel, stride, padding, groups };
                Activation::Maps(conv::conv2d(input.into_maps(), &tensors[0], tensors.get(1), shape))
            }
            LayerOp::BatchNorm2d { .. } => {
                Activation::Maps(batch_norm::batch_norm(input.into_maps(), tensors, self))
            }
            LayerOp::Linear { inputs, outputs, .. } => Activation::Features(linear::linear(
                input.into_features(),
                &tensors[0],
                tensors.get(1),
                inputs,
                outputs,
            )),
            LayerOp::Relu => match input {
                Activation::Maps(x) => Activation::Maps(relu(x)),
                Activation::Features(x) => Activation::Features(relu(x)),
            },
            LayerOp::MaxPool2d { kernel, stride } => {
                Activation::Maps(pool::max_pool2d(input.into_maps(), kernel, stride))
            }
            LayerOp::AvgPool2d { kernel, stride } => {
                Activation::Maps(pool::avg_pool2d(input.into_maps(), kernel, stride))
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
        }
    }
}
