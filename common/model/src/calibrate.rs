//! Times each layer alone: what a device's time model is fitted to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use partway_core::config::DeviceKind;
use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerState, ModelCost, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::profile::Measurement;
use partway_core::random;
use partway_core::workload::layer_works;

use crate::activation::Activation;
use crate::step::StepContext;
use crate::{Compute, Half, HalfError, Spent};

/// Repeats beyond which a median gains nothing.
const MAX_REPEATS: usize = 9;

/// What one layer took for one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerTiming {
    /// The layer.
    pub layer: usize,
    /// Samples in the batch.
    pub batch: usize,
    /// Seconds of the device's time forward, in training: [`Spent::device`].
    pub forward_s: f64,
    /// Seconds of its time backward: gradients of the parameters and, where something before is trained,
    /// of the input, and the optimizer's step.
    pub backward_s: f64,
}

/// One forward and backward pass.
#[derive(Clone, Copy)]
struct Repeat {
    forward: Spent,
    backward: Spent,
}

impl Repeat {
    fn wall(&self) -> Duration {
        self.forward.wall + self.backward.wall
    }
}

/// As [`calibrate`], with the work that each timing stands for: what
/// [`partway_core::profile::fit`] takes. Frozen layers are timed as if they were trained: a device's
/// profile is of its layer kinds, not of this model.
pub fn measure(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    batch_sizes: &[usize],
    budget: Duration,
    compute: &Compute,
) -> Result<Vec<Measurement>, HalfError> {
    let spec = Arc::new(ModelSpec { frozen: 0, ..ModelSpec::clone(spec) });
    let timings = calibrate(&spec, optimizer, batch_sizes, budget, compute)?;
    let cost = ModelCost::of(&spec);
    let moments = optimizer.moments().len();
    let measurement = |timing: &LayerTiming| {
        let work = layer_works(&spec, &cost, timing.batch as u32, moments)[timing.layer];
        Measurement { work, forward_s: timing.forward_s, backward_s: timing.backward_s }
    };
    Ok(timings.iter().map(measurement).collect())
}

/// Times every layer of `spec` alone, in training with `optimizer`, at each batch size.
///
/// It takes about `budget` on the clock, and on a graphics processor what compiling the kernels takes
/// besides; a second suffices for small models. Each figure is the median of up to nine repeats after one
/// to warm up, as far as its share of the budget reaches. Smaller batches come first. Every layer is timed
/// at the smallest one whatever it takes; batch sizes for which nothing is left are left out.
pub fn calibrate(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    batch_sizes: &[usize],
    budget: Duration,
    compute: &Compute,
) -> Result<Vec<LayerTiming>, HalfError> {
    let mut batches: Vec<_> = batch_sizes.iter().copied().filter(|batch| *batch > 0).collect();
    batches.sort_unstable();
    batches.dedup();
    let begun = Instant::now();
    let mut left = batches.len() * spec.len();
    let mut timings = Vec::with_capacity(left);
    for (nth, &batch) in batches.iter().enumerate() {
        for layer in 0..spec.len() {
            let remaining = budget.saturating_sub(begun.elapsed());
            if nth > 0 && layer == 0 && remaining.is_zero() {
                return Ok(timings);
            }
            let share = remaining / u32::try_from(left).unwrap_or(u32::MAX);
            timings.push(time_layer(spec, optimizer, layer, batch, share, compute)?);
            left -= 1;
        }
    }
    Ok(timings)
}

/// Times one layer for about `share`, but at least once.
fn time_layer(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    layer: usize,
    batch: usize,
    share: Duration,
    compute: &Compute,
) -> Result<LayerTiming, HalfError> {
    let state = LayerState::initial(spec, layer..layer + 1, optimizer.moments().len(), 0);
    let mut half = Half::from_state(spec, optimizer, state, compute)?;
    let mut stream = random::stream(0, &["calibration"]);
    let mut uniform = |shape: &[usize]| -> Vec<f32> {
        let len = batch * shape.iter().product::<usize>();
        (0..len).map(|_| 2.0 * random::unit_f32(&mut stream) - 1.0).collect()
    };
    let (input, gradient) = (uniform(half.input_shape()), uniform(half.output_shape()));

    let begun = Instant::now();
    let mut steps = 0;
    let mut pass = || {
        steps += 1;
        time_once(&mut half, &input, &gradient, batch, steps)
    };
    let mut warm_up = pass();
    if compute.kind() == DeviceKind::Wgpu {
        // The first pass compiled the kernels, and may have taken a thousand times as long.
        warm_up = pass();
    }
    let mut repeats = Vec::new();
    while repeats.len() < MAX_REPEATS && begun.elapsed() + warm_up.wall() <= share {
        repeats.push(pass());
    }
    if repeats.is_empty() {
        repeats.push(warm_up);
    }
    let median = |seconds: fn(&Repeat) -> Duration| {
        let mut all: Vec<_> = repeats.iter().map(seconds).collect();
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64()
    };
    Ok(LayerTiming {
        layer,
        batch,
        forward_s: median(|repeat| repeat.forward.device),
        backward_s: median(|repeat| repeat.backward.device),
    })
}

/// One training pass through a half of one layer.
fn time_once(half: &mut Half, input: &[f32], gradient: &[f32], batch: usize, step: u64) -> Repeat {
    let compute = half.compute.clone();
    let (input, gradient) = (input.to_vec(), gradient.to_vec());
    let context = StepContext {
        seed: 0,
        edge: "calibration",
        step,
        optimizer_step: step,
        batch,
        micro_batch: MicroBatch::WHOLE,
    };
    let input_gradient = half.is_trained_before();
    let (tape, forward) = compute.timed(|| {
        let input = Activation::from_values(input, batch, half.input_shape(), compute.device());
        half.record(input, &context, input_gradient)
    });
    let (_, backward) = compute.timed(|| half.apply(tape, gradient, &context));
    Repeat { forward, backward }
}
