//! Each layer by itself, from what it met on the CPU: so that nothing adds up over layers.

use std::sync::Arc;

use partway_core::model::{LayerState, ModelSpec};
use partway_model::{Compute, Half, Outcome, Pending, StepContext};

use crate::agreement::{Difference, assert_agreement};
use crate::split::{SGD, batch, context, cpu, gpu, initial, models};

/// Samples of a batch: few, so that few decisions are close.
const SAMPLES: usize = 2;

/// What one layer met in a step, and made of it.
struct Met {
    input: Vec<f32>,
    output: Vec<f32>,
    /// At the output, and at the input; empty where nothing before is trained.
    gradients: [Vec<f32>; 2],
    after: LayerState,
}

/// A step of the whole model on the CPU, layer by layer.
struct Step {
    /// All layers but the last.
    met: Vec<Met>,
    /// What the last one met and made.
    last: (Vec<f32>, Vec<u32>, Outcome, LayerState),
}

fn one_layer(spec: &Arc<ModelSpec>, layer: usize, compute: &Compute) -> Half {
    let state = initial(spec, SGD).slice(spec, layer..layer + 1);
    Half::from_state(spec, SGD, state, compute).expect("the model's own state")
}

impl Step {
    fn of(spec: &Arc<ModelSpec>, step: &StepContext) -> Self {
        let (mut x, labels) = batch(spec, step);
        let (compute, last) = (cpu(), spec.len() - 1);
        let mut passed: Vec<(Half, Pending, Vec<f32>, Vec<f32>)> = Vec::new();
        for layer in 0..last {
            let half = one_layer(spec, layer, &compute);
            let (pending, output) = half.forward(x.clone(), step).expect("a good batch");
            passed.push((half, pending, std::mem::replace(&mut x, output.clone()), output));
        }
        let mut half = one_layer(spec, last, &compute);
        let outcome = half.finish_step(x.clone(), &labels, step).expect("good activations");
        let mut gradient = outcome.gradient.clone();
        let backward = passed.into_iter().rev().map(|(mut half, pending, input, output)| {
            let at_output = gradient.clone();
            gradient = half.backward(pending, at_output.clone(), step).expect("a good gradient");
            Met { input, output, gradients: [at_output, gradient.clone()], after: half.into_state() }
        });
        let mut met: Vec<Met> = backward.collect();
        met.reverse();
        Self { met, last: (x, labels, outcome, half.into_state()) }
    }

    /// How far the graphics processor's layer is from the CPU's.
    fn difference(
        &self,
        spec: &Arc<ModelSpec>,
        layer: usize,
        compute: &Compute,
        step: &StepContext,
    ) -> Difference {
        let mut half = one_layer(spec, layer, compute);
        let mut difference = Difference::default();
        let Some(Met { input, output, gradients: [at_output, at_input], after }) = self.met.get(layer) else {
            let (input, labels, expected, after) = &self.last;
            let outcome = half.finish_step(input.clone(), labels, step).expect("good activations");
            difference.forward(&[outcome.loss], &[expected.loss]);
            difference.backward(&outcome.gradient, &expected.gradient, "the gradient at the input");
            difference.states(spec, &half.into_state(), after);
            return difference;
        };
        let (pending, activations) = half.forward(input.clone(), step).expect("a good batch");
        difference.forward(&activations, output);
        let gradient = half.backward(pending, at_output.clone(), step).expect("a good gradient");
        difference.backward(&gradient, at_input, "the gradient at the input");
        difference.states(spec, &half.into_state(), after);
        difference
    }
}

#[test]
fn each_layer_of_every_built_in_model_does_what_it_does_on_the_cpu() {
    let compute = gpu();
    for spec in models() {
        let steps: Vec<_> = (0..1).map(|n| Step::of(&spec, &context(n, SAMPLES))).collect();
        for (layer, it) in spec.layers.iter().enumerate() {
            assert_agreement(
                &format!("{} {:?}, layer {layer} ({})", spec.name, spec.input, it.name),
                0..,
                |n| {
                    let step = context(n, SAMPLES);
                    match steps.get(n as usize) {
                        Some(met) => met.difference(&spec, layer, &compute, &step),
                        None => Step::of(&spec, &step).difference(&spec, layer, &compute, &step),
                    }
                },
            );
        }
    }
}
