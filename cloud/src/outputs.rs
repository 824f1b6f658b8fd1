//! What a run writes while it lasts, whoever passes its time: the record, checkpoints, and its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use partway_core::config::Config;
use partway_core::coordinator::{Checkpoint, Outcome, Settings};
use partway_core::event::Event;
use partway_core::model::ModelSpec;
use partway_model::memory::peak_rss_bytes;
use thiserror::Error;

use crate::checkpoint::{self, CheckpointError};
use crate::record::{RecordError, RunFacts, RunRecord, Summary};

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// The target was met or the rounds are done.
    Finished(Box<Summary>),
    /// The run failed.
    Aborted {
        /// Why and what to do.
        reason: String,
    },
    /// It was interrupted and can be resumed.
    Interrupted,
}

/// The outputs of a run cannot be read or written.
#[derive(Debug, Error)]
pub enum OutputsError {
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// `resume` was asked for and there is nothing to resume.
    #[error(
        "{}: there is no checkpoint to resume from{}; leave out --resume to start anew",
        out.display(),
        if skipped.is_empty() { String::new() } else { format!(" ({})", skipped.join("; ")) }
    )]
    NothingToResume {
        /// The folder.
        out: PathBuf,
        /// Why those that are there are none.
        skipped: Vec<String>,
    },
}

/// The outputs of a run that has begun.
#[derive(Debug)]
pub struct Outputs {
    record: RunRecord,
    spec: Arc<ModelSpec>,
    out: PathBuf,
    keep: usize,
}

/// Outputs, and where the run goes on from.
#[derive(Debug)]
pub struct Begun {
    /// The outputs.
    pub outputs: Outputs,
    /// The newest checkpoint of a run that is resumed.
    pub checkpoint: Option<Checkpoint>,
    /// What of the earlier run is damaged, in words.
    pub warnings: Vec<String>,
}

impl Outputs {
    /// Begins in the folder `out`: anew, or, with `resume`, where the newest checkpoint there is.
    ///
    /// # Errors
    /// If files cannot be read or written, or there is nothing to resume.
    pub fn begin(
        out: &Path,
        config: &Config,
        settings: &Settings,
        resume: bool,
    ) -> Result<Begun, OutputsError> {
        let facts = RunFacts {
            name: config.name.as_str().to_owned(),
            clock: config.clock,
            seed: settings.seed,
            batch_size: settings.batch_size,
            topology: settings.topology,
        };
        let mut warnings = Vec::new();
        let (record, checkpoint) = if resume {
            let latest = checkpoint::read_latest(out, &settings.spec, settings.moments())?;
            let Some(checkpoint) = latest.checkpoint else {
                return Err(OutputsError::NothingToResume { out: out.to_owned(), skipped: latest.skipped });
            };
            warnings.extend(latest.skipped);
            let resumed = RunRecord::resume(out, facts, checkpoint.rounds)?;
            if resumed.unreadable > 0 {
                warnings
                    .push(format!("{} earlier events cannot be read and are missing", resumed.unreadable));
            }
            (resumed.record, Some(checkpoint))
        } else {
            checkpoint::clear(out)?;
            (RunRecord::create(out, facts)?, None)
        };
        let spec = Arc::new(settings.spec.clone());
        let outputs = Self { record, spec, out: out.to_owned(), keep: config.fleet.keep.get() };
        Ok(Begun { outputs, checkpoint, warnings })
    }

    /// Records an event.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&mut self, event: &Event) -> Result<(), OutputsError> {
        Ok(self.record.write(event)?)
    }

    /// Makes a checkpoint durable.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), OutputsError> {
        Ok(checkpoint::write(&self.out, checkpoint, self.keep, &self.spec)?)
    }

    /// Completes the record of a run that came to this outcome, or to none: it was interrupted.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn end(self, outcome: Option<Outcome>) -> Result<Ended, OutputsError> {
        let state = match &outcome {
            Some(Outcome::Finished { state, .. }) => Some(&**state),
            _ => None,
        };
        let summary = self.record.finish(state, &self.spec, peak_rss_bytes())?;
        Ok(match outcome {
            Some(Outcome::Finished { .. }) => Ended::Finished(Box::new(summary)),
            Some(Outcome::Aborted { reason }) => Ended::Aborted { reason },
            None => Ended::Interrupted,
        })
    }
}
