//! Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167) as operations of burn's tape.

use burn::tensor::Tensor;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::Flex;

use super::channels::{Maps, Scaling, Statistics};
use super::flex::{Values, from_plain, from_taped, plain, register, take, taped, tensor};
use super::relu::mask;

/// The output of a training step, with the batch's mean and biased variance, each `[channels]`.
pub(crate) struct Normalized {
    pub(crate) output: Tensor<4>,
    pub(crate) mean: Tensor<1>,
    pub(crate) variance: Tensor<1>,
}

/// Normalizes each channel by the batch's own mean and biased variance, then scales by `gamma` and shifts
/// by `beta`, each `[channels]`, and rectifies if asked.
///
/// # Panics
/// If a tensor is not on the CPU.
pub(crate) fn batch_norm_train(
    input: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    rectify: bool,
) -> Normalized {
    let maps = Maps::new(input.dims());
    let parents = (taped(input), taped(gamma), taped(beta));
    let values = Values::of(parents.0.primitive());
    let [gamma, beta] = [&parents.1, &parents.2].map(|parent| Values::of(parent.primitive()));
    let (output, statistics) =
        maps.normalize(&values, Scaling { gamma: &gamma, beta: &beta, epsilon: epsilon as f32, rectify });
    let [mean, variance] = [|s: &Statistics| s.mean, |s: &Statistics| s.variance]
        .map(|of| from_plain(tensor(statistics.iter().map(of).collect(), [maps.channels])));
    let output = tensor(output, maps.dims());
    let nodes = [parents.0.node(), parents.1.node(), parents.2.node()];
    let output = match Train.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let rectified = rectify.then(|| Values::of(&output));
            prepared.finish(Recorded { maps, input: values, gamma, statistics, rectified }, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Normalized { output: from_taped(output), mean, variance }
}

#[derive(Debug)]
struct Train;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Recorded {
    maps: Maps,
    input: Values,
    gamma: Values,
    statistics: Vec<Statistics>,
    /// The output, if it was rectified.
    rectified: Option<Values>,
}

impl Backward<Flex, 3> for Train {
    type State = Recorded;

    fn backward(self, ops: Ops<Recorded, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let mut gradient = take(gradients.consume::<Flex>(&ops.node));
        let Recorded { maps, input, gamma, statistics, rectified } = ops.state;
        if let Some(output) = rectified {
            mask(&mut gradient, &output);
        }
        let [at_input, at_gamma, at_beta] = ops.parents.map(|node| node.map(|node| node.id));
        let (for_gamma, for_beta) = maps.gradients(&input, &gamma, &statistics, &mut gradient);
        register(gradients, at_input, maps.dims(), || gradient);
        register(gradients, at_gamma, [maps.channels], || for_gamma);
        register(gradients, at_beta, [maps.channels], || for_beta);
    }
}

/// Normalizes each channel by the given statistics, in inference and in frozen layers; the gradient goes
/// to the input only. The others are `[channels]` and on no tape.
///
/// # Panics
/// If a tensor is not on the CPU.
pub(crate) fn batch_norm(
    input: Tensor<4>,
    [gamma, beta, mean, variance]: [Tensor<1>; 4],
    epsilon: f64,
) -> Tensor<4> {
    let maps = Maps::new(input.dims());
    let [gamma, beta, mean, variance] =
        [gamma, beta, mean, variance].map(|tensor| Values::of(&plain(tensor)));
    let inverse = variance.iter().map(|variance| 1.0 / (variance + epsilon as f32).sqrt());
    let factors: Vec<f32> = gamma.iter().zip(inverse).map(|(gamma, inverse)| gamma * inverse).collect();
    let shifts: Vec<f32> = beta
        .iter()
        .zip(mean.iter())
        .zip(&factors)
        .map(|((beta, mean), factor)| beta - mean * factor)
        .collect();
    if !input.is_autodiff() {
        let mut values = take(plain(input));
        maps.scale_and_shift(&mut values, &factors, &shifts);
        return from_plain(tensor(values, maps.dims()));
    }
    let input = taped(input);
    let mut values = Values::of(input.primitive()).to_vec();
    maps.scale_and_shift(&mut values, &factors, &shifts);
    let output = tensor(values, maps.dims());
    from_taped(match Frozen.prepare::<NoCheckpointing>([input.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((maps, factors), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    })
}

#[derive(Debug)]
struct Frozen;

impl Backward<Flex, 1> for Frozen {
    /// With each channel's factor.
    type State = (Maps, Vec<f32>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let mut gradient = take(gradients.consume::<Flex>(&ops.node));
        let (maps, factors) = ops.state;
        let [parent] = ops.parents.map(|node| node.map(|node| node.id));
        maps.scale_and_shift(&mut gradient, &factors, &vec![0.0; maps.channels]);
        register(gradients, parent, maps.dims(), || gradient);
    }
}
