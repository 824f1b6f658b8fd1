//! What threads and processors make of replicas that train in the cloud: the coordinator's own workers, a process each.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use partway_cloud::replica::Blueprint;
use partway_cloud::workers::{Done, Workers};
use partway_core::codec::Codec;
use partway_core::config::{CpuList, DeviceKind};
use partway_core::coordinator::{Computed, Job, Replica, StepJob, StepPart};
use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerState, ModelSpec, builtin::builtin};
use partway_core::optimizer::Optimizer;
use partway_core::wire::{TensorHeader, TensorKind, TensorMessage};
use partway_model::{check_processors, pin_to};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::fleet::usage::{cpu_time, preemptions};
use crate::failure::Failure;
use crate::output;

const REPLICAS: usize = 4;
const BATCH: usize = 32;
const SHAPE: [usize; 3] = [3, 32, 32];
/// Behind the first convolution, its rectification and its pool: most of the work is in the cloud.
const CUT: usize = 3;
const SEED: u64 = 42;
const OPTIMIZER: Optimizer = Optimizer::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 0.0 };
/// How long steps are counted, and how long before.
const MEASURED: Duration = Duration::from_secs(3);
const BEFORE: Duration = Duration::from_millis(500);

/// What a process of workers is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchThreadsArgs {
    /// Replicas that train at the same time.
    #[arg(long)]
    workers: usize,
    /// Threads of each worker.
    #[arg(long)]
    threads: usize,
    /// The processors to run on.
    #[arg(long)]
    cpus: Option<String>,
}

/// What was measured of some workers.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    steps: u64,
    clock_s: f64,
    /// CPU time of all threads.
    cpu_s: f64,
    /// How often a thread had to make room for another, if the system says so.
    preempted: Option<u64>,
}

/// Measures and prints every combination.
pub(super) fn threads() -> Result<(), Failure> {
    output::print(&format!(
        "threads: {REPLICAS} replicas of VGG-5 behind cut {CUT}, batch {BATCH}; ratios to the first line; busy: CPU time by \
         time, at most what the settings ask for\n workers   threads   cpus   steps/s   ratio   busy   most   steps per CPU s   \
         ratio   preemptions per step"
    ));
    let mut first = None;
    for cpus in pinned_to() {
        for (workers, threads) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let Measured { steps, clock_s, cpu_s, preempted } = apart(workers, threads, cpus.as_ref())?;
            let (rate, efficiency) = (steps as f64 / clock_s, steps as f64 / cpu_s);
            let (first_rate, first_efficiency) = *first.get_or_insert((rate, efficiency));
            let allowed = cpus.as_ref().map_or(usize::MAX, |cpus| cpus.iter().count());
            output::print(&format!(
                "{workers:>8} {threads:>9} {:>6} {rate:>9.1} {:>7.2} {:>6.2} {:>6} {efficiency:>17.1} {:>7.2} {:>22}",
                cpus.as_ref().map_or("any".into(), ToString::to_string),
                rate / first_rate,
                cpu_s / clock_s,
                (workers * threads).min(allowed),
                efficiency / first_efficiency,
                preempted.map_or("-".into(), |count| format!("{:.2}", count as f64 / steps.max(1) as f64)),
            ));
        }
    }
    Ok(())
}

/// All processors, the first that may be used, and the first two, where there are so many.
fn pinned_to() -> Vec<Option<CpuList>> {
    let may_use = |cpu: &usize| CpuList::of([*cpu]).is_some_and(|one| check_processors(&one).is_ok());
    let found: Vec<usize> = (0..1024).filter(may_use).take(2).collect();
    let some = (1..=found.len()).map(|count| CpuList::of(found[..count].iter().copied()));
    std::iter::once(None).chain(some).collect()
}

/// Measures in a process of its own: a pinned one stays so.
fn apart(workers: usize, threads: usize, cpus: Option<&CpuList>) -> Result<Measured, Failure> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut command = std::process::Command::new(program);
    command.arg("bench-threads").arg(format!("--workers={workers}")).arg(format!("--threads={threads}"));
    command.args(cpus.map(|cpus| format!("--cpus={cpus}"))).stderr(Stdio::inherit());
    let ended = command.output().map_err(Failure::failed)?;
    if !ended.status.success() {
        return Err(Failure::Failed(format!("{workers} workers of {threads} threads could not be measured")));
    }
    serde_json::from_slice(&ended.stdout).map_err(Failure::failed)
}

/// Workers at work for a while: prints what was measured.
pub(crate) fn bench_threads(args: &BenchThreadsArgs) -> Result<(), Failure> {
    if let Some(text) = &args.cpus {
        let cpus = CpuList::new(text);
        let cpus = cpus.ok_or_else(|| Failure::Wrong(format!("--cpus={text} is no list of processors")))?;
        // Before there are other threads, which are pinned with this one.
        pin_to(&cpus).map_err(Failure::failed)?;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    let measured = runtime.block_on(measure(args.workers, args.threads))?;
    output::print(&serde_json::to_string(&measured).map_err(Failure::failed)?);
    Ok(())
}

async fn measure(workers: usize, threads: usize) -> Result<Measured, Failure> {
    let spec = Arc::new(builtin("vgg5", SHAPE, 10).map_err(Failure::failed)?);
    let blueprint = Blueprint { spec: spec.clone(), optimizer: OPTIMIZER, seed: SEED, batch_size: BATCH };
    let (done, mut finished) = mpsc::channel::<Done>(2 * REPLICAS);
    let mut workers =
        Workers::start(DeviceKind::Cpu, workers, threads, &blueprint, &done).map_err(Failure::failed)?;
    let moments = OPTIMIZER.moments().len();
    let state = Arc::new(LayerState::initial(&spec, 0..spec.len(), moments, SEED));
    let tensor = activations(&spec)?;
    for edge in (0..REPLICAS).map(|number| format!("edge-{number}")) {
        let replica = Replica::Of(edge.clone());
        let place = Job::Place { replica: replica.clone(), state: state.clone(), layers: CUT..spec.len() };
        workers.submit(replica.clone(), place);
        workers.submit(replica, step(edge, 0, tensor.clone()));
    }
    let (mut begun, mut counted, mut before) = (Instant::now(), None, None);
    loop {
        let done = finished.recv().await;
        let done = done.ok_or_else(|| Failure::Failed("the workers have ended".into()))?;
        match workers.take_back(done) {
            Some(Computed::Stepped { edge, step: number, .. }) => {
                let next = step(edge.clone(), number + 1, tensor.clone());
                workers.submit(Replica::Of(edge), next);
                counted = counted.map(|steps: u64| steps + 1);
            }
            Some(other) => return Err(Failure::Failed(format!("a step came to {other:?}"))),
            None => {}
        }
        match counted {
            None if begun.elapsed() >= BEFORE => {
                (begun, counted) = (Instant::now(), Some(0));
                before = cpu_time(None).zip(Some(preemptions()));
            }
            Some(steps) if begun.elapsed() >= MEASURED => {
                let clock_s = begun.elapsed().as_secs_f64();
                let unreadable = || Failure::Failed("this system does not tell processes' CPU time".into());
                let (cpu_before, preempted_before) = before.ok_or_else(unreadable)?;
                let spent = cpu_time(None).ok_or_else(unreadable)?.since(cpu_before);
                let preempted =
                    preemptions().zip(preempted_before).map(|(now, then)| now.saturating_sub(then));
                let cpu_s = (spent.tensors + spent.rest).as_secs_f64();
                return Ok(Measured { steps, clock_s, cpu_s, preempted });
            }
            _ => {}
        }
    }
}

/// What every step trains on.
fn activations(spec: &ModelSpec) -> Result<TensorMessage, Failure> {
    let shapes = spec.shapes().map_err(Failure::failed)?;
    let values: usize = BATCH * shapes[CUT].iter().product::<usize>();
    let values = (0..values).map(|at| (at * 37 % 101) as f32 / 101.0).collect();
    let labels: Vec<u32> = (0..BATCH).map(|at| (at % 10) as u32).collect();
    Ok(TensorMessage::encode(TensorHeader::new(TensorKind::Activations, Codec::F32), values, &labels))
}

fn step(edge: String, step: u32, tensor: TensorMessage) -> Job {
    Job::Step(StepJob {
        part: StepPart::Whole,
        replica: Replica::Of(edge.clone()),
        edge,
        round: 0,
        attempt: 0,
        step,
        global_step: step.into(),
        micro_batch: MicroBatch::WHOLE,
        optimizer_step: u64::from(step) + 1,
        tensor,
        activations: partway_core::codec::ActivationCodec::default(),
        gradients: Codec::F32,
    })
}
