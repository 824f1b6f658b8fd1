//! Where the CPU time of a step goes: `LeNet-5` at the quickstart's size, edge and cloud on one thread each, in turns and
//! without a wire. The same steps are taken twice, once by the jobs that the compute threads do, where the CPU time of the
//! whole process counts, and once part by part on one thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use partway_cloud::replica::Blueprint;
use partway_cloud::workers::{Done, Workers};
use partway_core::codec::{ActivationCodec, BatchShape, Codec, TopK};
use partway_core::config::DeviceKind;
use partway_core::coordinator::{Computed as Trained, Job as CloudJob, Replica, StepJob, StepPart};
use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerState, ModelSpec, builtin::builtin};
use partway_core::optimizer::Optimizer;
use partway_core::participant::{Computed, Job};
use partway_core::standardize::{Affine, Method, Standardizer, Transform};
use partway_core::wire::{
    Activations, Assignment, RoundPlan, StartFrom, TensorHeader, TensorKind, TensorMessage,
    decode_activations, decode_gradient, encode_activations, encode_gradient,
};
use partway_datasets::{BatchOrder, Pixels, Samples};
use partway_edge::{TapeBudget, Worker};
use partway_model::{Compute, Half, StepContext};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::output;
use crate::statistics::median;

const EDGE: &str = "edge";
const SEED: u64 = 42;
const BATCH: usize = 64;
const SAMPLES: usize = 3000;
const SHAPE: [usize; 3] = [1, 28, 28];
const OPTIMIZER: Optimizer = Optimizer::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 0.0 };
/// Steps that are measured together, by turns as jobs and in parts, and how often. The first time does not count: caches
/// and the allocator come to know the work.
const STEPS: u32 = 20;
const TURNS: u32 = 21;
/// Behind the first pool, where much crosses, and before the classifier.
const CUTS: [usize; 2] = [3, 11];

/// Microseconds of some steps' parts, in their order.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    batch: f64,
    forward: f64,
    codecs: f64,
    finish: f64,
    backward: f64,
}

impl Parts {
    fn sum(&self) -> f64 {
        self.layers() + self.batch + self.codecs
    }

    fn add(&mut self, other: Self) {
        self.batch += other.batch;
        self.forward += other.forward;
        self.codecs += other.codecs;
        self.finish += other.finish;
        self.backward += other.backward;
    }

    fn layers(&self) -> f64 {
        self.forward + self.finish + self.backward
    }
}

/// Measures and prints.
pub(super) fn step() -> Result<(), Failure> {
    output::print(&format!(
        "step: LeNet-5, batch {BATCH}; us of CPU time: what a step's jobs take, and what their parts do\n \
         cut   jobs   layers: edge forward   cloud   edge backward   batch   codecs   hand-over and rest   beside layers"
    ));
    let spec = Arc::new(builtin("lenet5", SHAPE, 10).map_err(Failure::failed)?);
    for cut in CUTS {
        let (jobs, parts) = measure(&spec, cut)?;
        let Parts { batch, forward, codecs, finish, backward } = parts;
        output::print(&format!(
            "{cut:>4} {jobs:>6.0} {forward:>22.0} {finish:>7.0} {backward:>15.0} {batch:>7.0} {codecs:>8.0} {:>20.0} {:>15.0}",
            jobs - parts.sum(),
            jobs - parts.layers(),
        ));
    }
    Ok(())
}

/// The medians of what a step's jobs take, and of its parts.
fn measure(spec: &Arc<ModelSpec>, cut: usize) -> Result<(f64, Parts), Failure> {
    let shard = Arc::new(shard()?);
    let mut whole = Whole::new(spec, &shard, cut)?;
    let mut apart = Apart::new(spec, &shard, cut)?;
    let (mut jobs, mut parts) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let steps = turn * STEPS..(turn + 1) * STEPS;
        let begun = Spent::by(ClockId::ProcessCPUTime);
        for step in steps.clone() {
            whole.step(step)?;
        }
        let took = begun.micros() / f64::from(STEPS);
        let mut sum = Parts::default();
        for step in steps {
            sum.add(apart.step(step)?);
        }
        if turn > 0 {
            jobs.push(took);
            parts.push(sum);
        }
    }
    let of = |part: fn(&Parts) -> f64| {
        median(parts.iter().map(|sum| part(sum) / f64::from(STEPS))).unwrap_or(f64::NAN)
    };
    let parts = Parts {
        batch: of(|parts| parts.batch),
        forward: of(|parts| parts.forward),
        codecs: of(|parts| parts.codecs),
        finish: of(|parts| parts.finish),
        backward: of(|parts| parts.backward),
    };
    Ok((median(jobs).unwrap_or(f64::NAN), parts))
}

/// CPU time since it was made.
struct Spent(ClockId, Duration);

impl Spent {
    fn by(clock: ClockId) -> Self {
        Self(clock, cpu_time(clock))
    }

    /// Of this thread.
    fn here() -> Self {
        Self::by(ClockId::ThreadCPUTime)
    }

    fn micros(&self) -> f64 {
        1e6 * cpu_time(self.0).saturating_sub(self.1).as_secs_f64()
    }
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // The kernel keeps both fields non-negative for a CPU-time clock.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn shard() -> Result<Samples, Failure> {
    let pixels = (0..SAMPLES * 28 * 28).map(|at| (at * 31 % 251) as u8).collect();
    let labels = (0..SAMPLES).map(|at| (at % 10) as u32).collect();
    Samples::new(SHAPE, Pixels::U8(pixels), labels, 10).map_err(Failure::failed)
}

fn standardizer() -> Standardizer {
    let channels = vec![Affine { offset: 0.5, scale: 3.5 }];
    Standardizer { method: Method::Zscore, transform: Transform::Identity, channels }
}

fn plan(cut: usize) -> RoundPlan {
    RoundPlan {
        round: 0,
        attempt: 0,
        cut: cut as u32,
        steps: TURNS * STEPS,
        optimizer_steps: 0,
        start: StartFrom::Initial,
        aggregate: false,
        activations: ActivationCodec::default(),
        gradients: Codec::F32,
        in_flight: 1,
        pace: None,
        deadline_s: 1.0,
        probe_bytes: 0,
    }
}

/// A compute thread as an edge has it: takes jobs until nobody asks any more.
fn edge_thread(shard: Arc<Samples>) -> Result<(SyncSender<Job>, Receiver<Computed>), Failure> {
    let (jobs, queue) = sync_channel::<Job>(4);
    let (report, done) = sync_channel(4);
    let work = move || {
        let compute = match Compute::on_this_thread(DeviceKind::Cpu, 1) {
            Ok(compute) => compute,
            Err(error) => return drop(report.send(Computed::Failed { reason: error.to_string() })),
        };
        let mut worker = Worker::in_memory(EDGE.into(), shard, compute, TapeBudget::new(u64::MAX));
        while let Ok(job) = queue.recv() {
            if report.send(worker.handle(job)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("compute-0".into()).spawn(work).map_err(Failure::failed)?;
    Ok((jobs, done))
}

/// An edge's compute thread and a coordinator's worker, which do whole jobs.
struct Whole {
    plan: RoundPlan,
    jobs: SyncSender<Job>,
    done: Receiver<Computed>,
    workers: Workers,
    trained: mpsc::Receiver<Done>,
}

impl Whole {
    fn new(spec: &Arc<ModelSpec>, shard: &Arc<Samples>, cut: usize) -> Result<Self, Failure> {
        let (jobs, done) = edge_thread(shard.clone())?;
        let blueprint = Blueprint { spec: spec.clone(), optimizer: OPTIMIZER, seed: SEED, batch_size: BATCH };
        let (report, trained) = mpsc::channel(4);
        let workers = Workers::start(DeviceKind::Cpu, 1, 1, &blueprint, &report).map_err(Failure::failed)?;
        let mut whole = Self { plan: plan(cut), jobs, done, workers, trained };
        let assignment = Assignment {
            session: 1,
            seed: SEED,
            model: ModelSpec::clone(spec),
            standardization: Method::Zscore,
            measure: Transform::Identity,
            standardizer: None,
            holdout: None,
            optimizer: OPTIMIZER,
            batch_size: BATCH as u32,
            steps_per_round: TURNS * STEPS,
            least_cut: 1,
            tail: None,
            probe_bytes: 0,
        };
        let plan = whole.plan;
        let prepare = Job::Prepare { assignment: Box::new(assignment), standardizer: standardizer() };
        let begin = Job::Begin { plan, blocks: Vec::new(), rolled_back: false };
        for job in [prepare, begin] {
            if let Computed::Failed { reason } = whole.on_the_edge(job)? {
                return Err(Failure::Failed(reason));
            }
        }
        let moments = OPTIMIZER.moments().len();
        let state = Arc::new(LayerState::initial(spec, 0..spec.len(), moments, SEED));
        let place = CloudJob::Place { replica: Replica::Of(EDGE.into()), state, layers: cut..spec.len() };
        whole.in_the_cloud(place)?;
        Ok(whole)
    }

    fn on_the_edge(&self, job: Job) -> Result<Computed, Failure> {
        let ended = || Failure::Failed("the edge's compute thread has ended".into());
        self.jobs.send(job).map_err(|_| ended())?;
        self.done.recv().map_err(|_| ended())
    }

    fn in_the_cloud(&mut self, job: CloudJob) -> Result<Option<Trained>, Failure> {
        self.workers.submit(Replica::Of(EDGE.into()), job);
        let done = self.trained.blocking_recv();
        let done = done.ok_or_else(|| Failure::Failed("the coordinator's worker has ended".into()))?;
        Ok(self.workers.take_back(done))
    }

    fn step(&mut self, step: u32) -> Result<(), Failure> {
        let (plan, micro_batch) = (self.plan, MicroBatch::WHOLE);
        let strange = |what: &dyn std::fmt::Debug| Failure::Failed(format!("a step came to {what:?}"));
        let tensor = match self.on_the_edge(Job::Forward { plan, step, micro_batch })? {
            Computed::Forwarded { activations, .. } => activations,
            other => return Err(strange(&other)),
        };
        let job = StepJob {
            part: StepPart::Whole,
            replica: Replica::Of(EDGE.into()),
            edge: EDGE.into(),
            round: 0,
            attempt: 0,
            step,
            global_step: step.into(),
            micro_batch,
            optimizer_step: u64::from(step) + 1,
            tensor,
            activations: plan.activations,
            gradients: plan.gradients,
        };
        let gradient = match self.in_the_cloud(CloudJob::Step(job))? {
            Some(Trained::Stepped { reply, .. }) => reply,
            other => return Err(strange(&other)),
        };
        match self.on_the_edge(Job::Backward { plan, step, micro_batch, gradient })? {
            Computed::Backwarded { .. } => Ok(()),
            other => Err(strange(&other)),
        }
    }
}

/// The same, each part called by itself.
struct Apart {
    shard: Arc<Samples>,
    order: BatchOrder,
    standardizer: Standardizer,
    edge: Half,
    cloud: Half,
    compute: Compute,
}

impl Apart {
    fn new(spec: &Arc<ModelSpec>, shard: &Arc<Samples>, cut: usize) -> Result<Self, Failure> {
        let compute = Compute::cpu(1).map_err(Failure::failed)?;
        let mut state = LayerState::initial(spec, 0..spec.len(), OPTIMIZER.moments().len(), SEED);
        let rest = state.split_off(spec, cut);
        let half = |state| Half::from_state(spec, OPTIMIZER, state, &compute).map_err(Failure::failed);
        let (edge, cloud) = (half(state)?, half(rest)?);
        let order = BatchOrder::new(SEED, EDGE, shard.len()).map_err(Failure::failed)?;
        Ok(Self { shard: shard.clone(), order, standardizer: standardizer(), edge, cloud, compute })
    }

    /// On one thread, so that nothing is handed over.
    fn step(&mut self, step: u32) -> Result<Parts, Failure> {
        let compute = self.compute.clone();
        compute.run(|| self.step_here(step)).map_err(Failure::Failed)
    }

    fn step_here(&mut self, step: u32) -> Result<Parts, String> {
        fn words(error: impl std::fmt::Display) -> String {
            error.to_string()
        }
        let mut parts = Parts::default();
        let context = StepContext {
            seed: SEED,
            edge: EDGE,
            step: step.into(),
            optimizer_step: u64::from(step) + 1,
            batch: BATCH,
            micro_batch: MicroBatch::WHOLE,
        };
        let header = |kind| TensorHeader { step, ..TensorHeader::new(kind, Codec::F32) };
        let shape = BatchShape::of(BATCH, self.cloud.input_shape());

        let begun = Spent::here();
        let indices = self.order.indices(step.into(), BATCH);
        let (values, labels) = self.shard.standardized(&indices, &self.standardizer).map_err(words)?;
        parts.batch = begun.micros();

        let begun = Spent::here();
        let (pending, values) = self.edge.forward(values, &context).map_err(words)?;
        parts.forward = begun.micros();

        let begun = Spent::here();
        let draws = &mut TopK::draws(SEED, EDGE, step.into(), 0);
        let codec = ActivationCodec::default();
        let (tensor, _): (TensorMessage, _) =
            encode_activations(header(TensorKind::Activations), codec, values, shape, &labels, draws);
        let Activations { values, labels, .. } = decode_activations(tensor, shape).map_err(words)?;
        parts.codecs = begun.micros();

        let begun = Spent::here();
        let outcome = self.cloud.finish_step(values, &labels, &context).map_err(words)?;
        parts.finish = begun.micros();

        let begun = Spent::here();
        let tensor = encode_gradient(header(TensorKind::CutGradient), outcome.gradient, shape, None);
        let gradient = decode_gradient(tensor, None).map_err(words)?;
        parts.codecs += begun.micros();

        let begun = Spent::here();
        self.edge.backward(pending, gradient, &context).map_err(words)?;
        parts.backward = begun.micros();
        Ok(parts)
    }
}
