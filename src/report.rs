//! `partway report`: one page on a run, from what it left in its folder.

mod bytes;
mod fleet;
mod headline;
mod history;
mod incidents;
mod latency;
mod model;
mod per_edge;
mod prediction;
mod progress;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use partway_cloud::record::Summary;
use partway_core::model::ModelSpec;
use thiserror::Error;

use crate::failure::Failure;
use crate::markup::Markup;
use crate::output;
use crate::outputs::events::EventLog;
use crate::outputs::metrics::Progress;
use crate::outputs::settings::Settings;
use crate::outputs::{OutputError, Outputs};
use crate::page::{page, replace};
use history::History;

const REPORT_FILE: &str = "report.html";

/// Which run to report on.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// The folder of the run's outputs
    dir: PathBuf,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub(crate) enum ReportError {
    /// The run's outputs cannot be used.
    #[error(transparent)]
    Outputs(#[from] OutputError),
    /// The page cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The page.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A report that was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    /// What is missing in it, and why.
    pub(crate) warnings: Vec<String>,
}

/// Everything that is known of a run.
#[derive(Debug)]
struct Run {
    name: String,
    history: History,
    progress: Vec<Progress>,
    summary: Option<Summary>,
    /// The resolved configuration.
    config: Option<String>,
    settings: Settings,
    model: Option<ModelSpec>,
    warnings: Vec<String>,
}

/// Writes the report and says where it is.
pub(crate) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let written = write(&args.dir).map_err(|error| match error {
        ReportError::Outputs(_) => Failure::wrong(error),
        ReportError::Write { .. } => Failure::failed(error),
    })?;
    for warning in &written.warnings {
        output::note(&format!("warning: {warning}"));
    }
    output::print(&format!("report in {}", written.path.display()));
    Ok(())
}

/// Writes `report.html` into the folder of a run's outputs.
pub(crate) fn write(folder: &Path) -> Result<Written, ReportError> {
    let run = Run::read(folder)?;
    let path = folder.join(REPORT_FILE);
    replace(&path, &run.page()).map_err(|source| ReportError::Write { path: path.clone(), source })?;
    Ok(Written { path, warnings: run.warnings })
}

impl Run {
    /// Only the events must be there. What else is missing or cannot be understood becomes a warning.
    fn read(folder: &Path) -> Result<Self, OutputError> {
        let outputs = Outputs::open(folder)?;
        let mut warnings = Vec::new();
        let config = usable(outputs.config_text(), &mut warnings).flatten();
        let settings = config.as_deref().map(Settings::read).unwrap_or_default();
        let (history, log) = History::read(settings.topology(), |observe| outputs.events(observe))?;
        warnings.splice(..0, log_warnings(&log));
        let progress = usable(outputs.metrics(), &mut warnings).flatten().unwrap_or_default();
        let summary = usable(outputs.summary(), &mut warnings).flatten();
        let model = usable(outputs.model(), &mut warnings).flatten();
        let of_folder = || folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let of_summary = summary.as_ref().map(|summary| summary.name.clone());
        let name =
            of_summary.or(settings.name.clone()).or_else(of_folder).unwrap_or_else(|| "run".to_owned());
        Ok(Self { name, history, progress, summary, config, settings, model, warnings })
    }

    fn page(&self) -> String {
        page(&format!("{} - Partway", self.name), |m| {
            headline::write(m, self);
            section(m, "Accuracy and loss", |m| progress::write(m, self));
            section(m, "Cuts and latency", |m| latency::write(m, self));
            section(m, "Predictions", |m| prediction::write(m, self));
            section(m, "Bytes", |m| bytes::write(m, self));
            m.text("h2", "Edges and their data");
            fleet::write(m, self);
            if !self.history.incidents.is_empty() {
                m.text("h2", "Losses and recoveries");
                incidents::write(m, &self.history);
            }
            if let Some(spec) = &self.model {
                m.text("h2", "Model");
                model::write(m, spec, &self.history);
            }
            if let Some(config) = &self.config {
                m.text("h2", "Configuration");
                m.tag("pre").attr("tabindex", "0").text(config);
            }
        })
    }
}

/// Plots under a heading.
fn section(m: &mut Markup, heading: &str, plots: impl FnOnce(&mut Markup)) {
    m.text("h2", heading);
    m.tag("div").class("plots").body(plots);
}

fn usable<T>(read: Result<T, OutputError>, warnings: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| warnings.push(error.to_string())).ok()
}

fn log_warnings(log: &EventLog) -> Vec<String> {
    let mut warnings = Vec::new();
    if log.is_cut_off {
        warnings.push("the last line of events.jsonl is cut off and left out".to_owned());
    }
    if let Some(first) = &log.unreadable {
        let lines = log.unreadable_lines;
        warnings.push(format!(
            "{lines} {} of events.jsonl cannot be understood and {} left out; the first is line {}: {}",
            if lines == 1 { "line" } else { "lines" },
            if lines == 1 { "is" } else { "are" },
            first.line,
            first.reason
        ));
    }
    warnings
}
