//! Calibration times every layer, soon enough.

use std::time::{Duration, Instant};

use partway_core::model::{LayerOp, ModelCost};
use partway_model::{LayerTiming, calibrate};

use crate::models::{SGD, lenet5, one_thread, residual_net};

#[test]
fn times_every_layer_at_every_batch_size() {
    let (spec, compute) = (residual_net(), one_thread());
    let budget = Duration::from_secs(20);
    let timings = calibrate(&spec, SGD, &[4, 2, 4, 0], budget, &compute).expect("the spec is whole");
    let keys: Vec<_> = timings.iter().map(|timing| (timing.batch, timing.layer)).collect();
    let expected: Vec<_> = [2, 4].iter().flat_map(|b| (0..spec.len()).map(move |l| (*b, l))).collect();
    assert_eq!(keys, expected);
    assert!(timings.iter().all(|timing| timing.forward_s >= 0.0 && timing.backward_s >= 0.0));
    let of = |layer: usize| -> &LayerTiming { &timings[spec.len() + layer] };
    // A residual block of two convolutions costs more than flattening.
    assert!(of(3).forward_s > of(9).forward_s, "{timings:?}");
    assert!(of(3).backward_s > of(9).backward_s, "{timings:?}");
}

#[test]
fn without_a_budget_it_times_the_smallest_batch_once() {
    let (spec, compute) = (lenet5(), one_thread());
    let begun = Instant::now();
    let timings = calibrate(&spec, SGD, &[64, 1], Duration::ZERO, &compute).expect("the spec is whole");
    assert_eq!(timings.len(), spec.len());
    assert!(timings.iter().all(|timing| timing.batch == 1));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn no_batch_sizes_are_no_timings() {
    let timings = calibrate(&lenet5(), SGD, &[], Duration::from_secs(1), &one_thread());
    assert_eq!(timings, Ok(Vec::new()));
}

#[test]
fn what_runs_as_one_is_divided_by_flops() {
    let (spec, compute) = (lenet5(), one_thread());
    let timings = calibrate(&spec, SGD, &[8], Duration::ZERO, &compute).expect("the spec is whole");
    let cost = ModelCost::of(&spec);
    let convolution =
        spec.layers.iter().position(|layer| matches!(layer.op, LayerOp::Conv2d { .. })).expect("it has one");
    let (conv, relu) = (&timings[convolution], &timings[convolution + 1]);
    let flops = |layer: usize| cost.layers[layer].flops_forward as f64;
    let (time, work) = (conv.forward_s / relu.forward_s, flops(convolution) / flops(convolution + 1));
    assert!((time / work - 1.0).abs() < 1e-9, "{time} is not {work}");
}
