//! The workers: threads that train replicas, first come first served, each replica on one at a time.
//!
//! [`Workers`] belongs to the event loop. It holds the idle replicas, hands a replica with its next job
//! to a free thread, and takes both back when the thread reports. Nothing is shared.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use partway_core::coordinator::{Computed, Job, Replica, StepJob, StepPart};
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::wire::{TensorHeader, TensorKind, TensorMessage};
use partway_model::{Compute, ComputeError, Half, Pending, StepContext};
use tokio::sync::mpsc;

/// What every replica is made from.
#[derive(Clone, Debug)]
pub(crate) struct Blueprint {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) optimizer: Optimizer,
    pub(crate) seed: u64,
    pub(crate) batch_size: usize,
}

/// A replica's layers.
#[derive(Debug)]
struct Placed {
    half: Half,
    /// A step on its way through these layers to the edge's last ones, and back.
    passed: Option<(u32, Pending)>,
}

/// A replica's job, done.
#[derive(Debug)]
pub(crate) struct Done {
    worker: usize,
    replica: Replica,
    placed: Option<Placed>,
    computed: Option<Computed>,
}

struct Assigned {
    replica: Replica,
    placed: Option<Placed>,
    job: Job,
}

#[derive(Default)]
struct Slot {
    /// The replica's layers, unless a worker has them or it was never placed.
    placed: Option<Placed>,
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
    /// Starts `workers` workers of `threads` threads each; they report to `done`.
    pub(crate) fn start(
        workers: usize,
        threads: usize,
        blueprint: &Blueprint,
        done: &mpsc::Sender<Done>,
    ) -> Result<Self, ComputeError> {
        let mut senders = Vec::with_capacity(workers);
        for worker in 0..workers {
            let compute = Compute::cpu(threads)?;
            let (sender, assigned) = sync_channel::<Assigned>(1);
            let (blueprint, done) = (blueprint.clone(), done.clone());
            let run = move || {
                while let Ok(Assigned { replica, placed, job }) = assigned.recv() {
                    let work = || train(&blueprint, &compute, placed, job);
                    let (placed, computed) = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                        (
                            None,
                            Some(Computed::Failed { reason: "a worker panicked; its log says where".into() }),
                        )
                    });
                    if done.blocking_send(Done { worker, replica, placed, computed }).is_err() {
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
        slot.placed = done.placed;
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
            let placed = slot.placed.take();
            // A worker thread ends with the loop only, and an idle one has room for one job.
            let _ = self.threads[worker].try_send(Assigned { replica, placed, job });
        }
        held_back.append(&mut self.waiting);
        self.waiting = held_back;
    }
}

/// Does one job on a replica.
fn train(
    blueprint: &Blueprint,
    compute: &Compute,
    placed: Option<Placed>,
    job: Job,
) -> (Option<Placed>, Option<Computed>) {
    match job {
        Job::Place { state, layers, .. } => place(blueprint, compute, &state, layers),
        Job::Step(step) => {
            let Some(mut placed) = placed else { return (None, Some(unplaced("a step"))) };
            placed.half.move_to(compute);
            let computed = placed.step(blueprint, compute, step);
            (Some(placed), Some(computed))
        }
        Job::Export { replica, round, attempt } => match placed {
            Some(placed) => {
                let state = placed.half.state();
                (Some(placed), Some(Computed::Exported { replica, round, attempt, state }))
            }
            None => (None, Some(unplaced("an export"))),
        },
        Job::Aggregate { .. } | Job::Evaluate { .. } => (placed, None),
    }
}

fn unplaced(what: &str) -> Computed {
    Computed::Failed { reason: format!("{what} was asked of a replica that was never placed") }
}

fn place(
    blueprint: &Blueprint,
    compute: &Compute,
    state: &LayerState,
    layers: Range<usize>,
) -> (Option<Placed>, Option<Computed>) {
    let own = state.slice(&blueprint.spec, layers);
    match Half::from_state(&blueprint.spec, blueprint.optimizer, own, compute) {
        Ok(half) => (Some(Placed { half, passed: None }), None),
        Err(error) => (None, Some(Computed::Failed { reason: error.to_string() })),
    }
}

/// What a step's part came to.
struct Answer {
    kind: TensorKind,
    values: Vec<f32>,
    /// Mean loss and correct predictions, where the labels are here.
    scored: Option<(f32, u32)>,
}

impl Placed {
    fn step(&mut self, blueprint: &Blueprint, compute: &Compute, job: StepJob) -> Computed {
        let StepJob { part, edge, round, attempt, step, global_step, optimizer_step, tensor, codec, .. } =
            job;
        let context = StepContext {
            seed: blueprint.seed,
            edge: &edge,
            step: global_step,
            optimizer_step,
            batch: blueprint.batch_size,
        };
        let (result, spent) = compute.timed(|| {
            let (values, labels) = tensor.decode().map_err(|error| error.to_string())?;
            let Answer { kind, values, scored } = match part {
                StepPart::Whole => self.finish(values, &labels, &context),
                StepPart::Forward => self.pass_on(step, values, &context),
                StepPart::Backward => self.pass_back(step, values, &context),
            }?;
            let header = TensorHeader { round, attempt, step, ..TensorHeader::new(kind, codec) };
            Ok((TensorMessage::encode(header, values, &[]), scored))
        });
        let seconds = spent.wall.as_secs_f64();
        match result {
            Ok((reply, Some((loss, correct)))) => {
                Computed::Stepped { edge, round, attempt, step, reply, loss, correct, seconds }
            }
            Ok((reply, None)) => Computed::Passed { edge, round, attempt, step, reply, seconds },
            Err(reason) => Computed::Rejected { edge, round, attempt, reason },
        }
    }

    fn finish(
        &mut self,
        activations: Vec<f32>,
        labels: &[u32],
        context: &StepContext,
    ) -> Result<Answer, String> {
        let outcome =
            self.half.finish_step(activations, labels, context).map_err(|error| error.to_string())?;
        let scored = Some((outcome.loss, outcome.correct as u32));
        Ok(Answer { kind: TensorKind::CutGradient, values: outcome.gradient, scored })
    }

    fn pass_on(&mut self, step: u32, activations: Vec<f32>, context: &StepContext) -> Result<Answer, String> {
        let (pending, values) = self.half.forward(activations, context).map_err(|error| error.to_string())?;
        self.passed = Some((step, pending));
        Ok(Answer { kind: TensorKind::TailActivations, values, scored: None })
    }

    fn pass_back(&mut self, step: u32, gradient: Vec<f32>, context: &StepContext) -> Result<Answer, String> {
        let (_, pending) =
            self.passed.take().filter(|(at, _)| *at == step).ok_or_else(|| {
                format!("the gradient of step {} has no forward pass in the cloud", step + 1)
            })?;
        let values = self.half.backward(pending, gradient, context).map_err(|error| error.to_string())?;
        Ok(Answer { kind: TensorKind::CutGradient, values, scored: None })
    }
}
