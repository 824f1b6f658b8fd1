//! With the labels on the edge a step visits edge, cloud, edge, cloud, edge: it is the same step, bit
//! for bit.

use std::sync::Arc;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::random;
use partway_model::{BatchError, Compute, Half, Outcome, StepContext};

use crate::exactness::{assert_same_bits, joined, split_at, unsplit};
use crate::micro_batches::{distances, split_step_in_parts};
use crate::models::{
    ADAM, SEED, SGD, batch, frozen_model, half, initial, lenet5, one_thread, residual_net, step, vgg5,
};

const STEPS: u64 = 2;

/// `[0, cut)` and `[tail, L)` on the edge, `[cut, tail)` in the cloud.
struct Parts {
    head: Half,
    cloud: Half,
    tail: Half,
}

impl Parts {
    fn of(spec: &Arc<ModelSpec>, optimizer: Optimizer, mut state: LayerState, at: [usize; 2]) -> Self {
        let last = state.split_off(spec, at[1]);
        let middle = state.split_off(spec, at[0]);
        let part = |state| half(spec, optimizer, state, &one_thread());
        Self { head: part(state), cloud: part(middle), tail: part(last) }
    }

    fn step(&mut self, step: &StepContext) -> Outcome {
        let (inputs, labels) = batch(self.head.spec(), step);
        let (pending, smashed) = self.head.forward(inputs, step).expect("a good batch");
        let (passed, activations) = self.cloud.forward(smashed, step).expect("good activations");
        let outcome = self.tail.finish_step(activations, &labels, step).expect("good activations");
        let at_cut = self.cloud.backward(passed, outcome.gradient.clone(), step).expect("a good gradient");
        if self.head.layers().end > 0 {
            self.head.backward(pending, at_cut, step).expect("a good gradient");
        }
        outcome
    }

    /// A step in `of` parts, of which all go forward before the first passes the last layers, and all pass these before
    /// the first comes back. Gives the mean loss and how many were right.
    fn step_in_parts(&mut self, step: &StepContext, of: u32) -> (f32, usize) {
        let (inputs, labels) = batch(self.head.spec(), step);
        let len = inputs.len() / step.batch;
        let parts: Vec<StepContext> =
            (0..of).map(|index| StepContext { micro_batch: MicroBatch { index, of }, ..*step }).collect();
        let mut on_their_way = Vec::new();
        for part in &parts {
            let samples = part.micro_batch.range(step.batch);
            let inputs = inputs[len * samples.start..len * samples.end].to_vec();
            let (pending, smashed) = self.head.forward(inputs, part).expect("good samples");
            let (passed, activations) = self.cloud.forward(smashed, part).expect("good activations");
            on_their_way.push((pending, passed, activations));
        }
        let (mut loss, mut correct, mut gradients) = (0.0, 0, Vec::new());
        for (part, (pending, passed, activations)) in parts.iter().zip(on_their_way) {
            let labels = &labels[part.micro_batch.range(step.batch)];
            let outcome = self.tail.finish_step(activations, labels, part).expect("good activations");
            loss += outcome.loss / of as f32;
            correct += outcome.correct;
            gradients.push((pending, passed, outcome.gradient));
        }
        for (part, (pending, passed, gradient)) in parts.iter().zip(gradients) {
            let at_cut = self.cloud.backward(passed, gradient, part).expect("a good gradient");
            if self.head.layers().end > 0 {
                self.head.backward(pending, at_cut, part).expect("a good gradient");
            }
        }
        (loss, correct)
    }

    fn into_state(self) -> LayerState {
        let mut state = self.head.into_state();
        state.append(self.cloud.into_state());
        state.append(self.tail.into_state());
        state
    }
}

/// Every cut before some tails, the first layer and the last among them.
fn check_cuts(spec: &Arc<ModelSpec>, size: usize, tails: &[usize]) {
    let expected = [SGD, ADAM].map(|optimizer| unsplit(spec, optimizer, STEPS, size));
    for (optimizer, expected) in [SGD, ADAM].into_iter().zip(&expected) {
        for (cut, tail) in tails.iter().flat_map(|tail| (0..*tail).map(move |cut| (cut, *tail))) {
            let start = initial(spec, optimizer, &one_thread()).into_state();
            let mut parts = Parts::of(spec, optimizer, start, [cut, tail]);
            let what = format!("{optimizer:?}, cut {cut}, tail {tail}");
            for (n, (_, outcome)) in (0..).zip(expected) {
                let actual = parts.step(&step(n, size));
                assert_eq!(actual.loss.to_bits(), outcome.loss.to_bits(), "{what}: the loss differs");
                assert_eq!(actual.correct, outcome.correct, "{what}");
            }
            assert_same_bits(&parts.into_state(), &expected[expected.len() - 1].0, &what);
        }
    }
}

#[test]
fn lenet5_is_the_same_with_the_labels_on_the_edge() {
    check_cuts(&lenet5(), 5, &[11, 9, 4]);
}

#[test]
fn vgg5_is_the_same_with_the_labels_on_the_edge() {
    check_cuts(&vgg5(16), 4, &[11]);
}

#[test]
fn batch_norm_and_dropout_are_the_same_with_the_labels_on_the_edge() {
    check_cuts(&residual_net(), 6, &[13, 11, 6]);
}

/// Nobody needs a gradient where nothing is trained before.
#[test]
fn frozen_layers_are_the_same_with_the_labels_on_the_edge() {
    for frozen in [2, 7, 13] {
        check_cuts(&frozen_model(&residual_net(), frozen), 6, &[13, 6]);
    }
}

#[test]
fn a_cut_that_moves_every_step_changes_nothing_with_the_labels_on_the_edge() {
    let (spec, size, steps) = (residual_net(), 6, 8);
    for optimizer in [SGD, ADAM] {
        let expected = unsplit(&spec, optimizer, steps, size);
        let mut state = initial(&spec, optimizer, &one_thread()).into_state();
        let mut cuts = random::stream(SEED, &["test", "cuts"]);
        for (n, (expected, _)) in (0..steps).zip(&expected) {
            let cut = random::below(&mut cuts, 13) as usize;
            let mut parts = Parts::of(&spec, optimizer, state, [cut, 13]);
            parts.step(&step(n, size));
            state = parts.into_state();
            assert_same_bits(&state, expected, &format!("{optimizer:?}, step {n} at cut {cut}"));
        }
    }
}

/// A cloud worker goes on with what another has begun.
#[test]
fn a_pass_may_go_back_on_other_threads_than_it_came() {
    let spec = residual_net();
    let start = initial(&spec, SGD, &one_thread()).into_state();
    let mut parts = Parts::of(&spec, SGD, start, [3, 13]);
    let (inputs, labels) = batch(&spec, &step(0, 6));
    let (pending, smashed) = parts.head.forward(inputs, &step(0, 6)).expect("a good batch");
    let (passed, activations) = parts.cloud.forward(smashed, &step(0, 6)).expect("good activations");
    let outcome = parts.tail.finish_step(activations, &labels, &step(0, 6)).expect("good activations");
    parts.cloud.move_to(&Compute::cpu(2).expect("two threads"));
    let at_cut = parts.cloud.backward(passed, outcome.gradient, &step(0, 6)).expect("a good gradient");
    parts.head.backward(pending, at_cut, &step(0, 6)).expect("a good gradient");
    assert_same_bits(&parts.into_state(), &unsplit(&spec, SGD, 1, 6)[0].0, "on two threads");
}

#[test]
fn the_layers_between_refuse_bad_gradients_and_are_as_they_were() {
    let spec = lenet5();
    let start = initial(&spec, SGD, &one_thread()).into_state();
    let mut parts = Parts::of(&spec, SGD, start, [3, 11]);
    let before = parts.cloud.state();
    let mut refuse = |gradient: Vec<f32>| {
        let (passed, _) =
            parts.cloud.forward(vec![0.5; 4 * 6 * 14 * 14], &step(0, 4)).expect("good activations");
        let error = parts.cloud.backward(passed, gradient, &step(0, 4)).expect_err("it is bad");
        assert_eq!(parts.cloud.state(), before, "{error}");
        error.problem
    };
    assert!(matches!(refuse(vec![0.0; 7]), BatchError::Length { what: "gradients", cut: 11, .. }));
    assert!(matches!(
        refuse(vec![f32::NAN; 4 * 84]),
        BatchError::NonFinite { what: "gradients", cut: 11, .. }
    ));
}

/// Parts add up in their order on every layer, wherever it is: to the bits of two halves, and to the batch's up to rounding.
#[test]
fn parts_of_a_batch_train_what_they_do_with_the_labels_in_the_cloud() {
    let (size, compute) = (12, one_thread());
    for (spec, tail) in [(lenet5(), 11), (vgg5(8), 11), (lenet5(), 4)] {
        for (optimizer, of, cut) in [(SGD, 2, 1), (ADAM, 3, 2), (SGD, 12, 3), (SGD, 4, 0)] {
            let start = || initial(&spec, optimizer, &compute).into_state();
            let (mut edge, mut cloud) = split_at(&spec, optimizer, start(), cut, &compute);
            let mut parts = Parts::of(&spec, optimizer, start(), [cut, tail]);
            let whole = unsplit(&spec, optimizer, STEPS, size);
            for n in 0..STEPS {
                let expected = split_step_in_parts(&mut edge, &mut cloud, &step(n, size), of);
                let actual = parts.step_in_parts(&step(n, size), of);
                assert_eq!(
                    actual.0.to_bits(),
                    expected.0.to_bits(),
                    "{of} parts, step {n}: the loss differs"
                );
                assert_eq!(actual.1, expected.1);
            }
            let what = format!("{optimizer:?}, {of} parts, cut {cut}, tail {tail}");
            let state = parts.into_state();
            assert_same_bits(&state, &joined(edge, cloud), &what);
            let (_, norm) = distances(&state, &whole[whole.len() - 1].0, &spec);
            assert!(norm <= 1e-6, "{what}: off by {norm:e}");
        }
    }
}
