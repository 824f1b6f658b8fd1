//! What a run leaves behind: every event, a table of its progress, a summary and the global model.

mod fleet_ledger;
mod ledger;
pub mod metrics;
pub mod summary;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use partway_core::config::Clock;
use partway_core::coordinator::Topology;
use partway_core::event::{Event, EventKind};
use partway_core::model::{LayerState, ModelSpec};
use thiserror::Error;

use crate::atomic_file;
use crate::model_file::{self, ModelFileError};
pub use fleet_ledger::FleetLedger;
pub use ledger::{Attempt, Ledger};
use metrics::MetricsRow;
pub use summary::{Summary, SummaryBuilder};

/// Every event, one JSON object a line.
pub const EVENTS_FILE: &str = "events.jsonl";
/// One row per evaluated aggregation: [`MetricsRow`].
pub const METRICS_FILE: &str = "metrics.csv";
/// The run in one JSON object: [`Summary`].
pub const SUMMARY_FILE: &str = "summary.json";

/// Longest line that an earlier run's events are read with: above any plan of thousands of edges.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// What the events do not say about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// The experiment's name.
    pub name: String,
    /// What passes the time.
    pub clock: Clock,
    /// Seed of everything random.
    pub seed: u64,
    /// Samples per step.
    pub batch_size: u32,
    /// Which server-side models there are: says what is lost with an edge.
    pub topology: Topology,
}

/// Why a run cannot be recorded.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The global model cannot be written.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

/// The files of a run while it lasts.
#[derive(Debug)]
pub struct RunRecord {
    dir: PathBuf,
    events: BufWriter<File>,
    metrics: BufWriter<File>,
    summary: SummaryBuilder,
    /// Added to every event's time: how long the run took before its coordinator was started again.
    offset_s: f64,
}

/// A record that goes on where an earlier coordinator of the same run stopped.
#[derive(Debug)]
pub struct Resumed {
    /// The record.
    pub record: RunRecord,
    /// Earlier events that cannot be read, and so are missing in the summary.
    pub unreadable: usize,
}

impl RunRecord {
    /// Starts the record of a new run in the folder `dir`; what an earlier run recorded there goes.
    ///
    /// # Errors
    /// If the folder or its files cannot be made.
    pub fn create(dir: &Path, facts: RunFacts) -> Result<Self, RecordError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let path = dir.join(EVENTS_FILE);
        let events = File::create(&path).map_err(io_error("create", &path))?;
        Self::with_events(dir, events, &BTreeMap::new(), SummaryBuilder::new(facts), 0.0)
    }

    /// Goes on with the record of a run that continues from a checkpoint after `rounds` rounds.
    ///
    /// Events are appended, their times go on from the last event before; the time in between counts
    /// as no time. Rows of `metrics.csv` after the checkpoint go, as those rounds are trained again.
    ///
    /// # Errors
    /// If files cannot be read or written. A missing `events.jsonl` is an empty one.
    pub fn resume(dir: &Path, facts: RunFacts, rounds: u32) -> Result<Resumed, RecordError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let path = dir.join(EVENTS_FILE);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut events = open.map_err(io_error("open", &path))?;
        let earlier = Earlier::read(&events, facts, rounds).map_err(io_error("read", &path))?;
        // A last line without its end was cut off; the next event must not be glued to it.
        let cut = events.set_len(earlier.whole_bytes).and_then(|()| events.seek(SeekFrom::End(0)));
        cut.map_err(io_error("write", &path))?;
        let Earlier { summary, rows, unreadable, .. } = earlier;
        let offset_s = summary.seconds_total();
        let record = Self::with_events(dir, events, &rows, summary, offset_s)?;
        Ok(Resumed { record, unreadable })
    }

    fn with_events(
        dir: &Path,
        events: File,
        rows: &BTreeMap<u32, MetricsRow>,
        summary: SummaryBuilder,
        offset_s: f64,
    ) -> Result<Self, RecordError> {
        let path = dir.join(METRICS_FILE);
        let metrics = File::create(&path).map_err(io_error("create", &path))?;
        let mut metrics = BufWriter::new(metrics);
        writeln!(metrics, "{}", metrics::HEADER).map_err(io_error("write", &path))?;
        for row in rows.values() {
            writeln!(metrics, "{row}").map_err(io_error("write", &path))?;
        }
        metrics.flush().map_err(io_error("write", &path))?;
        let path = dir.join(SUMMARY_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
        Ok(Self { dir: dir.to_owned(), events: BufWriter::new(events), metrics, summary, offset_s })
    }

    /// Records an event. The files are complete up to it, except after frequent ones such as steps.
    ///
    /// # Errors
    /// If a file cannot be written, such as on a full disk.
    pub fn write(&mut self, event: &Event) -> Result<(), RecordError> {
        let event = Event { at: event.at + self.offset_s, kind: event.kind.clone() };
        let written = serde_json::to_writer(&mut self.events, &event)
            .map_err(io::Error::from)
            .and_then(|()| self.events.write_all(b"\n"))
            .and_then(|()| if is_frequent(&event.kind) { Ok(()) } else { self.events.flush() });
        written.map_err(|source| self.write_error(EVENTS_FILE, source))?;
        if let Some(row) = self.summary.observe(&event) {
            let written = writeln!(self.metrics, "{row}").and_then(|()| self.metrics.flush());
            written.map_err(|source| self.write_error(METRICS_FILE, source))?;
        }
        Ok(())
    }

    /// Ends the record: writes the global model, if there is one, then the summary.
    ///
    /// `cloud_peak_rss_bytes` is `partway_model::memory::peak_rss_bytes`.
    ///
    /// # Errors
    /// If the state is not the whole model or a file cannot be written.
    pub fn finish(
        mut self,
        state: Option<&LayerState>,
        spec: &ModelSpec,
        cloud_peak_rss_bytes: Option<u64>,
    ) -> Result<Summary, RecordError> {
        let written = self.events.flush().and_then(|()| self.events.get_ref().sync_all());
        written.map_err(|source| self.write_error(EVENTS_FILE, source))?;
        let mut summary = self.summary.build();
        summary.cloud.peak_rss_mib = cloud_peak_rss_bytes.map(summary::mebibytes);
        if let Some(state) = state {
            model_file::write(&self.dir, spec, state, summary.rounds)?;
            summary.weights_sha256 = Some(model_file::weights_sha256(spec, state));
        }
        let path = self.dir.join(SUMMARY_FILE);
        let written = atomic_file::replace(&path, |file| {
            serde_json::to_writer_pretty(&mut *file, &summary)?;
            file.write_all(b"\n")
        });
        written.map_err(io_error("write", &path))?;
        Ok(summary)
    }

    fn write_error(&self, file: &str, source: io::Error) -> RecordError {
        io_error("write", &self.dir.join(file))(source)
    }
}

/// What the events of an earlier coordinator say.
struct Earlier {
    summary: SummaryBuilder,
    /// The last row of each round up to the checkpoint: earlier restarts may have repeated some.
    rows: BTreeMap<u32, MetricsRow>,
    unreadable: usize,
    /// Length of the lines that have an end.
    whole_bytes: u64,
}

impl Earlier {
    fn read(events: &File, facts: RunFacts, rounds: u32) -> io::Result<Self> {
        let mut earlier = Self {
            summary: SummaryBuilder::new(facts),
            rows: BTreeMap::new(),
            unreadable: 0,
            whole_bytes: 0,
        };
        let mut reader = BufReader::new(events);
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            earlier.whole_bytes += line.len() as u64;
            match serde_json::from_slice(&line) {
                Ok(event) => {
                    let row = earlier.summary.observe(&event);
                    earlier.rows.extend(row.map(|row| (row.round, row)));
                }
                Err(_) => earlier.unreadable += 1,
            }
        }
        earlier.rows.retain(|round, _| *round <= rounds);
        Ok(earlier)
    }
}

/// Whether an event happens at every step or edge, and so is worth no write of its own.
fn is_frequent(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Step { .. }
            | EventKind::StateMoved { .. }
            | EventKind::Probed { .. }
            | EventKind::EdgeMemory { .. }
            | EventKind::EdgeEvaluated { .. }
    )
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    move |source| RecordError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
