//! Training on a graphics processor: as on the CPU up to rounding, and split as unsplit bit for bit.
//!
//! Needs an adapter; `scripts/test-wgpu` provides one in software.

use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use partway_core::config::DeviceKind;
use partway_core::model::builtin::{NAMES, builtin};
use partway_core::model::calibration;
use partway_core::model::state::slots;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::profile::fit;
use partway_core::random;
use partway_model::{Compute, Half, Outcome, StepContext, measure};

const SEED: u64 = 11;
const SGD: Optimizer = Optimizer::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 1e-3 };
const ADAM: Optimizer =
    Optimizer::Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };

fn gpu() -> Compute {
    Compute::new(DeviceKind::Wgpu, 1).expect("a graphics processor: see scripts/test-wgpu")
}

fn cpu() -> Compute {
    Compute::cpu(1).expect("one thread")
}

/// Every built-in model for small colour images, and models with every layer kind.
fn models() -> Vec<Arc<ModelSpec>> {
    let built_in = NAMES.iter().map(|name| builtin(name, [3, 32, 32], 10).expect("a documented input"));
    built_in.chain(calibration::models().map(|(spec, _)| spec)).map(Arc::new).collect()
}

fn lenet5() -> Arc<ModelSpec> {
    Arc::new(builtin("lenet5", [1, 28, 28], 10).expect("a documented input"))
}

fn context(step: u64, batch: usize) -> StepContext<'static> {
    StepContext { seed: SEED, edge: "camera", step, optimizer_step: step + 1, batch }
}

fn batch(spec: &ModelSpec, step: &StepContext) -> (Vec<f32>, Vec<u32>) {
    let mut stream = random::stream(SEED, &["batch", &step.step.to_string()]);
    let len = step.batch * spec.input.iter().product::<usize>();
    let inputs = (0..len).map(|_| 2.0 * random::unit_f32(&mut stream) - 1.0).collect();
    let labels = (0..step.batch).map(|_| random::below(&mut stream, spec.classes as u64) as u32).collect();
    (inputs, labels)
}

/// A model in two halves on one device.
struct Split {
    edge: Half,
    cloud: Half,
}

impl Split {
    fn new(spec: &Arc<ModelSpec>, optimizer: Optimizer, cut: usize, compute: &Compute) -> Self {
        let mut edge = LayerState::initial(spec, 0..spec.len(), optimizer.moments().len(), SEED);
        let cloud = edge.split_off(spec, cut);
        let half = |state| Half::from_state(spec, optimizer, state, compute).expect("the model's own state");
        Self { edge: half(edge), cloud: half(cloud) }
    }

    /// One step; also the activations at the cut.
    fn step(&mut self, step: &StepContext) -> (Vec<f32>, Outcome) {
        let (inputs, labels) = batch(self.edge.spec(), step);
        let (pending, activations) = self.edge.forward(inputs, step).expect("a good batch");
        let outcome = self.cloud.finish_step(activations.clone(), &labels, step).expect("good activations");
        self.edge.backward(pending, outcome.gradient.clone(), step).expect("a good gradient");
        (activations, outcome)
    }

    fn state(&self) -> LayerState {
        let mut state = self.edge.state();
        state.append(self.cloud.state());
        state
    }
}

/// Length of the difference, relative to that of `expected`.
fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = actual.iter().zip(expected).map(|(a, e)| f64::from(*a) - f64::from(*e));
    let difference = length(&mut difference.into_iter());
    difference / length(&mut expected.iter().map(|e| f64::from(*e))).max(f64::MIN_POSITIVE)
}

/// The relative difference that rounding may make.
const ROUNDING: f64 = 1e-4;

/// The relative difference that rounding may make in gradients that pass dozens of ReLUs: a
/// value near zero falls on its other side, and a gradient of n values then differs by `1 / sqrt(n)`.
const FLIPPED: f64 = 2e-2;

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    let distance = distance(actual, expected);
    assert!(distance <= tolerance, "{what}: relative difference {distance:e}");
}

/// Each layer's weights and buffers, and its moments. (Of a bias before a batch norm alone there would be
/// nothing to compare: its gradient is zero but for rounding.)
#[track_caller]
fn assert_same_state(spec: &ModelSpec, actual: &LayerState, expected: &LayerState, tolerance: f64) {
    for layer in 0..spec.len() {
        let slots = slots(spec, layer..layer + 1, expected.moments);
        let [actual, expected] = [actual, expected].map(|state| state.slice(spec, layer..layer + 1).values);
        let close = |ranges: Vec<Range<usize>>, what| {
            let [actual, expected] = [&actual, &expected].map(|values| {
                ranges.iter().flat_map(|range| &values[range.clone()]).copied().collect::<Vec<_>>()
            });
            assert_close(&actual, &expected, tolerance, &format!("{}, layer {layer}: {what}", spec.name));
        };
        close(slots.iter().map(|slot| slot.values.clone()).collect(), "weights and buffers");
        close(slots.iter().flat_map(|slot| slot.moments.clone()).collect(), "moments");
    }
}

#[test]
fn every_built_in_model_takes_the_step_that_the_cpu_takes() {
    for spec in models() {
        let step = context(0, 4);
        let [on_gpu, on_cpu] = [gpu(), cpu()].map(|compute| {
            let mut split = Split::new(&spec, SGD, spec.len() / 2, &compute);
            let (activations, outcome) = split.step(&step);
            (activations, outcome, split.state())
        });
        println!("{} {:?}: loss {} and {}", spec.name, spec.input, on_gpu.1.loss, on_cpu.1.loss);
        let backward = if ["resnet18", "mobilenet-v2"].contains(&&*spec.name) { FLIPPED } else { ROUNDING };
        let what = |what| format!("{}: {what}", spec.name);
        assert_close(&on_gpu.0, &on_cpu.0, ROUNDING, &what("activations"));
        assert_close(&[on_gpu.1.loss], &[on_cpu.1.loss], ROUNDING, &what("loss"));
        assert_close(&on_gpu.1.gradient, &on_cpu.1.gradient, backward, &what("cut gradient"));
        assert_same_state(&spec, &on_gpu.2, &on_cpu.2, backward);
    }
}

#[test]
fn adam_takes_the_steps_that_the_cpu_takes() {
    let spec = lenet5();
    let [on_gpu, on_cpu] = [gpu(), cpu()].map(|compute| {
        let mut split = Split::new(&spec, ADAM, 3, &compute);
        for n in 0..2 {
            split.step(&context(n, 8));
        }
        split.state()
    });
    assert_same_state(&spec, &on_gpu, &on_cpu, ROUNDING);
}

#[test]
fn lenet5_is_the_same_at_every_cut() {
    let (spec, compute) = (lenet5(), gpu());
    let unsplit = {
        let state = LayerState::initial(&spec, 0..spec.len(), SGD.moments().len(), SEED);
        let mut whole = Half::from_state(&spec, SGD, state, &compute).expect("the model's own state");
        for n in 0..2 {
            let (inputs, labels) = batch(&spec, &context(n, 4));
            whole.local_step(inputs, &labels, &context(n, 4)).expect("a good batch");
        }
        whole.into_state()
    };
    let bits = |state: &LayerState| state.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for cut in 1..spec.len() {
        let mut split = Split::new(&spec, SGD, cut, &compute);
        for n in 0..2 {
            split.step(&context(n, 4));
        }
        assert!(bits(&split.state()) == bits(&unsplit), "cut {cut}: the states differ");
    }
}

#[test]
fn evaluation_scores_as_the_cpu_does() {
    let spec = Arc::new(builtin("resnet18", [3, 32, 32], 10).expect("a documented input"));
    let (inputs, labels) = batch(&spec, &context(0, 8));
    let [on_gpu, on_cpu] = [gpu(), cpu()].map(|compute| {
        let state = LayerState::initial(&spec, 0..spec.len(), 0, SEED);
        let optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };
        let whole = Half::from_state(&spec, optimizer, state, &compute).expect("the model's own state");
        whole.evaluate(&inputs, &labels).expect("good samples")
    });
    assert_eq!(on_gpu.correct, on_cpu.correct);
    assert!((on_gpu.loss_sum / on_cpu.loss_sum - 1.0).abs() <= 1e-4, "{on_gpu:?} {on_cpu:?}");
}

#[test]
fn a_calibration_makes_a_profile() {
    let spec = lenet5();
    let measurements = measure(&spec, SGD, &[4, 8], Duration::from_secs(1), &gpu()).expect("it can be timed");
    assert!(measurements.len() >= spec.len());
    assert!(measurements.iter().all(|it| it.forward_s > 0.0 && it.backward_s >= 0.0), "{measurements:?}");
    fit(&measurements).expect("the times make a profile");
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_in_words() {
    const CHILD: &str = "PARTWAY_TEST_NO_ADAPTER";
    if std::env::var_os(CHILD).is_some() {
        for _ in 0..2 {
            let error = Compute::new(DeviceKind::Wgpu, 1).expect_err("no machine has so many").to_string();
            assert!(error.starts_with("no graphics processor can be used: "), "{error}");
        }
        return;
    }
    // The adapter is chosen once per process, so this takes another one.
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "an_adapter_that_is_not_there_is_an_error_in_words"])
        .env(CHILD, "1")
        .env("CUBECL_WGPU_DEFAULT_DEVICE", "DiscreteGpu(4000)")
        .output()
        .expect("this test runs once more");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
