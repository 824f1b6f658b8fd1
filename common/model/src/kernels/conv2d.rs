//! Convolution as an operation of burn's tape.

use burn::tensor::Tensor;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};

use super::convolution::{bias_gradient, input_gradient, output_of, weight_gradient};
use super::flex::{Taped, Values, from_plain, from_taped, plain, register, take, taped, tensor};
use super::geometry::ConvShape;
use super::relu::mask;

/// Cross-correlation with zeros around the input, rectified if asked.
///
/// # Shapes
/// `input` `[batch, in, h, w]`, `weight` `[out, in / groups, k, k]`, `bias` `[out]`; the result is
/// `[batch, out, (h + 2 padding - k) / stride + 1, ...]`.
///
/// # Panics
/// If a tensor is not on the CPU or not as `shape` says, which must be valid.
pub(crate) fn conv2d(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    shape: ConvShape,
    rectify: bool,
) -> Tensor<4> {
    let is_taped =
        input.is_autodiff() || weight.is_autodiff() || bias.as_ref().is_some_and(Tensor::is_autodiff);
    if !is_taped {
        let bias = bias.map(plain);
        return from_plain(forward(&shape, &plain(input), &plain(weight), bias.as_ref(), rectify));
    }
    let (input, weight) = (taped(input), taped(weight));
    from_taped(match bias.map(taped) {
        Some(bias) => {
            let values = Some(bias.primitive());
            let output = forward(&shape, input.primitive(), weight.primitive(), values, rectify);
            record(shape, &[input, weight, bias], output, rectify)
        }
        None => {
            let output = forward(&shape, input.primitive(), weight.primitive(), None, rectify);
            record(shape, &[input, weight], output, rectify)
        }
    })
}

fn forward(
    shape: &ConvShape,
    input: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    rectify: bool,
) -> FlexTensor {
    let [height, width] = shape.output();
    let bias = bias.map(Values::of);
    let values = output_of(shape, &Values::of(input), &Values::of(weight), bias.as_deref(), rectify);
    tensor(values, [shape.batch, shape.out_channels, height, width])
}

/// Puts the convolution of input, weight and, with `N` = 3, bias on their tape.
fn record<const N: usize>(
    shape: ConvShape,
    parents: &[Taped; N],
    output: FlexTensor,
    rectify: bool,
) -> Taped {
    let nodes = parents.each_ref().map(Taped::node);
    match Convolution.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let [input, weight] = [0, 1].map(|parent: usize| Values::of(parents[parent].primitive()));
            let rectified = rectify.then(|| Values::of(&output));
            prepared.finish(Recorded { shape, input, weight, rectified }, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    }
}

#[derive(Debug)]
struct Convolution;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Recorded {
    shape: ConvShape,
    input: Values,
    weight: Values,
    /// The output, if it was rectified.
    rectified: Option<Values>,
}

impl<const N: usize> Backward<Flex, N> for Convolution {
    type State = Recorded;

    fn backward(self, ops: Ops<Recorded, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let mut gradient = take(gradients.consume::<Flex>(&ops.node));
        let Recorded { shape, input, weight, rectified } = ops.state;
        if let Some(output) = rectified {
            mask(&mut gradient, &output);
        }
        let ConvShape { batch, in_channels, out_channels, groups, kernel, input: [height, width], .. } =
            shape;
        let parent = |parent: usize| ops.parents.get(parent)?.as_ref().map(|node| node.id);
        register(gradients, parent(0), [batch, in_channels, height, width], || {
            input_gradient(&shape, &weight, &gradient)
        });
        register(gradients, parent(1), [out_channels, in_channels / groups, kernel, kernel], || {
            weight_gradient(&shape, &input, &gradient)
        });
        register(gradients, parent(2), [out_channels], || bias_gradient(&shape, &gradient));
    }
}
