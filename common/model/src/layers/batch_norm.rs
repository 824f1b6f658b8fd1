//! Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167), with the conventions of `PyTorch`.

use burn::tensor::{Tensor, module, module::BatchNormTrainOutput};

use crate::kernels::{self, Kernels, Normalized};

use super::Pass;
use super::relu::relu;

/// Added to the variance before its root.
const EPSILON: f64 = 1e-5;
/// Weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Mean and unbiased variance of one batch, each `[channels]`.
#[derive(Clone, Debug)]
pub(crate) struct BatchStatistics {
    pub(crate) mean: Tensor<1>,
    pub(crate) variance: Tensor<1>,
}

/// A running statistic after a batch.
pub(crate) fn updated_running(running: Tensor<1>, batch: Tensor<1>) -> Tensor<1> {
    running.mul_scalar(1.0 - MOMENTUM).add(batch.mul_scalar(MOMENTUM))
}

/// Normalizes each channel: by the batch's own mean and biased variance in training, which also
/// records them in `pass`, by the running statistics in inference. Then rectifies if asked.
///
/// # Shapes
/// `input` and result `[batch, channels, h, w]`; `tensors` are gamma, beta, running mean and running
/// variance, each `[channels]`.
pub(super) fn batch_norm(
    input: Tensor<4>,
    tensors: &[Tensor<1>],
    rectify: bool,
    pass: &mut Pass,
) -> Tensor<4> {
    let [gamma, beta, mean, variance] = [0, 1, 2, 3].map(|slot: usize| tensors[slot].clone());
    if pass.training.is_none() {
        let output = match pass.kernels {
            Kernels::Own => kernels::batch_norm(input, [gamma, beta, mean, variance], EPSILON),
            Kernels::Burn => module::batch_norm(input, gamma, beta, mean, variance, EPSILON),
        };
        return if rectify { relu(output, pass.kernels) } else { output };
    }
    let [batch, _, height, width] = input.dims();
    let values = (batch * height * width) as f64;
    let normalized = match pass.kernels {
        Kernels::Own => kernels::batch_norm_train(input, gamma, beta, EPSILON, rectify),
        Kernels::Burn => {
            let BatchNormTrainOutput { output, mean, variance } =
                module::batch_norm_train(input, gamma, beta, EPSILON);
            let output = if rectify { relu(output, pass.kernels) } else { output };
            Normalized { output, mean: mean.inner(), variance: variance.inner() }
        }
    };
    pass.statistics.push(BatchStatistics {
        mean: normalized.mean,
        variance: normalized.variance.mul_scalar(values / (values - 1.0)),
    });
    normalized.output
}
