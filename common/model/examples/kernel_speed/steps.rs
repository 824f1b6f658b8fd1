//! Whole training steps: forward, loss, backward, SGD with momentum.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use partway_core::model::LayerState;
use partway_core::optimizer::Optimizer;
use partway_model::kernels::Kernels;
use partway_model::{Compute, Half, StepContext};

use crate::median;
use crate::models::{self, Timed};

const SGD: Optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };

/// Fewest pairs of steps that a median is of.
const LEAST: usize = 3;

/// Prints a table of all models.
pub(crate) fn compare(threads: usize, budget: Duration) -> Result<(), Box<dyn Error>> {
    println!("\ntraining step, {threads} threads: ms, medians");
    println!("{:<10} {:>6} {:>10} {:>10} {:>8} {:>7}", "model", "batch", "burn", "own", "ratio", "pairs");
    for Timed { spec, batch } in models::all() {
        let spec = Arc::new(spec.checked()?);
        let compute = Compute::cpu(threads)?;
        let half = |kernels| {
            let state = LayerState::initial(&spec, 0..spec.len(), SGD.moments().len(), 1);
            Half::from_state(&spec, SGD, state, &compute.clone().with_kernels(kernels))
        };
        let (mut own, mut burn) = (half(Kernels::Own)?, half(Kernels::Burn)?);
        let inputs: Vec<f32> = (0..batch * spec.input.iter().product::<usize>())
            .map(|n| (n % 251) as f32 / 125.0 - 1.0)
            .collect();
        let labels: Vec<u32> = (0..batch).map(|n| ((n * 7 + 3) % 10) as u32).collect();
        let mut step = 0;
        let mut time = |half: &mut Half| -> Result<f64, Box<dyn Error>> {
            step += 1;
            let context = StepContext { seed: 1, edge: "timed", step, optimizer_step: step, batch };
            let inputs = inputs.clone();
            let begun = Instant::now();
            half.local_step(inputs, &labels, &context)?;
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        };
        // The first steps grow buffers.
        time(&mut own)?;
        time(&mut burn)?;
        let (begun, mut pairs) = (Instant::now(), Vec::new());
        while pairs.len() < LEAST || begun.elapsed() < budget {
            pairs.push((time(&mut burn)?, time(&mut own)?));
        }
        let burn = median(pairs.iter().map(|(burn, _)| *burn).collect());
        let own = median(pairs.iter().map(|(_, own)| *own).collect());
        let ratio = median(pairs.iter().map(|(burn, own)| burn / own).collect());
        let name = &spec.name;
        println!("{name:<10} {batch:>6} {burn:>10.2} {own:>10.2} {ratio:>7.2}x {:>7}", pairs.len());
    }
    Ok(())
}
