//! Frozen layers keep their weights and statistics, run in inference mode, and cost no gradient.

use std::sync::Arc;

use partway_core::model::{LayerState, ModelSpec};
use partway_model::Half;

use crate::exactness::{assert_same_bits, check_every_cut, split_at, split_step, unsplit};
use crate::models::{
    ADAM, SGD, batch, frozen_model, half, initial, lenet5, mobile_net, one_thread, residual_net, step,
};

/// Behind both shortcuts' first block and dropout, so that batch norms and dropout lie on both sides.
const FROZEN: usize = 5;

fn frozen_net() -> Arc<ModelSpec> {
    frozen_model(&residual_net(), FROZEN)
}

#[test]
fn training_with_frozen_layers_is_the_same_at_every_cut() {
    check_every_cut(&frozen_net(), 6);
    check_every_cut(&frozen_model(&mobile_net(), 6), 4);
    check_every_cut(&frozen_model(&lenet5(), 11), 5);
}

#[test]
fn frozen_layers_keep_every_bit_and_the_others_change() {
    let spec = frozen_net();
    for optimizer in [SGD, ADAM] {
        let start = initial(&spec, optimizer, &one_thread()).into_state();
        let end = unsplit(&spec, optimizer, 3, 6).pop().expect("three steps").0;
        let frozen = |state: &LayerState| state.slice(&spec, 0..FROZEN);
        assert_same_bits(&frozen(&end), &frozen(&start), "the frozen layers");
        for layer in (FROZEN..spec.len()).filter(|layer| !spec.layer_tensors(*layer).is_empty()) {
            let values = |state: &LayerState| state.slice(&spec, layer..layer + 1).values;
            assert_ne!(values(&end), values(&start), "layer {layer}");
        }
    }
}

#[test]
fn frozen_tensors_have_no_moments() {
    let (free, frozen) = (residual_net(), frozen_net());
    let values = |spec: &Arc<ModelSpec>| initial(spec, ADAM, &one_thread()).into_state().values.len();
    let trained: usize = free
        .tensors(0..FROZEN)
        .iter()
        .filter(|tensor| tensor.role == partway_core::model::TensorRole::Trained)
        .map(partway_core::model::TensorSpec::len)
        .sum();
    assert_eq!(values(&free) - values(&frozen), 2 * trained);
}

#[test]
fn frozen_layers_run_as_in_inference() {
    // With running statistics that no batch has: a batch norm by the batch would hide them.
    let spec = frozen_net();
    let mut state = LayerState::initial(&spec, 0..FROZEN, 1, 7);
    for slot in partway_core::model::state::slots(&spec, 0..FROZEN, 1) {
        if slot.tensor.name.ends_with("running_mean") {
            state.values[slot.values].fill(0.25);
        }
    }
    let edge = half(&spec, SGD, state, &one_thread());
    let (inputs, _) = batch(&spec, &step(0, 4));
    let activations = |step: u64, from: usize, to: usize| {
        let width = 3 * 12 * 12;
        let step = crate::models::step(step, to - from);
        edge.forward(inputs[from * width..to * width].to_vec(), &step).expect("a good batch").1
    };
    // Neither the other samples nor the step matter.
    let together = activations(0, 0, 4);
    let alone: Vec<f32> = (0..4).flat_map(|n| activations(9, n, n + 1)).collect();
    assert_eq!(together, alone);
}

#[test]
fn a_cut_inside_the_frozen_layers_sends_no_gradient() {
    let spec = frozen_net();
    for cut in 0..=FROZEN + 1 {
        let start = initial(&spec, SGD, &one_thread()).into_state();
        let (mut edge, mut cloud): (Half, Half) = split_at(&spec, SGD, start, cut, &one_thread());
        let outcome = split_step(&mut edge, &mut cloud, &step(0, 6));
        // Layer 5, a convolution, is the first that is trained.
        let expected = if cut > FROZEN { 6 * edge.output_shape().iter().product::<usize>() } else { 0 };
        assert_eq!(outcome.gradient.len(), expected, "cut {cut}");
        assert_eq!(edge.is_trained(), cut > FROZEN);
    }
}
