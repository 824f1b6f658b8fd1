//! The workers: threads that train replicas, first come first served, each replica on one at a time.
//!
//! [`Workers`] belongs to the event loop. It holds the idle replicas, hands a replica with its next job
//! to a free thread, and takes both back when the thread reports. Nothing is shared.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};

use partway_core::config::DeviceKind;
use partway_core::coordinator::{Computed, Job, Replica};
use partway_model::{Compute, ComputeError};
use tokio::sync::mpsc;

use crate::replica::{Blueprint, Placed, train, warm_up};

/// A replica's job, done.
#[derive(Debug)]
pub struct Done {
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
pub struct Workers {
    threads: Vec<SyncSender<Assigned>>,
    idle: Vec<usize>,
    slots: BTreeMap<Replica, Slot>,
    /// Replicas with a job to start, in the order in which the jobs came.
    waiting: VecDeque<Replica>,
}

impl Workers {
    /// Starts `workers` workers on a device of this kind, of `threads` threads each; they report to
    /// `done`.
    ///
    /// # Errors
    /// If the system refuses the threads, or the device.
    pub fn start(
        device: DeviceKind,
        workers: usize,
        threads: usize,
        blueprint: &Blueprint,
        done: &mpsc::Sender<Done>,
    ) -> Result<Self, ComputeError> {
        let mut senders = Vec::with_capacity(workers);
        for worker in 0..workers {
            let (sender, assigned) = sync_channel::<Assigned>(1);
            let (ready, started) = sync_channel(1);
            let (blueprint, done) = (blueprint.clone(), done.clone());
            let run = move || {
                // The thread is the first of its own compute threads: a job is handed over once.
                let (compute, told) = match Compute::on_this_thread(device, threads) {
                    Ok(compute) => (Some(compute), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let _ = ready.send(told);
                let Some(compute) = compute else { return };
                warm_up(&blueprint, &compute);
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
                .name(format!("compute-w{worker}"))
                .spawn(run)
                .map_err(|source| ComputeError::Thread { source })?;
            let ended = |_| ComputeError::Thread { source: io::Error::other("it has ended at once") };
            started.recv().map_err(ended)??;
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
    pub fn submit(&mut self, replica: Replica, job: Job) {
        self.slots.entry(replica.clone()).or_default().jobs.push_back(job);
        self.waiting.push_back(replica);
        self.dispatch();
    }

    /// Takes back a replica from the worker that had it; returns what that computed.
    pub fn take_back(&mut self, done: Done) -> Option<Computed> {
        let slot = self.slots.entry(done.replica).or_default();
        slot.placed = done.placed;
        slot.busy = false;
        self.idle.push(done.worker);
        self.dispatch();
        done.computed
    }

    fn dispatch(&mut self) {
        let mut held_back = Vec::new();
        while !self.idle.is_empty()
            && let Some(replica) = self.waiting.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&replica) else { continue };
            if slot.busy {
                held_back.push(replica);
                continue;
            }
            let Some(job) = slot.jobs.pop_front() else { continue };
            let Some(worker) = self.idle.pop() else { break };
            slot.busy = true;
            let placed = slot.placed.take();
            // A worker thread ends with the loop only, and an idle one has room for one job.
            let _ = self.threads[worker].try_send(Assigned { replica, placed, job });
        }
        for replica in held_back.into_iter().rev() {
            self.waiting.push_front(replica);
        }
    }
}
