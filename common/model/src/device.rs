//! Where kernels run: a device of burn and the threads that work for it, and how their time is read.

mod graphics;

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use partway_core::config::DeviceKind;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::kernels::Kernels;

/// More threads than any machine that this is for; beyond it a number is a mistake.
const MAX_THREADS: usize = 1024;

/// A device and its own worker threads.
///
/// Every kernel of a [`Half`](crate::Half) runs on the workers of the `Compute` that it was built
/// with. On the CPU the results are the same bits for any number of threads. Clones share the workers.
///
/// On a graphics processor the workers only issue the kernels. A process has one of these: the one
/// that its driver prefers, or that the variable `CUBECL_WGPU_DEFAULT_DEVICE` names. Kernels are
/// compiled when they are first used with a shape.
///
/// Give each worker process, and each cloud worker, its own `Compute`: a rayon worker that waits may
/// take over other work of the same pool, whose time [`Compute::timed`] would then count too.
#[derive(Clone, Debug)]
pub struct Compute {
    pool: Arc<ThreadPool>,
    device: Device,
    kind: DeviceKind,
    name: String,
    threads: usize,
    kernels: Kernels,
    /// The one thread that may ask for work, if it is one of the workers.
    home: Option<ThreadId>,
}

/// A device that could not be set up.
#[derive(Debug, Error)]
pub enum ComputeError {
    /// No thread, or absurdly many.
    #[error("threads = {threads} is outside 1..={MAX_THREADS}: give the number of cores to use")]
    Threads {
        /// What was asked for.
        threads: usize,
    },
    /// The system refused a thread.
    #[error("could not start a thread: {source}")]
    Thread {
        /// Why it refused.
        source: std::io::Error,
    },
    /// The system refused the threads.
    #[error("could not start {threads} compute threads; use fewer")]
    Pool {
        /// How many were asked for.
        threads: usize,
        /// Why it refused.
        source: ThreadPoolBuildError,
    },
    /// This program was built for the CPU only.
    #[error(
        "this program was built without graphics processors: build it with `--features wgpu` \
         (`cargo run --release --features wgpu -- ...`), or use the device `cpu`"
    )]
    NotBuilt,
    /// There is no graphics processor, or its driver refuses.
    #[error(
        "no graphics processor can be used: {reason}: install its driver, for Linux one with Vulkan \
         (`vulkaninfo --summary` must list it), or use the device `cpu`"
    )]
    Graphics {
        /// What was tried and failed.
        reason: String,
    },
}

/// What a piece of work took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time that the device worked, as far as it can be told from waiting. On the CPU: CPU time of the
    /// worker thread that ran it; with one thread that is all of the work, with more it leaves out what
    /// the other workers did meanwhile. On a graphics processor: time on the clock.
    pub device: Duration,
    /// Time on the clock.
    pub wall: Duration,
}

/// Reads the clocks of the thread that starts it; must be read on the same thread.
struct Meter {
    cpu: Duration,
    wall: Instant,
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // The kernel keeps both fields non-negative for a CPU-time clock.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

impl Meter {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: thread_cpu_time() }
    }

    fn spent(&self, kind: DeviceKind) -> Spent {
        let (cpu, wall) = (thread_cpu_time().saturating_sub(self.cpu), self.wall.elapsed());
        let device = match kind {
            DeviceKind::Cpu => cpu,
            DeviceKind::Wgpu => wall,
        };
        Spent { device, wall }
    }
}

impl Compute {
    /// The CPU, with `threads` worker threads.
    pub fn cpu(threads: usize) -> Result<Self, ComputeError> {
        Self::new(DeviceKind::Cpu, threads)
    }

    /// A device of this kind, with `threads` worker threads.
    pub fn new(kind: DeviceKind, threads: usize) -> Result<Self, ComputeError> {
        Self::with_workers(kind, threads, false)
    }

    /// Likewise, with the calling thread as the first of the workers: work is not handed over to another thread, and
    /// with `threads = 1` none is woken and none looks for more. From then on only this thread may ask for work, and it
    /// can be a worker of one `Compute` only.
    pub fn on_this_thread(kind: DeviceKind, threads: usize) -> Result<Self, ComputeError> {
        Self::with_workers(kind, threads, true)
    }

    fn with_workers(kind: DeviceKind, threads: usize, on_this_thread: bool) -> Result<Self, ComputeError> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(ComputeError::Threads { threads });
        }
        let builder =
            ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("compute-{index}"));
        let builder = if on_this_thread { builder.use_current_thread() } else { builder };
        let pool = builder.build().map_err(|source| ComputeError::Pool { threads, source })?;
        let (device, name) = match kind {
            DeviceKind::Cpu if threads == 1 => (Device::flex(), "one CPU thread".to_owned()),
            DeviceKind::Cpu => (Device::flex(), format!("{threads} CPU threads")),
            DeviceKind::Wgpu => graphics::open()?,
        };
        let kernels = match kind {
            DeviceKind::Cpu => Kernels::Own,
            DeviceKind::Wgpu => Kernels::Burn,
        };
        let home = on_this_thread.then(|| std::thread::current().id());
        Ok(Self { pool: Arc::new(pool), device, kind, name, threads, kernels, home })
    }

    /// The same workers with these kernels, which makes a difference on the CPU only. Halves that are to
    /// agree bit for bit need the same.
    #[must_use]
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        if self.kind == DeviceKind::Cpu {
            self.kernels = kernels;
        }
        self
    }

    /// Whose kernels do the work.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// What kind of device it is.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// What the device is called, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many worker threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` on a worker and waits for it and for the device; kernels inside use this pool's
    /// workers only.
    ///
    /// # Panics
    /// If a graphics processor fails: nothing that it holds can be relied on any more. If another thread asks for work
    /// than the one of [`Compute::on_this_thread`], which would wait forever.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.timed(work).0
    }

    /// As [`Compute::run`], with what the work took, read inside the worker.
    ///
    /// # Panics
    /// As [`Compute::run`].
    pub fn timed<R: Send>(&self, work: impl FnOnce() -> R + Send) -> (R, Spent) {
        let is_inside = || self.pool.current_thread_index().is_some();
        assert!(
            self.home.is_none_or(|home| home == std::thread::current().id() || is_inside()),
            "work was asked for on another thread than the one that these workers belong to"
        );
        self.pool.install(|| {
            let meter = Meter::start();
            let result = work();
            // burn queues kernels per thread, and another thread reads what was there before them.
            if let Err(error) = self.device.sync() {
                panic!("{} failed: {error}", self.name);
            }
            let spent = meter.spent(self.kind);
            (result, spent)
        })
    }

    /// The device of burn, without autodiff.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_no_threads_and_absurdly_many() {
        assert!(matches!(Compute::cpu(0), Err(ComputeError::Threads { threads: 0 })));
        assert!(matches!(Compute::cpu(MAX_THREADS + 1), Err(ComputeError::Threads { .. })));
    }

    #[test]
    fn runs_on_its_own_workers() {
        let compute = Compute::cpu(2).expect("two threads");
        assert_eq!(compute.run(rayon::current_num_threads), 2);
        let name = compute.run(|| std::thread::current().name().map(str::to_owned));
        assert!(name.is_some_and(|name| name.starts_with("compute-")));
    }

    #[test]
    fn a_thread_can_be_a_worker_itself() {
        let aside = std::thread::spawn(|| {
            let here = || std::thread::current().id();
            let one = Compute::on_this_thread(DeviceKind::Cpu, 1).expect("one thread");
            assert_eq!(one.run(here), here());
            let second = Compute::on_this_thread(DeviceKind::Cpu, 1);
            assert!(matches!(second, Err(ComputeError::Pool { .. })), "it is taken");
            let elsewhere = one.clone();
            let refused = std::thread::spawn(move || elsewhere.run(|| ())).join();
            assert!(refused.is_err(), "nobody would do it");
        });
        aside.join().expect("no panic");
        let three = std::thread::spawn(|| {
            let three = Compute::on_this_thread(DeviceKind::Cpu, 3).expect("three threads");
            let all = three.run(|| rayon::broadcast(|_| std::thread::current().id()));
            (all.len(), all.contains(&std::thread::current().id()))
        });
        assert_eq!(three.join().expect("no panic"), (3, true));
    }

    #[test]
    fn sleeping_takes_time_but_no_cpu() {
        let compute = Compute::cpu(1).expect("one thread");
        let ((), spent) = compute.timed(|| std::thread::sleep(Duration::from_millis(20)));
        assert!(spent.wall >= Duration::from_millis(20), "{spent:?}");
        assert!(spent.device < spent.wall / 2, "{spent:?}");
    }

    #[test]
    fn work_takes_cpu() {
        let compute = Compute::cpu(1).expect("one thread");
        let (sum, spent) =
            compute.timed(|| (0..5_000_000u64).fold(0u64, |sum, x| std::hint::black_box(sum ^ x)));
        assert!(sum < u64::MAX);
        assert!(spent.device > Duration::from_micros(100), "{spent:?}");
    }

    #[cfg(not(feature = "wgpu"))]
    #[test]
    fn a_graphics_processor_needs_another_build() {
        let error = Compute::new(DeviceKind::Wgpu, 1).expect_err("this test is built without it");
        assert!(error.to_string().contains("--features wgpu"), "{error}");
    }
}
