//! The daemon's folder: one coordinator's at a time, and no unfinished run in it is lost by mistake.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use partway_core::config::first_difference;
use thiserror::Error;

use crate::checkpoint;
use crate::record::Summary;

/// The file that makes a folder a coordinator's, locked while one uses it.
pub const MARKER: &str = ".partway-cloud";

/// The run's configuration, with every default written out.
pub const CONFIG: &str = "config.toml";

/// Why a folder cannot be used.
#[derive(Debug, Error)]
pub enum StateFolderError {
    /// Another coordinator is at work there.
    #[error("another coordinator is using `{}`: end that one, or choose another folder with --state", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("`{}` is not empty, and no coordinator's: choose another folder with --state", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// It would be lost.
    #[error(
        "`{}` holds a run that was interrupted: go on with --resume, or choose another folder with --state; to give \
         that run up, remove its `checkpoint`",
        path.display()
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing left to do.
    #[error("the run in `{}` is finished: leave out --resume to start anew, which replaces it", path.display())]
    Finished {
        /// The folder.
        path: PathBuf,
    },
    /// The run in it is another one.
    #[error(
        "the run in `{}` has {before} where this configuration has {now}: go on with its own, or choose another folder \
         with --state",
        path.display()
    )]
    OtherExperiment {
        /// The folder.
        path: PathBuf,
        /// A line of its configuration.
        before: String,
        /// The line of the new one.
        now: String,
    },
    /// There is nothing to go on from.
    #[error("`{}` has no checkpoint to go on from: leave out --resume to start anew", path.display())]
    NothingToResume {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be made, or not be locked.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A folder that this coordinator, and no other, uses.
#[derive(Debug)]
pub struct StateFolder {
    /// Locked until it is closed.
    _marker: File,
}

impl StateFolder {
    /// Claims the folder for a new run of the configuration `config`, as TOML, or for the one in it that goes on.
    ///
    /// # Errors
    /// If another coordinator uses it, if it holds something else, or if the run in it does not go with `resume`.
    pub fn claim(path: &Path, config: &str, resume: bool) -> Result<Self, StateFolderError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StateFolderError::Io { action, path, source }
        };
        fs::create_dir_all(path).map_err(io("make", path))?;
        let marker = path.join(MARKER);
        let is_empty = fs::read_dir(path).map_err(io("read", path))?.next().is_none();
        if !is_empty && !marker.exists() {
            return Err(StateFolderError::Foreign { path: path.to_owned() });
        }
        let mut open = OpenOptions::new();
        let file =
            open.write(true).create(true).truncate(false).open(&marker).map_err(io("write", &marker))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(StateFolderError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io("lock", &marker)(source)),
            Ok(()) => {}
        }
        if resume
            && let Ok(before) = fs::read_to_string(path.join(CONFIG))
            && let Some((before, now)) = first_difference(&before, config)
        {
            return Err(StateFolderError::OtherExperiment { path: path.to_owned(), before, now });
        }
        let path = || path.to_owned();
        match (resume, checkpoint::exists(&path()), is_finished(&path())) {
            (true, _, true) => Err(StateFolderError::Finished { path: path() }),
            (true, false, _) => Err(StateFolderError::NothingToResume { path: path() }),
            (false, true, false) => Err(StateFolderError::Unfinished { path: path() }),
            _ => Ok(Self { _marker: file }),
        }
    }
}

/// How an interrupted run can go on, in words.
pub fn what_to_do(path: &Path) -> &'static str {
    if checkpoint::exists(path) {
        "the same command with --resume goes on from the last checkpoint"
    } else {
        "there was no checkpoint yet, so that the next run starts anew"
    }
}

/// Only a whole run has weights at its end.
fn is_finished(path: &Path) -> bool {
    let summary = fs::read(path.join("summary.json")).ok();
    let summary = summary.and_then(|text| serde_json::from_slice::<Summary>(&text).ok());
    summary.is_some_and(|summary| summary.weights_sha256.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(path: &Path, resume: bool) -> String {
        StateFolder::claim(path, "seed = 1\n", resume)
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn a_folder_is_one_coordinators() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("new/state");
        let first = StateFolder::claim(&state, "seed = 1\n", false).expect("it is new");
        assert!(claimed(&state, false).starts_with("another coordinator is using"));
        drop(first);
        assert_eq!(claimed(&state, false), "");
        assert!(claimed(folder.path(), false).contains("is not empty, and no coordinator's"));
    }

    #[test]
    fn a_run_goes_on_with_its_own_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(MARKER), "").expect("written");
        fs::write(folder.path().join(CONFIG), "seed = 2\n").expect("written");
        let error = claimed(folder.path(), true);
        assert!(error.contains("has `seed = 2` where this configuration has `seed = 1`"), "{error}");
        assert_eq!(claimed(folder.path(), false), "", "a new run replaces it");
    }

    #[test]
    fn a_run_that_was_interrupted_is_not_replaced_and_a_finished_one_not_resumed() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(claimed(folder.path(), false), "");
        assert!(claimed(folder.path(), true).contains("has no checkpoint to go on from"));
        assert!(what_to_do(folder.path()).starts_with("there was no checkpoint"));
        fs::create_dir(folder.path().join("checkpoint")).expect("made");
        // It was killed while it wrote its first checkpoint.
        fs::write(folder.path().join("checkpoint/round-000005.ckpt.tmp"), "").expect("written");
        assert!(claimed(folder.path(), true).contains("has no checkpoint to go on from"));
        assert_eq!(claimed(folder.path(), false), "");
        fs::write(folder.path().join("checkpoint/round-000005.ckpt"), "").expect("written");
        assert!(
            claimed(folder.path(), false).contains("holds a run that was interrupted: go on with --resume")
        );
        assert_eq!(claimed(folder.path(), true), "");
        assert!(what_to_do(folder.path()).contains("--resume"));
        let summary = serde_json::json!({
            "name": "x", "clock": "wall", "seed": 1, "rounds": 5, "aggregations": 1,
            "final_accuracy": null, "best_accuracy": null, "target_reached": false,
            "seconds_total": 1.0, "seconds_training": 1.0, "seconds_to_target": null, "seconds_clock": 1.0,
            "samples_trained": 1, "samples_per_second": 1.0, "bytes_up": 1, "bytes_down": 1,
            "deadline_ms": null, "deadline_hit_rate": null, "prediction_median_error": null,
            "repeatability_floor": null, "weights_sha256": "0", "edges": [], "cloud": {"peak_rss_mib": null}
        });
        fs::write(folder.path().join("summary.json"), summary.to_string()).expect("written");
        assert!(claimed(folder.path(), true).contains("is finished"));
        assert_eq!(claimed(folder.path(), false), "");
    }
}
