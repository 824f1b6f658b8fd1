//! Exactness once more, for models, batch sizes and cuts that nobody chose.

use std::sync::Arc;

use partway_core::model::LayerOp::{
    AvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Gelu, GlobalAvgPool, GroupNorm, InvertedResidual,
    LocalResponseNorm, MaxPool2d, Relu, Relu6, Residual,
};
use partway_core::model::{LayerOp, LayerSpec, ModelSpec};
use proptest::prelude::*;

use crate::exactness::{assert_same_bits, joined, split_at, split_step, unsplit};
use crate::models::{ADAM, SGD, frozen_model, initial, linear, model, one_thread};

/// One choice of layer, for whatever shape reaches it.
#[derive(Clone, Debug)]
struct Choice {
    kind: u8,
    channels: usize,
    kernel: usize,
    stride: usize,
    grouped: bool,
}

fn choice() -> impl Strategy<Value = Choice> {
    (0..14u8, 1..9usize, 1..4usize, 1..3usize, any::<bool>()).prop_map(
        |(kind, channels, kernel, stride, grouped)| Choice { kind, channels, kernel, stride, grouped },
    )
}

impl Choice {
    fn op(&self, in_channels: usize) -> LayerOp {
        let Self { kind, channels, kernel, stride, grouped } = *self;
        match kind {
            0 | 1 => {
                let (out_channels, groups) = if grouped { (in_channels, in_channels) } else { (channels, 1) };
                let padding = kernel / 2;
                Conv2d { in_channels, out_channels, kernel, stride, padding, groups, bias: kind == 0 }
            }
            2 => BatchNorm2d { channels: in_channels },
            3 => MaxPool2d { kernel, stride, padding: kernel / 2 },
            4 => AvgPool2d { kernel, stride, padding: if grouped { kernel / 2 } else { 0 } },
            5 => GlobalAvgPool,
            6 => Dropout { p: 0.3 },
            7 => Residual { in_channels, out_channels: channels, stride },
            8 => GroupNorm { channels: in_channels, groups: if grouped { in_channels } else { 1 } },
            9 => LocalResponseNorm { size: 3, alpha: 0.1, beta: 0.75, k: 1.0 },
            10 => Relu6,
            11 => Gelu,
            12 => InvertedResidual { in_channels, out_channels: channels, stride, expansion: kernel },
            _ => Relu,
        }
    }
}

/// Shape after `ops`, if they fit.
fn shape_after(input: [usize; 3], ops: &[LayerOp]) -> Option<[usize; 3]> {
    let tail = [GlobalAvgPool, Flatten];
    let layers: Vec<_> =
        ops.iter().cloned().chain(tail).map(|op| LayerSpec { name: String::new(), op }).collect();
    // A spec ends in its classes, which here are the channels that the tail leaves.
    let shapes = (1..9).find_map(|classes| {
        let layers = layers.clone();
        ModelSpec { name: String::new(), input, classes, frozen: 0, layers }.shapes().ok()
    })?;
    shapes[ops.len()].as_slice().try_into().ok()
}

/// A model of the choices that fit, then one or two linear layers.
fn any_model(input: [usize; 3], choices: &[Choice], hidden: Option<usize>, frozen: usize) -> Arc<ModelSpec> {
    let (mut ops, mut shape) = (Vec::new(), input);
    for choice in choices {
        ops.push(choice.op(shape[0]));
        match shape_after(input, &ops) {
            Some(after) => shape = after,
            None => drop(ops.pop()),
        }
    }
    ops.push(Flatten);
    let features = shape.iter().product();
    match hidden {
        Some(hidden) => ops.extend([linear(features, hidden), linear(hidden, 3)]),
        None => ops.push(linear(features, 3)),
    }
    // The last layer is always trained.
    let frozen = frozen.min(ops.len() - 1);
    frozen_model(&model(input, 3, ops), frozen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_model_is_the_same_at_every_cut(
        input in (1..4usize, 3..12usize, 3..12usize),
        choices in prop::collection::vec(choice(), 1..6),
        hidden in prop::option::of(1..9usize),
        size in 2..7usize,
        adam in any::<bool>(),
        frozen in prop_oneof![2 => Just(0), 1 => 1..8usize],
    ) {
        let spec = any_model([input.0, input.1, input.2], &choices, hidden, frozen);
        let optimizer = if adam { ADAM } else { SGD };
        let compute = one_thread();
        let expected = unsplit(&spec, optimizer, 2, size);
        for cut in 0..spec.len() {
            let start = initial(&spec, optimizer, &compute).into_state();
            let (mut edge, mut cloud) = split_at(&spec, optimizer, start, cut, &compute);
            for n in 0..2 {
                split_step(&mut edge, &mut cloud, &crate::models::step(n, size));
            }
            assert_same_bits(&joined(edge, cloud), &expected[1].0, &format!("cut {cut} of {spec:?}"));
        }
    }
}
