//! Which processors this process may use.

use partway_core::config::CpuList;
use thiserror::Error;

/// Processors that a process cannot be pinned to.
#[derive(Debug, Error)]
pub enum PinError {
    /// Some of them are not there, or not for this process.
    #[error("there is no processor {absent} for this process: it may use {allowed}")]
    Absent {
        /// Those.
        absent: CpuList,
        /// What it may use.
        allowed: CpuList,
    },
    /// The system refuses.
    #[error("the system does not pin this process: {0}")]
    Refused(#[source] std::io::Error),
    /// This system cannot.
    #[error("processes can be pinned on Linux only")]
    Unsupported,
}

/// Whether this process may use all of `cpus`.
///
/// # Errors
/// If it may not.
pub fn check_processors(cpus: &CpuList) -> Result<(), PinError> {
    system::mask(cpus).map(drop)
}

/// Pins the calling thread to `cpus`, and all threads that it starts from now on: call it before there are any.
///
/// # Errors
/// If it may not use all of them.
pub fn pin_to(cpus: &CpuList) -> Result<(), PinError> {
    system::pin(&system::mask(cpus)?)
}

#[cfg(target_os = "linux")]
mod system {
    use partway_core::config::CpuList;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::PinError;

    pub(super) fn mask(cpus: &CpuList) -> Result<CpuSet, PinError> {
        let allowed = sched_getaffinity(None).map_err(|error| PinError::Refused(error.into()))?;
        let may_use = |cpu: &usize| *cpu < CpuSet::MAX_CPU && allowed.is_set(*cpu);
        if let Some(absent) = CpuList::of(cpus.iter().filter(|cpu| !may_use(cpu))) {
            // It runs on one of them right now.
            let allowed = CpuList::of((0..CpuSet::MAX_CPU).filter(may_use)).ok_or(PinError::Unsupported)?;
            return Err(PinError::Absent { absent, allowed });
        }
        let mut mask = CpuSet::new();
        cpus.iter().for_each(|cpu| mask.set(cpu));
        Ok(mask)
    }

    pub(super) fn pin(mask: &CpuSet) -> Result<(), PinError> {
        sched_setaffinity(None, mask).map_err(|error| PinError::Refused(error.into()))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use partway_core::config::CpuList;

    use super::PinError;

    pub(super) fn mask(_: &CpuList) -> Result<(), PinError> {
        Err(PinError::Unsupported)
    }

    pub(super) fn pin((): &()) -> Result<(), PinError> {
        Err(PinError::Unsupported)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::{CpuSet, sched_getaffinity};

    use super::*;
    use crate::Compute;

    fn allowed() -> Vec<usize> {
        let mask = sched_getaffinity(None).expect("the kernel says so");
        (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect()
    }

    /// On threads of their own: the other tests' are not pinned.
    fn aside<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"))
    }

    #[test]
    fn threads_that_a_pinned_one_starts_are_pinned_too() {
        let last = *allowed().last().expect("this thread runs somewhere");
        let (own, workers) = aside(|| {
            pin_to(&CpuList::of([last]).expect("one")).expect("it is allowed");
            let compute = Compute::cpu(2).expect("two threads");
            (allowed(), compute.run(|| rayon::broadcast(|_| allowed())))
        });
        assert_eq!(own, [last]);
        assert_eq!(workers, [[last], [last]]);
        assert!(allowed().contains(&last), "this thread is as it was");
    }

    #[test]
    fn processors_that_are_not_there_are_named() {
        aside(|| {
            let one = allowed()[0];
            pin_to(&CpuList::of([one]).expect("one")).expect("it is allowed");
            let both = CpuList::of([one, 4095]).expect("two");
            let error = check_processors(&both).expect_err("no machine has so many").to_string();
            assert_eq!(error, format!("there is no processor 4095 for this process: it may use {one}"));
            assert!(pin_to(&both).is_err());
            assert_eq!(allowed(), [one], "nothing has changed");
        });
    }
}
