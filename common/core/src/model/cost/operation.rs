//! Costs of one layer on its own, whatever surrounds it.

use std::num::Saturating;

use crate::model::spec::LayerOp;
use crate::model::tensors::residual_projects;

type Count = Saturating<u64>;

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
    /// The costs of `op`, which makes `output` elements of `input` elements.
    pub(super) fn of(op: &LayerOp, input: u64, output: u64) -> Self {
        let (n_in, n_out) = (count(input), count(output));
        match *op {
            LayerOp::Conv2d { in_channels, out_channels, kernel, groups, bias, .. } => {
                convolution(in_channels / groups, out_channels, kernel, bias, output)
            }
            LayerOp::Linear { inputs, outputs, bias } => convolution(inputs, outputs, 1, bias, output),
            LayerOp::BatchNorm2d { channels } => batch_norm(channels, output),
            LayerOp::Relu => relu(output),
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
            LayerOp::Residual { in_channels, out_channels, stride } => residual(
                in_channels,
                out_channels,
                residual_projects(in_channels, out_channels, stride),
                input,
                output,
            ),
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

fn batch_norm(channels: usize, output: u64) -> Operation {
    let n = count(output);
    Operation {
        flops_forward: count(8) * n,
        flops_backward: count(5) * n,
        flops_to_input: count(4) * n,
        params: count(2) * size(channels),
        buffers: count(2) * size(channels),
        reads_input: true,
        ..Operation::default()
    }
}

fn relu(output: u64) -> Operation {
    let n = count(output);
    Operation { flops_forward: n, flops_to_input: n, reads_output: true, ..Operation::default() }
}

/// conv1, bn1, relu, conv2, bn2, plus the shortcut, then relu.
fn residual(in_channels: usize, channels: usize, projects: bool, input: u64, output: u64) -> Operation {
    let mut block = Operation { reads_input: true, reads_output: true, ..Operation::default() };
    block.add(&convolution(in_channels, channels, 3, false, output), false);
    block.add(&batch_norm(channels, output), true);
    block.add(&relu(output), true);
    block.add(&convolution(channels, channels, 3, false, output), true);
    block.add(&batch_norm(channels, output), true);
    // The inputs of both batch norms, and the inner relu's output, which is conv2's input.
    block.kept_inside = count(3) * count(output);
    if projects {
        block.add(&convolution(in_channels, channels, 1, false, output), false);
        block.add(&batch_norm(channels, output), true);
        block.kept_inside += count(output);
    }
    // The sum of both paths; backward copies the gradient to both and sums what returns.
    block.flops_forward += count(output);
    block.flops_to_input += count(input);
    block.add(&relu(output), true);
    block
}
