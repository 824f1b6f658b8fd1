//! Warming up leaves nothing behind but a warm process.

use partway_core::micro_batch::MicroBatch;
use partway_model::{Half, StepContext};

use crate::exactness::assert_same_bits;
use crate::models::{ADAM, SGD, batch, frozen_model, half, initial, one_thread, residual_net, step, vgg5};

const BATCH: usize = 4;

fn train(half: &mut Half, context: &StepContext) {
    let (inputs, labels) = batch(half.spec(), context);
    let len = inputs.len() / context.batch;
    let samples = context.micro_batch.range(context.batch);
    let inputs = inputs[len * samples.start..len * samples.end].to_vec();
    half.local_step(inputs, &labels[samples], context).expect("a good batch");
}

#[test]
fn steps_are_the_same_behind_it() {
    let residual = residual_net();
    for spec in [&vgg5(8), &residual, &frozen_model(&residual, 4)] {
        for optimizer in [SGD, ADAM] {
            let mut usual = initial(spec, optimizer, &one_thread());
            let mut warmed = initial(spec, optimizer, &one_thread());
            for n in 0..2 {
                warmed.warm_up(&step(n, BATCH)).expect("a good step");
                assert_same_bits(&warmed.state(), &usual.state(), "before a step");
                train(&mut usual, &step(n, BATCH));
                train(&mut warmed, &step(n, BATCH));
            }
            assert_same_bits(&warmed.into_state(), &usual.into_state(), "at the end");
        }
    }
}

#[test]
fn a_step_goes_on_behind_it() {
    let mut usual = initial(&vgg5(8), SGD, &one_thread());
    let mut warmed = usual.clone();
    for index in 0..2 {
        let context = StepContext { micro_batch: MicroBatch { index, of: 2 }, ..step(0, BATCH) };
        train(&mut usual, &context);
        train(&mut warmed, &context);
        warmed.warm_up(&context).expect("a good step");
    }
    assert_same_bits(&warmed.into_state(), &usual.into_state(), "at the end");
}

#[test]
fn any_layers_can_be_warmed() {
    let spec = residual_net();
    for start in 0..=spec.len() {
        for end in start..=spec.len() {
            let whole = initial(&spec, SGD, &one_thread()).into_state();
            let part = half(&spec, SGD, whole.slice(&spec, start..end), &one_thread());
            part.warm_up(&step(0, BATCH)).unwrap_or_else(|error| panic!("layers {start}..{end}: {error}"));
        }
    }
}

#[test]
fn samples_are_needed() {
    let error = initial(&vgg5(8), SGD, &one_thread()).warm_up(&step(0, 0)).expect_err("no samples");
    assert!(error.to_string().contains("the batch is empty"), "{error}");
}
