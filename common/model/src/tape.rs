//! One recorded forward pass, and what its gradient does to a half.

use burn::tensor::Tensor;
use partway_core::model::{LayerOp, TensorRole};

use crate::Half;
use crate::activation::Activation;
use crate::half::HeldTensor;
use crate::layers::{BatchStatistics, Pass, updated_running};
use crate::optimize;
use crate::step::StepContext;

/// A forward pass in training, which its half does not know of until [`Half::apply`].
#[derive(Debug)]
pub(crate) struct Tape {
    /// A leaf if its gradient is wanted.
    input: Option<Activation>,
    pub(crate) output: Activation,
    /// A leaf of this tape for each trained tensor of the half, in order.
    leaves: Vec<Tensor<1>>,
    statistics: Vec<BatchStatistics>,
}

impl Half {
    /// What the layers make of `input`; `tensors` are this half's, on a tape or not.
    pub(crate) fn through_layers(
        &self,
        tensors: &[Tensor<1>],
        input: Activation,
        pass: &mut Pass,
    ) -> Activation {
        let (mut rest, mut x) = (tensors, input);
        let op = |index: usize| &self.spec.layers[index].op;
        let mut layers = self.layers.clone();
        while let Some(index) = layers.next() {
            let (own, after) = rest.split_at(self.spec.layer_tensors(index).len());
            // A rectification is the same numbers wherever it is done, so a cut before it changes nothing.
            let rectify = Pass::rectifies(op(index))
                && layers.clone().next().is_some_and(|next| matches!(op(next), LayerOp::Relu));
            x = if self.spec.is_frozen(index) {
                Pass::inference(self.compute.kernels()).layer(index, op(index), own, x, rectify)
            } else {
                pass.layer(index, op(index), own, x, rectify)
            };
            if rectify {
                layers.next();
            }
            rest = after;
        }
        x
    }

    /// Runs the layers forward in training, recording what a backward pass needs, for the input's
    /// gradient too if asked.
    pub(crate) fn record(&self, input: Activation, step: &StepContext, input_gradient: bool) -> Tape {
        let input = if input_gradient { input.into_leaf() } else { input };
        let tensors: Vec<_> = self
            .tensors
            .iter()
            .map(|tensor| match tensor.role {
                TensorRole::Trained => tensor.values.clone().autodiff().require_grad(),
                TensorRole::RunningMean | TensorRole::RunningVar | TensorRole::Frozen => {
                    tensor.values.clone()
                }
            })
            .collect();
        let mut pass = Pass::training(step, self.compute.kernels());
        let leaf = input_gradient.then(|| input.clone());
        let output = self.through_layers(&tensors, input, &mut pass);
        let leaves = tensors.into_iter().filter(Tensor::is_require_grad).collect();
        Tape { input: leaf, output, leaves, statistics: pass.statistics }
    }

    /// Runs a tape of this half backwards with the gradient at its output, steps the optimizer unless other
    /// micro-batches follow, moves the running statistics on, and returns the gradient at its input if that was
    /// asked for.
    pub(crate) fn apply(&mut self, tape: Tape, gradient: Vec<f32>, step: &StepContext) -> Option<Vec<f32>> {
        let Tape { input, output, leaves, statistics } = tape;
        if !output.is_tracked() {
            return None;
        }
        let kernels = self.compute.kernels();
        let mut gradients = output.backward(gradient, kernels);
        let at_input = input.and_then(|leaf| leaf.take_gradient(&mut gradients));
        // The leaves go before the optimizer steps: it then owns the weights alone and updates them
        // in place.
        let gradients: Vec<_> = leaves.into_iter().map(|leaf| leaf.grad_remove(&mut gradients)).collect();
        let Some(gradients) = self.accumulated.add(step.micro_batch, gradients) else { return at_input };
        let mut gradients = gradients.into_iter();
        let mut statistics = statistics.into_iter();
        let mut batch_variance = None;
        self.tensors = std::mem::take(&mut self.tensors)
            .into_iter()
            .map(|HeldTensor { role, values, moments }| match role {
                TensorRole::Trained => match gradients.next().flatten() {
                    Some(gradient) => {
                        let (values, moments) = optimize::step(
                            self.optimizer,
                            step.optimizer_step,
                            values,
                            moments,
                            gradient,
                            kernels,
                        );
                        HeldTensor { role, values, moments }
                    }
                    None => HeldTensor { role, values, moments },
                },
                TensorRole::Frozen => HeldTensor { role, values, moments },
                TensorRole::RunningMean => {
                    let batch = statistics.next().expect("every batch norm records its batch");
                    batch_variance = Some(batch.variance);
                    HeldTensor { role, values: updated_running(values, batch.mean), moments }
                }
                TensorRole::RunningVar => {
                    let batch = batch_variance.take().expect("the mean precedes the variance");
                    HeldTensor { role, values: updated_running(values, batch), moments }
                }
            })
            .collect();
        at_input
    }
}
