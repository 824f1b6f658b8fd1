//! Where kernels run: a device of burn and the threads that work for it, and how their time is read.

mod graphics;

use std::sync::Arc;
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
        if threads == 0 || threads > MAX_THREADS {
            return Err(ComputeError::Threads { threads });
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("compute-{index}"))
            .build()
            .map_err(|source| ComputeError::Pool { threads, source })?;
        let (device, name) = match kind {
            DeviceKind::Cpu if threads == 1 => (Device::flex(), "one CPU thread".to_owned()),
            DeviceKind::Cpu => (Device::flex(), format!("{threads} CPU threads")),
            DeviceKind::Wgpu => graphics::open()?,
        };
        let kernels = match kind {
            DeviceKind::Cpu => Kernels::Own,
            DeviceKind::Wgpu => Kernels::Burn,
        };
        Ok(Self { pool: Arc::new(pool), device, kind, name, threads, kernels })
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
    /// If a graphics processor fails: nothing that it holds can be relied on any more.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.timed(work).0
    }

    /// As [`Compute::run`], with what the work took, read inside the worker.
    ///
    /// # Panics
    /// As [`Compute::run`].
    pub fn timed<R: Send>(&self, work: impl FnOnce() -> R + Send) -> (R, Spent) {
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
