//! The models whose steps are timed, with PyTorch's usual layers for images of CIFAR.

use partway_core::model::LayerOp::{
    self, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool2d, Relu, Residual,
};
use partway_core::model::{LayerSpec, ModelSpec};

/// A model and the batch that it is timed with.
pub(crate) struct Timed {
    pub(crate) spec: ModelSpec,
    pub(crate) batch: usize,
}

fn conv(in_channels: usize, out_channels: usize, kernel: usize, padding: usize, bias: bool) -> LayerOp {
    Conv2d { in_channels, out_channels, kernel, stride: 1, padding, groups: 1, bias }
}

fn linear(inputs: usize, outputs: usize) -> LayerOp {
    Linear { inputs, outputs, bias: true }
}

const POOL: LayerOp = MaxPool2d { kernel: 2, stride: 2, padding: 0 };

fn timed(name: &str, input: [usize; 3], batch: usize, ops: Vec<LayerOp>) -> Timed {
    let layers = ops.into_iter().map(|op| LayerSpec { name: op.kind().name().to_owned(), op }).collect();
    Timed { spec: ModelSpec { name: name.to_owned(), input, classes: 10, frozen: 0, layers }, batch }
}

fn lenet5() -> Timed {
    let mut ops = vec![conv(1, 6, 5, 2, true), Relu, POOL, conv(6, 16, 5, 0, true), Relu, POOL, Flatten];
    ops.extend([linear(400, 120), Relu, linear(120, 84), Relu, linear(84, 10)]);
    timed("LeNet-5", [1, 28, 28], 64, ops)
}

fn vgg5() -> Timed {
    let mut ops = vec![conv(3, 32, 3, 1, true), Relu, POOL, conv(32, 64, 3, 1, true), Relu, POOL];
    ops.extend([conv(64, 64, 3, 1, true), Relu, Flatten, linear(4096, 128), Relu, linear(128, 10)]);
    timed("VGG-5", [3, 32, 32], 100, ops)
}

fn vgg11() -> Timed {
    let mut ops = Vec::new();
    let mut channels = 3;
    for (out, pools) in [
        (64, true),
        (128, true),
        (256, false),
        (256, true),
        (512, false),
        (512, true),
        (512, false),
        (512, true),
    ] {
        ops.extend([conv(channels, out, 3, 1, true), BatchNorm2d { channels: out }, Relu]);
        ops.extend(pools.then_some(POOL));
        channels = out;
    }
    ops.extend([Flatten, linear(512, 512), Relu, linear(512, 10)]);
    timed("VGG-11", [3, 32, 32], 32, ops)
}

fn resnet18() -> Timed {
    let mut ops = vec![conv(3, 64, 3, 1, false), BatchNorm2d { channels: 64 }, Relu];
    let mut in_channels = 64;
    for (out_channels, stride) in
        [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
    {
        ops.push(Residual { in_channels, out_channels, stride });
        in_channels = out_channels;
    }
    ops.extend([GlobalAvgPool, Flatten, linear(512, 10)]);
    timed("ResNet-18", [3, 32, 32], 32, ops)
}

/// All of them, small ones first.
pub(crate) fn all() -> [Timed; 4] {
    [lenet5(), vgg5(), vgg11(), resnet18()]
}
