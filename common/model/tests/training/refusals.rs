//! Bad input is refused with a typed error before anything changes.

use partway_core::model::LayerOp::{BatchNorm2d, Flatten, GlobalAvgPool};
use partway_core::model::LayerState;
use partway_core::optimizer::Optimizer;
use partway_model::{BatchError, Half, HalfError, Pending, StepContext, StepError};

use crate::models::{ADAM, SGD, batch, half, initial, lenet5, linear, model, one_thread, step};

fn halves() -> (Half, Half) {
    let (spec, compute) = (lenet5(), one_thread());
    let mut state = initial(&spec, SGD, &compute).into_state();
    let rest = state.split_off(&spec, 3);
    (half(&spec, SGD, state, &compute), half(&spec, SGD, rest, &compute))
}

fn forward(edge: &Half) -> (Pending, Vec<f32>, Vec<u32>) {
    let (inputs, labels) = batch(edge.spec(), &step(0, 4));
    let (pending, activations) = edge.forward(inputs, &step(0, 4)).expect("a good batch");
    (pending, activations, labels)
}

#[test]
fn the_cloud_refuses_bad_activations_and_labels() {
    let (edge, mut cloud) = halves();
    let (_, activations, labels) = forward(&edge);
    let before = cloud.state();
    let mut refuse = |activations: Vec<f32>, labels: &[u32], context: StepContext| {
        let error = cloud.finish_step(activations, labels, &context).expect_err("it is bad");
        assert_eq!(cloud.state(), before, "{error}");
        assert_eq!((error.edge.as_str(), error.step), ("camera-0", 0));
        error.problem
    };
    let good = step(0, 4);
    assert!(matches!(
        refuse(activations[1..].to_vec(), &labels, good),
        BatchError::Length { what: "activations", cut: 3, samples: 4, actual: 4703, .. }
    ));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut spoilt = activations.clone();
        spoilt[77] = bad;
        assert!(matches!(refuse(spoilt, &labels, good), BatchError::NonFinite { index: 77, .. }));
    }
    assert_eq!(refuse(activations.clone(), &labels[1..], good), BatchError::Labels { samples: 4, actual: 3 });
    let label = BatchError::Label { index: 1, label: 10, classes: 10 };
    assert_eq!(refuse(activations.clone(), &[0, 10, 0, 0], good), label);
    let unfit = StepContext { batch: 5, ..good };
    assert!(matches!(refuse(activations.clone(), &labels, unfit), BatchError::Length { samples: 5, .. }));
    let overflowing = StepContext { batch: usize::MAX, ..good };
    assert!(matches!(refuse(activations.clone(), &labels, overflowing), BatchError::Length { .. }));
    assert_eq!(refuse(Vec::new(), &[], StepContext { batch: 0, ..good }), BatchError::Empty);
    let zeroth = StepContext { optimizer_step: 0, ..good };
    assert_eq!(refuse(activations, &labels, zeroth), BatchError::OptimizerStep);
}

#[test]
fn a_loss_that_is_not_finite_is_not_trained_on() {
    let (spec, compute) = (model([1, 1, 2], 2, vec![Flatten, linear(2, 2)]), one_thread());
    let mut state = LayerState::initial(&spec, 0..2, 1, 1);
    state.values[0] = f32::MAX;
    let mut half = half(&spec, SGD, state.clone(), &compute);
    let error = half.local_step(vec![9.0, 9.0], &[1], &step(0, 1)).expect_err("the logit overflows");
    assert!(matches!(error.problem, BatchError::Diverged { .. }), "{error}");
    assert_eq!(half.into_state(), state);
}

#[test]
fn the_edge_refuses_bad_gradients() {
    let (mut edge, _) = halves();
    let before = edge.state();
    let mut refuse = |spoil: fn(&mut Vec<f32>)| {
        let (pending, mut gradient, _) = forward(&edge);
        spoil(&mut gradient);
        let error = edge.backward(pending, gradient, &step(0, 4)).expect_err("it is bad");
        assert_eq!(edge.state(), before, "{error}");
        error.problem
    };
    assert!(matches!(refuse(|g| g.truncate(5)), BatchError::Length { what: "gradients", cut: 3, .. }));
    assert!(matches!(refuse(|g| g[9] = f32::NAN), BatchError::NonFinite { what: "gradients", index: 9, .. }));
}

#[test]
fn halves_refuse_each_others_calls() {
    let (mut edge, mut cloud) = halves();
    let (inputs, labels) = batch(edge.spec(), &step(0, 4));
    let layers = |result: Result<(), StepError>| {
        assert!(matches!(result.expect_err("wrong half").problem, BatchError::Layers { .. }));
    };
    layers(edge.finish_step(inputs.clone(), &labels, &step(0, 4)).map(drop));
    layers(edge.local_step(inputs.clone(), &labels, &step(0, 4)).map(drop));
    layers(cloud.local_step(inputs.clone(), &labels, &step(0, 4)).map(drop));
    let error = cloud.forward(inputs, &step(0, 4)).expect_err("these are samples");
    assert!(matches!(error.problem, BatchError::Length { what: "activations", cut: 3, .. }), "{error}");
    let (pending, gradient, _) = forward(&edge);
    let error = cloud.backward(pending, gradient, &step(0, 4)).expect_err("it is of the edge");
    assert_eq!(error.problem, BatchError::Pending { pending: 0..3, layers: 3..12 });
}

#[test]
fn one_value_per_channel_has_no_variance() {
    let ops = vec![GlobalAvgPool, BatchNorm2d { channels: 2 }, Flatten, linear(2, 2)];
    let spec = model([2, 3, 3], 2, ops);
    let mut whole = initial(&spec, SGD, &one_thread());
    let (inputs, labels) = batch(&spec, &step(0, 1));
    let error = whole.local_step(inputs, &labels, &step(0, 1)).expect_err("no variance");
    assert_eq!(error.problem, BatchError::OneValuePerChannel { layer: 1 });
    let (inputs, labels) = batch(&spec, &step(0, 2));
    assert!(whole.local_step(inputs, &labels, &step(0, 2)).is_ok());
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let (spec, compute) = (lenet5(), one_thread());
    let state = LayerState::initial(&spec, 0..12, 1, 1);
    let refuse = |state: LayerState, optimizer: Optimizer| {
        Half::from_state(&spec, optimizer, state, &compute).expect_err("it does not fit")
    };
    assert!(matches!(refuse(state.clone(), ADAM), HalfError::Moments { expected: 2, actual: 1, .. }));
    let mut short = state.clone();
    short.values.pop();
    assert!(matches!(refuse(short, SGD), HalfError::Length(_)));
    #[expect(clippy::reversed_empty_ranges, reason = "it is what must be refused")]
    for layers in [0..13, 5..4] {
        assert!(matches!(refuse(LayerState { layers, ..state.clone() }, SGD), HalfError::Layers { .. }));
    }
}

#[test]
fn errors_say_where_and_what() {
    let (_, mut cloud) = halves();
    let error = cloud.finish_step(vec![0.0; 7], &[0; 4], &step(12, 4)).expect_err("too short");
    assert_eq!(
        error.to_string(),
        "edge `camera-0`, step 12: 7 activations at cut 3, but each of the 4 samples has [6, 14, 14] there: \
         check that both sides use the same cut and batch size"
    );
}
