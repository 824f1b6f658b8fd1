//! Dropout (Srivastava et al. 2014), in the inverted form: what is kept is scaled up in training.

use burn::tensor::{Tensor, TensorData};
use partway_core::random;

use crate::step::StepContext;

/// Zeroes each value with probability `p` and scales the others by `1 / (1 - p)`.
///
/// The mask is a function of seed, edge, step and layer, so that it is the same on either side of a
/// cut, and when a step is repeated. That of a micro-batch is its part of the whole batch's.
pub(super) fn dropout<const D: usize>(
    input: Tensor<D>,
    p: f32,
    layer: usize,
    step: &StepContext,
) -> Tensor<D> {
    if p == 0.0 {
        return input;
    }
    let purpose = ["dropout", step.edge, &step.step.to_string(), &layer.to_string()];
    let mut stream = random::stream(step.seed, &purpose);
    let kept = 1.0 / (1.0 - p);
    let dims = input.dims();
    let values = dims.iter().product::<usize>();
    // A word of the stream for each value.
    stream.set_word_pos(u128::from(step.micro_batch.index) * values as u128);
    let mask: Vec<f32> =
        (0..values).map(|_| if random::unit_f32(&mut stream) < p { 0.0 } else { kept }).collect();
    let mask = Tensor::<D>::from_data(TensorData::new(mask, dims), &input.device().inner());
    input * mask
}
