//! Time of a full training step of LeNet-5 on this machine, unsplit and split after its first pool:
//! `cargo run --release -p partway-model --example step_time -- [THREADS] [BATCH]`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerOp, LayerSpec, LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_model::{Compute, Half, StepContext};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STEPS: u64 = 60;

fn lenet5() -> ModelSpec {
    let conv = |in_channels, out_channels, padding| LayerOp::Conv2d {
        in_channels,
        out_channels,
        kernel: 5,
        stride: 1,
        padding,
        groups: 1,
        bias: true,
    };
    let linear = |inputs, outputs| LayerOp::Linear { inputs, outputs, bias: true };
    let pool = || LayerOp::MaxPool2d { kernel: 2, stride: 2, padding: 0 };
    let features = [conv(1, 6, 2), LayerOp::Relu, pool(), conv(6, 16, 0), LayerOp::Relu, pool()];
    let classifier =
        [LayerOp::Flatten, linear(400, 120), LayerOp::Relu, linear(120, 84), LayerOp::Relu, linear(84, 10)];
    let layers = features.into_iter().chain(classifier);
    let layers = layers.map(|op| LayerSpec { name: op.kind().name().to_owned(), op }).collect();
    ModelSpec { name: "lenet5".to_owned(), input: [1, 28, 28], classes: 10, frozen: 0, layers }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let batch = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let (spec, compute) = (Arc::new(lenet5().checked()?), Compute::cpu(threads)?);
    let optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };
    let mut state = LayerState::initial(&spec, 0..spec.len(), optimizer.moments().len(), 1);
    let mut whole = Half::from_state(&spec, optimizer, state.clone(), &compute)?;
    let rest = state.split_off(&spec, 3);
    let mut edge = Half::from_state(&spec, optimizer, state, &compute)?;
    let mut cloud = Half::from_state(&spec, optimizer, rest, &compute)?;

    let inputs: Vec<f32> = (0..batch * 784).map(|n| (n % 251) as f32 / 251.0 - 0.5).collect();
    let labels: Vec<u32> = (0..batch).map(|n| (n % 10) as u32).collect();
    let [mut unsplit, mut forward, mut finish, mut backward] = [const { Vec::new() }; 4];
    for n in 0..STEPS {
        let step = StepContext {
            seed: 1,
            edge: "timed",
            step: n,
            optimizer_step: n + 1,
            batch,
            micro_batch: MicroBatch::WHOLE,
        };
        let batch = inputs.clone();
        let (outcome, spent) = compute.timed(|| whole.local_step(batch, &labels, &step));
        outcome?;
        unsplit.push(spent.wall);
        let batch = inputs.clone();
        let (result, spent) = compute.timed(|| edge.forward(batch, &step));
        let (pending, activations) = result?;
        forward.push(spent.wall);
        let (outcome, spent) = compute.timed(|| cloud.finish_step(activations, &labels, &step));
        let gradient = outcome?.gradient;
        finish.push(spent.wall);
        let (result, spent) = compute.timed(|| edge.backward(pending, gradient, &step));
        result?;
        backward.push(spent.wall);
    }
    println!("LeNet-5, batch {batch}, {threads} threads, medians of {STEPS} steps in ms:");
    println!("unsplit {:.2}", median(unsplit));
    let [forward, finish, backward] = [forward, finish, backward].map(median);
    println!("split after pool1: edge forward {forward:.2}, cloud {finish:.2}, edge backward {backward:.2}");
    Ok(())
}
