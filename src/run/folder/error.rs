//! Why a folder cannot be a run's.

use std::io;
use std::path::PathBuf;

use partway_cloud::model_file::ModelFileError;
use partway_datasets::ShardError;
use partway_net::TlsError;
use thiserror::Error;

/// Why a folder cannot be a run's.
#[derive(Debug, Error)]
pub(crate) enum FolderError {
    /// It holds something else.
    #[error("`{}` is not empty, and not a previous run's: choose another folder with --out", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// Another run is at work there.
    #[error("another run is writing to `{}`: wait for it, or choose another folder with --out", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// There is nothing to continue.
    #[error("`{}` has no {missing}, so that there is nothing to resume: run it without --resume", folder.display())]
    NothingToResume {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// There is nothing left to do.
    #[error(
        "the run in `{}` is finished: leave out --resume to run it anew, which replaces it, or choose another folder \
         with --out",
        folder.display()
    )]
    Finished {
        /// The folder.
        folder: PathBuf,
    },
    /// The run there was another experiment.
    #[error(
        "the run in `{}` is another experiment, it has {before} where this one has {now}: resume it with its own \
         configuration, or start this one without --resume",
        folder.display()
    )]
    OtherExperiment {
        /// The folder.
        folder: PathBuf,
        /// A line of its configuration.
        before: String,
        /// The line of the new one.
        now: String,
    },
    /// What the run is made from has changed.
    #[error(
        "the run in `{}` began with other data: {what} changed since then: put back what was there, or start the run \
         anew, without --resume",
        folder.display()
    )]
    OtherInputs {
        /// The folder.
        folder: PathBuf,
        /// Which data or file.
        what: String,
    },
    /// The profile in it cannot be used.
    #[error("`{}` is no device profile: {reason}: start the run without --resume", path.display())]
    Calibration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Samples cannot be written.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The weights to start from cannot be written.
    #[error(transparent)]
    Weights(#[from] ModelFileError),
    /// Certificates cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
}
