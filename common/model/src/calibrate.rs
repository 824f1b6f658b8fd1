//! Times a model's layers in the order and the runs in which a step executes them: what a device's time model is
//! fitted to.
//!
//! A rectification is done on the way out of a convolution or a batch norm, so that timed alone the two take longer than
//! in a step; and a layer that runs over and over finds its weights and inputs nearer than one whose turn comes once
//! in a step. So whole training steps are run, from run to run of layers, and each run is timed; and since a run alone
//! has costs that it shares with the others in a step, steps in one piece are timed beside them, with waits as in training.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use partway_core::config::DeviceKind;
use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerOp, LayerState, ModelCost, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::profile::Measurement;
use partway_core::random;
use partway_core::workload::layer_works;

use crate::activation::Activation;
use crate::layers::Pass;
use crate::step::StepContext;
use crate::{Compute, Half, HalfError, Spent};

/// Repeats beyond which a median gains nothing.
const MAX_REPEATS: usize = 15;
/// Repeats that there are in any case if there is any time, as the first steps are slow.
const LEAST_REPEATS: usize = 3;
/// Before each pass of a whole step: in training a device waits between its passes, for the link and the other side, and
/// what has waited is slower at first (the processor's clock, its caches; by a third for steps of a millisecond).
const WAIT: Duration = Duration::from_millis(20);
/// What is left of a run's time at least when the cost of timing it alone is taken off.
const LEAST_PART: f64 = 0.1;

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

/// Times the layers of `spec` in training steps with `optimizer`, at each batch size.
///
/// Layers that a step executes as one, such as a convolution and the rectification behind it, are timed together; each
/// gets the part of that time that is its part of their FLOPs.
///
/// It takes about `budget` on the clock, and on a graphics processor what compiling the kernels takes
/// besides; a second suffices for small models. Each figure is the median of up to fifteen steps after one
/// to warm up, as far as its share of the budget reaches. Smaller batches come first. The smallest one is timed
/// whatever it takes; batch sizes for which nothing is left are left out.
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
    let mut timings = Vec::with_capacity(batches.len() * spec.len());
    for (nth, &batch) in batches.iter().enumerate() {
        let remaining = budget.saturating_sub(begun.elapsed());
        if nth > 0 && remaining.is_zero() {
            break;
        }
        // A step takes longer the larger its batch is.
        let left: usize = batches[nth..].iter().sum();
        let share = remaining.mul_f64(batch as f64 / left as f64);
        timings.extend(time_model(spec, optimizer, batch, share, compute)?);
    }
    Ok(timings)
}

/// The layers that a step executes as one.
fn runs(spec: &ModelSpec) -> Vec<Range<usize>> {
    let mut runs = Vec::with_capacity(spec.len());
    let mut start = 0;
    while start < spec.len() {
        let next = spec.layers.get(start + 1).map(|layer| &layer.op);
        let rectified = Pass::rectifies(&spec.layers[start].op) && matches!(next, Some(LayerOp::Relu));
        let end = start + if rectified { 2 } else { 1 };
        runs.push(start..end);
        start = end;
    }
    runs
}

/// What runs took together, of each its part: `whole` is what the step takes in one. Every run that is timed
/// alone has a tape of its own, whose cost is the same for all of them and is taken off.
fn as_parts_of(whole: f64, runs: &[f64]) -> Vec<f64> {
    let excess = runs.iter().sum::<f64>() - whole;
    let tape = if runs.len() > 1 { (excess / (runs.len() - 1) as f64).max(0.0) } else { 0.0 };
    let own: Vec<f64> = runs.iter().map(|seconds| (seconds - tape).max(LEAST_PART * seconds)).collect();
    let sum: f64 = own.iter().sum();
    own.iter().map(|seconds| if sum > 0.0 { seconds * whole / sum } else { 0.0 }).collect()
}

/// Times every layer for about `share`, but at least once.
fn time_model(
    spec: &Arc<ModelSpec>,
    optimizer: Optimizer,
    batch: usize,
    share: Duration,
    compute: &Compute,
) -> Result<Vec<LayerTiming>, HalfError> {
    let begun = Instant::now();
    let mut halves = Vec::new();
    for layers in runs(spec) {
        let state = LayerState::initial(spec, layers, optimizer.moments().len(), 0);
        halves.push(Half::from_state(spec, optimizer, state, compute)?);
    }
    let whole = LayerState::initial(spec, 0..spec.len(), optimizer.moments().len(), 0);
    let mut whole = [Half::from_state(spec, optimizer, whole, compute)?];
    let (Some(first), Some(last)) = (halves.first(), halves.last()) else { return Ok(Vec::new()) };
    let mut stream = random::stream(0, &["calibration"]);
    let mut uniform = |shape: &[usize], most: f32| -> Vec<f32> {
        let len = batch * shape.iter().product::<usize>();
        (0..len).map(|_| most * (2.0 * random::unit_f32(&mut stream) - 1.0)).collect()
    };
    // A mean over the batch has gradients of this size, with which weights stay what they are, about.
    let (input, gradient) =
        (uniform(first.input_shape(), 1.0), uniform(last.output_shape(), 1.0 / batch as f32));

    let mut steps = 0;
    let mut step = || {
        steps += 1;
        let begun = Instant::now();
        let mut times = time_step(&mut halves, input.clone(), gradient.clone(), batch, steps, Duration::ZERO);
        times.extend(time_step(&mut whole, input.clone(), gradient.clone(), batch, steps, WAIT));
        (times, begun.elapsed())
    };
    let (mut warm_up, mut took) = step();
    if compute.kind() == DeviceKind::Wgpu {
        // The first step compiled the kernels, and may have taken a thousand times as long.
        (warm_up, took) = step();
    }
    let mut repeats = Vec::new();
    let is_enough = |repeats: usize| repeats >= LEAST_REPEATS || share.is_zero();
    while repeats.len() < MAX_REPEATS && (!is_enough(repeats.len()) || begun.elapsed() + took <= share) {
        repeats.push(step().0);
    }
    if repeats.is_empty() {
        repeats.push(warm_up);
    }
    let median = |run: usize, part: fn(&(Spent, Spent)) -> Spent| {
        let mut all: Vec<_> = repeats.iter().map(|repeat| part(&repeat[run]).device).collect();
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64()
    };
    let runs = runs(spec);
    let parts = |part: fn(&(Spent, Spent)) -> Spent| {
        let alone: Vec<f64> = (0..runs.len()).map(|run| median(run, part)).collect();
        as_parts_of(median(runs.len(), part), &alone)
    };
    let times = parts(|spent| spent.0).into_iter().zip(parts(|spent| spent.1));
    let cost = ModelCost::of(spec);
    let mut timings = Vec::with_capacity(spec.len());
    for (layers, (forward_s, backward_s)) in runs.iter().cloned().zip(times) {
        let forward_flops = cost.flops_forward(layers.clone());
        let backward_flops = cost.flops_backward(layers.clone());
        let even = 1.0 / layers.len() as f64;
        let part = |of: u64, all: u64| if all > 0 { of as f64 / all as f64 } else { even };
        timings.extend(layers.map(|layer| LayerTiming {
            layer,
            batch,
            forward_s: forward_s * part(cost.layers[layer].flops_forward, forward_flops),
            backward_s: backward_s * part(cost.layers[layer].flops_backward, backward_flops),
        }));
    }
    Ok(timings)
}

/// One training step through all halves in a row, each pass after `wait`: what each took forward and backward.
fn time_step(
    halves: &mut [Half],
    input: Vec<f32>,
    gradient: Vec<f32>,
    batch: usize,
    step: u64,
    wait: Duration,
) -> Vec<(Spent, Spent)> {
    let context = StepContext {
        seed: 0,
        edge: "calibration",
        step,
        optimizer_step: step,
        batch,
        micro_batch: MicroBatch::WHOLE,
    };
    let mut values = input;
    let mut passes = Vec::with_capacity(halves.len());
    for half in halves.iter() {
        let (input, input_gradient) = (std::mem::take(&mut values), half.is_trained_before());
        let compute = &half.compute;
        std::thread::sleep(wait);
        let (tape, forward) = compute.timed(|| {
            let input = Activation::from_values(input, batch, half.input_shape(), compute.device());
            half.record(input, &context, input_gradient)
        });
        values = compute.run(|| tape.output.clone().into_values());
        passes.push((tape, forward));
    }
    let mut gradient = gradient;
    let mut times = Vec::with_capacity(halves.len());
    for (half, (tape, forward)) in halves.iter_mut().zip(passes).rev() {
        let compute = half.compute.clone();
        std::thread::sleep(wait);
        let (at_input, backward) =
            compute.timed(|| half.apply(tape, std::mem::take(&mut gradient), &context));
        gradient = at_input.unwrap_or_default();
        times.push((forward, backward));
    }
    times.reverse();
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole_and_lose_what_timing_alone_costs() {
        let close = |found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}");
        };
        // Two units each for a tape, of which the whole has one.
        close(
            &as_parts_of(32.0, &[12.0, 22.0, 2.0]),
            &[32.0 * 10.0 / 30.2, 32.0 * 20.0 / 30.2, 32.0 * 0.2 / 30.2],
        );
        close(&as_parts_of(12.0, &[2.0, 4.0]), &[4.0, 8.0]);
        close(&as_parts_of(0.0, &[0.0, 0.0]), &[0.0, 0.0]);
        close(&as_parts_of(3.0, &[5.0]), &[3.0]);
        close(&as_parts_of(3.0, &[]), &[]);
    }
}
