//! Reads what a run has left in its folder: events, metrics, summary, configuration, model.
//!
//! A run that did not finish may lack any of them but the events, whose last one may be cut off.

pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod settings;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use partway_cloud::model_file::LAYERS_FILE;
use partway_cloud::record::{EVENTS_FILE, METRICS_FILE, SUMMARY_FILE, Summary};
use partway_core::config::ConfigError;
use partway_core::model::ModelSpec;
use thiserror::Error;

use events::EventLog;
use metrics::Progress;
use partway_core::event::Event;

/// No file but the events is longer than this.
const MAX_BYTES: u64 = 64 << 20;
const CONFIG_FILE: &str = "config.toml";

/// Why a run's outputs cannot be used.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    /// There is no such folder.
    #[error("`{}` is no folder: give the folder of a run's outputs, such as runs/quickstart", folder.display())]
    NoFolder {
        /// What was given.
        folder: PathBuf,
    },
    /// Something that every run leaves is not there.
    #[error("`{}` has no {missing}: it is not the folder of a run's outputs, or the run has not begun", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The file.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The model's file holds something else.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// A file holds something else, or something that another version wrote.
    #[error("`{}` {place}cannot be understood, another version of partway may have written it: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// `line N ` or nothing.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

/// The folder of a run's outputs.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    root: PathBuf,
}

impl Outputs {
    /// Of a folder that is there.
    pub(crate) fn open(root: &Path) -> Result<Self, OutputError> {
        if root.is_dir() {
            Ok(Self { root: root.to_owned() })
        } else {
            Err(OutputError::NoFolder { folder: root.to_owned() })
        }
    }

    /// Hands every event to `each`, in order.
    pub(crate) fn events(&self, each: impl FnMut(Event)) -> Result<EventLog, OutputError> {
        let path = self.root.join(EVENTS_FILE);
        let missing = || OutputError::Missing { folder: self.root.clone(), missing: EVENTS_FILE };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            opened => opened.map_err(|source| OutputError::Read { path: path.clone(), source })?,
        };
        let log =
            events::read(file, each).map_err(|source| OutputError::Read { path: path.clone(), source })?;
        match &log.unreadable {
            Some(unreadable) if log.events == 0 => Err(OutputError::Content {
                path,
                place: format!("line {} ", unreadable.line),
                reason: unreadable.reason.clone(),
            }),
            _ => Ok(log),
        }
    }

    /// Every evaluated aggregation, if there is such a file.
    pub(crate) fn metrics(&self) -> Result<Option<Vec<Progress>>, OutputError> {
        let Some((path, text)) = self.read(METRICS_FILE)? else { return Ok(None) };
        let read = metrics::parse(&text).map_err(|wrong| OutputError::Content {
            path,
            place: format!("line {} ", wrong.line),
            reason: wrong.reason,
        });
        read.map(Some)
    }

    /// The run in numbers, up to its last aggregation if it did not finish.
    pub(crate) fn summary(&self) -> Result<Option<Summary>, OutputError> {
        let Some((path, text)) = self.read(SUMMARY_FILE)? else { return Ok(None) };
        let summary = serde_json::from_str(&text).map_err(|error| OutputError::Content {
            path,
            place: String::new(),
            reason: error.to_string(),
        })?;
        Ok(Some(summary))
    }

    /// The resolved configuration as text, if there is one.
    pub(crate) fn config_text(&self) -> Result<Option<String>, OutputError> {
        Ok(self.read(CONFIG_FILE)?.map(|(_, text)| text))
    }

    /// The model, once there is a global one.
    pub(crate) fn model(&self) -> Result<Option<ModelSpec>, OutputError> {
        let Some((path, text)) = self.read(LAYERS_FILE)? else { return Ok(None) };
        Ok(Some(ModelSpec::from_toml(&text, &path.display().to_string(), None)?))
    }

    /// A file's path and text.
    fn read(&self, name: &str) -> Result<Option<(PathBuf, String)>, OutputError> {
        let path = self.root.join(name);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OutputError::Read { path, source }),
        }
    }
}
/// In which ways the others went on without an edge.
pub(crate) fn missed(was_dropped: bool, deferrals: u32) -> String {
    let deferred = match deferrals {
        0 => String::new(),
        1 => "deferred".to_owned(),
        times => format!("deferred {times} times"),
    };
    match (was_dropped, deferrals) {
        (true, 0) => "dropped".to_owned(),
        (true, _) => format!("dropped, {deferred}"),
        (false, _) => deferred,
    }
}
