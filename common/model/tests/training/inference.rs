//! Evaluation uses running statistics, leaves dropout out and changes nothing.

use partway_core::model::LayerOp::{BatchNorm2d, Dropout, Flatten};
use partway_core::model::LayerState;
use partway_model::Evaluation;

use crate::models::{
    ADAM, SGD, batch, half, initial, linear, model, one_thread, residual_net, step, uniform,
};

#[test]
fn uses_running_statistics_and_no_dropout() {
    let spec =
        model([2, 1, 1], 2, vec![BatchNorm2d { channels: 2 }, Dropout { p: 0.5 }, Flatten, linear(2, 2)]);
    // Every trained tensor is followed by its momentum, which is zero.
    let (zero, one) = (vec![0.0; 2], vec![1.0; 2]);
    let gamma_beta = [one, zero.clone(), zero.clone(), zero.clone()].concat();
    let running = vec![3.0, 1.0, 4.0, 16.0];
    let identity = [vec![1.0, 0.0, 0.0, 1.0], vec![0.0; 4], zero.clone(), zero].concat();
    let state = LayerState { layers: 0..4, moments: 1, values: [gamma_beta, running, identity].concat() };
    let half = half(&spec, SGD, state, &one_thread());
    // Normalized: (5 - 3) / 2 = 1 and (5 - 1) / 4 = 1: equal logits.
    let evaluation = half.evaluate(&[5.0, 5.0], &[1]).expect("a good sample");
    assert!((evaluation.loss_sum - 2f64.ln()).abs() < 1e-5, "{evaluation:?}");
    // (7 - 3) / 2 = 2 against 1.
    let evaluation = half.evaluate(&[7.0, 5.0, 7.0, 5.0], &[0, 1]).expect("two good samples");
    assert_eq!((evaluation.correct, evaluation.samples), (1, 2));
    let expected = 2.0 * (1f64.exp() + 2f64.exp()).ln() - 3.0;
    assert!((evaluation.loss_sum - expected).abs() < 1e-4, "{evaluation:?}");
    assert!((evaluation.accuracy() - 0.5).abs() < 1e-12);
}

#[test]
fn changes_nothing_and_adds_up_over_chunks() {
    let (spec, compute) = (residual_net(), one_thread());
    let whole = initial(&spec, SGD, &compute);
    let before = whole.state();
    // More than run through the layers at once.
    let samples = 300;
    let width: usize = spec.input.iter().product();
    let inputs = uniform(samples * width, "test set");
    let labels: Vec<u32> = (0..samples as u32).map(|n| n % 5).collect();
    let all = whole.evaluate(&inputs, &labels).expect("good samples");
    let mut sum = Evaluation::default();
    for (inputs, labels) in inputs.chunks(100 * width).zip(labels.chunks(100)) {
        sum += whole.evaluate(inputs, labels).expect("good samples");
    }
    assert_eq!((all.samples, all.correct), (sum.samples, sum.correct));
    assert!((all.mean_loss() - sum.mean_loss()).abs() < 1e-6);
    assert_eq!(whole.state(), before);
}

#[test]
fn a_server_side_model_evaluates_activations() {
    let (spec, compute) = (residual_net(), one_thread());
    let whole = initial(&spec, SGD, &compute);
    let mut edge = whole.state();
    let rest = edge.split_off(&spec, spec.len() - 1);
    let cloud = half(&spec, SGD, rest, &compute);
    let evaluation = cloud.evaluate(&uniform(16 * 4, "features"), &[0, 1, 2, 3]).expect("good features");
    assert_eq!(evaluation.samples, 4);
    let edge = half(&spec, SGD, edge, &compute);
    assert!(edge.evaluate(&[], &[]).is_err(), "a client-side model has no logits");
}

#[test]
fn no_samples_are_no_evaluation() {
    let evaluation =
        initial(&residual_net(), SGD, &one_thread()).evaluate(&[], &[]).expect("nothing is wrong");
    assert_eq!(evaluation, Evaluation::default());
    assert!(evaluation.accuracy().abs() < 1e-12 && evaluation.mean_loss().abs() < 1e-12);
}

#[test]
fn training_lowers_the_loss() {
    let (spec, compute) = (crate::models::lenet5(), one_thread());
    let mut whole = initial(&spec, ADAM, &compute);
    let (inputs, labels) = batch(&spec, &step(0, 16));
    let before = whole.evaluate(&inputs, &labels).expect("good samples");
    for n in 0..120 {
        whole.local_step(inputs.clone(), &labels, &step(n, 16)).expect("a good batch");
    }
    let after = whole.evaluate(&inputs, &labels).expect("good samples");
    assert!(after.mean_loss() < 0.2 * before.mean_loss(), "{before:?} {after:?}");
}
