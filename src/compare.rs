//! `partway compare`: several experiments side by side.
//!
//! Each runs as `partway run` would run it, one after the other; finished runs are taken as they are.

mod execute;
mod files;
mod outcome;
mod plots;
mod selection;
mod summary_table;

use std::path::PathBuf;

use clap::Args;

use self::execute::Ran;
use self::outcome::{Comparison, Outcome};
use self::selection::select;
use crate::failure::Failure;
use crate::output;

/// What to compare, and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// Experiments to run (TOML files), and folders of finished runs or of earlier comparisons, in the order of the
    /// table
    #[arg(required = true, value_name = "CONFIG")]
    what: Vec<PathBuf>,
    /// Set a key of every experiment that is run, such as `training.batch_size=32` (may be given several times)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Run every experiment once with each of these seeds, and compare means
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// The folder of outputs: one folder per run, compare.csv, compare.json, compare.html, compare.svg
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    out: PathBuf,
}

/// Runs what is not finished yet, then prints and writes the comparison.
pub(crate) fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let entries = select(args).map_err(Failure::wrong)?;
    std::fs::create_dir_all(&args.out)
        .map_err(|error| Failure::Wrong(format!("cannot make `{}`: {error}", args.out.display())))?;
    let ran = execute::run_all(&entries)?;
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for (entry, ran) in entries.iter().zip(&ran) {
        match ran {
            Ran::Finished => outcomes.push(Outcome::read(entry).map_err(Failure::failed)?),
            Ran::Failed(reason) => failed.push(format!("{} {reason}", entry.folder.display())),
            Ran::Interrupted => {
                return Err(Failure::Interrupted(format!(
                    "{} of {} runs are finished and kept; the same command goes on",
                    outcomes.len(),
                    entries.len()
                )));
            }
        }
    }
    if !outcomes.is_empty() {
        let comparison = Comparison::of(outcomes);
        output::print(&summary_table::text(&comparison));
        files::write(&args.out, &comparison).map_err(Failure::failed)?;
        output::print(&format!(
            "compare.csv, compare.json, compare.html and compare.svg in {}",
            args.out.display()
        ));
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} of {} runs failed and {} not in the comparison: {}",
        failed.len(),
        entries.len(),
        if failed.len() == 1 { "is" } else { "are" },
        failed.join("; ")
    )))
}
