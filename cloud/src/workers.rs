//! The workers: threads that train replicas, first come first served, each replica on one at a time.
//!
//! [`Workers`] belongs to the event loop. It holds the idle replicas, hands a replica with its next job
//! to a free thread, and takes both back when the thread reports. Nothing is shared.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use partway_core::codec::BatchShape;
use partway_core::config::DeviceKind;
use partway_core::coordinator::{Computed, Job, Replica, StepJob};
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::wire::{Activations, TensorHeader, TensorKind, decode_activations, encode_gradient};
use partway_model::{Compute, ComputeError, Half, StepContext};
use tokio::sync::mpsc;

/// What every replica is made from.
#[derive(Clone, Debug)]
pub(crate) struct Blueprint {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) optimizer: Optimizer,
    pub(crate) seed: u64,
    pub(crate) batch_size: usize,
}

/// A replica's job, done.
#[derive(Debug)]
pub(crate) struct Done {
    worker: usize,
    replica: Replica,
    half: Option<Half>,
    computed: Option<Computed>,
}

struct Assigned {
    replica: Replica,
    half: Option<Half>,
    job: Job,
}

#[derive(Default)]
struct Slot {
    /// The replica, unless a worker has it or it was never placed.
    half: Option<Half>,
    jobs: VecDeque<Job>,
    busy: bool,
}

/// The replicas and the threads that train them.
pub(crate) struct Workers {
    threads: Vec<SyncSender<Assigned>>,
    idle: Vec<usize>,
    slots: BTreeMap<Replica, Slot>,
    /// Replicas with a job to start, in the order in which the jobs came.
    waiting: VecDeque<Replica>,
}

impl Workers {
    /// Starts `workers` workers on a device of this kind, of `threads` threads each; they report to
    /// `done`.
    pub(crate) fn start(
        device: DeviceKind,
        workers: usize,
        threads: usize,
        blueprint: &Blueprint,
        done: &mpsc::Sender<Done>,
    ) -> Result<Self, ComputeError> {
        let mut senders = Vec::with_capacity(workers);
        for worker in 0..workers {
            let compute = Compute::new(device, threads)?;
            let (sender, assigned) = sync_channel::<Assigned>(1);
            let (blueprint, done) = (blueprint.clone(), done.clone());
            let run = move || {
                while let Ok(Assigned { replica, half, job }) = assigned.recv() {
                    let work = || train(&blueprint, &compute, half, job);
                    let (half, computed) = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                        (
                            None,
                            Some(Computed::Failed { reason: "a worker panicked; its log says where".into() }),
                        )
                    });
                    if done.blocking_send(Done { worker, replica, half, computed }).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name(format!("worker-{worker}"))
                .spawn(run)
                .map_err(|source| ComputeError::Thread { source })?;
            senders.push(sender);
        }
        Ok(Self {
            idle: (0..workers).rev().collect(),
            threads: senders,
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
        })
    }

    /// Queues a job of a replica.
    pub(crate) fn submit(&mut self, replica: Replica, job: Job) {
        self.slots.entry(replica.clone()).or_default().jobs.push_back(job);
        self.waiting.push_back(replica);
        self.dispatch();
    }

    /// Takes back a replica from the worker that had it; returns what that computed.
    pub(crate) fn take_back(&mut self, done: Done) -> Option<Computed> {
        let slot = self.slots.entry(done.replica).or_default();
        slot.half = done.half;
        slot.busy = false;
        self.idle.push(done.worker);
        self.dispatch();
        done.computed
    }

    fn dispatch(&mut self) {
        let mut held_back = VecDeque::new();
        while !self.idle.is_empty()
            && let Some(replica) = self.waiting.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&replica) else { continue };
            if slot.busy {
                held_back.push_back(replica);
                continue;
            }
            let Some(job) = slot.jobs.pop_front() else { continue };
            let Some(worker) = self.idle.pop() else { break };
            slot.busy = true;
            let half = slot.half.take();
            // A worker thread ends with the loop only, and an idle one has room for one job.
            let _ = self.threads[worker].try_send(Assigned { replica, half, job });
        }
        held_back.append(&mut self.waiting);
        self.waiting = held_back;
    }
}

/// Does one job on a replica.
fn train(
    blueprint: &Blueprint,
    compute: &Compute,
    half: Option<Half>,
    job: Job,
) -> (Option<Half>, Option<Computed>) {
    match job {
        Job::Place { state, from, .. } => place(blueprint, compute, &state, from),
        Job::Step(step) => {
            let Some(mut half) = half else { return (None, Some(unplaced("a step"))) };
            half.move_to(compute);
            let computed = finish_step(blueprint, compute, &mut half, step);
            (Some(half), Some(computed))
        }
        Job::Export { replica, round, attempt } => match half {
            Some(half) => {
                let state = half.state();
                (Some(half), Some(Computed::Exported { replica, round, attempt, state }))
            }
            None => (None, Some(unplaced("an export"))),
        },
        Job::Discard { .. } => (None, None),
        Job::Aggregate { .. } | Job::Evaluate { .. } => (half, None),
    }
}

fn unplaced(what: &str) -> Computed {
    Computed::Failed { reason: format!("{what} was asked of a replica that was never placed") }
}

fn place(
    blueprint: &Blueprint,
    compute: &Compute,
    state: &LayerState,
    from: usize,
) -> (Option<Half>, Option<Computed>) {
    let own = state.slice(&blueprint.spec, from..state.layers.end);
    match Half::from_state(&blueprint.spec, blueprint.optimizer, own, compute) {
        Ok(half) => (Some(half), None),
        Err(error) => (None, Some(Computed::Failed { reason: error.to_string() })),
    }
}

fn finish_step(blueprint: &Blueprint, compute: &Compute, half: &mut Half, job: StepJob) -> Computed {
    let StepJob { edge, round, attempt, step, global_step, optimizer_step, tensor, gradients, .. } = job;
    let context = StepContext {
        seed: blueprint.seed,
        edge: &edge,
        step: global_step,
        optimizer_step,
        batch: blueprint.batch_size,
    };
    let (result, spent) = compute.timed(|| {
        let shape = BatchShape::of(context.batch, half.input_shape());
        let Activations { values, labels, selection } =
            decode_activations(tensor, shape).map_err(|error| error.to_string())?;
        let outcome = half.finish_step(values, &labels, &context).map_err(|error| error.to_string())?;
        let header =
            TensorHeader { round, attempt, step, ..TensorHeader::new(TensorKind::CutGradient, gradients) };
        let reply = encode_gradient(header, outcome.gradient, shape, selection.as_ref());
        Ok((reply, outcome.loss, outcome.correct as u32))
    });
    match result {
        Ok((reply, loss, correct)) => {
            let seconds = spent.wall.as_secs_f64();
            Computed::Stepped { edge, round, attempt, step, reply, loss, correct, seconds }
        }
        Err(reason) => Computed::Rejected { edge, round, attempt, reason },
    }
}
