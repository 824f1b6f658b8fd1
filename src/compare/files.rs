//! The comparison's files: a table and an object for programs, a page and a picture for people.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::outcome::{Comparison, ExperimentOutcome, MEASURES, Outcome};
use super::plots;
use super::selection::FILES;
use crate::page::replace;
use crate::statistics::Spread;

/// Why a file is not there.
#[derive(Debug, Error)]
#[error("cannot write `{}`: {source}", path.display())]
pub(super) struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Writes all files into a folder that is there.
pub(super) fn write(folder: &Path, comparison: &Comparison) -> Result<(), WriteError> {
    let [table, object, page, picture] = FILES;
    for (name, text) in [
        (table, csv(comparison)),
        (object, format!("{:#}\n", json(comparison))),
        (page, plots::page(comparison)),
        (picture, plots::picture(comparison)),
    ] {
        let path = folder.join(name);
        replace(&path, &text).map_err(|source| WriteError { path: path.clone(), source })?;
    }
    Ok(())
}

/// A row per run; what there is not is empty.
fn csv(comparison: &Comparison) -> String {
    let mut text = "name,seed,folder,algorithm,target_reached".to_owned();
    for measure in MEASURES {
        text.push(',');
        text += measure.key;
    }
    text += ",clock\n";
    for run in comparison.experiments.iter().flat_map(|experiment| &experiment.runs) {
        let summary = &run.summary;
        let algorithm = run.settings.algorithm.as_deref().unwrap_or_default();
        let _ = write!(
            text,
            "{},{},{},{},{}",
            cell(&run.name),
            summary.seed,
            cell(&run.folder),
            cell(algorithm),
            summary.target_reached
        );
        for measure in MEASURES {
            text.push(',');
            let _ = (measure.of)(summary).map_or(Ok(()), |value| write!(text, "{value}"));
        }
        let _ = writeln!(text, ",{}", summary.clock);
    }
    text
}

/// Quoted as RFC 4180 has it, where that is needed.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Every experiment with its runs, and their means and standard deviations.
fn json(comparison: &Comparison) -> Value {
    json!({ "experiments": comparison.experiments.iter().map(experiment).collect::<Vec<_>>() })
}

fn experiment(experiment: &ExperimentOutcome) -> Value {
    let over_runs = |of: fn(&Spread) -> f64| -> Map<String, Value> {
        let number = |mean: Option<Spread>| mean.as_ref().map(of).into();
        MEASURES.iter().map(|measure| (measure.key.to_owned(), number(experiment.mean(*measure)))).collect()
    };
    json!({
        "name": experiment.name,
        "algorithm": experiment.algorithm(),
        "runs": experiment.runs.iter().map(run).collect::<Vec<_>>(),
        "mean": over_runs(|mean| mean.mean),
        "standard_deviation": over_runs(|mean| mean.deviation),
    })
}

fn run(run: &Outcome) -> Value {
    let mut object = Map::new();
    object.insert("seed".to_owned(), run.summary.seed.into());
    object.insert("folder".to_owned(), run.folder.clone().into());
    object.insert("clock".to_owned(), run.summary.clock.name().into());
    object.insert("target_accuracy".to_owned(), run.settings.target_accuracy.into());
    object.insert("target_reached".to_owned(), run.summary.target_reached.into());
    object.extend(MEASURES.iter().map(|measure| (measure.key.to_owned(), (measure.of)(&run.summary).into())));
    object.into()
}

#[cfg(test)]
mod tests;
