//! What a process has used, as Linux tells it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// CPU time of a process so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(in crate::bench) struct CpuTime {
    /// Of threads that compute tensors.
    pub(in crate::bench) tensors: Duration,
    /// Of all others.
    pub(in crate::bench) rest: Duration,
}

impl CpuTime {
    /// What has been used since `before`.
    pub(in crate::bench) fn since(self, before: Self) -> Self {
        let Self { tensors, rest } = before;
        Self { tensors: self.tensors.saturating_sub(tensors), rest: self.rest.saturating_sub(rest) }
    }
}

fn folder(process: Option<u32>) -> PathBuf {
    PathBuf::from("/proc").join(process.map_or("self".to_owned(), |id| id.to_string()))
}

/// CPU time of a process, or of this one; none where the system does not say.
pub(in crate::bench) fn cpu_time(process: Option<u32>) -> Option<CpuTime> {
    let mut total = CpuTime::default();
    for task in fs::read_dir(folder(process).join("task")).ok()?.flatten() {
        // A thread may have ended by now.
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        let Ok(statistics) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let spent = Duration::from_nanos(statistics.split_whitespace().next()?.parse().ok()?);
        if name.starts_with("compute-") {
            total.tensors += spent;
        } else {
            total.rest += spent;
        }
    }
    Some(total)
}

/// How often threads of this process have had to make room for others, which were there to run; none where the system
/// does not say.
pub(in crate::bench) fn preemptions() -> Option<u64> {
    let of_thread = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let count = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
        count.trim().parse::<u64>().ok()
    };
    let tasks = fs::read_dir(folder(None).join("task")).ok()?;
    Some(tasks.flatten().filter_map(of_thread).sum())
}

/// Memory that this process holds now, in bytes; none where the system does not say.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_of_compute_threads_is_told_apart() {
        let work = || (0..20_000_000_u64).fold(0, |sum, at| std::hint::black_box(sum ^ at));
        let before = cpu_time(None).expect("Linux says so");
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("compute-7".into());
        let (spun, ready) = std::sync::mpsc::channel();
        let thread = thread.spawn(move || {
            let _ = spun.send(work());
            let _ = wait.recv();
        });
        ready.recv().expect("it has spun");
        let spent = cpu_time(None).expect("Linux says so").since(before);
        drop(done);
        thread.expect("a thread").join().expect("no panic");
        assert!(spent.tensors > Duration::from_millis(1), "{spent:?}");
    }

    #[test]
    fn threads_that_share_a_processor_make_room_for_each_other() {
        let begun = std::time::Instant::now();
        let spin = || while begun.elapsed() < Duration::from_millis(200) {};
        let more = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let before = preemptions().expect("Linux says so");
        std::thread::scope(|scope| {
            let spinning: Vec<_> = (0..more).map(|_| scope.spawn(spin)).collect();
            std::thread::sleep(Duration::from_millis(150));
            assert!(preemptions().expect("Linux says so") > before, "{more} threads");
            drop(spinning);
        });
    }

    #[test]
    fn memory_that_is_touched_is_resident() {
        let touched = std::hint::black_box(vec![1_u8; 8 << 20]);
        assert!(resident_bytes().expect("Linux says so") > touched.len() as u64);
    }
}
