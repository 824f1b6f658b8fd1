//! The workers: threads that train replicas, first come first served, each replica on one at a time.
//!
//! [`Workers`] belongs to the event loop. It holds the idle replicas, hands a replica with its next job
//! to a free thread, and takes both back when the thread reports. Nothing is shared.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use partway_core::codec::{ActivationCodec, BatchShape, Selection, TopK};
use partway_core::config::DeviceKind;
use partway_core::coordinator::{Computed, Job, Replica, StepJob, StepPart};
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::wire::{
    Activations, TensorHeader, TensorKind, TensorMessage, decode_activations, decode_gradient,
    encode_activations, encode_gradient,
};
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
    passed: Option<Passed>,
}

#[derive(Debug)]
struct Passed {
    step: u32,
    pending: Pending,
    /// Which activations travelled at each end of these layers, if not all.
    at_cut: Option<Selection>,
    at_tail: Option<Selection>,
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
        Job::Discard { .. } => (None, None),
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
    reply: TensorMessage,
    /// Mean loss and correct predictions, where the labels are here.
    scored: Option<(f32, u32)>,
}

impl Placed {
    fn step(&mut self, blueprint: &Blueprint, compute: &Compute, job: StepJob) -> Computed {
        let StepJob { part, edge, round, attempt, step, global_step, optimizer_step, tensor, .. } = job;
        let context = StepContext {
            seed: blueprint.seed,
            edge: &edge,
            step: global_step,
            optimizer_step,
            batch: blueprint.batch_size,
        };
        let header = |kind, codec| TensorHeader { round, attempt, step, ..TensorHeader::new(kind, codec) };
        let cut_gradient = header(TensorKind::CutGradient, job.gradients);
        let (result, spent) = compute.timed(|| match part {
            StepPart::Whole => self.finish(tensor, cut_gradient, &context),
            StepPart::Forward => {
                let answer = header(TensorKind::TailActivations, job.activations.values);
                self.pass_on(tensor, answer, job.activations, &context)
            }
            StepPart::Backward => self.pass_back(tensor, cut_gradient, &context),
        });
        let seconds = spent.wall.as_secs_f64();
        match result {
            Ok(Answer { reply, scored: Some((loss, correct)) }) => {
                Computed::Stepped { edge, round, attempt, step, reply, loss, correct, seconds }
            }
            Ok(Answer { reply, scored: None }) => {
                Computed::Passed { edge, round, attempt, step, reply, seconds }
            }
            Err(reason) => Computed::Rejected { edge, round, attempt, reason },
        }
    }

    fn finish(
        &mut self,
        tensor: TensorMessage,
        answer: TensorHeader,
        context: &StepContext,
    ) -> Result<Answer, String> {
        let shape = BatchShape::of(context.batch, self.half.input_shape());
        let Activations { values, labels, selection } =
            decode_activations(tensor, shape).map_err(|error| error.to_string())?;
        let outcome = self.half.finish_step(values, &labels, context).map_err(|error| error.to_string())?;
        let reply = encode_gradient(answer, outcome.gradient, shape, selection.as_ref());
        Ok(Answer { reply, scored: Some((outcome.loss, outcome.correct as u32)) })
    }

    fn pass_on(
        &mut self,
        tensor: TensorMessage,
        answer: TensorHeader,
        codec: ActivationCodec,
        context: &StepContext,
    ) -> Result<Answer, String> {
        let shape = BatchShape::of(context.batch, self.half.input_shape());
        let Activations { values, selection: at_cut, .. } =
            decode_activations(tensor, shape).map_err(|error| error.to_string())?;
        let (pending, values) = self.half.forward(values, context).map_err(|error| error.to_string())?;
        let shape = BatchShape::of(context.batch, self.half.output_shape());
        let draws = &mut TopK::tail_draws(context.seed, context.edge, context.step);
        let (reply, at_tail) = encode_activations(answer, codec, values, shape, &[], draws);
        self.passed = Some(Passed { step: answer.step, pending, at_cut, at_tail });
        Ok(Answer { reply, scored: None })
    }

    fn pass_back(
        &mut self,
        tensor: TensorMessage,
        answer: TensorHeader,
        context: &StepContext,
    ) -> Result<Answer, String> {
        let Passed { pending, at_cut, at_tail, .. } =
            self.passed.take().filter(|passed| passed.step == answer.step).ok_or_else(|| {
                format!("the gradient of step {} has no forward pass in the cloud", answer.step + 1)
            })?;
        let gradient = decode_gradient(tensor, at_tail.as_ref()).map_err(|error| error.to_string())?;
        let values = self.half.backward(pending, gradient, context).map_err(|error| error.to_string())?;
        let shape = BatchShape::of(context.batch, self.half.input_shape());
        let reply = encode_gradient(answer, values, shape, at_cut.as_ref());
        Ok(Answer { reply, scored: None })
    }
}
