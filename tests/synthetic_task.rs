//! The generated task at the size of CIFAR's images, for the models that it is made for: within a convolution's
//! reach and beyond a linear model's.

use std::sync::Arc;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerOp, LayerSpec, LayerState, ModelSpec, builtin};
use partway_core::optimizer::Optimizer;
use partway_core::statistics::ChannelStatistics;
use partway_datasets::{BatchOrder, Samples, Split, Synthetic};
use partway_model::{Compute, Half, StepContext};

const SHAPE: [usize; 3] = [3, 32, 32];
const CLASSES: usize = 4;
const TRAIN: usize = 1600;
const TEST: usize = 400;
const BATCH: usize = 16;
const SEED: u64 = 7;

/// Test accuracy after `steps` steps.
fn accuracy(spec: ModelSpec, steps: u64, difficulty: f32) -> f64 {
    let task = Synthetic::new(SHAPE, CLASSES, difficulty, SEED).expect("it can be made");
    let samples = |split, count| task.samples(split, count).expect("it fits into memory");
    let (train, test) = (samples(Split::Train, TRAIN), samples(Split::Test, TEST));
    let scale = 1.0 / deviation(&train);
    let gather = |samples: &Samples, indices: &[usize]| {
        let mut values = Vec::new();
        samples.gather(indices, &mut values);
        for value in &mut values {
            *value *= scale;
        }
        values
    };

    let (spec, compute) = (Arc::new(spec), Compute::cpu(1).expect("one thread"));
    let optimizer = Optimizer::Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let state = LayerState::initial(&spec, 0..spec.len(), optimizer.moments().len(), SEED);
    let mut model = Half::from_state(&spec, optimizer, state, &compute).expect("the state fits");
    let mut order = BatchOrder::new(SEED, "alone", train.len()).expect("there are samples");
    for step in 0..steps {
        let indices = order.indices(step, BATCH);
        let labels: Vec<u32> = indices.iter().map(|index| train.labels()[*index]).collect();
        let context = StepContext {
            seed: SEED,
            edge: "alone",
            step,
            optimizer_step: step + 1,
            batch: BATCH,
            micro_batch: MicroBatch::WHOLE,
        };
        model.local_step(gather(&train, &indices), &labels, &context).expect("a good batch");
    }
    let all: Vec<usize> = (0..test.len()).collect();
    model.evaluate(&gather(&test, &all), test.labels()).expect("good samples").accuracy()
}

/// Of all pixels, whose mean is about 0.
fn deviation(samples: &Samples) -> f32 {
    let (mut pixels, mut statistics) = (Vec::new(), ChannelStatistics::default());
    samples.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut pixels);
    statistics.push_all(&pixels);
    statistics.standard_deviation() as f32
}

#[test]
fn vgg_5_learns_what_a_linear_model_cannot() {
    let linear = LayerOp::Linear { inputs: SHAPE.iter().product(), outputs: CLASSES, bias: true };
    let layers = [LayerOp::Flatten, linear].map(|op| LayerSpec { name: op.kind().name().to_owned(), op });
    let linear = ModelSpec {
        name: "linear".to_owned(),
        input: SHAPE,
        classes: CLASSES,
        layers: layers.into(),
        frozen: 0,
    };
    let linear = accuracy(linear.checked().expect("it fits together"), 400, 0.25);
    let vgg5 = builtin::builtin("vgg5", SHAPE, CLASSES).expect("it is built in");
    let vgg5 = accuracy(vgg5, 120, 0.25);
    // Chance is 0.25, with a standard deviation of 0.022 on so many test samples.
    assert!(linear < 0.35, "a linear model reached {linear}");
    assert!(vgg5 > 0.7, "VGG-5 reached {vgg5}, a linear model {linear}");
}
