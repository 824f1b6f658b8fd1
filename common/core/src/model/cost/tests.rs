use super::*;
use crate::model::builtin::{NAMES, builtin};
use crate::model::{LayerOp, LayerSpec, TensorRole};

fn spec(input: [usize; 3], classes: usize, ops: &[LayerOp]) -> ModelSpec {
    let layers = ops.iter().map(|op| LayerSpec { name: op.kind().to_string(), op: op.clone() }).collect();
    ModelSpec { name: "test".into(), input, classes, frozen: 0, layers }.checked().expect("shapes fit")
}

fn conv(in_channels: usize, out_channels: usize, kernel: usize, stride: usize) -> LayerOp {
    let padding = kernel / 2;
    LayerOp::Conv2d { in_channels, out_channels, kernel, stride, padding, groups: 1, bias: false }
}

/// The costs of `ops` with something trained before them, as everywhere but at the model's start.
fn after_a_trained_layer(channels: usize, side: usize, ops: &[LayerOp]) -> Vec<LayerCost> {
    let mut all = vec![conv(1, channels, 1, 1)];
    all.extend_from_slice(ops);
    all.push(LayerOp::GlobalAvgPool);
    all.push(LayerOp::Flatten);
    let classes = spec_channels(channels, ops);
    let cost = ModelCost::of(&spec([1, side, side], classes, &all));
    cost.layers[1..=ops.len()].to_vec()
}

fn spec_channels(channels: usize, ops: &[LayerOp]) -> usize {
    ops.iter().fold(channels, |channels, op| match *op {
        LayerOp::Conv2d { out_channels, .. }
        | LayerOp::Residual { out_channels, .. }
        | LayerOp::InvertedResidual { out_channels, .. } => out_channels,
        _ => channels,
    })
}

fn total(costs: &[LayerCost], of: impl Fn(&LayerCost) -> u64) -> u64 {
    costs.iter().map(of).sum()
}

#[test]
fn lenet5_layer_by_layer() {
    let cost = ModelCost::of(&builtin("lenet5", [1, 28, 28], 10).expect("fits MNIST"));
    let column = |of: fn(&LayerCost) -> u64| cost.layers.iter().map(of).collect::<Vec<_>>();
    let macs = [117_600, 0, 0, 240_000, 0, 0, 0, 48_000, 0, 10_080, 0, 840];
    assert_eq!(column(|layer| layer.macs), macs);
    // The first layer has a weight gradient only, every other one also an input gradient.
    let backward = [117_600, 0, 0, 480_000, 0, 0, 0, 96_000, 0, 20_160, 0, 1_680];
    assert_eq!(column(|layer| layer.macs_backward), backward);
    assert_eq!(
        column(|layer| layer.flops_forward),
        [239_904, 4_704, 3_528, 481_600, 1_600, 1_200, 0, 96_120, 120, 20_244, 84, 1_690]
    );
    assert_eq!(
        column(|layer| layer.flops_backward),
        [239_904, 4_704, 1_176, 961_600, 1_600, 400, 0, 192_120, 120, 40_404, 84, 3_370]
    );
    assert_eq!(column(|layer| layer.params), [156, 0, 0, 2_416, 0, 0, 0, 48_120, 0, 10_164, 0, 850]);
    let outputs = [4_704, 4_704, 1_176, 1_600, 1_600, 400, 400, 120, 120, 84, 84, 10];
    assert_eq!(column(|layer| layer.output_elements), outputs);
    assert_eq!(column(|layer| layer.output_bytes), outputs.map(|elements| 4 * elements));
    assert_eq!(cost.layers[0].input_bytes, 4 * 784);
    // Inputs of convolutions and linear layers, outputs of relus (counted at the layer that they
    // reach), and the positions that max pools keep.
    assert_eq!(
        column(|layer| layer.saved_elements),
        [784, 0, 4_704 + 1_176, 1_176, 0, 1_600 + 400, 0, 400, 0, 120, 0, 84]
    );
    assert_eq!(cost.total_params(), 61_706);
}

#[test]
fn parameters_and_buffers_are_those_of_the_tensors() {
    for name in NAMES {
        let spec = builtin(name, [3, 32, 32], 10).expect("fits CIFAR");
        let cost = ModelCost::of(&spec);
        for (index, layer) in cost.layers.iter().enumerate() {
            let count = |trained: bool| {
                let tensors = spec.layer_tensors(index).into_iter();
                let ours = tensors.filter(|tensor| (tensor.role == TensorRole::Trained) == trained);
                ours.map(|tensor| tensor.len() as u64).sum::<u64>()
            };
            assert_eq!((layer.params, layer.buffers), (count(true), count(false)), "{name}, layer {index}");
        }
    }
}

#[test]
fn training_costs_three_forward_passes_less_one_input_gradient() {
    for (name, first) in
        [("mlp", 3_072 * 128), ("lenet5", 6 * 75 * 784), ("vgg5", 884_736), ("resnet18", 1_769_472)]
    {
        let cost = ModelCost::of(&builtin(name, [3, 32, 32], 10).expect("fits CIFAR"));
        assert_eq!(cost.training_macs(), 3 * cost.total_macs() - first, "{name}");
    }
}

#[test]
fn nothing_flows_back_past_the_first_trained_layer() {
    let mlp = ModelCost::of(&builtin("mlp", [1, 28, 28], 10).expect("fits MNIST"));
    assert_eq!(mlp.first_trained(), Some(1));
    assert_eq!((mlp.layers[0].flops_backward, mlp.layers[1].flops_backward), (0, 2 * 784 * 128 + 128));
    // Before anything is trained, even a relu's gradient is not computed.
    let late =
        spec([1, 4, 4], 3, &[LayerOp::Relu, conv(1, 3, 3, 1), LayerOp::GlobalAvgPool, LayerOp::Flatten]);
    let late = ModelCost::of(&late);
    assert_eq!((late.layers[0].flops_backward, late.layers[1].flops_backward), (0, 2 * 3 * 9 * 16));
    let untrained = ModelCost::of(&spec([1, 1, 5], 5, &[LayerOp::Flatten]));
    assert_eq!((untrained.first_trained(), untrained.training_macs()), (None, 0));
}

#[test]
fn convolution_macs_are_the_iterations_of_its_loops() {
    for (in_channels, out_channels, groups, kernel, stride, padding) in
        [(4, 6, 1, 3, 1, 1), (4, 6, 2, 3, 2, 0), (4, 4, 4, 5, 1, 2), (4, 8, 1, 1, 2, 0)]
    {
        let op = LayerOp::Conv2d { in_channels, out_channels, kernel, stride, padding, groups, bias: true };
        let mut iterations = 0;
        let last = 9 + 2 * padding - kernel;
        for _row in (0..=last).step_by(stride) {
            for _column in (0..=last).step_by(stride) {
                for _channel in 0..out_channels {
                    iterations += (0..in_channels / groups).count() * kernel * kernel;
                }
            }
        }
        let cost = after_a_trained_layer(4, 9, &[op])[0];
        assert_eq!(cost.macs, iterations as u64);
        assert_eq!(cost.flops_forward, 2 * cost.macs + cost.output_elements);
        assert_eq!(cost.flops_backward, 4 * cost.macs + cost.output_elements);
    }
}

#[test]
fn operations_without_weights_by_hand() {
    let [relu, dropout, max, average, global] = [
        LayerOp::Relu,
        LayerOp::Dropout { p: 0.5 },
        LayerOp::MaxPool2d { kernel: 3, stride: 2, padding: 0 },
        LayerOp::AvgPool2d { kernel: 2, stride: 2, padding: 0 },
        LayerOp::GlobalAvgPool,
    ]
    // Two channels of 8x8: 128 elements in.
    .map(|op| after_a_trained_layer(2, 8, &[op])[0]);
    let flops = |cost: LayerCost| (cost.flops_forward, cost.flops_backward, cost.saved_elements);
    assert_eq!(flops(relu), (128, 128, 0));
    assert_eq!(flops(dropout), (128, 128, 128));
    assert_eq!(flops(max), (8 * 18, 18, 18));
    assert_eq!(flops(average), (4 * 32, 5 * 32, 0));
    assert_eq!(flops(global), (128, 2, 0));
    let norm = after_a_trained_layer(2, 8, &[LayerOp::BatchNorm2d { channels: 2 }])[0];
    assert_eq!(flops(norm), (8 * 128, 9 * 128, 128));
    assert_eq!((norm.macs, norm.params, norm.buffers), (0, 4, 4));
}

#[test]
fn norms_and_smooth_activations_by_hand() {
    let [group, response, relu6, gelu] = [
        LayerOp::GroupNorm { channels: 2, groups: 1 },
        LayerOp::LocalResponseNorm { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 },
        LayerOp::Relu6,
        LayerOp::Gelu,
    ]
    .map(|op| after_a_trained_layer(2, 8, &[op])[0]);
    let flops = |cost: LayerCost| (cost.flops_forward, cost.flops_backward, cost.saved_elements);
    assert_eq!(flops(group), (8 * 128, 9 * 128, 2 * 128));
    assert_eq!((group.macs, group.params, group.buffers), (0, 4, 0));
    assert_eq!(flops(response), (10 * 128, 13 * 128, 4 * 128));
    assert_eq!(flops(relu6), (2 * 128, 128, 64));
    assert_eq!(flops(gelu), (5 * 128, 11 * 128, 3 * 128));
}

#[test]
fn an_inverted_residual_block_costs_its_parts() {
    // 4 channels of 6x6 to 4 of 6x6, with the sum; to 5 of 3x3, without it and without expansion.
    for (out_channels, stride, expansion) in [(4, 1, 3), (5, 2, 1)] {
        let block = LayerOp::InvertedResidual { in_channels: 4, out_channels, stride, expansion };
        let block = after_a_trained_layer(4, 6, &[block])[0];
        let hidden = 4 * expansion;
        let norm = |channels| LayerOp::BatchNorm2d { channels };
        let depthwise = LayerOp::Conv2d {
            in_channels: hidden,
            out_channels: hidden,
            kernel: 3,
            stride,
            padding: 1,
            groups: hidden,
            bias: false,
        };
        let mut parts = Vec::new();
        if expansion > 1 {
            parts.extend([conv(4, hidden, 1, 1), norm(hidden), LayerOp::Relu6]);
        }
        parts.extend([depthwise, norm(hidden), LayerOp::Relu6]);
        parts.extend([conv(hidden, out_channels, 1, 1), norm(out_channels)]);
        let parts = after_a_trained_layer(4, 6, &parts);
        let (plus_forward, plus_backward) = if stride == 1 { (144, 144) } else { (0, 0) };
        assert_eq!(block.macs, total(&parts, |part| part.macs));
        assert_eq!(block.macs_backward, total(&parts, |part| part.macs_backward));
        assert_eq!(block.flops_forward, total(&parts, |part| part.flops_forward) + plus_forward);
        assert_eq!(block.flops_backward, total(&parts, |part| part.flops_backward) + plus_backward);
        assert_eq!(block.params, total(&parts, |part| part.params));
        assert_eq!(block.buffers, total(&parts, |part| part.buffers));
        assert_eq!(block.saved_elements, total(&parts, |part| part.saved_elements));
    }
}

#[test]
fn frozen_layers_cost_their_forward_pass_only() {
    let free = builtin("resnet18", [3, 32, 32], 10).expect("fits CIFAR");
    let frozen = ModelSpec { frozen: 4, ..free.clone() };
    let (free, frozen) = (ModelCost::of(&free), ModelCost::of(&frozen));
    assert_eq!((frozen.first_with_parameters(), frozen.first_trained()), (Some(0), Some(4)));
    assert!(!frozen.needs_cut_gradient(4) && frozen.needs_cut_gradient(5) && free.needs_cut_gradient(1));
    for (layer, cost) in frozen.layers[..4].iter().enumerate() {
        assert_eq!(
            (cost.macs_backward, cost.flops_backward, cost.saved_elements),
            (0, 0, 0),
            "layer {layer}"
        );
        assert_eq!((cost.macs, cost.params), (free.layers[layer].macs, free.layers[layer].params));
        assert!(cost.params == 0 || !cost.trained);
    }
    // A batch norm by its running statistics: half of one by the batch.
    assert_eq!(2 * frozen.layers[1].flops_forward, free.layers[1].flops_forward);
    // The first trained layer, a block without projection, needs no gradient of its input.
    assert_eq!(free.layers[4].macs_backward - frozen.layers[4].macs_backward, 64 * 576 * 1024);
    assert_eq!(frozen.layers[5..], free.layers[5..]);
    assert_eq!(frozen.total_params(), free.total_params());
}

#[test]
fn frozen_layers_hold_one_copy_of_their_weights_and_no_activations_but_the_largest_layers() {
    let layers =
        [conv(1, 8, 3, 1), LayerOp::Relu, conv(8, 2, 3, 2), LayerOp::GlobalAvgPool, LayerOp::Flatten];
    let spec = ModelSpec { frozen: 2, ..spec([1, 4, 4], 2, &layers) };
    let cost = ModelCost::of(&spec);
    // The relu holds its input and its output, 8 channels of 4x4 each.
    assert_eq!(cost.training_memory_bytes(0..2, 3, 2), 4 * (72 + 3 * 2 * 128));
    // The convolution's input is kept; what is frozen still holds more at its peak.
    assert_eq!(cost.training_memory_bytes(0..3, 3, 2), 4 * (72 + 4 * 144 + 3 * 2 * 128));
}

#[test]
fn a_residual_block_costs_its_parts() {
    // An identity shortcut: 4 channels of 6x6. A projected one: 4 channels to 5, 6x6 to 3x3.
    for (out_channels, stride, input, output) in [(4, 1, 144, 144), (5, 2, 144, 45)] {
        let block = LayerOp::Residual { in_channels: 4, out_channels, stride };
        let block = after_a_trained_layer(4, 6, &[block])[0];
        let norm = LayerOp::BatchNorm2d { channels: out_channels };
        let mut parts = after_a_trained_layer(
            4,
            6,
            &[
                conv(4, out_channels, 3, stride),
                norm.clone(),
                LayerOp::Relu,
                conv(out_channels, out_channels, 3, 1),
                norm.clone(),
                LayerOp::Relu,
            ],
        );
        // The relu's output is the second convolution's input; the block's own output is its successor's.
        let mut saved = total(&parts, |part| part.saved_elements);
        if stride != 1 {
            let shortcut = after_a_trained_layer(4, 6, &[conv(4, out_channels, 1, stride), norm]);
            // Its convolution reads the block's input, which is saved already.
            saved += shortcut[1].saved_elements;
            parts.extend(shortcut);
        }
        assert_eq!((block.input_elements, block.output_elements), (input, output));
        assert_eq!(block.macs, total(&parts, |part| part.macs));
        assert_eq!(block.macs_backward, total(&parts, |part| part.macs_backward));
        assert_eq!(block.flops_forward, total(&parts, |part| part.flops_forward) + output);
        assert_eq!(block.flops_backward, total(&parts, |part| part.flops_backward) + input);
        assert_eq!(block.params, total(&parts, |part| part.params));
        assert_eq!(block.buffers, total(&parts, |part| part.buffers));
        assert_eq!(block.saved_elements, saved);
    }
}

#[test]
fn a_residual_block_that_comes_first_needs_no_gradient_of_the_image() {
    let block = LayerOp::Residual { in_channels: 1, out_channels: 2, stride: 2 };
    let first = spec([1, 6, 6], 2, &[block.clone(), LayerOp::GlobalAvgPool, LayerOp::Flatten]);
    let first = ModelCost::of(&first).layers[0];
    let inside = after_a_trained_layer(1, 6, &[block])[0];
    let (conv1, shortcut) = (9 * 18, 18);
    assert_eq!(inside.macs_backward - first.macs_backward, conv1 + shortcut);
    assert_eq!(inside.flops_backward - first.flops_backward, 2 * (conv1 + shortcut) + 36);
}

#[test]
fn training_memory_by_hand() {
    let cost = ModelCost::of(&builtin("lenet5", [1, 28, 28], 10).expect("fits MNIST"));
    // conv1, relu1, pool1: weights, gradients and momentum; the image, relu1's output and pool1's
    // positions; pool1's output and its gradient.
    let per_sample = 784 + 4_704 + 1_176 + 2 * 1_176;
    assert_eq!(cost.training_memory_bytes(0..3, 64, 1), 4 * (3 * 156 + 64 * per_sample));
    assert_eq!(cost.training_memory_bytes(0..3, 64, 0), 4 * (2 * 156 + 64 * per_sample));
    assert_eq!(cost.training_memory_bytes(0..0, 64, 2), 0);
    // The classifier on the edge, too: weights, gradients and momentum; its input, and the gradient of
    // that for the cloud; the logits and their gradient.
    let classifier = 4 * (3 * (84 * 10 + 10) + 64 * (84 + 84 + 2 * 10));
    assert_eq!(cost.last_with_parameters(), Some(11));
    let head = cost.training_memory_bytes(0..3, 64, 1);
    assert_eq!(cost.edge_memory_bytes(3, None, 64, 1), head);
    assert_eq!(cost.edge_memory_bytes(3, Some(11), 64, 1), head + classifier);
    // Buffers are held once: they have neither gradient nor moments.
    let norm =
        [conv(1, 2, 1, 1), LayerOp::BatchNorm2d { channels: 2 }, LayerOp::GlobalAvgPool, LayerOp::Flatten];
    let norm = ModelCost::of(&spec([1, 3, 3], 2, &norm));
    assert_eq!(norm.training_memory_bytes(1..2, 1, 2), 4 * (4 * 4 + 4 + 18 + 2 * 18));
}

#[test]
fn inference_memory_by_hand() {
    let layers =
        [conv(1, 2, 1, 1), LayerOp::BatchNorm2d { channels: 2 }, LayerOp::GlobalAvgPool, LayerOp::Flatten];
    let cost = ModelCost::of(&spec([1, 3, 3], 2, &layers));
    let weights = cost.params(0..4) + cost.buffers(0..4);
    // Batch norm is the largest layer: its input, its output, and what a step would keep of it.
    assert_eq!(cost.inference_memory_bytes(5), 4 * (2 * weights + 5 * 3 * 18));
    assert_eq!(cost.inference_memory_bytes(u64::MAX), u64::MAX);
}

#[test]
fn sums_over_ranges_add_up() {
    let cost = ModelCost::of(&builtin("resnet18", [3, 32, 32], 10).expect("fits CIFAR"));
    let sums: [fn(&ModelCost, Range<usize>) -> u64; 6] = [
        ModelCost::macs,
        ModelCost::flops_forward,
        ModelCost::flops_backward,
        ModelCost::params,
        ModelCost::buffers,
        ModelCost::saved_elements,
    ];
    for sum in sums {
        let whole = sum(&cost, 0..14);
        assert!(whole > 0);
        assert!((0..=14).all(|cut| sum(&cost, 0..cut) + sum(&cost, cut..14) == whole));
    }
    // torchvision's count for ten classes, with the 3x3 stem.
    assert_eq!(cost.total_params(), 11_173_962);
    assert_eq!(cost.buffers(0..14), 2 * 4_800);
}

#[test]
fn absurd_sizes_saturate() {
    // A window of 2^40 pixels that just fits its padding: the output is one pixel.
    let absurd = LayerOp::Conv2d {
        in_channels: 1,
        out_channels: 1 << 20,
        kernel: 1 << 40,
        stride: 1,
        padding: 1 << 39,
        groups: 1,
        bias: true,
    };
    let cost = ModelCost::of(&spec([1, 1, 1], 1 << 22, &[absurd, LayerOp::Flatten]));
    assert_eq!((cost.total_macs(), cost.total_params()), (u64::MAX, u64::MAX));
    assert_eq!((cost.training_macs(), cost.training_memory_bytes(0..2, 64, 2)), (u64::MAX, u64::MAX));
}
