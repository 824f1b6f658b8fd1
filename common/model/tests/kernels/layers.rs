//! Whole layers, forward, backward and through an optimizer's step: with this crate's kernels and with
//! burn's.

use std::sync::Arc;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::LayerOp::{
    BatchNorm2d, Conv2d, Flatten, GlobalAvgPool, InvertedResidual, MaxPool2d, Relu, Residual,
};
use partway_core::model::{LayerOp, LayerSpec, LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_model::kernels::Kernels;
use partway_model::{Compute, Half, StepContext};
use proptest::prelude::*;

use crate::against_burn::{assert_close, assert_gradients_close, uniform};

const SGD: Optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 1e-3 };
const PLAIN: Optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };
const ADAM: Optimizer =
    Optimizer::Adam { lr: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-3, weight_decay: 1e-2 };

fn conv(channels: [usize; 2], kernel: usize, stride: usize, padding: usize) -> LayerOp {
    let [in_channels, out_channels] = channels;
    Conv2d { in_channels, out_channels, kernel, stride, padding, groups: 1, bias: true }
}

fn linear(inputs: usize, outputs: usize) -> LayerOp {
    LayerOp::Linear { inputs, outputs, bias: true }
}

/// `ops` behind a trained layer, which their input's gradient is for, and before a linear one.
fn model(input: [usize; 3], ops: &[LayerOp], frozen: usize) -> Option<Arc<ModelSpec>> {
    let before = conv([input[0]; 2], 1, 1, 0);
    (1..5000).find_map(|features| {
        let flattens = !ops.contains(&Flatten);
        let tail = flattens.then_some(Flatten).into_iter().chain([linear(features, 3)]);
        let all = std::iter::once(&before).chain(ops).cloned().chain(tail);
        let layers = all.map(|op| LayerSpec { name: op.kind().name().to_owned(), op }).collect();
        let spec = ModelSpec { name: "test".to_owned(), input, classes: 3, frozen, layers };
        spec.checked().ok().map(Arc::new)
    })
}

/// Loss, gradient at the cut behind the first layer, and state after each of two steps.
fn trained(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    batch: usize,
    threads: usize,
    kernels: Kernels,
) -> Vec<(f32, Vec<f32>, LayerState)> {
    let compute = Compute::cpu(threads).expect("a few threads").with_kernels(kernels);
    let mut state = LayerState::initial(spec, 1..spec.len(), optimizer.moments().len(), 3);
    if optimizer.moments().is_empty() {
        // Off the symmetric start of biases, gammas and betas.
        let noise = uniform(state.values.len(), "noise");
        state.values.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.1 * noise);
    }
    let mut half = Half::from_state(spec, optimizer, state, &compute).expect("the state fits");
    let input = uniform(batch * half.input_shape().iter().product::<usize>(), "input");
    let labels: Vec<u32> = (0..batch as u32).map(|sample| sample % 3).collect();
    (1..=2)
        .map(|step| {
            let context = StepContext {
                seed: 1,
                edge: "a",
                step,
                optimizer_step: step,
                batch,
                micro_batch: MicroBatch::WHOLE,
            };
            let outcome = half.finish_step(input.clone(), &labels, &context).expect("a good batch");
            (outcome.loss, outcome.gradient, half.state())
        })
        .collect()
}

#[track_caller]
fn check(input: [usize; 3], ops: &[LayerOp], batch: usize, optimizer: Optimizer) {
    let spec = model(input, ops, 0).expect("the layers fit together");
    let own = trained(&spec, optimizer, batch, 1, Kernels::Own);
    let burn = trained(&spec, optimizer, batch, 1, Kernels::Burn);
    for (own, burn) in own.iter().zip(&burn) {
        // A loss next to nothing depends on the last bits of scores that are far larger.
        assert!(
            (own.0 - burn.0).abs() <= 1e-5 * burn.0.abs().max(1.0),
            "loss of {ops:?}: {} {}",
            own.0,
            burn.0
        );
        assert_gradients_close(&own.1, &burn.1, &format!("gradient of {ops:?}"));
        assert_close(&own.2.values, &burn.2.values, &format!("state of {ops:?}"));
    }
}

#[test]
fn batch_norm_and_rectification() {
    for (channels, side, batch) in [(3, 8, 4), (17, 5, 6), (64, 4, 8), (5, 1, 16), (2, 40, 3)] {
        let norm = BatchNorm2d { channels };
        check([channels, side, side], std::slice::from_ref(&norm), batch, PLAIN);
        check([channels, side, side + 1], &[norm, Relu], batch, PLAIN);
    }
}

#[test]
fn rectified_convolution() {
    check([3, 9, 10], &[conv([3, 8], 3, 1, 1), Relu], 5, PLAIN);
    check([3, 9, 10], &[conv([3, 8], 3, 2, 0), Relu, conv([8, 4], 1, 1, 0), Relu], 5, PLAIN);
}

#[test]
fn linear_layers() {
    for (inputs, outputs, batch) in [(5, 3, 2), (400, 120, 64), (97, 131, 33), (1, 1, 4), (1024, 50, 3)] {
        check([inputs, 1, 1], &[Flatten, linear(inputs, outputs), Relu], batch, PLAIN);
    }
}

#[test]
fn residual_blocks() {
    for (in_channels, out_channels, stride) in [(6, 6, 1), (6, 10, 2)] {
        check([in_channels, 8, 8], &[Residual { in_channels, out_channels, stride }], 6, PLAIN);
        let block = InvertedResidual { in_channels, out_channels, stride, expansion: 3 };
        check([in_channels, 8, 8], &[block], 6, PLAIN);
    }
}

#[test]
fn optimizers() {
    for optimizer in [SGD, PLAIN, ADAM] {
        check([3, 8, 8], &[conv([3, 40], 3, 1, 1), Relu], 4, optimizer);
        // More weights than one piece of the update.
        check([30, 8, 8], &[conv([30, 150], 3, 1, 1), Relu, GlobalAvgPool], 4, optimizer);
    }
}

#[test]
fn frozen_layers() {
    let ops = [conv([3, 8], 3, 1, 1), BatchNorm2d { channels: 8 }, Relu, BatchNorm2d { channels: 8 }];
    for frozen in [0, 3, 5] {
        let spec = model([3, 6, 6], &ops, frozen).expect("the layers fit together");
        let [own, burn] = [Kernels::Own, Kernels::Burn].map(|kernels| trained(&spec, PLAIN, 5, 1, kernels));
        assert_gradients_close(&own[1].1, &burn[1].1, "gradient");
        assert_close(&own[1].2.values, &burn[1].2.values, "state");
    }
}

#[test]
fn inference() {
    let ops = [
        conv([3, 8], 3, 1, 1),
        BatchNorm2d { channels: 8 },
        Relu,
        Residual { in_channels: 8, out_channels: 12, stride: 2 },
    ];
    let spec = model([3, 8, 8], &ops, 0).expect("the layers fit together");
    let evaluated = [Kernels::Own, Kernels::Burn].map(|kernels| {
        let compute = Compute::cpu(1).expect("one thread").with_kernels(kernels);
        let state = LayerState::initial(&spec, 0..spec.len(), 0, 3);
        let half = Half::from_state(&spec, PLAIN, state, &compute).expect("the state fits");
        let labels: Vec<u32> = (0..150).map(|sample| sample % 3).collect();
        half.evaluate(&uniform(150 * 192, "input"), &labels).expect("good samples")
    });
    assert_eq!(evaluated[0].correct, evaluated[1].correct);
    assert!((evaluated[0].loss_sum - evaluated[1].loss_sum).abs() < 1e-5 * evaluated[1].loss_sum);
}

#[test]
fn any_number_of_threads_makes_the_same_bits() {
    let ops = [
        conv([8, 40], 3, 1, 1),
        BatchNorm2d { channels: 40 },
        Relu,
        MaxPool2d { kernel: 2, stride: 2, padding: 0 },
        Residual { in_channels: 40, out_channels: 64, stride: 2 },
        MaxPool2d { kernel: 3, stride: 1, padding: 1 },
    ];
    let spec = model([8, 20, 20], &ops, 0).expect("the layers fit together");
    for optimizer in [SGD, ADAM] {
        let one = trained(&spec, optimizer, 20, 1, Kernels::Own);
        for threads in [2, 3, 8] {
            let more = trained(&spec, optimizer, 20, threads, Kernels::Own);
            for (one, more) in one.iter().zip(&more) {
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(one.0.to_bits(), more.0.to_bits(), "{threads} threads");
                assert!(bits(&one.1) == bits(&more.1), "gradient on {threads} threads");
                assert!(bits(&one.2.values) == bits(&more.2.values), "state on {threads} threads");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_max_pool(
        channels in 1..6usize,
        sides in (1..24usize, 1..24usize),
        window in (1..6usize, 1..5usize, 0..3usize),
        batch in 1..5usize,
    ) {
        let (kernel, stride, padding) = window;
        let pool = MaxPool2d { kernel, stride, padding: padding.min(kernel / 2) };
        let input = [channels, sides.0, sides.1];
        if model(input, std::slice::from_ref(&pool), 0).is_some() {
            check(input, &[pool], batch, PLAIN);
        }
    }
}
