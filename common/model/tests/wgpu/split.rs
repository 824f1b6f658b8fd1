//! A model in two halves on one device, and its steps.

use std::sync::Arc;

use partway_core::config::DeviceKind;
use partway_core::micro_batch::MicroBatch;
use partway_core::model::builtin::{NAMES, builtin};
use partway_core::model::calibration;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::random;
use partway_model::{Compute, Half, Outcome, StepContext};

pub(crate) const SEED: u64 = 11;
/// After the first step the velocity is the gradient.
pub(crate) const SGD: Optimizer = Optimizer::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 0.0 };

pub(crate) fn gpu() -> Compute {
    Compute::new(DeviceKind::Wgpu, 1).expect("a graphics processor: see scripts/test-wgpu")
}

pub(crate) fn cpu() -> Compute {
    Compute::cpu(1).expect("one thread")
}

/// Every built-in model for small colour images, the residual network for larger ones too, and models with every
/// layer kind.
pub(crate) fn models() -> Vec<Arc<ModelSpec>> {
    let small = NAMES.iter().map(|name| (*name, [3, 32, 32]));
    let built_in = small.chain([("resnet18", [3, 96, 96])]);
    let built_in = built_in.map(|(name, input)| builtin(name, input, 10).expect("a documented input"));
    built_in.chain(calibration::models().map(|(spec, _)| spec)).map(Arc::new).collect()
}

pub(crate) fn lenet5() -> Arc<ModelSpec> {
    Arc::new(builtin("lenet5", [1, 28, 28], 10).expect("a documented input"))
}

pub(crate) fn context(step: u64, batch: usize) -> StepContext<'static> {
    StepContext {
        seed: SEED,
        edge: "camera",
        step,
        optimizer_step: step + 1,
        batch,
        micro_batch: MicroBatch::WHOLE,
    }
}

pub(crate) fn batch(spec: &ModelSpec, step: &StepContext) -> (Vec<f32>, Vec<u32>) {
    let mut stream = random::stream(SEED, &["batch", &step.step.to_string()]);
    let len = step.batch * spec.input.iter().product::<usize>();
    let inputs = (0..len).map(|_| 2.0 * random::unit_f32(&mut stream) - 1.0).collect();
    let labels = (0..step.batch).map(|_| random::below(&mut stream, spec.classes as u64) as u32).collect();
    (inputs, labels)
}

/// The state that training starts from.
pub(crate) fn initial(spec: &ModelSpec, optimizer: Optimizer) -> LayerState {
    LayerState::initial(spec, 0..spec.len(), optimizer.moments().len(), SEED)
}

pub(crate) struct Split {
    edge: Half,
    cloud: Half,
}

impl Split {
    pub(crate) fn new(
        spec: &Arc<ModelSpec>,
        optimizer: Optimizer,
        cut: usize,
        compute: &Compute,
        mut state: LayerState,
    ) -> Self {
        let cloud = state.split_off(spec, cut);
        let half = |state| Half::from_state(spec, optimizer, state, compute).expect("the model's own state");
        Self { edge: half(state), cloud: half(cloud) }
    }

    /// One step; also the activations at the cut.
    pub(crate) fn step(&mut self, step: &StepContext) -> (Vec<f32>, Outcome) {
        let (inputs, labels) = batch(self.edge.spec(), step);
        let (pending, activations) = self.edge.forward(inputs, step).expect("a good batch");
        let outcome = self.cloud.finish_step(activations.clone(), &labels, step).expect("good activations");
        self.edge.backward(pending, outcome.gradient.clone(), step).expect("a good gradient");
        (activations, outcome)
    }

    pub(crate) fn state(&self) -> LayerState {
        let mut state = self.edge.state();
        state.append(self.cloud.state());
        state
    }
}
