//! The threads that compute tensors while virtual time stands still.
//!
//! Work goes into lanes: what one lane holds is done in order, different lanes at the same time. Each edge
//! has a lane and each replica, so that results are the same for any number of threads. A lane never holds
//! more than the state machines ask for at once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use partway_model::{Compute, ComputeError};

type Task = Box<dyn FnOnce(&Compute) + Send>;

/// Threads, each with a processor of its own to compute on.
pub(super) struct Crew {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

/// What there is to do.
#[derive(Default)]
struct Board {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    /// Lanes with something to do that no thread is at, first come first served.
    ready: VecDeque<Lane>,
    is_over: bool,
}

/// Work that is done in order.
#[derive(Clone, Default)]
pub(super) struct Lane(Arc<Mutex<LaneWork>>);

#[derive(Default)]
struct LaneWork {
    tasks: VecDeque<Task>,
    /// Whether a thread is at it, or it is ready for one.
    is_taken: bool,
}

/// A result that may still be computed.
pub(super) struct Ticket<T>(Receiver<T>);

impl<T> Ticket<T> {
    /// Waits for it; `None` if computing it panicked.
    pub(super) fn wait(self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl Crew {
    /// Starts `threads` threads.
    pub(super) fn start(threads: usize) -> Result<Self, ComputeError> {
        let mut crew = Self { board: Arc::default(), threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let (compute, board) = (Compute::cpu(1)?, crew.board.clone());
            let thread = std::thread::Builder::new().name(format!("crew-{number}"));
            let thread = thread.spawn(move || while board.work_once(&compute) {});
            crew.threads.push(thread.map_err(|source| ComputeError::Thread { source })?);
        }
        Ok(crew)
    }

    /// Adds work to a lane.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        lane: &Lane,
        work: impl FnOnce(&Compute) -> T + Send + 'static,
    ) -> Ticket<T> {
        let (done, ticket) = sync_channel(1);
        let task: Task = Box::new(move |compute| {
            // Nobody waits for it if the run has ended.
            let _ = done.send(work(compute));
        });
        let mut own = held(&lane.0);
        own.tasks.push_back(task);
        if !std::mem::replace(&mut own.is_taken, true) {
            drop(own);
            held(&self.board.work).ready.push_back(lane.clone());
            self.board.changed.notify_one();
        }
        Ticket(ticket)
    }
}

impl Board {
    /// Does one task, when there is one; false at the end.
    fn work_once(&self, compute: &Compute) -> bool {
        let mut work = held(&self.work);
        let lane = loop {
            if work.is_over {
                return false;
            }
            match work.ready.pop_front() {
                Some(lane) => break lane,
                None => work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(work);
        let task = held(&lane.0).tasks.pop_front();
        if let Some(task) = task {
            // A task that panics gives no result, which whoever waits for it is told.
            let _ = catch_unwind(AssertUnwindSafe(|| task(compute)));
        }
        let mut own = held(&lane.0);
        own.is_taken = !own.tasks.is_empty();
        if own.is_taken {
            drop(own);
            held(&self.work).ready.push_back(lane);
            self.changed.notify_one();
        }
        true
    }
}

impl Drop for Crew {
    /// Ends the threads after what they are at; the rest is left undone.
    fn drop(&mut self) {
        held(&self.board.work).is_over = true;
        self.board.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// No task runs while a lock is held, so that none is ever left half changed.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_keeps_its_order_and_all_lanes_get_their_turn() {
        let crew = Crew::start(3).expect("threads");
        let lanes: Vec<(Lane, Arc<Mutex<Vec<u32>>>)> = (0..4).map(|_| Default::default()).collect();
        let mut tickets = Vec::new();
        for number in 0..100 {
            for (lane, seen) in &lanes {
                let seen = seen.clone();
                tickets.push(crew.submit(lane, move |_| {
                    held(&seen).push(number);
                    number
                }));
            }
        }
        let results: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait().expect("it is done")).collect();
        assert!(results.chunks(4).zip(0..).all(|(four, number)| four == [number; 4]));
        assert!(lanes.iter().all(|(_, seen)| held(seen).iter().copied().eq(0..100)));
    }

    #[test]
    fn work_that_panics_gives_nothing_and_stops_nobody() {
        let crew = Crew::start(1).expect("a thread");
        let lane = Lane::default();
        let fails = crew.submit(&lane, |_| -> u32 { panic!("this test wants it") });
        let works = crew.submit(&lane, Compute::threads);
        assert_eq!((fails.wait(), works.wait()), (None, Some(1)));
    }
}
