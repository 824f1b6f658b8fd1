//! The coordinator's process: the state machine, replicas on a few workers, checkpoints on its disk.
//!
//! Follows the contract of the real driver: `cloud/src/{serve,workers,global_model}.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use partway_core::coordinator::{Computed, Coordinator, Job, Replica, StepJob, StepPart};
use partway_core::model::LayerState;
use partway_core::wire::{TensorHeader, TensorKind, TensorMessage};

use crate::fake_model::{Accumulated, Context, FakeModel, Tape, from_values, to_values};
use crate::ledger::Ledger;

/// A running coordinator.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) coordinator: Coordinator,
    pub(crate) workers: Workers,
    /// Counts the timers: only the last one set counts.
    pub(crate) timers: u64,
}

/// Replicas and the workers that train them: first come first served, each replica on one at a time.
#[derive(Debug)]
pub(crate) struct Workers {
    idle: usize,
    slots: BTreeMap<Replica, Slot>,
    waiting: VecDeque<Replica>,
}

#[derive(Debug, Default)]
struct Slot {
    half: Option<LayerState>,
    /// The micro-batches of a step on their way through these layers to the edge's last ones, and back.
    passed: BTreeMap<u32, (u32, Tape)>,
    /// The micro-batches of a step so far.
    accumulated: Accumulated,
    jobs: VecDeque<Job>,
    running: Option<Job>,
}

impl Workers {
    pub(crate) fn new(workers: usize) -> Self {
        Self { idle: workers, slots: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Queues a job of a replica.
    pub(crate) fn submit(&mut self, job: Job) {
        let replica = match &job {
            Job::Place { replica, .. } | Job::Export { replica, .. } | Job::Discard { replica } => {
                replica.clone()
            }
            Job::Step(step) => step.replica.clone(),
            Job::Aggregate { .. } | Job::Evaluate { .. } => panic!("workers train replicas only"),
        };
        self.slots.entry(replica.clone()).or_default().jobs.push_back(job);
        self.waiting.push_back(replica);
    }

    /// Replicas whose next job starts now.
    pub(crate) fn dispatch(&mut self) -> Vec<Replica> {
        let mut started = Vec::new();
        let mut held_back = VecDeque::new();
        while self.idle > 0
            && let Some(replica) = self.waiting.pop_front()
        {
            let slot = self.slots.entry(replica.clone()).or_default();
            if slot.running.is_some() {
                held_back.push_back(replica);
                continue;
            }
            slot.running = slot.jobs.pop_front();
            self.idle -= 1;
            started.push(replica);
        }
        held_back.append(&mut self.waiting);
        self.waiting = held_back;
        started
    }

    /// Does the running job of a replica.
    pub(crate) fn finish(
        &mut self,
        replica: &Replica,
        model: &Arc<FakeModel>,
        ledger: &mut Ledger,
    ) -> Option<Computed> {
        let slot = self.slots.get_mut(replica).expect("it was started");
        let job = slot.running.take().expect("it was started");
        self.idle += 1;
        match job {
            Job::Place { state, layers, .. } => {
                slot.half = Some(state.slice(&model.spec, layers));
                (slot.passed, slot.accumulated) = (BTreeMap::new(), Accumulated::default());
                None
            }
            Job::Discard { .. } => {
                (slot.half, slot.passed) = (None, BTreeMap::new());
                None
            }
            Job::Step(step) => Some(match &mut slot.half {
                Some(half) if step.part == StepPart::Whole => {
                    finish_step(model, ledger, half, &mut slot.accumulated, step)
                }
                Some(half) => pass(model, ledger, half, (&mut slot.passed, &mut slot.accumulated), step),
                None => unplaced("a step"),
            }),
            Job::Export { replica, round, attempt } => Some(match slot.half.clone() {
                Some(state) => {
                    // Every step is in it once, in order.
                    ledger.origin(model, &state);
                    Computed::Exported { replica, round, attempt, state }
                }
                None => unplaced("an export"),
            }),
            Job::Aggregate { .. } | Job::Evaluate { .. } => None,
        }
    }
}

fn unplaced(what: &str) -> Computed {
    Computed::Failed { reason: format!("{what} was asked of a replica that was never placed") }
}

fn finish_step(
    model: &FakeModel,
    ledger: &mut Ledger,
    half: &mut LayerState,
    accumulated: &mut Accumulated,
    job: StepJob,
) -> Computed {
    let StepJob {
        edge,
        round,
        attempt,
        step,
        micro_batch,
        global_step,
        optimizer_step,
        tensor,
        gradients,
        ..
    } = job;
    let context = Context { edge: &edge, step: global_step, optimizer_step, micro_batch };
    let decoded = tensor
        .decode()
        .map_err(|error| error.to_string())
        .and_then(|(values, labels)| Ok((from_values(&values)?, labels)));
    let (input, labels) = match decoded {
        Ok(decoded) => decoded,
        Err(reason) => return Computed::Rejected { edge, round, attempt, reason },
    };
    let gradient = model.finish(half, input, &labels, &context, accumulated, ledger);
    let header = TensorHeader {
        round,
        attempt,
        step,
        micro_batch: micro_batch.index as u16,
        ..TensorHeader::new(TensorKind::CutGradient, gradients)
    };
    let reply = TensorMessage::encode(header, to_values(gradient), &[]);
    Computed::Stepped { edge, round, attempt, step, micro_batch, reply, loss: 1.0, correct: 1, seconds: 0.01 }
}

/// One direction of a micro-batch through layers between the edge's.
fn pass(
    model: &FakeModel,
    ledger: &mut Ledger,
    half: &mut LayerState,
    (passed, accumulated): (&mut BTreeMap<u32, (u32, Tape)>, &mut Accumulated),
    job: StepJob,
) -> Computed {
    let StepJob {
        part, edge, round, attempt, step, micro_batch, global_step, optimizer_step, tensor, ..
    } = job;
    let context = Context { edge: &edge, step: global_step, optimizer_step, micro_batch };
    let decoded = tensor.decode().map_err(|error| error.to_string());
    let hash = match decoded.and_then(|(values, _)| from_values(&values)) {
        Ok(hash) => hash,
        Err(reason) => return Computed::Rejected { edge, round, attempt, reason },
    };
    let (kind, codec, answer) = if part == StepPart::Forward {
        let tape = model.forward(half, hash, &context, ledger);
        let output = tape.output;
        passed.insert(micro_batch.index, (step, tape));
        (TensorKind::TailActivations, job.activations.values, output)
    } else {
        let Some((_, tape)) = passed.remove(&micro_batch.index).filter(|(at, _)| *at == step) else {
            let reason = "the gradient has no forward pass".into();
            return Computed::Rejected { edge, round, attempt, reason };
        };
        (
            TensorKind::CutGradient,
            job.gradients,
            model.backward(half, &tape, hash, &context, accumulated, ledger),
        )
    };
    let part = micro_batch.index as u16;
    let header = TensorHeader { round, attempt, step, micro_batch: part, ..TensorHeader::new(kind, codec) };
    let reply = TensorMessage::encode(header, to_values(answer), &[]);
    Computed::Passed { edge, round, attempt, step, micro_batch, reply, seconds: 0.01 }
}
