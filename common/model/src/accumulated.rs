//! The gradients of a step's micro-batches, added up in their order.

use burn::tensor::Tensor;
use partway_core::micro_batch::MicroBatch;

/// The sums so far, one for each trained tensor of a half; `None` where no gradient came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accumulated {
    /// Of how many micro-batches.
    count: u32,
    sums: Vec<Option<Tensor<1>>>,
}

impl Accumulated {
    /// Which micro-batch comes next, from 0.
    pub(crate) fn due(&self) -> u32 {
        self.count
    }

    /// Adds a micro-batch's gradients, which are parts of the gradient of the batch's mean. Gives the whole gradient
    /// after the last one, and is empty then.
    pub(crate) fn add(
        &mut self,
        micro_batch: MicroBatch,
        gradients: Vec<Option<Tensor<1>>>,
    ) -> Option<Vec<Option<Tensor<1>>>> {
        let before = std::mem::take(self);
        let sums = if micro_batch.index == 0 {
            gradients
        } else {
            let add = |(sum, gradient): (Option<Tensor<1>>, Option<Tensor<1>>)| match (sum, gradient) {
                (Some(sum), Some(gradient)) => Some(sum.add(gradient)),
                (sum, gradient) => sum.or(gradient),
            };
            before.sums.into_iter().zip(gradients).map(add).collect()
        };
        if micro_batch.is_last() {
            return Some(sums);
        }
        *self = Self { count: micro_batch.index + 1, sums };
        None
    }
}
