//! Inference over labelled samples: running statistics, no dropout, no tape.

use burn::tensor::Tensor;

use crate::Half;
use crate::activation::Activation;
use crate::batch::BatchError;
use crate::layers::Pass;
use crate::loss;

/// Samples that run through the layers at once: enough for full kernels, few enough for little memory.
const BATCH: usize = 128;

/// How well a model does on some samples. Evaluations of several chunks add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Samples whose largest logit is their label's.
    pub correct: usize,
    /// Sum of the samples' cross-entropies.
    pub loss_sum: f64,
    /// How many samples.
    pub samples: usize,
}

impl Evaluation {
    /// Share of the samples that were right; 0 of none.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }

    /// Mean cross-entropy; 0 of none.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.samples.max(1) as f64
    }
}

impl std::ops::AddAssign for Evaluation {
    fn add_assign(&mut self, other: Self) {
        self.correct += other.correct;
        self.loss_sum += other.loss_sum;
        self.samples += other.samples;
    }
}

impl Half {
    /// Evaluates a chunk of samples before this half's first layer, which must reach to the model's
    /// last: `inputs` `[samples, ...]`, one label each. Nothing changes. A loss that is not finite is
    /// reported as it is.
    pub fn evaluate(&self, inputs: &[f32], labels: &[u32]) -> Result<Evaluation, BatchError> {
        if self.layers.is_empty() || self.layers.end != self.spec.len() {
            return Err(self.wrong_layers("evaluate", "up to the model's last"));
        }
        self.check_values(inputs, labels.len(), "inputs", self.layers.start)?;
        self.check_labels(labels, labels.len())?;
        let width: usize = self.input_shape().iter().product();
        Ok(self.compute.run(|| {
            let tensors: Vec<Tensor<1>> = self.tensors.iter().map(|tensor| tensor.values.clone()).collect();
            let mut evaluation = Evaluation::default();
            for (inputs, labels) in inputs.chunks(BATCH * width).zip(labels.chunks(BATCH)) {
                let input = Activation::from_values(
                    inputs.to_vec(),
                    labels.len(),
                    self.input_shape(),
                    self.compute.device(),
                );
                let mut pass = Pass::inference(self.compute.kernels());
                let logits = self.through_layers(&tensors, input, &mut pass).into_values();
                let scored = loss::score(&logits, labels, self.spec.classes);
                evaluation +=
                    Evaluation { correct: scored.correct, loss_sum: scored.loss_sum, samples: labels.len() };
            }
            evaluation
        }))
    }
}
