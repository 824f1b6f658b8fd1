//! One training step: on the edge, in the cloud, and unsplit; with the labels in the cloud or on the edge.

use std::ops::Range;

use partway_core::micro_batch::MicroBatch;
use thiserror::Error;

use crate::Half;
use crate::activation::Activation;
use crate::batch::BatchError;
use crate::loss;
use crate::tape::Tape;

/// Which step of which edge: with the half's state, everything that a step depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepContext<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The edge's name.
    pub edge: &'a str,
    /// The edge's step, counted over the whole run.
    pub step: u64,
    /// The optimizer's step, counted from 1: Adam corrects its bias by it.
    pub optimizer_step: u64,
    /// Samples in the step's batch.
    pub batch: usize,
    /// Which part of it: gradients are kept until the last one, after which the optimizer steps with their sum.
    pub micro_batch: MicroBatch,
}

/// A forward pass that waits for the gradient behind it. Dropping it drops the step: the half has
/// not changed. burn then frees what was recorded at the process's next backward pass.
#[derive(Debug)]
pub struct Pending {
    layers: Range<usize>,
    samples: usize,
    /// `None` where no gradient is needed.
    pub(crate) tape: Option<Tape>,
}

/// What a step that saw the labels came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Mean cross-entropy over the batch, or micro-batch, before the step.
    pub loss: f32,
    /// Samples whose largest logit is their label's, before the step.
    pub correct: usize,
    /// Gradient of the activations, shaped as they; empty where nothing before them is trained, so that
    /// nobody needs it.
    pub gradient: Vec<f32>,
}

/// A step that was refused. The half has not changed.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("edge `{edge}`, step {step}: {problem}")]
pub struct StepError {
    /// The edge's name.
    pub edge: String,
    /// The edge's step.
    pub step: u64,
    /// What is wrong.
    pub problem: BatchError,
}

impl StepContext<'_> {
    /// Samples in the batch, or micro-batch.
    pub fn samples(&self) -> usize {
        self.micro_batch.samples(self.batch)
    }

    fn refuse(&self, problem: BatchError) -> StepError {
        StepError { edge: self.edge.to_owned(), step: self.step, problem }
    }
}

impl Half {
    /// The forward pass of layers whose output goes elsewhere: over the samples `[batch, C, H, W]` on
    /// the edge, over the activations at the cut in the cloud, where the labels stay on the edge. Gives
    /// what [`Half::backward`] needs once the gradient is there, and the activations behind the last
    /// layer, sample by sample.
    pub fn forward(&self, input: Vec<f32>, step: &StepContext) -> Result<(Pending, Vec<f32>), StepError> {
        self.check_forward(&input, step).map_err(|problem| step.refuse(problem))?;
        Ok(self.compute.run(|| {
            let input =
                Activation::from_values(input, step.samples(), self.input_shape(), self.compute.device());
            let tape = self.record(input, step, self.is_trained_before());
            let (layers, samples) = (self.layers.clone(), step.samples());
            if tape.output.is_tracked() {
                // The tape keeps the output, so these are copied.
                let activations = tape.output.clone().into_values();
                (Pending { layers, samples, tape: Some(tape) }, activations)
            } else {
                (Pending { layers, samples, tape: None }, tape.output.into_values())
            }
        }))
    }

    fn check_forward(&self, input: &[f32], step: &StepContext) -> Result<(), BatchError> {
        self.check_training(step.samples(), step)?;
        let what = if self.layers.start == 0 { "inputs" } else { "activations" };
        self.check_values(input, step.samples(), what, self.layers.start)
    }

    /// The backward pass that belongs to [`Half::forward`], and the optimizer step unless other micro-batches follow,
    /// from the gradient of its activations; that may be empty, and nothing is done, where neither these layers nor those before
    /// are trained. Returns the gradient of its input, empty where nothing before is trained.
    pub fn backward(
        &mut self,
        pending: Pending,
        gradient: Vec<f32>,
        step: &StepContext,
    ) -> Result<Vec<f32>, StepError> {
        self.check_backward(&pending, &gradient, step).map_err(|problem| step.refuse(problem))?;
        let Some(tape) = pending.tape else { return Ok(Vec::new()) };
        let compute = self.compute.clone();
        Ok(compute.run(|| self.apply(tape, gradient, step)).unwrap_or_default())
    }

    fn check_backward(
        &self,
        pending: &Pending,
        gradient: &[f32],
        step: &StepContext,
    ) -> Result<(), BatchError> {
        let Pending { layers, samples, tape } = pending;
        if *layers != self.layers {
            return Err(BatchError::Pending { pending: layers.clone(), layers: self.layers.clone() });
        }
        self.check_training(*samples, step)?;
        if tape.is_some() {
            self.check_turn(step.micro_batch)?;
        }
        if gradient.is_empty() && !self.is_trained() && !self.is_trained_before() {
            return Ok(());
        }
        self.check_values(gradient, *samples, "gradients", layers.end)
    }

    /// All that the last layers do in a step, in the cloud or, where the labels stay there, on the edge:
    /// forward from the `activations` before them, softmax cross-entropy against `labels` (mean over the
    /// batch), backward, optimizer step unless other micro-batches follow.
    pub fn finish_step(
        &mut self,
        activations: Vec<f32>,
        labels: &[u32],
        step: &StepContext,
    ) -> Result<Outcome, StepError> {
        self.check_finish(&activations, labels, step).map_err(|problem| step.refuse(problem))?;
        let compute = self.compute.clone();
        compute.run(|| {
            let input =
                Activation::from_values(activations, step.samples(), self.input_shape(), compute.device());
            let tape = self.record(input, step, self.is_trained_before());
            let logits = tape.output.clone().into_values();
            let scored = loss::score(&logits, labels, self.spec.classes);
            let loss = scored.loss_sum / labels.len() as f64;
            if !loss.is_finite() {
                return Err(step.refuse(BatchError::Diverged { loss }));
            }
            let gradient = loss::gradient(logits, labels, self.spec.classes, step.batch);
            let gradient = self.apply(tape, gradient, step).unwrap_or_default();
            Ok(Outcome { loss: loss as f32, correct: scored.correct, gradient })
        })
    }

    fn check_finish(
        &self,
        activations: &[f32],
        labels: &[u32],
        step: &StepContext,
    ) -> Result<(), BatchError> {
        if self.layers.is_empty() || self.layers.end != self.spec.len() {
            return Err(self.wrong_layers("finish_step", "up to the model's last"));
        }
        self.check_training(step.samples(), step)?;
        self.check_turn(step.micro_batch)?;
        self.check_values(activations, step.samples(), "activations", self.layers.start)?;
        self.check_labels(labels, step.samples())
    }

    /// The same step without a cut, over all layers; `outcome.gradient` is empty.
    pub fn local_step(
        &mut self,
        input: Vec<f32>,
        labels: &[u32],
        step: &StepContext,
    ) -> Result<Outcome, StepError> {
        if self.layers != (0..self.spec.len()) {
            return Err(step.refuse(self.wrong_layers("local_step", "from the model's first to its last")));
        }
        self.finish_step(input, labels, step)
    }
}
