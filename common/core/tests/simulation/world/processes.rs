//! The edges' processes: what happens to them, and what they ask for.

use std::collections::VecDeque;
use std::time::Duration;

use partway_core::participant::{Action, Participant};
use partway_core::wire::{PROTOCOL_VERSION, TrainingRequest};

use super::{Happening, MOST_ACTIONS, World};
use crate::edge::{Process, Surroundings, Worker};
use crate::scenario::{PATIENCE, device};

impl World {
    pub(super) fn process(&mut self, edge: usize, process: u32) -> Option<&mut Process> {
        let edge = &mut self.edges[edge];
        edge.process.as_mut().filter(|_| edge.processes == process)
    }

    pub(super) fn start_edge(&mut self, edge: usize) {
        let it = &mut self.edges[edge];
        if it.process.is_some() || self.outcome.is_some() {
            return;
        }
        it.processes += 1;
        it.outcome = None;
        let request = TrainingRequest {
            version: PROTOCOL_VERSION,
            name: it.name.clone(),
            samples: it.samples,
            labels: vec![it.samples, 0, 0],
            class_names: None,
            shape: self.model.spec.input,
            profile: device(),
            memory_limit: it.memory_limit,
            uplink_hint: None,
            resume: None,
        };
        let participant = Participant::new(self.now, request, it.folder.restore(), PATIENCE)
            .with_raw_data(true)
            .with_labels_kept(self.scenario.tail.is_some());
        it.process = Some(Process {
            participant,
            worker: Worker::default(),
            jobs: VecDeque::new(),
            connection: None,
            timers: 0,
        });
        let process = it.processes;
        self.participant(edge, process, |_, _| {});
    }

    /// Tells a participant something, then does what it asks for.
    pub(super) fn participant(
        &mut self,
        edge: usize,
        process: u32,
        tell: impl FnOnce(&mut Participant, Duration),
    ) {
        let now = self.now;
        let Some(alive) = self.process(edge, process) else { return };
        tell(&mut alive.participant, now);
        for count in 0.. {
            assert!(count < MOST_ACTIONS, "edge {edge} asks for too much");
            let Some(action) = self.process(edge, process).and_then(|alive| alive.participant.poll_action())
            else {
                return;
            };
            self.act_for_edge(edge, process, action);
        }
    }

    pub(super) fn act_for_edge(&mut self, edge: usize, process: u32, action: Action) {
        let now = self.now;
        match action {
            Action::Connect => self.connect(edge, process),
            Action::Send(message) => self.send_up(edge, process, &message),
            Action::SendTensor { tensor, .. } => self.send_tensor_up(edge, process, tensor),
            Action::Compute(job) => {
                let Some(alive) = self.process(edge, process) else { return };
                alive.jobs.push_back(job);
                if alive.jobs.len() == 1 {
                    self.start_job(edge, process);
                }
            }
            Action::SetTimer(at) => {
                let Some(alive) = self.process(edge, process) else { return };
                alive.timers += 1;
                let timer = alive.timers;
                if let Some(at) = at {
                    self.schedule(at.max(now), Happening::EdgeTimer { edge, process, timer });
                }
            }
            Action::Report(_) => {}
            Action::Finish(outcome) => {
                let connection = self.process(edge, process).and_then(|alive| alive.connection);
                self.edges[edge].process = None;
                self.edges[edge].outcome = Some(outcome);
                if let Some(connection) = connection {
                    let heard = self.connections[&connection].up.busy_until.max(now);
                    let notices = heard + self.dice.ms(1, 30);
                    self.schedule(notices, Happening::CloudNotices { connection });
                }
            }
        }
    }

    pub(super) fn start_job(&mut self, edge: usize, process: u32) {
        // Most jobs are of a micro-batch.
        let takes = self.dice.ms(1, 15) * self.slowness[edge] / self.scenario.in_flight;
        self.schedule(self.now + takes, Happening::EdgeComputed { edge, process });
    }

    pub(super) fn edge_computed(&mut self, edge: usize, process: u32) {
        let (model, ledger) = (&self.model, &mut self.ledger);
        let (scenario, globals) = (&self.scenario, &self.globals);
        let it = &mut self.edges[edge];
        let Some(alive) = it.process.as_mut().filter(|_| it.processes == process) else { return };
        let Some(job) = alive.jobs.pop_front() else { return };
        let mut around = Surroundings {
            name: &it.name,
            samples: it.samples,
            folder: &mut it.folder,
            poison: &mut it.poison,
            model,
            ledger,
            scenario,
            globals,
        };
        let computed = alive.worker.handle(&mut around, job);
        let more = !alive.jobs.is_empty();
        if more {
            self.start_job(edge, process);
        }
        self.participant(edge, process, |participant, now| participant.handle_computed(now, computed));
    }
}
