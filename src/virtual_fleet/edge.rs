//! One edge's side: its state machine, its jobs one after the other, its link and its device.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partway_core::config::Slowdown;
use partway_core::model::ModelSpec;
use partway_core::participant::{Computed, Job, Participant};
use partway_core::random::Stream;
use partway_edge::Worker;

use super::crew::{Crew, Lane, Ticket};
use super::device::{Device, slowdown_at};
use super::link::Link;

/// One edge.
pub(super) struct Edge {
    pub(super) name: String,
    pub(super) participant: Participant,
    /// Counts the timers that were set: only the last one counts.
    pub(super) timers: u64,
    pub(super) link: Link,
    /// What the path takes there and back.
    pub(super) rtt: Duration,
    /// The connection that it is on, or makes.
    pub(super) connection: Option<u64>,
    worker: Arc<Mutex<Worker>>,
    lane: Lane,
    jobs: VecDeque<Job>,
    running: Option<(Ticket<Computed>, Duration)>,
    computing: Computing,
}

/// What an edge's jobs take.
pub(super) struct Computing {
    pub(super) device: Arc<Device>,
    pub(super) slow: Vec<Slowdown>,
    pub(super) random: Stream,
    pub(super) spec: Arc<ModelSpec>,
    /// Where the labels stay on the edge: its last layers start there.
    pub(super) tail: Option<usize>,
    /// Samples that it evaluates on, and how many at once.
    pub(super) held_out: usize,
    pub(super) batch: usize,
}

impl Edge {
    pub(super) fn new(
        name: String,
        participant: Participant,
        worker: Worker,
        link: Link,
        rtt: Duration,
        computing: Computing,
    ) -> Self {
        Self {
            name,
            participant,
            timers: 0,
            link,
            rtt,
            connection: None,
            worker: Arc::new(Mutex::new(worker)),
            lane: Lane::default(),
            jobs: VecDeque::new(),
            running: None,
            computing,
        }
    }

    /// Takes a job on; says when the one is done that starts now, if any.
    pub(super) fn compute(&mut self, now: Duration, crew: &Crew, job: Job) -> Option<Duration> {
        self.jobs.push_back(job);
        self.start_next(now, crew)
    }

    fn start_next(&mut self, now: Duration, crew: &Crew) -> Option<Duration> {
        if self.running.is_some() {
            return None;
        }
        let job = self.jobs.pop_front()?;
        let takes = self.computing.duration(now, &job);
        let worker = self.worker.clone();
        let ticket = crew.submit(&self.lane, move |compute| {
            let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            worker.move_to(compute);
            worker.handle(job)
        });
        self.running = Some((ticket, takes));
        Some(now.saturating_add(takes))
    }

    /// The time of a job is over; says when the next one is done, if any.
    pub(super) fn handle_done(&mut self, now: Duration, crew: &Crew) -> Option<Duration> {
        let (ticket, took) = self.running.take()?;
        let panicked = || Computed::Failed { reason: "the edge's computation panicked".into() };
        let mut computed = ticket.wait().unwrap_or_else(panicked);
        match &mut computed {
            Computed::Forwarded { seconds, .. }
            | Computed::TailStepped { seconds, .. }
            | Computed::Backwarded { seconds, .. }
            | Computed::LocalStepped { seconds, .. } => *seconds = took.as_secs_f64(),
            // That of the process is not this edge's.
            Computed::RoundEnded { peak_rss_bytes, .. } => *peak_rss_bytes = 0,
            _ => {}
        }
        let next = self.start_next(now, crew);
        self.participant.handle_computed(now, computed);
        next
    }
}

impl Computing {
    /// How long a job that starts now takes. Statistics, copies and encodings of states are not modelled.
    fn duration(&mut self, now: Duration, job: &Job) -> Duration {
        let (device, layers) = (&self.device, self.spec.len());
        let whole_tail_s = || self.tail.map_or(0.0, |tail| device.whole_s(tail..layers));
        let seconds = match job {
            Job::Forward { plan, .. } => device.forward_s(0..plan.cut as usize),
            Job::Backward { plan, .. } => device.backward_s(0..plan.cut as usize),
            Job::LocalStep { plan, .. } => device.whole_s(0..plan.cut as usize) + whole_tail_s(),
            Job::Tail { .. } => self.tail.map_or(0.0, |tail| device.both_s(tail..layers)),
            Job::Evaluate { .. } => device.evaluation_s(&self.spec, self.held_out, self.batch),
            Job::Statistics { .. }
            | Job::Prepare { .. }
            | Job::Begin { .. }
            | Job::EndRound { .. }
            | Job::Upload(_) => 0.0,
        };
        device.duration(seconds, slowdown_at(&self.slow, now), &mut self.random)
    }
}
