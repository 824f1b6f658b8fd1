//! Split training is unsplit training, bit for bit.

use std::sync::Arc;

use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::random;
use partway_model::{Compute, Half, Outcome, StepContext};

use crate::models::{
    ADAM, SEED, SGD, batch, half, initial, lenet5, mobile_net, one_thread, residual_net, step, vgg5,
};

const STEPS: u64 = 3;

/// A state's bits: unlike its values, they tell zeros of different sign apart.
fn bits(state: &LayerState) -> Vec<u32> {
    state.values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
pub(crate) fn assert_same_bits(actual: &LayerState, expected: &LayerState, what: &str) {
    assert_eq!((&actual.layers, actual.moments), (&expected.layers, expected.moments), "{what}");
    let differing = bits(actual).iter().zip(bits(expected)).filter(|(a, e)| **a != *e).count();
    assert_eq!((actual.values.len(), differing), (expected.values.len(), 0), "{what}: values that differ");
}

fn unsplit_step(whole: &mut Half, step: &StepContext) -> Outcome {
    let (inputs, labels) = batch(whole.spec(), step);
    whole.local_step(inputs, &labels, step).expect("a good batch")
}

pub(crate) fn split_step(edge: &mut Half, cloud: &mut Half, step: &StepContext) -> Outcome {
    let (inputs, labels) = batch(edge.spec(), step);
    let (pending, activations) = edge.forward(inputs, step).expect("a good batch");
    let outcome = cloud.finish_step(activations, &labels, step).expect("good activations");
    if edge.layers().end > 0 {
        edge.backward(pending, outcome.gradient.clone(), step).expect("a good gradient");
    }
    outcome
}

pub(crate) fn split_at(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    mut state: LayerState,
    cut: usize,
    compute: &Compute,
) -> (Half, Half) {
    let rest = state.split_off(spec, cut);
    (half(spec, optimizer, state, compute), half(spec, optimizer, rest, compute))
}

pub(crate) fn joined(edge: Half, cloud: Half) -> LayerState {
    let mut state = edge.into_state();
    state.append(cloud.into_state());
    state
}

/// Unsplit training: the state after each step, and the outcomes.
pub(crate) fn unsplit(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    steps: u64,
    size: usize,
) -> Vec<(LayerState, Outcome)> {
    let mut whole = initial(spec, optimizer, &one_thread());
    (0..steps)
        .map(|n| {
            let outcome = unsplit_step(&mut whole, &step(n, size));
            (whole.state(), outcome)
        })
        .collect()
}

/// Every cut, the two ends included.
pub(crate) fn check_every_cut(spec: &Arc<ModelSpec>, size: usize) {
    let compute = one_thread();
    for optimizer in [SGD, ADAM] {
        let expected = unsplit(spec, optimizer, STEPS, size);
        for cut in 0..spec.len() {
            let start = initial(spec, optimizer, &compute).into_state();
            let (mut edge, mut cloud) = split_at(spec, optimizer, start, cut, &compute);
            for (n, (state, outcome)) in (0..).zip(&expected) {
                let what = format!("{optimizer:?}, cut {cut}, step {n}");
                let split = split_step(&mut edge, &mut cloud, &step(n, size));
                assert_eq!(split.loss.to_bits(), outcome.loss.to_bits(), "{what}: the loss differs");
                assert_eq!(split.correct, outcome.correct, "{what}");
                assert_same_bits(&joined(edge.clone(), cloud.clone()), state, &what);
            }
        }
    }
}

#[test]
fn lenet5_is_the_same_at_every_cut() {
    check_every_cut(&lenet5(), 5);
}

#[test]
fn vgg5_is_the_same_at_every_cut() {
    check_every_cut(&vgg5(16), 4);
}

#[test]
fn batch_norm_and_dropout_are_the_same_at_every_cut() {
    check_every_cut(&residual_net(), 6);
}

#[test]
fn the_other_kinds_are_the_same_at_every_cut() {
    check_every_cut(&mobile_net(), 5);
}

#[test]
fn a_cut_that_moves_every_step_changes_nothing() {
    let compute = one_thread();
    for (spec, size) in [(lenet5(), 5), (residual_net(), 6), (mobile_net(), 4)] {
        for optimizer in [SGD, ADAM] {
            let steps = 8;
            let expected = unsplit(&spec, optimizer, steps, size);
            let mut state = initial(&spec, optimizer, &compute).into_state();
            let mut cuts = random::stream(SEED, &["test", "cuts"]);
            for (n, (expected, _)) in (0..steps).zip(&expected) {
                let cut = random::below(&mut cuts, spec.len() as u64) as usize;
                let (mut edge, mut cloud) = split_at(&spec, optimizer, state, cut, &compute);
                split_step(&mut edge, &mut cloud, &step(n, size));
                state = joined(edge, cloud);
                assert_same_bits(&state, expected, &format!("{optimizer:?}, step {n} at cut {cut}"));
            }
        }
    }
}

#[test]
fn a_restored_state_repeats_the_same_bits() {
    let (spec, compute) = (residual_net(), one_thread());
    let mut whole = initial(&spec, ADAM, &compute);
    unsplit_step(&mut whole, &step(0, 6));
    let kept = whole.state();
    unsplit_step(&mut whole, &step(1, 6));
    let mut restored = half(&spec, ADAM, kept.clone(), &compute);
    assert_same_bits(&restored.state(), &kept, "restoring");
    unsplit_step(&mut restored, &step(1, 6));
    assert_same_bits(&restored.state(), &whole.state(), "repeating");
}

#[test]
fn a_dropped_step_leaves_no_trace() {
    let (spec, compute) = (residual_net(), one_thread());
    let start = initial(&spec, SGD, &compute).into_state();
    let (mut edge, mut cloud) = split_at(&spec, SGD, start.clone(), 7, &compute);
    let (inputs, _) = batch(&spec, &step(0, 6));
    let (pending, activations) = edge.forward(inputs.clone(), &step(0, 6)).expect("a good batch");
    drop(pending);
    let (_again, repeated) = edge.forward(inputs, &step(0, 6)).expect("a good batch");
    assert_eq!(repeated, activations);
    assert_same_bits(&joined(edge.clone(), cloud.clone()), &start, "two dropped forward passes");
    split_step(&mut edge, &mut cloud, &step(0, 6));
    let expected = unsplit(&spec, SGD, 1, 6);
    assert_same_bits(&joined(edge, cloud), &expected[0].0, "the step after them");
}

#[test]
fn threads_change_nothing() {
    // Large enough for the kernels that split their work.
    for (spec, size) in [(vgg5(32), 8), (residual_net(), 64), (mobile_net(), 64)] {
        let mut halves = [1, 2, 3].map(|threads| {
            let compute = Compute::cpu(threads).expect("a few threads");
            initial(&spec, SGD, &compute)
        });
        for half in &mut halves {
            for n in 0..2 {
                unsplit_step(half, &step(n, size));
            }
        }
        let [one, two, three] = halves.map(Half::into_state);
        assert_same_bits(&two, &one, "two threads");
        assert_same_bits(&three, &one, "three threads");
    }
}

#[test]
fn a_cloned_half_goes_its_own_way() {
    let (spec, compute) = (lenet5(), one_thread());
    let mut whole = initial(&spec, SGD, &compute);
    let kept = whole.clone();
    unsplit_step(&mut whole, &step(0, 5));
    let start = initial(&spec, SGD, &compute).into_state();
    assert_same_bits(&kept.state(), &start, "the clone");
    assert_ne!(whole.state(), start, "the step must have changed something");
}

#[test]
fn other_edges_and_steps_draw_other_dropout() {
    let (spec, compute) = (residual_net(), one_thread());
    let whole = initial(&spec, SGD, &compute);
    let (inputs, labels) = batch(&spec, &step(0, 6));
    let loss = |edge: &str, n: u64| {
        let context = StepContext { edge, step: n, ..step(0, 6) };
        whole.clone().local_step(inputs.clone(), &labels, &context).expect("a good batch").loss
    };
    assert_eq!(loss("a", 0).to_bits(), loss("a", 0).to_bits());
    assert_ne!(loss("a", 0).to_bits(), loss("b", 0).to_bits());
    assert_ne!(loss("a", 0).to_bits(), loss("a", 1).to_bits());
}
