//! The coordinator's side: its state machine, and the workers that serve replicas first come first served.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use partway_cloud::global_model::{self, CHUNK, Evaluator};
use partway_cloud::replica::{Blueprint, Placed, train};
use partway_core::coordinator::{Computed, Coordinator, Job, Replica, StepJob, StepPart};
use partway_core::model::LayerState;
use partway_core::random::Stream;
use partway_core::standardize::Standardizer;

use super::crew::{Crew, Lane, Ticket};
use super::device::Device;

/// When a job that was started is done.
pub(super) enum Started {
    /// One of a replica.
    Replica(Replica, Duration),
    /// An average.
    Aggregation(Duration),
    /// An evaluation.
    Evaluation(Duration),
}

/// The coordinator with what it computes on.
pub(super) struct Cloud {
    pub(super) coordinator: Coordinator,
    /// Counts the timers that were set: only the last one counts.
    pub(super) timers: u64,
    blueprint: Arc<Blueprint>,
    device: Device,
    random: Stream,
    slots: BTreeMap<Replica, Slot>,
    /// Replicas with a job to start, in the order in which the jobs came.
    waiting: VecDeque<Replica>,
    /// Workers without a job.
    idle: usize,
    /// The last state that a replica was placed from, with replicas of it.
    origin: Arc<Mutex<Origin>>,
    aggregations: Lane,
    aggregating: Option<Ticket<Computed>>,
    /// None if the edges evaluate.
    evaluator: Option<Evaluator>,
    evaluations: Lane,
    evaluating: Option<Ticket<Computed>>,
    next_evaluation: Option<(u32, Arc<LayerState>, Standardizer)>,
}

/// One replica.
#[derive(Default)]
struct Slot {
    lane: Lane,
    placed: Arc<Mutex<Option<Placed>>>,
    /// Its layers, once all that was asked so far is done.
    layers: std::ops::Range<usize>,
    /// Jobs that are being computed and whose time has not begun, with what they take in seconds.
    jobs: VecDeque<(Ticket<Option<Computed>>, f64)>,
    /// The job whose time is running.
    running: Option<(Ticket<Option<Computed>>, Duration)>,
}

/// Replicas that start from one state share its tensors until they are trained.
#[derive(Default)]
struct Origin {
    state: Weak<LayerState>,
    placed: BTreeMap<(usize, usize), Placed>,
}

impl Cloud {
    pub(super) fn new(
        coordinator: Coordinator,
        blueprint: Blueprint,
        device: Device,
        random: Stream,
        workers: usize,
        evaluator: Option<Evaluator>,
    ) -> Self {
        Self {
            coordinator,
            timers: 0,
            blueprint: Arc::new(blueprint),
            device,
            random,
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
            idle: workers,
            origin: Arc::default(),
            aggregations: Lane::default(),
            aggregating: None,
            evaluator,
            evaluations: Lane::default(),
            evaluating: None,
            next_evaluation: None,
        }
    }

    /// Takes a job on; what of all that waits starts now goes to `started`.
    pub(super) fn compute(&mut self, now: Duration, crew: &Crew, job: Job, started: &mut Vec<Started>) {
        match job {
            Job::Place { ref replica, .. }
            | Job::Export { ref replica, .. }
            | Job::Discard { ref replica }
            | Job::Step(StepJob { ref replica, .. }) => {
                let replica = replica.clone();
                self.submit(crew, replica, job);
                self.dispatch(now, started);
            }
            Job::Aggregate { round, models, reset_moments } => {
                let spec = self.blueprint.spec.clone();
                self.aggregating = Some(crew.submit(&self.aggregations, move |_| {
                    global_model::aggregate(&spec, round, models, reset_moments)
                }));
                started.push(Started::Aggregation(now));
            }
            Job::Evaluate { round, state, standardizer } => {
                // Where evaluations take longer than rounds, some models have none: of those that wait the newest is the best guess.
                self.next_evaluation = Some((round, state, standardizer));
                self.evaluate_next(now, crew, started);
            }
        }
    }

    /// Tensors are computed as soon as a thread is free, whenever their time begins.
    fn submit(&mut self, crew: &Crew, replica: Replica, job: Job) {
        let slot = self.slots.entry(replica.clone()).or_default();
        if let Job::Place { layers, .. } = &job {
            slot.layers = layers.clone();
        }
        let seconds = match &job {
            Job::Step(StepJob { part: StepPart::Whole, .. }) => self.device.both_s(slot.layers.clone()),
            Job::Step(StepJob { part: StepPart::Forward, .. }) => self.device.forward_s(slot.layers.clone()),
            Job::Step(StepJob { part: StepPart::Backward, .. }) => {
                self.device.backward_s(slot.layers.clone())
            }
            // Copies of states are not modelled.
            _ => 0.0,
        };
        let (blueprint, placed, origin) = (self.blueprint.clone(), slot.placed.clone(), self.origin.clone());
        let ticket = crew.submit(&slot.lane, move |compute| {
            let mut placed = placed.lock().unwrap_or_else(PoisonError::into_inner);
            let (layers, computed) = match job {
                Job::Place { replica, state, layers } => {
                    let mut origin = origin.lock().unwrap_or_else(PoisonError::into_inner);
                    let place = || {
                        let (state, layers) = (state.clone(), layers.clone());
                        train(&blueprint, compute, None, Job::Place { replica, state, layers })
                    };
                    origin.place(&state, &layers, place)
                }
                job => train(&blueprint, compute, placed.take(), job),
            };
            *placed = layers;
            computed
        });
        slot.jobs.push_back((ticket, seconds));
        self.waiting.push_back(replica);
    }

    fn dispatch(&mut self, now: Duration, started: &mut Vec<Started>) {
        let mut held_back = VecDeque::new();
        while self.idle > 0
            && let Some(replica) = self.waiting.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&replica) else { continue };
            if slot.running.is_some() {
                held_back.push_back(replica);
                continue;
            }
            let Some((ticket, seconds)) = slot.jobs.pop_front() else { continue };
            self.idle -= 1;
            let takes = self.device.duration(seconds, 1.0, &mut self.random);
            slot.running = Some((ticket, takes));
            started.push(Started::Replica(replica, now.saturating_add(takes)));
        }
        held_back.append(&mut self.waiting);
        self.waiting = held_back;
    }

    /// The time of a replica's job is over.
    pub(super) fn handle_replica(&mut self, now: Duration, replica: &Replica, started: &mut Vec<Started>) {
        let Some((ticket, took)) = self.slots.get_mut(replica).and_then(|slot| slot.running.take()) else {
            return;
        };
        self.idle += 1;
        self.dispatch(now, started);
        let computed = ticket.wait().unwrap_or_else(|| {
            Some(Computed::Failed { reason: "a thread panicked while it trained a replica".into() })
        });
        let Some(mut computed) = computed else { return };
        if let Computed::Stepped { seconds, .. } | Computed::Passed { seconds, .. } = &mut computed {
            *seconds = took.as_secs_f64();
        }
        self.coordinator.handle_computed(now, computed);
    }

    /// An average is done.
    pub(super) fn handle_aggregation(&mut self, now: Duration) {
        if let Some(ticket) = self.aggregating.take() {
            self.coordinator.handle_computed(now, ticket.wait().unwrap_or_else(panicked));
        }
    }

    /// The time of an evaluation is over.
    pub(super) fn handle_evaluation(&mut self, now: Duration, crew: &Crew, started: &mut Vec<Started>) {
        if let Some(ticket) = self.evaluating.take() {
            self.evaluate_next(now, crew, started);
            self.coordinator.handle_computed(now, ticket.wait().unwrap_or_else(panicked));
        }
    }

    /// Starts the waiting evaluation, unless one is running.
    fn evaluate_next(&mut self, now: Duration, crew: &Crew, started: &mut Vec<Started>) {
        if self.evaluating.is_some() {
            return;
        }
        let Some((round, state, standardizer)) = self.next_evaluation.take() else { return };
        let evaluator = self.evaluator.clone();
        let samples = evaluator.as_ref().map_or(0, |evaluator| evaluator.test.len());
        let seconds = self.device.evaluation_s(&self.blueprint.spec, samples, CHUNK);
        let takes = self.device.duration(seconds, 1.0, &mut self.random);
        self.evaluating = Some(crew.submit(&self.evaluations, move |compute| match evaluator {
            Some(evaluator) => {
                let evaluator = Evaluator { compute: compute.clone(), ..evaluator };
                evaluator.evaluate(round, state, &standardizer)
            }
            None => Computed::Failed { reason: "the coordinator was started without a test set".into() },
        }));
        started.push(Started::Evaluation(now.saturating_add(takes)));
    }
}

impl Origin {
    /// A replica of these layers of `state`: made, or the twin of one that was made before.
    fn place(
        &mut self,
        state: &Arc<LayerState>,
        layers: &std::ops::Range<usize>,
        make: impl FnOnce() -> (Option<Placed>, Option<Computed>),
    ) -> (Option<Placed>, Option<Computed>) {
        if !std::ptr::eq(self.state.as_ptr(), Arc::as_ptr(state)) {
            *self = Self { state: Arc::downgrade(state), placed: BTreeMap::new() };
        }
        let key = (layers.start, layers.end);
        if let Some(placed) = self.placed.get(&key) {
            return (Some(placed.twin()), None);
        }
        let (placed, computed) = make();
        self.placed.extend(placed.as_ref().map(|placed| (key, placed.twin())));
        (placed, computed)
    }
}

fn panicked() -> Computed {
    Computed::Failed { reason: "work on the global model panicked; the log says where".into() }
}
