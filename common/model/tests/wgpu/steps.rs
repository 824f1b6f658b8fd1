//! Whole steps.

use std::sync::Arc;

use partway_core::model::builtin::builtin;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_model::{Compute, Half, Kernels};

use crate::agreement::{Difference, ROUNDING, assert_agreement};
use crate::split::{SGD, Split, batch, context, cpu, gpu, initial, lenet5, models};

const ADAM: Optimizer =
    Optimizer::Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };

/// Batches among which one is looked for where rounding decides nothing.
const CANDIDATES: u64 = 64;

/// Batches of which, at the worst, a device differs as much as two sets of kernels on the CPU.
const COMPARED: u64 = 8;

/// Deep models decide so much in a step that few batches of several samples are clear of rounding.
fn samples(spec: &ModelSpec) -> usize {
    if is_deep(spec) { 1 } else { 4 }
}

fn is_deep(spec: &ModelSpec) -> bool {
    ["resnet18", "mobilenet-v2"].contains(&&*spec.name)
}

/// How far the first step on one device is from that on another.
fn difference(spec: &Arc<ModelSpec>, devices: [&Compute; 2], batch: u64) -> Difference {
    let [actual, expected] = devices.map(|compute| {
        let mut split = Split::new(spec, SGD, spec.len() / 2, compute, initial(spec, SGD));
        let (activations, outcome) = split.step(&context(batch, samples(spec)));
        (activations, outcome, split.state())
    });
    let mut difference = Difference::default();
    difference.forward(&actual.0, &expected.0);
    difference.forward(&[actual.1.loss], &[expected.1.loss]);
    difference.backward(&actual.1.gradient, &expected.1.gradient, "the cut gradient");
    difference.states(spec, &actual.2, &expected.2);
    difference
}

/// The CPU by this crate's kernels, and by burn's.
fn cpus() -> [Compute; 2] {
    [cpu(), cpu().with_kernels(Kernels::Burn)]
}

/// The whole step is compared where rounding decides nothing; two sets of kernels on the CPU tell where that is.
#[test]
fn every_built_in_model_takes_the_step_that_the_cpu_takes() {
    let (gpu, [own, burns]) = (gpu(), cpus());
    for spec in models() {
        let clear = (0..CANDIDATES).filter(|batch| difference(&spec, [&burns, &own], *batch).is_rounding());
        let what = format!("{} {:?}", spec.name, spec.input);
        assert_agreement(&what, clear, |batch| difference(&spec, [&gpu, &own], batch));
    }
}

/// Where rounding does decide something, gradients differ by far more than by rounding, and do so between any two ways
/// of computing them.
#[test]
fn deep_models_differ_no_more_than_two_sets_of_kernels_on_the_cpu() {
    let (gpu, [own, burns]) = (gpu(), cpus());
    for spec in models().into_iter().filter(|spec| is_deep(spec)) {
        let mut largest = [0.0f64; 2];
        for batch in 0..COMPARED {
            let differences = [&gpu, &burns].map(|compute| difference(&spec, [compute, &own], batch));
            println!("{} {:?}, batch {batch}: {differences:?}", spec.name, spec.input);
            assert!(differences[0].forward <= ROUNDING, "{differences:?}");
            largest = [0, 1].map(|way: usize| largest[way].max(differences[way].backward));
        }
        let [found, control] = largest;
        assert!(found <= ROUNDING.max(4.0 * control), "{}: {found}, on the CPU {control}", spec.name);
    }
}

#[test]
fn adam_takes_the_steps_that_the_cpu_takes() {
    let spec = lenet5();
    assert_agreement("Adam", 0.., |batch| {
        let [actual, expected] = [gpu(), cpu()].map(|compute| {
            let mut split = Split::new(&spec, ADAM, 3, &compute, initial(&spec, ADAM));
            (0..2).for_each(|n| drop(split.step(&context(2 * batch + n, 8))));
            split.state()
        });
        let mut difference = Difference::default();
        difference.states(&spec, &actual, &expected);
        difference
    });
}

#[test]
fn lenet5_is_the_same_at_every_cut() {
    let (spec, compute) = (lenet5(), gpu());
    let unsplit = {
        let mut whole = Half::from_state(&spec, SGD, initial(&spec, SGD), &compute).expect("the model's own");
        for n in 0..2 {
            let (inputs, labels) = batch(&spec, &context(n, 4));
            whole.local_step(inputs, &labels, &context(n, 4)).expect("a good batch");
        }
        whole.into_state()
    };
    let bits = |state: &LayerState| state.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for cut in 1..spec.len() {
        let mut split = Split::new(&spec, SGD, cut, &compute, initial(&spec, SGD));
        (0..2).for_each(|n| drop(split.step(&context(n, 4))));
        assert!(bits(&split.state()) == bits(&unsplit), "cut {cut}: the states differ");
    }
}

#[test]
fn evaluation_scores_as_the_cpu_does() {
    let spec = Arc::new(builtin("resnet18", [3, 32, 32], 10).expect("a documented input"));
    let (inputs, labels) = batch(&spec, &context(0, 8));
    let [actual, expected] = [gpu(), cpu()].map(|compute| {
        let whole =
            Half::from_state(&spec, SGD, initial(&spec, SGD), &compute).expect("the model's own state");
        whole.evaluate(&inputs, &labels).expect("good samples")
    });
    assert_eq!(actual.correct, expected.correct);
    assert!((actual.loss_sum / expected.loss_sum - 1.0).abs() <= ROUNDING, "{actual:?} {expected:?}");
}
