//! Costs of one layer on its own, whatever surrounds it.

use std::num::Saturating;

use crate::model::spec::LayerOp;
use crate::model::tensors::{inverted_residual_adds, residual_projects};

/// A count that stays at its end instead of wrapping around.
pub(super) type Count = Saturating<u64>;

/// Per-sample counts of one operation; the conventions are at [`super::LayerCost`].
#[derive(Default)]
pub(super) struct Operation {
    pub(super) macs: Count,
    pub(super) flops_forward: Count,
    /// The part of the backward pass that is always needed.
    pub(super) macs_backward: Count,
    pub(super) flops_backward: Count,
    /// The part that is needed only if something before this layer is trained.
    pub(super) macs_to_input: Count,
    pub(super) flops_to_input: Count,
    pub(super) params: Count,
    pub(super) buffers: Count,
    /// Elements kept for the backward pass that are neither input nor output.
    pub(super) kept_inside: Count,
    /// Whether the gradient is computed from the input.
    pub(super) reads_input: bool,
    /// Whether the gradient is computed from the output.
    pub(super) reads_output: bool,
}

impl Operation {
    /// The costs of `op`, which makes `output` elements of `input` elements; `frozen` is it in inference
    /// mode.
    pub(super) fn of(op: &LayerOp, input: u64, output: u64, frozen: bool) -> Self {
        let (n_in, n_out) = (count(input), count(output));
        match *op {
            LayerOp::Conv2d { in_channels, out_channels, kernel, groups, bias, .. } => {
                convolution(in_channels / groups, out_channels, kernel, bias, output)
            }
            LayerOp::Linear { inputs, outputs, bias } => convolution(inputs, outputs, 1, bias, output),
            LayerOp::BatchNorm2d { channels } => batch_norm(channels, output, frozen),
            LayerOp::GroupNorm { channels, .. } => Self {
                // The centred and the normalized values, in place of the input.
                kept_inside: count(2) * n_out,
                reads_input: false,
                ..normalization(channels, output)
            },
            LayerOp::LocalResponseNorm { size: window, .. } => Self {
                flops_forward: n_out * (size(window) + count(5)),
                flops_to_input: n_out * (size(window) + count(8)),
                // The squares, what the power is taken of, and the power.
                kept_inside: count(3) * n_out,
                reads_input: true,
                ..Self::default()
            },
            LayerOp::Relu => relu(output),
            LayerOp::Relu6 => relu6(output),
            LayerOp::Gelu => Self {
                flops_forward: count(5) * n_out,
                flops_to_input: count(11) * n_out,
                // The scaled input and its error function.
                kept_inside: count(2) * n_out,
                reads_input: true,
                ..Self::default()
            },
            LayerOp::Dropout { .. } if frozen => Self::default(),
            LayerOp::Dropout { .. } => {
                Self { flops_forward: n_out, flops_to_input: n_out, kept_inside: n_out, ..Self::default() }
            }
            LayerOp::MaxPool2d { kernel, .. } => Self {
                flops_forward: n_out * (square(kernel) - count(1)),
                flops_to_input: n_out,
                kept_inside: n_out,
                ..Self::default()
            },
            LayerOp::AvgPool2d { kernel, .. } => Self {
                flops_forward: n_out * square(kernel),
                flops_to_input: n_out * (square(kernel) + count(1)),
                ..Self::default()
            },
            LayerOp::GlobalAvgPool => Self { flops_forward: n_in, flops_to_input: n_out, ..Self::default() },
            LayerOp::Flatten => Self::default(),
            LayerOp::Residual { in_channels, out_channels, stride } => {
                residual([in_channels, out_channels], stride, [input, output], frozen)
            }
            LayerOp::InvertedResidual { in_channels, out_channels, stride, expansion } => {
                inverted_residual([in_channels, out_channels], stride, expansion, [input, output], frozen)
            }
        }
    }

    /// Adds a part of a block. `inside`: its input is the result of another part, so that its input
    /// gradient is always needed.
    fn add(&mut self, part: &Self, inside: bool) {
        self.macs += part.macs;
        self.flops_forward += part.flops_forward;
        self.macs_backward += part.macs_backward;
        self.flops_backward += part.flops_backward;
        let (macs, flops) = if inside {
            (&mut self.macs_backward, &mut self.flops_backward)
        } else {
            (&mut self.macs_to_input, &mut self.flops_to_input)
        };
        *macs += part.macs_to_input;
        *flops += part.flops_to_input;
        self.params += part.params;
        self.buffers += part.buffers;
    }
}

fn count(n: u64) -> Count {
    Saturating(n)
}

fn size(n: usize) -> Count {
    Saturating(n as u64)
}

fn square(n: usize) -> Count {
    size(n) * size(n)
}

/// A convolution of `fan_in` channels per output; a linear layer is one with a kernel of 1.
fn convolution(fan_in: usize, out_channels: usize, kernel: usize, bias: bool, output: u64) -> Operation {
    let weights_per_output = size(fan_in) * square(kernel);
    let macs = count(output) * weights_per_output;
    let flops = count(2) * macs;
    let (bias_flops, bias_params) =
        if bias { (count(output), size(out_channels)) } else { Default::default() };
    Operation {
        macs,
        flops_forward: flops + bias_flops,
        macs_backward: macs,
        flops_backward: flops + bias_flops,
        macs_to_input: macs,
        flops_to_input: flops,
        params: size(out_channels) * weights_per_output + bias_params,
        reads_input: true,
        ..Operation::default()
    }
}

/// By statistics of the input itself, then scaled and shifted.
fn normalization(channels: usize, output: u64) -> Operation {
    let n = count(output);
    Operation {
        flops_forward: count(8) * n,
        flops_backward: count(5) * n,
        flops_to_input: count(4) * n,
        params: count(2) * size(channels),
        reads_input: true,
        ..Operation::default()
    }
}

fn batch_norm(channels: usize, output: u64, frozen: bool) -> Operation {
    let norm = Operation { buffers: count(2) * size(channels), ..normalization(channels, output) };
    if frozen { Operation { flops_forward: count(4) * count(output), ..norm } } else { norm }
}

fn relu(output: u64) -> Operation {
    let n = count(output);
    Operation { flops_forward: n, flops_to_input: n, reads_output: true, ..Operation::default() }
}

fn relu6(output: u64) -> Operation {
    let n = count(output);
    // Two masks of a byte per element: half as much as its input.
    let kept_inside = count(output.div_ceil(2));
    Operation { flops_forward: count(2) * n, flops_to_input: n, kept_inside, ..Operation::default() }
}

/// conv1, bn1, relu, conv2, bn2, plus the shortcut, then relu.
fn residual(
    [in_channels, channels]: [usize; 2],
    stride: usize,
    [input, output]: [u64; 2],
    frozen: bool,
) -> Operation {
    let mut block = Operation { reads_input: true, reads_output: true, ..Operation::default() };
    block.add(&convolution(in_channels, channels, 3, false, output), false);
    block.add(&batch_norm(channels, output, frozen), true);
    block.add(&relu(output), true);
    block.add(&convolution(channels, channels, 3, false, output), true);
    block.add(&batch_norm(channels, output, frozen), true);
    // The inputs of both batch norms, and the inner relu's output, which is conv2's input.
    block.kept_inside = count(3) * count(output);
    if residual_projects(in_channels, channels, stride) {
        block.add(&convolution(in_channels, channels, 1, false, output), false);
        block.add(&batch_norm(channels, output, frozen), true);
        block.kept_inside += count(output);
    }
    // The sum of both paths; backward copies the gradient to both and sums what returns.
    block.flops_forward += count(output);
    block.flops_to_input += count(input);
    block.add(&relu(output), true);
    block
}

/// expand, bn, relu6 (unless `expansion` is 1), depthwise, bn, relu6, project, bn, plus the input.
fn inverted_residual(
    [in_channels, out_channels]: [usize; 2],
    stride: usize,
    expansion: usize,
    [input, output]: [u64; 2],
    frozen: bool,
) -> Operation {
    let hidden = in_channels.saturating_mul(expansion);
    let expanded = input.saturating_mul(expansion as u64);
    // The plane is the output's already.
    let filtered = (output / out_channels as u64).saturating_mul(hidden as u64);
    let mut block = Operation { reads_input: true, ..Operation::default() };
    let expands = expansion != 1;
    if expands {
        block.add(&convolution(in_channels, hidden, 1, false, expanded), false);
        block.add(&batch_norm(hidden, expanded, frozen), true);
        block.add(&relu6(expanded), true);
        // The inputs of the batch norm and of the depthwise convolution.
        block.kept_inside += count(2) * count(expanded) + relu6(expanded).kept_inside;
    }
    block.add(&convolution(1, hidden, 3, false, filtered), expands);
    block.add(&batch_norm(hidden, filtered, frozen), true);
    block.add(&relu6(filtered), true);
    block.add(&convolution(hidden, out_channels, 1, false, output), true);
    block.add(&batch_norm(out_channels, output, frozen), true);
    block.kept_inside += count(2) * count(filtered) + relu6(filtered).kept_inside + count(output);
    if inverted_residual_adds(in_channels, out_channels, stride) {
        block.flops_forward += count(output);
        block.flops_to_input += count(input);
    }
    block
}
