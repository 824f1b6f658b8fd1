//! Micro-batches: the gradients of a batch's equal parts add up to the batch's.

use std::ops::Range;
use std::sync::Arc;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::state::slots;
use partway_core::model::{LayerOp, LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_model::{BatchError, Half, Outcome, Pending, StepContext};

use crate::exactness::{assert_same_bits, joined, split_at, split_step, unsplit};
use crate::models::{
    ADAM, SGD, batch, conv, initial, lenet5, linear, max_pool, mobile_net, model, one_thread, residual_net,
    step, vgg5,
};

const STEPS: u64 = 3;
const SIZE: usize = 12;

/// One step in `of` parts, as edge and cloud take it: all parts go forward before the first comes back. Gives the mean
/// loss and how many were right.
pub(crate) fn split_step_in_parts(
    edge: &mut Half,
    cloud: &mut Half,
    step: &StepContext,
    of: u32,
) -> (f32, usize) {
    let (inputs, labels) = batch(edge.spec(), step);
    let len = inputs.len() / step.batch;
    let parts: Vec<StepContext> =
        (0..of).map(|index| StepContext { micro_batch: MicroBatch { index, of }, ..*step }).collect();
    let forward = |part: &StepContext| -> (Pending, Vec<f32>) {
        let samples = part.micro_batch.range(step.batch);
        edge.forward(inputs[len * samples.start..len * samples.end].to_vec(), part).expect("good samples")
    };
    let on_their_way: Vec<(Pending, Vec<f32>)> = parts.iter().map(forward).collect();
    let (mut loss, mut correct, mut pending) = (0.0, 0, Vec::new());
    for (part, (waits, activations)) in parts.iter().zip(on_their_way) {
        let labels = &labels[part.micro_batch.range(step.batch)];
        let outcome: Outcome = cloud.finish_step(activations, labels, part).expect("good activations");
        loss += outcome.loss / of as f32;
        correct += outcome.correct;
        pending.push((waits, outcome.gradient));
    }
    for (part, (waits, gradient)) in parts.iter().zip(pending) {
        if edge.layers().end > 0 {
            edge.backward(waits, gradient, part).expect("a good gradient");
        }
    }
    (loss, correct)
}

/// The difference of two states, over each tensor and moment: the largest in units of its largest value, and the
/// Euclidean norm in units of its norm.
pub(crate) fn distances(actual: &LayerState, expected: &LayerState, spec: &ModelSpec) -> (f64, f64) {
    assert_eq!(actual.layers, expected.layers);
    let slots = slots(spec, expected.layers.clone(), expected.moments);
    let runs = slots.into_iter().flat_map(|slot| std::iter::once(slot.values).chain(slot.moments));
    let of = |run: Range<usize>| {
        let expected = || expected.values[run.clone()].iter().map(|x| f64::from(*x));
        let off = || actual.values[run.clone()].iter().zip(expected()).map(|(a, e)| f64::from(*a) - e);
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0_f64, |m, x| m.max(x.abs()));
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let least = f64::MIN_POSITIVE;
        (
            most(&mut off()) / most(&mut expected()).max(least),
            norm(&mut off()) / norm(&mut expected()).max(least),
        )
    };
    runs.map(of).fold((0.0, 0.0), |all, one| (all.0.max(one.0), all.1.max(one.1)))
}

fn check(spec: &Arc<ModelSpec>, optimizer: Optimizer) {
    let compute = one_thread();
    let whole = unsplit(spec, optimizer, STEPS, SIZE);
    for (of, cut) in [(2, 1), (3, spec.len() / 2), (12, spec.len() - 1), (4, 0)] {
        let start = initial(spec, optimizer, &compute).into_state();
        let (mut edge, mut cloud) = split_at(spec, optimizer, start, cut, &compute);
        for (n, (_, outcome)) in (0..STEPS).zip(&whole) {
            let (loss, correct) = split_step_in_parts(&mut edge, &mut cloud, &step(n, SIZE), of);
            let off = f64::from((loss - outcome.loss).abs());
            assert!(off <= 1e-6 * f64::from(outcome.loss), "{of} parts, step {n}: {loss} {outcome:?}");
            assert_eq!(correct, outcome.correct);
        }
        let (largest, norm) = distances(&joined(edge, cloud), &whole[STEPS as usize - 1].0, spec);
        assert!(norm <= 1e-6, "{of} parts at cut {cut}: off by {norm:e}");
        // Adam divides by what a gradient usually is: one that is nothing but rounding counts as much as any.
        let is_sgd = matches!(optimizer, Optimizer::Sgd { .. });
        assert!(!is_sgd || largest <= 1e-6, "{of} parts at cut {cut}: one value is off by {largest:e}");
    }
}

/// Nothing in it normalizes over the batch; group norm, dropout on maps and on features.
fn with_dropout() -> Arc<ModelSpec> {
    use LayerOp::{Dropout, Flatten, GroupNorm, Relu};
    let ops = vec![
        conv([3, 8], 3, 1, 1),
        GroupNorm { channels: 8, groups: 2 },
        Dropout { p: 0.25 },
        max_pool(),
        Relu,
        Flatten,
        linear(8 * 6 * 6, 16),
        Dropout { p: 0.5 },
        linear(16, 5),
    ];
    model([3, 12, 12], 5, ops)
}

#[test]
fn parts_of_a_batch_train_what_the_whole_does() {
    for optimizer in [SGD, ADAM] {
        for spec in [lenet5(), vgg5(8), with_dropout()] {
            check(&spec, optimizer);
        }
    }
}

#[test]
fn frozen_layers_may_normalize_over_the_batch() {
    let spec = mobile_net();
    let normalizes =
        |spec: &ModelSpec| spec.layers.iter().skip(spec.frozen).any(|layer| layer.op.normalizes_over_batch());
    assert!(normalizes(&spec));
    let frozen = crate::models::frozen_model(&spec, spec.len() - 1);
    assert!(!normalizes(&frozen));
    check(&frozen, SGD);
}

#[test]
fn one_part_is_the_whole_bit_for_bit() {
    let (spec, compute) = (residual_net(), one_thread());
    let expected = unsplit(&spec, ADAM, STEPS, SIZE).pop().expect("there were steps").0;
    let start = initial(&spec, ADAM, &compute).into_state();
    let (mut edge, mut cloud) = split_at(&spec, ADAM, start, 4, &compute);
    for n in 0..STEPS {
        split_step(&mut edge, &mut cloud, &step(n, SIZE));
    }
    assert_same_bits(&joined(edge, cloud), &expected, "one micro-batch");
}

#[test]
fn nothing_changes_before_the_last_part_and_a_step_given_up_leaves_nothing_behind() {
    let (spec, compute) = (lenet5(), one_thread());
    let start = initial(&spec, ADAM, &compute).into_state();
    let mut abandoned = crate::models::half(&spec, ADAM, start.clone(), &compute);
    let context = step(0, SIZE);
    let (inputs, labels) = batch(&spec, &context);
    let half_a_batch = inputs[..inputs.len() / 2].to_vec();
    let first = StepContext { micro_batch: MicroBatch { index: 0, of: 2 }, ..context };
    abandoned.local_step(half_a_batch, &labels[..SIZE / 2], &first).expect("a good part");
    assert_same_bits(&abandoned.state(), &start, "after the first of two");
    abandoned.local_step(inputs.clone(), &labels, &context).expect("a good batch");
    let mut other = crate::models::half(&spec, ADAM, start, &compute);
    other.local_step(inputs, &labels, &context).expect("a good batch");
    assert_same_bits(&abandoned.state(), &other.state(), "after a step that was given up");
}

#[test]
fn parts_out_of_order_and_of_models_that_see_the_whole_batch_are_refused() {
    let compute = one_thread();
    let refuse = |spec: &Arc<ModelSpec>, micro_batch: MicroBatch| {
        let mut half = initial(spec, SGD, &compute);
        let context = StepContext { micro_batch, ..step(0, SIZE) };
        let (inputs, labels) = batch(spec, &context);
        let samples = if micro_batch.of == 0 { 0 } else { context.samples() };
        let len = inputs.len() / SIZE;
        let refused = half.local_step(inputs[..samples * len].to_vec(), &labels[..samples], &context);
        refused.expect_err("it is no part of a batch").problem
    };
    let third = MicroBatch { index: 2, of: 3 };
    assert_eq!(refuse(&lenet5(), third), BatchError::Turn { due: 0, came: 2 });
    assert_eq!(refuse(&lenet5(), MicroBatch { index: 0, of: 5 }), BatchError::Parts { batch: SIZE, of: 5 });
    let normalizes = refuse(&residual_net(), MicroBatch { index: 0, of: 2 });
    assert_eq!(normalizes, BatchError::NormalizesOverBatch { layer: 1, of: 2 });
}
