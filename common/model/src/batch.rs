//! What may reach the layers: checks of values and labels from outside, before anything changes.

use std::ops::Range;

use partway_core::micro_batch::MicroBatch;
use thiserror::Error;

use crate::Half;
use crate::step::StepContext;

/// A batch that a half refused. The half has not changed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum BatchError {
    /// A batch of nothing.
    #[error("the batch is empty")]
    Empty,
    /// The optimizer's step was 0.
    #[error("the optimizer's steps count from 1, not 0")]
    OptimizerStep,
    /// Values for another batch size, or of another layer.
    #[error(
        "{actual} {what} at cut {cut}, but each of the {samples} samples has {shape:?} there: \
         check that both sides use the same cut and batch size"
    )]
    Length {
        /// Which values.
        what: &'static str,
        /// Where: the index of the layer that follows.
        cut: usize,
        /// Samples in the batch.
        samples: usize,
        /// Shape of one sample there.
        shape: Vec<usize>,
        /// Values present.
        actual: usize,
    },
    /// A value that would spoil the weights.
    #[error("value {index} of the {what} at cut {cut} is {value}, which is not a finite number")]
    NonFinite {
        /// Which values.
        what: &'static str,
        /// Where: the index of the layer that follows.
        cut: usize,
        /// The first such value's place.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Not one label per sample.
    #[error("{actual} labels for {samples} samples")]
    Labels {
        /// Samples in the batch.
        samples: usize,
        /// Labels present.
        actual: usize,
    },
    /// A label that the model has no class for.
    #[error("label {index} is {label}, but the model's classes are 0..{classes}")]
    Label {
        /// The label's place.
        index: usize,
        /// The label.
        label: u32,
        /// How many classes there are.
        classes: usize,
    },
    /// Layers that cannot do what was asked of them.
    #[error("{call} needs layers {needed}, but this half has {layers:?}")]
    Layers {
        /// What was called.
        call: &'static str,
        /// What it needs, in words.
        needed: &'static str,
        /// What the half has.
        layers: Range<usize>,
    },
    /// A gradient for a forward pass of another half.
    #[error("the forward pass was of layers {pending:?}, this half has {layers:?}: repeat it after a re-cut")]
    Pending {
        /// What the forward pass ran.
        pending: Range<usize>,
        /// What the half has.
        layers: Range<usize>,
    },
    /// Batch statistics of a single value, which have no variance.
    #[error("layer {layer} normalizes each channel over a single value: use a batch of at least 2")]
    OneValuePerChannel {
        /// The layer.
        layer: usize,
    },
    /// A batch that its micro-batches do not divide.
    #[error("a batch of {batch} samples has no {of} equal parts")]
    Parts {
        /// Samples in the batch.
        batch: usize,
        /// Micro-batches.
        of: u32,
    },
    /// A micro-batch out of its turn: their gradients add up in order.
    #[error("micro-batch {came} of a step came where {due} was due")]
    Turn {
        /// Which was due, from 0.
        due: u32,
        /// Which came.
        came: u32,
    },
    /// Micro-batches of a model whose layers see the whole batch.
    #[error("layer {layer} normalizes over the batch, which must not be split into {of} micro-batches")]
    NormalizesOverBatch {
        /// The layer.
        layer: usize,
        /// Micro-batches.
        of: u32,
    },
    /// The training has diverged.
    #[error("the loss is {loss}: lower the learning rate")]
    Diverged {
        /// The mean loss of the batch.
        loss: f64,
    },
}

/// Whether every value is finite.
fn all_finite(values: &[f32]) -> bool {
    // Without a branch per value this is one pass at the memory's speed.
    values.iter().fold(true, |all, x| all & x.is_finite())
}

impl Half {
    /// Whether `values` are `samples` samples before layer `cut`, all finite.
    pub(crate) fn check_values(
        &self,
        values: &[f32],
        samples: usize,
        what: &'static str,
        cut: usize,
    ) -> Result<(), BatchError> {
        let shape = &self.shapes[cut];
        let expected = shape.iter().try_fold(samples, |product, side| product.checked_mul(*side));
        if expected != Some(values.len()) {
            let (shape, actual) = (shape.clone(), values.len());
            return Err(BatchError::Length { what, cut, samples, shape, actual });
        }
        if all_finite(values) {
            return Ok(());
        }
        let index = values.iter().take_while(|x| x.is_finite()).count();
        Err(BatchError::NonFinite { what, cut, index, value: values[index] })
    }

    /// Whether there is one label per sample, each of a class.
    pub(crate) fn check_labels(&self, labels: &[u32], samples: usize) -> Result<(), BatchError> {
        if labels.len() != samples {
            return Err(BatchError::Labels { samples, actual: labels.len() });
        }
        let classes = self.spec.classes;
        match labels.iter().position(|label| *label as usize >= classes) {
            Some(index) => Err(BatchError::Label { index, label: labels[index], classes }),
            None => Ok(()),
        }
    }

    /// Whether the layers can take a training step of `samples` samples.
    pub(crate) fn check_training(&self, samples: usize, step: &StepContext) -> Result<(), BatchError> {
        let (batch, of) = (step.batch, step.micro_batch.of);
        if samples == 0 {
            return Err(BatchError::Empty);
        }
        if step.optimizer_step == 0 {
            return Err(BatchError::OptimizerStep);
        }
        if of == 0 || !batch.is_multiple_of(of as usize) {
            return Err(BatchError::Parts { batch, of });
        }
        for layer in self.layers.clone() {
            let normalizes =
                !self.spec.is_frozen(layer) && self.spec.layers[layer].op.normalizes_over_batch();
            if of > 1 && normalizes {
                return Err(BatchError::NormalizesOverBatch { layer, of });
            }
            // They all leave [channels, height, width].
            if samples == 1 && normalizes && self.shapes[layer + 1][1..].iter().all(|side| *side == 1) {
                return Err(BatchError::OneValuePerChannel { layer });
            }
        }
        Ok(())
    }

    /// Whether a micro-batch's gradient is the next that adds to those before it.
    pub(crate) fn check_turn(&self, micro_batch: MicroBatch) -> Result<(), BatchError> {
        let (due, came) = (self.accumulated.due(), micro_batch.index);
        // The first one begins anew, whatever became of a step before.
        if came == 0 || came == due { Ok(()) } else { Err(BatchError::Turn { due, came }) }
    }

    pub(crate) fn wrong_layers(&self, call: &'static str, needed: &'static str) -> BatchError {
        BatchError::Layers { call, needed, layers: self.layers.clone() }
    }
}
