//! How well a calibration predicts measured steps on this machine, by what it is made of: FLOPs alone, a regression per
//! layer kind (from the models that a device knows before its own, or from its own), and each layer's own time:
//! `cargo bench -p partway-model --bench prediction_error -- [--threads N] [MODEL:BATCH]...`.
//!
//! Each part of a split step is measured at every cut, after a wait as in training; an error is `|predicted - measured| / measured`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::builtin::builtin;
use partway_core::model::{LayerState, ModelCost, ModelSpec, calibration};
use partway_core::optimizer::Optimizer;
use partway_core::profile::{DeviceProfile, LayerWork, Measurement, fit};
use partway_core::workload::layer_works;
use partway_model::{Compute, Half, LayerTiming, StepContext, calibrate, measure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OPTIMIZER: Optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };
const BUDGET: Duration = Duration::from_secs(1);
const STEPS: u64 = 15;
/// For link and other side: what has waited is slower at first.
const WAIT: Duration = Duration::from_millis(20);

/// Seconds of the three parts of a split step.
type Parts = [f64; 3];
const PARTS: [&str; 3] = ["edge forward", "edge backward", "cloud"];

/// Medians of the parts at one cut, and how far identical steps are from these.
fn measured(
    spec: &Arc<ModelSpec>,
    cut: usize,
    batch: usize,
    compute: &Compute,
) -> Result<(Parts, f64), Box<dyn Error>> {
    let mut state = LayerState::initial(spec, 0..spec.len(), OPTIMIZER.moments().len(), 1);
    let rest = state.split_off(spec, cut);
    let mut edge = Half::from_state(spec, OPTIMIZER, state, compute)?;
    let mut cloud = Half::from_state(spec, OPTIMIZER, rest, compute)?;
    let values = batch * spec.input.iter().product::<usize>();
    let inputs: Vec<f32> = (0..values).map(|n| (n % 251) as f32 / 251.0 - 0.5).collect();
    let labels: Vec<u32> = (0..batch).map(|n| (n % spec.classes) as u32).collect();
    let mut times: [Vec<f64>; 3] = [const { Vec::new() }; 3];
    let wait = || std::thread::sleep(WAIT);
    for n in 0..STEPS + 2 {
        let step = StepContext {
            seed: 1,
            edge: "timed",
            step: n,
            optimizer_step: n + 1,
            batch,
            micro_batch: MicroBatch::WHOLE,
        };
        let values = inputs.clone();
        wait();
        let (forward, forward_time) = compute.timed(|| edge.forward(values, &step));
        let (pending, activations) = forward?;
        wait();
        let (outcome, cloud_time) = compute.timed(|| cloud.finish_step(activations, &labels, &step));
        let gradient = outcome?.gradient;
        wait();
        let (backward, backward_time) = compute.timed(|| edge.backward(pending, gradient, &step));
        backward?;
        // The first two warm caches and the allocator up.
        if n >= 2 {
            for (times, spent) in times.iter_mut().zip([forward_time, backward_time, cloud_time]) {
                times.push(spent.device.as_secs_f64());
            }
        }
    }
    let medians = times.clone().map(median);
    let sums = (0..times[0].len()).map(|n| times.iter().map(|times| times[n]).sum::<f64>());
    let sum: f64 = medians.iter().sum();
    let floor = median(sums.map(|total| (total / sum - 1.0).abs()).collect());
    Ok((medians, floor))
}

/// What one way of predicting says of a cut.
fn predicted(times: &[(f64, f64)], cut: usize) -> Parts {
    let (edge, cloud) = times.split_at(cut);
    [
        edge.iter().map(|time| time.0).sum(),
        edge.iter().map(|time| time.1).sum(),
        cloud.iter().map(|time| time.0 + time.1).sum(),
    ]
}

fn by_profile(profile: &DeviceProfile, works: &[LayerWork]) -> Vec<(f64, f64)> {
    works.iter().map(|work| (profile.seconds_forward(work), profile.seconds_backward(work))).collect()
}

fn by_layer(timings: &[LayerTiming]) -> Vec<(f64, f64)> {
    timings.iter().map(|timing| (timing.forward_s, timing.backward_s)).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(
    name: &str,
    batch: usize,
    generic: &DeviceProfile,
    compute: &Compute,
) -> Result<(), Box<dyn Error>> {
    let input = if name == "lenet5" { [1, 28, 28] } else { [3, 32, 32] };
    let spec = Arc::new(builtin(name, input, 10)?);
    let cost = ModelCost::of(&spec);
    let works = layer_works(&spec, &cost, batch as u32, OPTIMIZER.moments().len());
    let measurements: Vec<Measurement> =
        measure(&spec, OPTIMIZER, &[batch, batch / 2, batch / 4], BUDGET, compute)?;
    let own = fit(&measurements)?;
    let flops = DeviceProfile { kinds: std::collections::BTreeMap::new(), ..own.clone() };
    let layers = calibrate(&spec, OPTIMIZER, &[batch], BUDGET, compute)?;
    let ways = [
        ("FLOPs only", by_profile(&flops, &works)),
        ("per kind, other models", by_profile(generic, &works)),
        ("per kind, this model", by_profile(&own, &works)),
        ("per layer", by_layer(&layers)),
    ];
    let mut steps = Vec::new();
    let mut floors = Vec::new();
    for cut in 1..spec.len() {
        let (parts, floor) = measured(&spec, cut, batch, compute)?;
        steps.push((cut, parts));
        floors.push(floor);
    }
    println!("\n{name}, batch {batch}: a step repeats itself to {:.1} % (median)", 100.0 * median(floors));
    println!(
        "{:<24} {:>14} {:>14} {:>14} {:>14} {:>10}",
        "median error, %", PARTS[0], PARTS[1], PARTS[2], "whole step", "worst"
    );
    for (way, times) in ways {
        let mut errors: [Vec<f64>; 4] = [const { Vec::new() }; 4];
        for (cut, parts) in &steps {
            let predicted = predicted(&times, *cut);
            for part in 0..3 {
                errors[part].push((predicted[part] / parts[part] - 1.0).abs());
            }
            errors[3].push((predicted.iter().sum::<f64>() / parts.iter().sum::<f64>() - 1.0).abs());
        }
        let worst = errors[3].iter().copied().fold(0.0, f64::max);
        let [forward, backward, cloud, whole] = errors.map(|errors| 100.0 * median(errors));
        println!(
            "{way:<24} {forward:>14.1} {backward:>14.1} {cloud:>14.1} {whole:>14.1} {:>10.1}",
            100.0 * worst
        );
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut models: Vec<String> = std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let mut threads = 1;
    if models.first().is_some_and(|argument| argument == "--threads") {
        threads = models.get(1).ok_or("--threads needs a number")?.parse()?;
        models.drain(..2);
    }
    let compute = Compute::cpu(threads)?;
    let mut measurements = Vec::new();
    for (spec, batches) in calibration::models() {
        measurements.extend(measure(&Arc::new(spec), OPTIMIZER, &batches, BUDGET, &compute)?);
    }
    let generic = fit(&measurements)?;
    println!("on {}", compute.name());
    if models.is_empty() {
        models = ["lenet5:64", "vgg5:32", "alexnet-cifar:16", "resnet18:4"].map(str::to_owned).to_vec();
    }
    for model in models {
        let (name, batch) =
            model.split_once(':').ok_or("a model is written as NAME:BATCH, such as lenet5:64")?;
        compare(name, batch.parse()?, &generic, &compute)?;
    }
    Ok(())
}
