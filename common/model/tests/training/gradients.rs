//! Gradients of every layer kind against central differences of the loss.

use std::sync::Arc;

use partway_core::model::LayerOp::{
    AvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Gelu, GlobalAvgPool, GroupNorm, InvertedResidual,
    LocalResponseNorm, MaxPool2d, Relu, Relu6, Residual,
};
use partway_core::model::{LayerOp, LayerState, ModelSpec, state};
use partway_core::optimizer::Optimizer;

use crate::models::{SEED, batch, conv, half, linear, max_pool, model, one_thread, step};

/// With this the step's change of a weight is its gradient.
const UNIT: Optimizer = Optimizer::Sgd { lr: 1.0, momentum: 0.0, weight_decay: 0.0 };
const BATCH: usize = 4;
/// Half the distance of the two losses: short enough to cross few kinks of relu and max, long enough for
/// the rounding of f32.
const DISTANCE: f32 = 1e-3;

/// Norm of the difference over the norm of the expected: single kinks of relu and max weigh little.
fn relative_error(actual: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut actual.iter().zip(expected).map(|(a, e)| a - e));
    difference / norm(&mut expected.iter().copied()).max(1e-3)
}

/// Up to 40 places, spread over `0..len`.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(len.div_ceil(40))
}

/// Loss and gradient at the cut of the layers from 1 on, and their state after a step.
fn finish(spec: &Arc<ModelSpec>, state: &LayerState, input: &[f32]) -> (f64, Vec<f32>, LayerState) {
    let mut half = half(spec, UNIT, state.clone(), &one_thread());
    let (_, labels) = batch(spec, &step(0, BATCH));
    let outcome = half.finish_step(input.to_vec(), &labels, &step(0, BATCH)).expect("a good batch");
    (f64::from(outcome.loss), outcome.gradient, half.into_state())
}

/// Checks the parameters' and the input's gradient of `ops`, behind a trained layer, which the input's
/// gradient is for.
#[track_caller]
fn check(input: [usize; 3], classes: usize, ops: Vec<LayerOp>) {
    let mut all = vec![conv([input[0], input[0]], 1, 1, 0)];
    all.extend(ops);
    let spec = model(input, classes, all);
    let mut start = LayerState::initial(&spec, 1..spec.len(), 0, SEED);
    // Off the symmetric start of biases, gammas and betas.
    for (value, noise) in start.values.iter_mut().zip(crate::models::uniform(1 << 16, "noise")) {
        *value += 0.1 * noise;
    }
    let (inputs, _) = batch(&spec, &step(0, BATCH));
    let (_, at_input, after) = finish(&spec, &start, &inputs);
    let slope = |minus: f64, plus: f64| (plus - minus) / (2.0 * f64::from(DISTANCE));

    let (mut actual, mut expected) = (Vec::new(), Vec::new());
    for at in places(inputs.len()) {
        let loss = |by: f32| {
            let mut moved = inputs.clone();
            moved[at] += by;
            finish(&spec, &start, &moved).0
        };
        actual.push(f64::from(at_input[at]));
        expected.push(slope(loss(-DISTANCE), loss(DISTANCE)));
    }
    let error = relative_error(&actual, &expected);
    assert!(error < 0.03, "input: {error}: {actual:?} instead of {expected:?}");

    for slot in state::slots(&spec, 1..spec.len(), 0) {
        if slot.tensor.role != partway_core::model::TensorRole::Trained {
            continue;
        }
        let (mut actual, mut expected) = (Vec::new(), Vec::new());
        for at in places(slot.values.len()).map(|place| slot.values.start + place) {
            let loss = |by: f32| {
                let mut moved = start.clone();
                moved.values[at] += by;
                finish(&spec, &moved, &inputs).0
            };
            actual.push(f64::from(start.values[at]) - f64::from(after.values[at]));
            expected.push(slope(loss(-DISTANCE), loss(DISTANCE)));
        }
        let error = relative_error(&actual, &expected);
        let name = slot.tensor.name;
        assert!(error < 0.03, "{name}: {error}: {actual:?} instead of {expected:?}");
    }
}

#[test]
fn convolution() {
    check([2, 5, 5], 3, vec![conv([2, 4], 3, 1, 1), Flatten, linear(100, 3)]);
    check([2, 7, 7], 3, vec![conv([2, 3], 3, 2, 0), Flatten, linear(27, 3)]);
}

#[test]
fn grouped_convolution() {
    let grouped =
        Conv2d { in_channels: 4, out_channels: 4, kernel: 3, stride: 1, padding: 1, groups: 4, bias: true };
    check([4, 4, 4], 3, vec![grouped, Flatten, linear(64, 3)]);
}

#[test]
fn batch_norm() {
    check([3, 4, 4], 3, vec![BatchNorm2d { channels: 3 }, Flatten, linear(48, 3)]);
}

#[test]
fn group_norm() {
    check([4, 4, 4], 3, vec![GroupNorm { channels: 4, groups: 2 }, Flatten, linear(64, 3)]);
}

#[test]
fn local_response_norm() {
    let norm = LocalResponseNorm { size: 3, alpha: 2.0, beta: 0.75, k: 1.0 };
    check([5, 3, 3], 3, vec![norm, Flatten, linear(45, 3)]);
}

#[test]
fn gelu_and_relu6() {
    check([1, 3, 3], 3, vec![Gelu, Flatten, linear(9, 12), Gelu, linear(12, 3)]);
    check([1, 3, 3], 3, vec![Flatten, linear(9, 12), Relu6, linear(12, 3)]);
}

#[test]
fn linear_and_relu() {
    check([1, 3, 3], 3, vec![Flatten, linear(9, 12), Relu, linear(12, 3)]);
}

#[test]
fn pools() {
    check([2, 6, 6], 3, vec![max_pool(), Flatten, linear(18, 3)]);
    check([2, 6, 6], 3, vec![AvgPool2d { kernel: 3, stride: 3, padding: 0 }, Flatten, linear(8, 3)]);
    check([2, 6, 6], 3, vec![AvgPool2d { kernel: 3, stride: 2, padding: 1 }, Flatten, linear(18, 3)]);
    check([2, 6, 6], 3, vec![MaxPool2d { kernel: 3, stride: 2, padding: 1 }, Flatten, linear(18, 3)]);
    check([3, 4, 4], 3, vec![GlobalAvgPool, Flatten, linear(3, 3)]);
}

#[test]
fn dropout() {
    check([2, 4, 4], 3, vec![Dropout { p: 0.4 }, Flatten, Dropout { p: 0.3 }, linear(32, 3)]);
}

#[test]
fn residual_blocks() {
    let block = |in_channels, out_channels, stride| Residual { in_channels, out_channels, stride };
    check([3, 4, 4], 3, vec![block(3, 3, 1), Flatten, linear(48, 3)]);
    check([2, 4, 4], 3, vec![block(2, 4, 2), Flatten, linear(16, 3)]);
}

#[test]
fn inverted_residual_blocks() {
    let block = |in_channels, out_channels, stride, expansion| InvertedResidual {
        in_channels,
        out_channels,
        stride,
        expansion,
    };
    check([3, 4, 4], 3, vec![block(3, 3, 1, 3), Flatten, linear(48, 3)]);
    check([2, 4, 4], 3, vec![block(2, 4, 2, 2), Flatten, linear(16, 3)]);
    check([2, 4, 4], 3, vec![block(2, 3, 1, 1), Flatten, linear(48, 3)]);
}
