//! The models, batches and optimizers that the tests train.

use std::sync::Arc;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerOp, LayerSpec, LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::random::{self, unit_f32};
use partway_model::{Compute, Half, StepContext};

pub(crate) const SEED: u64 = 7;

pub(crate) const SGD: Optimizer = Optimizer::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 1e-3 };
pub(crate) const ADAM: Optimizer =
    Optimizer::Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };

pub(crate) fn conv(channels: [usize; 2], kernel: usize, stride: usize, padding: usize) -> LayerOp {
    let [in_channels, out_channels] = channels;
    LayerOp::Conv2d { in_channels, out_channels, kernel, stride, padding, groups: 1, bias: true }
}

pub(crate) fn linear(inputs: usize, outputs: usize) -> LayerOp {
    LayerOp::Linear { inputs, outputs, bias: true }
}

pub(crate) fn max_pool() -> LayerOp {
    LayerOp::MaxPool2d { kernel: 2, stride: 2, padding: 0 }
}

pub(crate) fn model(input: [usize; 3], classes: usize, ops: Vec<LayerOp>) -> Arc<ModelSpec> {
    let layers = ops.into_iter().map(|op| LayerSpec { name: op.kind().name().to_owned(), op }).collect();
    let spec = ModelSpec { name: "test".to_owned(), input, classes, frozen: 0, layers };
    Arc::new(spec.checked().expect("a test's model fits together"))
}

/// The model with its first layers frozen.
pub(crate) fn frozen_model(spec: &ModelSpec, frozen: usize) -> Arc<ModelSpec> {
    Arc::new(ModelSpec { frozen, ..spec.clone() })
}

pub(crate) fn lenet5() -> Arc<ModelSpec> {
    use LayerOp::{Flatten, Relu};
    let ops = vec![
        conv([1, 6], 5, 1, 2),
        Relu,
        max_pool(),
        conv([6, 16], 5, 1, 0),
        Relu,
        max_pool(),
        Flatten,
        linear(400, 120),
        Relu,
        linear(120, 84),
        Relu,
        linear(84, 10),
    ];
    model([1, 28, 28], 10, ops)
}

/// `FedAdapt`'s, which pools after its first two convolutions only.
pub(crate) fn vgg5(side: usize) -> Arc<ModelSpec> {
    use LayerOp::{Flatten, Relu};
    let ops = vec![
        conv([3, 32], 3, 1, 1),
        Relu,
        max_pool(),
        conv([32, 64], 3, 1, 1),
        Relu,
        max_pool(),
        conv([64, 64], 3, 1, 1),
        Relu,
        Flatten,
        linear(64 * (side / 4) * (side / 4), 128),
        Relu,
        linear(128, 10),
    ];
    model([3, side, side], 10, ops)
}

/// Every layer kind that the other two lack: batch norm, both shortcuts, dropout on maps and on
/// features, a depthwise convolution, average and global pooling.
pub(crate) fn residual_net() -> Arc<ModelSpec> {
    use LayerOp::{AvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, GlobalAvgPool, Relu, Residual};
    let (kernel, stride, padding) = (3, 1, 1);
    let ops = vec![
        Conv2d { in_channels: 3, out_channels: 8, kernel, stride, padding, groups: 1, bias: false },
        BatchNorm2d { channels: 8 },
        Relu,
        Residual { in_channels: 8, out_channels: 8, stride: 1 },
        Dropout { p: 0.25 },
        Conv2d { in_channels: 8, out_channels: 8, kernel, stride, padding, groups: 8, bias: true },
        Residual { in_channels: 8, out_channels: 12, stride: 2 },
        AvgPool2d { kernel: 2, stride: 2, padding: 0 },
        GlobalAvgPool,
        Flatten,
        linear(12, 16),
        Dropout { p: 0.5 },
        Relu,
        linear(16, 5),
    ];
    model([3, 12, 12], 5, ops)
}

/// The layer kinds of the larger built-in models: group norm, local response norm, relu6, gelu, inverted
/// residual blocks with and without expansion, and padded pools.
pub(crate) fn mobile_net() -> Arc<ModelSpec> {
    use LayerOp::{
        AvgPool2d, Flatten, Gelu, GlobalAvgPool, GroupNorm, InvertedResidual, LocalResponseNorm, MaxPool2d,
        Relu6,
    };
    let block = |in_channels, out_channels, stride, expansion| InvertedResidual {
        in_channels,
        out_channels,
        stride,
        expansion,
    };
    let ops = vec![
        conv([3, 8], 3, 1, 1),
        GroupNorm { channels: 8, groups: 2 },
        Gelu,
        MaxPool2d { kernel: 3, stride: 2, padding: 1 },
        LocalResponseNorm { size: 3, alpha: 0.1, beta: 0.75, k: 1.0 },
        block(8, 8, 1, 1),
        block(8, 12, 2, 3),
        block(12, 12, 1, 2),
        AvgPool2d { kernel: 3, stride: 1, padding: 1 },
        Relu6,
        GlobalAvgPool,
        Flatten,
        linear(12, 5),
    ];
    model([3, 12, 12], 5, ops)
}

pub(crate) fn uniform(len: usize, purpose: &str) -> Vec<f32> {
    let mut stream = random::stream(SEED, &["test", purpose]);
    (0..len).map(|_| 2.0 * unit_f32(&mut stream) - 1.0).collect()
}

/// The batch of one step: inputs and labels.
pub(crate) fn batch(spec: &ModelSpec, step: &StepContext) -> (Vec<f32>, Vec<u32>) {
    let inputs = uniform(step.batch * spec.input.iter().product::<usize>(), &format!("inputs {}", step.step));
    let mut stream = random::stream(SEED, &["test", "labels", &step.step.to_string()]);
    let labels = (0..step.batch).map(|_| random::below(&mut stream, spec.classes as u64) as u32).collect();
    (inputs, labels)
}

/// The nth step of a run, from 0.
pub(crate) fn step(n: u64, batch: usize) -> StepContext<'static> {
    StepContext {
        seed: SEED,
        edge: "camera-0",
        step: n,
        optimizer_step: n + 1,
        batch,
        micro_batch: MicroBatch::WHOLE,
    }
}

pub(crate) fn initial(spec: &Arc<ModelSpec>, optimizer: Optimizer, compute: &Compute) -> Half {
    let state = LayerState::initial(spec, 0..spec.len(), optimizer.moments().len(), SEED);
    half(spec, optimizer, state, compute)
}

pub(crate) fn half(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    state: LayerState,
    compute: &Compute,
) -> Half {
    Half::from_state(spec, optimizer, state, compute).expect("a test's state fits its model")
}

pub(crate) fn one_thread() -> Compute {
    Compute::cpu(1).expect("one thread")
}
