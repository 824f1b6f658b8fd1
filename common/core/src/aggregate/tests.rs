use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::{LayerOp, LayerSpec, builtin, state::state_len};

/// A convolution, a batch norm, a projecting residual block and a linear layer.
fn model() -> ModelSpec {
    let ops = [
        LayerOp::Conv2d {
            in_channels: 1,
            out_channels: 2,
            kernel: 3,
            stride: 1,
            padding: 1,
            groups: 1,
            bias: true,
        },
        LayerOp::BatchNorm2d { channels: 2 },
        LayerOp::Relu,
        LayerOp::Residual { in_channels: 2, out_channels: 3, stride: 2 },
        LayerOp::Flatten,
        LayerOp::Linear { inputs: 12, outputs: 2, bias: true },
    ];
    let layers = ops.into_iter().map(|op| LayerSpec { name: op.kind().to_string(), op }).collect();
    ModelSpec { name: "tiny".into(), input: [1, 4, 4], classes: 2, frozen: 0, layers }
        .checked()
        .expect("shapes fit")
}

const MOMENTS: usize = 1;

fn state(values: Vec<f32>) -> LayerState {
    let spec = model();
    let mut state = LayerState::new(&spec, 0..spec.len(), MOMENTS, values).expect("as many as the model has");
    for slot in slots(&spec, 0..spec.len(), MOMENTS) {
        if slot.tensor.role == TensorRole::RunningVar {
            state.values[slot.values].iter_mut().for_each(|var| *var = var.abs());
        }
    }
    state
}

fn len() -> usize {
    saturating_state_len(&model(), 0..model().len(), MOMENTS)
}

/// One to six contributors with weights; every value within 100.
fn contributors() -> impl Strategy<Value = Vec<(f64, LayerState)>> {
    vec((0.01..1e4f64, vec(-100.0..100.0f32, len()).prop_map(state)), 1..=6)
}

/// Any finite value: zeros of both signs, subnormals and the largest included.
fn finite() -> impl Strategy<Value = f32> {
    use proptest::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    prop_oneof![POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO, Just(f32::MAX), Just(f32::MIN), Just(-0.0)]
}

fn borrowed(all: &[(f64, LayerState)]) -> Vec<(f64, &LayerState)> {
    all.iter().map(|(weight, state)| (*weight, state)).collect()
}

fn bits(state: &LayerState) -> Vec<u32> {
    state.values.iter().map(|value| value.to_bits()).collect()
}

/// The weighted mean of one position, written down as it is defined.
fn mean_at(all: &[(f64, LayerState)], at: usize, of: impl Fn(&LayerState, usize) -> f64) -> f64 {
    let total: f64 = all.iter().map(|(weight, _)| weight).sum();
    all.iter().map(|(weight, state)| weight * of(state, at)).sum::<f64>() / total
}

proptest! {
    #[test]
    fn all_but_variances_are_the_weighted_mean(all in contributors()) {
        let spec = model();
        let average = average(&spec, &borrowed(&all)).expect("fits");
        for slot in slots(&spec, 0..spec.len(), MOMENTS) {
            if slot.tensor.role == TensorRole::RunningVar {
                continue;
            }
            for at in whole(&slot) {
                let mean = mean_at(&all, at, |state, at| f64::from(state.values[at]));
                prop_assert!((f64::from(average.values[at]) - mean).abs() <= 1e-5, "{}", slot.tensor.name);
            }
        }
    }

    #[test]
    fn variances_obey_the_law_of_total_variance(all in contributors()) {
        let spec = model();
        let average = average(&spec, &borrowed(&all)).expect("fits");
        let slots = slots(&spec, 0..spec.len(), MOMENTS);
        for pair in slots.windows(2).filter(|pair| pair[1].tensor.role == TensorRole::RunningVar) {
            for (mean_at_, var_at) in pair[0].values.clone().zip(pair[1].values.clone()) {
                let second_moment = |state: &LayerState, at: usize| {
                    f64::from(state.values[at]) + f64::from(state.values[mean_at_]).powi(2)
                };
                let mean = mean_at(&all, mean_at_, |state, at| f64::from(state.values[at]));
                let pooled = mean_at(&all, var_at, second_moment) - mean * mean;
                let actual = f64::from(average.values[var_at]);
                prop_assert!((actual - pooled).abs() <= 1e-6 * (1.0 + pooled), "{actual} is not {pooled}");
            }
        }
    }

    #[test]
    fn order_matters_only_for_rounding(all in contributors(), turn in 0..6usize) {
        let spec = model();
        let mut others = all.clone();
        others.reverse();
        let turn = turn % others.len();
        others.rotate_left(turn);
        let one = average(&spec, &borrowed(&all)).expect("fits");
        let other = average(&spec, &borrowed(&others)).expect("fits");
        for (a, b) in one.values.iter().zip(&other.values) {
            // Relative to the values that were summed, which are up to 100; means may cancel.
            prop_assert!((a - b).abs() <= 1e-6 * a.abs().max(1e-6));
        }
    }

    #[test]
    fn equal_models_come_out_bit_for_bit(
        values in vec(finite(), len()),
        weights in vec(1e-6..1e6f64, 1..=12),
    ) {
        let one = state(values);
        let all: Vec<_> = weights.iter().map(|weight| (*weight, &one)).collect();
        prop_assert_eq!(bits(&average(&model(), &all).expect("fits")), bits(&one));
    }

    #[test]
    fn one_contributor_comes_out_bit_for_bit(
        values in vec(finite(), len()),
        weight in prop_oneof![1e-300..1e300f64, Just(f64::MIN_POSITIVE), Just(f64::MAX)],
    ) {
        let one = state(values);
        let diverged = state(vec![f32::NAN; len()]);
        let average = average(&model(), &[(0.0, &diverged), (weight, &one)]).expect("fits");
        prop_assert_eq!(bits(&average), bits(&one));
    }
}

#[test]
fn pooled_statistics_are_those_of_all_the_data() {
    let shards: [&[f32]; 2] = [&[1.0, 2.0, 6.0], &[10.0, 14.0, 18.0, 22.0, 26.0]];
    let statistics = |data: &[f32]| {
        let mean = data.iter().sum::<f32>() / data.len() as f32;
        (mean, data.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / data.len() as f32)
    };
    let spec = model();
    let slots = slots(&spec, 0..spec.len(), MOMENTS);
    let with = |data| {
        let mut state = state(vec![0.0; len()]);
        let (mean, var) = statistics(data);
        for slot in &slots {
            match slot.tensor.role {
                TensorRole::Trained | TensorRole::Frozen => {}
                TensorRole::RunningMean => state.values[slot.values.clone()].fill(mean),
                TensorRole::RunningVar => state.values[slot.values.clone()].fill(var),
            }
        }
        state
    };
    let [small, large] = shards.map(with);
    let average = average(&spec, &[(3.0, &small), (5.0, &large)]).expect("fits");
    assert_eq!(average, with(&shards.concat()));
}

#[test]
fn in_every_model_a_running_mean_directly_precedes_its_variance() {
    for name in builtin::NAMES {
        let spec = builtin::builtin(name, [3, 32, 32], 10).expect("fits CIFAR");
        let tensors = spec.tensors(0..spec.len());
        assert_ne!(tensors[0].role, TensorRole::RunningVar);
        for pair in tensors.windows(2).filter(|pair| pair[1].role == TensorRole::RunningVar) {
            assert_eq!(pair[0].role, TensorRole::RunningMean);
            assert_eq!(pair[0].len(), pair[1].len());
            let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
            assert_eq!(module(&pair[0].name), module(&pair[1].name));
        }
    }
}

#[test]
fn client_halves_that_share_a_cut_are_averaged_too() {
    let spec = model();
    let half = |value| {
        let mut state = state(vec![value; len()]);
        let _ = state.split_off(&spec, 1);
        state
    };
    let (low, high) = (half(1.0), half(4.0));
    assert_eq!(average(&spec, &[(2.0, &low), (1.0, &high)]), Ok(half(2.0)));
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    let spec = model();
    let good = state(vec![1.0; len()]);
    let refused = |contributions: &[(f64, &LayerState)]| {
        average(&spec, contributions).expect_err("this cannot be averaged")
    };
    assert_eq!(refused(&[]), AggregateError::Empty);
    assert_eq!(refused(&[(0.0, &good), (0.0, &good)]), AggregateError::TotalWeight { total: 0.0 });
    let total = f64::INFINITY;
    assert_eq!(refused(&[(f64::MAX, &good), (f64::MAX, &good)]), AggregateError::TotalWeight { total });
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let error = refused(&[(1.0, &good), (bad, &good)]);
        assert!(matches!(error, AggregateError::Weight { contributor: 1, .. }), "{error}");
    }

    let mut short = good.clone();
    short.values.pop();
    let length = AggregateError::Length { contributor: 1, expected: len(), actual: len() - 1 };
    assert_eq!(refused(&[(1.0, &good), (1.0, &short)]), length);

    let mut diverged = good.clone();
    diverged.values[0] = f32::INFINITY;
    let tensor = "layers.0.weight".to_owned();
    let error = AggregateError::NonFinite { contributor: 1, tensor };
    assert_eq!(refused(&[(1.0, &good), (1.0, &diverged)]), error);
}

#[test]
fn states_of_other_layers_or_moments_are_refused() {
    let spec = model();
    let good = state(vec![1.0; len()]);
    let changed = [
        LayerState { layers: 0..5, ..good.clone() },
        LayerState { layers: 0..7, ..good.clone() },
        LayerState { moments: 0, ..good.clone() },
    ];
    for other in &changed {
        let error = average(&spec, &[(1.0, &good), (1.0, other)]).expect_err("differs from the first");
        assert!(matches!(error, AggregateError::Mismatch { contributor: 1, .. }), "{error}");
    }
    let outside = &changed[1];
    let error = average(&spec, &[(1.0, outside)]).expect_err("the model has 6 layers");
    assert!(matches!(error, AggregateError::Mismatch { contributor: 0, .. }), "{error}");
    let absurd = LayerState { moments: usize::MAX, ..good };
    let error = average(&spec, &[(1.0, &absurd)]).expect_err("there are not as many values");
    assert!(matches!(error, AggregateError::Length { contributor: 0, .. }), "{error}");
}

#[test]
fn frozen_tensors_come_out_bit_for_bit() {
    let spec = ModelSpec { frozen: 2, ..model() };
    let state = |seed| LayerState::initial(&spec, 0..spec.len(), MOMENTS, seed);
    let (mut one, mut other) = (state(1), state(2));
    let frozen = state_len(&spec, 0..2, MOMENTS);
    one.values[0] = -0.0;
    other.values[..frozen].copy_from_slice(&one.values[..frozen]);
    let average = average(&spec, &[(1.0, &one), (3.0, &other)]).expect("fits");
    let bits = |state: &LayerState| state.values[..frozen].iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&average), bits(&one));
    assert_ne!(average.values[frozen..], one.values[frozen..]);
}
