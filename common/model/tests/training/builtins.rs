//! Every built-in model takes a training step, at the sizes of image that it is made for.

use std::sync::Arc;

use partway_core::model::builtin::{NAMES, builtin};
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;

use crate::exactness::{joined, split_at, split_step};
use crate::models::{batch, half, initial, one_thread, step};

const SGD: Optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.0, weight_decay: 0.0 };

/// One step, cut in the middle, changes every layer that has tensors.
#[track_caller]
fn check_step(spec: &Arc<ModelSpec>) {
    let compute = one_thread();
    let cut = spec.len() / 2;
    let start = initial(spec, SGD, &compute).into_state();
    let (mut edge, mut cloud) = split_at(spec, SGD, start.clone(), cut, &compute);
    let outcome = split_step(&mut edge, &mut cloud, &step(0, 2));
    assert!(outcome.loss.is_finite() && outcome.loss > 0.0, "{outcome:?}");
    let after = joined(edge, cloud);
    assert!(after.is_finite());
    for layer in (0..spec.len()).filter(|layer| !spec.layer_tensors(*layer).is_empty()) {
        let values = |state: &LayerState| state.slice(spec, layer..layer + 1).values;
        assert_ne!(values(&after), values(&start), "layer {layer}, {}", spec.layers[layer].name);
    }
}

#[test]
fn small_images() {
    for name in NAMES {
        let spec = Arc::new(builtin(name, [3, 32, 32], 10).expect("it fits CIFAR"));
        check_step(&spec);
    }
}

#[test]
fn larger_images() {
    for name in ["resnet18", "mobilenet-v2"] {
        let spec = Arc::new(builtin(name, [3, 72, 72], 10).expect("it takes the ImageNet form"));
        check_step(&spec);
    }
}

#[test]
fn the_published_vgg11_takes_a_step_behind_its_first_linear_layer() {
    // Drawing 100 million initial weights would take longer than all other tests together.
    let spec = Arc::new(builtin("vgg11", [3, 65, 65], 10).expect("it takes the ImageNet form"));
    let last_two = spec.len() - 4..spec.len();
    let mut cloud = half(&spec, SGD, LayerState::initial(&spec, last_two.clone(), 0, 1), &one_thread());
    let (_, labels) = batch(&spec, &step(0, 2));
    let activations = vec![0.5; 2 * 4096];
    let outcome = cloud.finish_step(activations, &labels, &step(0, 2)).expect("a good batch");
    assert!(outcome.loss.is_finite());
    assert_eq!(outcome.gradient.len(), 2 * 4096);
}
