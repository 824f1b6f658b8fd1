//! Whole training steps: forward, loss, backward, SGD with momentum.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use partway_core::micro_batch::MicroBatch;
use partway_core::model::LayerState;
use partway_core::optimizer::Optimizer;
use partway_model::kernels::Kernels;
use partway_model::{Compute, Half, StepContext};

use crate::median;
use crate::models::{self, Timed};

const SGD: Optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };

/// Fewest pairs of steps that a median is of.
const LEAST: usize = 3;

/// A model in training on its batch.
struct Run {
    half: Half,
    inputs: Vec<f32>,
    labels: Vec<u32>,
    step: u64,
}

impl Run {
    fn start(timed: &Timed, compute: &Compute) -> Result<Self, Box<dyn Error>> {
        let spec = Arc::new(timed.spec.clone().checked()?);
        let state = LayerState::initial(&spec, 0..spec.len(), SGD.moments().len(), 1);
        let values = timed.batch * spec.input.iter().product::<usize>();
        let mut run = Self {
            half: Half::from_state(&spec, SGD, state, compute)?,
            inputs: (0..values).map(|n| (n % 251) as f32 / 125.0 - 1.0).collect(),
            labels: (0..timed.batch).map(|n| ((n * 7 + 3) % 10) as u32).collect(),
            step: 0,
        };
        // The first steps grow buffers.
        run.time()?;
        run.time()?;
        Ok(run)
    }

    /// Milliseconds of one more step.
    fn time(&mut self) -> Result<f64, Box<dyn Error>> {
        self.step += 1;
        let batch = self.labels.len();
        let context = StepContext {
            seed: 1,
            edge: "timed",
            step: self.step,
            optimizer_step: self.step,
            batch,
            micro_batch: MicroBatch::WHOLE,
        };
        let inputs = self.inputs.clone();
        let begun = Instant::now();
        self.half.local_step(inputs, &self.labels, &context)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

/// Median time of a step with this crate's kernels, in ms.
pub(crate) fn own(model: &str, threads: usize, budget: Duration) -> Result<f64, Box<dyn Error>> {
    let named = models::all().into_iter().find(|timed| timed.spec.name == model);
    let named = named.ok_or_else(|| format!("no model `{model}` here"))?;
    let mut run = Run::start(&named, &Compute::cpu(threads)?)?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < LEAST || begun.elapsed() < budget {
        times.push(run.time()?);
    }
    Ok(median(times))
}

/// Prints a table of all models.
pub(crate) fn compare(threads: usize, budget: Duration) -> Result<(), Box<dyn Error>> {
    println!("\ntraining step, {threads} threads: ms, medians");
    println!("{:<10} {:>6} {:>10} {:>10} {:>8} {:>7}", "model", "batch", "burn", "own", "ratio", "pairs");
    for timed in models::all() {
        let compute = Compute::cpu(threads)?;
        let start = |kernels| Run::start(&timed, &compute.clone().with_kernels(kernels));
        let (mut own, mut burn) = (start(Kernels::Own)?, start(Kernels::Burn)?);
        let (begun, mut pairs) = (Instant::now(), Vec::new());
        while pairs.len() < LEAST || begun.elapsed() < budget {
            pairs.push((burn.time()?, own.time()?));
        }
        let burn = median(pairs.iter().map(|(burn, _)| *burn).collect());
        let own = median(pairs.iter().map(|(_, own)| *own).collect());
        let ratio = median(pairs.iter().map(|(burn, own)| burn / own).collect());
        let Timed { spec, batch } = &timed;
        println!("{:<10} {batch:>6} {burn:>10.2} {own:>10.2} {ratio:>7.2}x {:>7}", spec.name, pairs.len());
    }
    Ok(())
}
