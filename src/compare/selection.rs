//! Which runs are compared: from experiments and folders on the command line, checked before any starts.

use std::path::{Path, PathBuf};

use partway_cloud::record::SUMMARY_FILE;
use partway_cloud::state_folder::MARKER as DAEMON_MARKER;
use thiserror::Error;

use super::CompareArgs;
use crate::experiment::{Experiment, ExperimentArgs, ExperimentError};
use crate::outputs::{OutputError, Outputs};
use crate::run::layout::{Layout, RUN_MARKER};

/// Files that stand beside the runs' folders.
pub(super) const FILES: [&str; 4] = ["compare.csv", "compare.json", "compare.html", "compare.svg"];

/// The one that makes a folder a comparison's.
const COMPARISON: &str = FILES[1];

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Of the experiment; runs that differ in nothing but their seed have one name.
    pub(super) name: String,
    pub(super) seed: u64,
    /// Where its outputs are, or will be.
    pub(super) folder: PathBuf,
    pub(super) source: Source,
    /// The resolved configuration without its seed, if it is known.
    experiment: Option<toml::Table>,
}

/// What there is of a run.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// It is finished.
    Finished,
    /// It is to be run, unless it was before.
    Experiment {
        /// As `partway run` is given it.
        args: ExperimentArgs,
        /// The resolved configuration.
        config: String,
    },
}

/// Why runs cannot be compared.
#[derive(Debug, Error)]
pub(super) enum SelectionError {
    /// An experiment cannot be started.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// A folder's contents cannot be used.
    #[error(transparent)]
    Outputs(#[from] OutputError),
    /// A folder holds something else.
    #[error("`{}` is not the folder of a run's outputs: give one, such as runs/quickstart, or a TOML file", folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder has no finished run.
    #[error(
        "the run in `{}` did not finish: continue it with `partway run ... --resume`, or give its configuration \
         in its place",
        folder.display()
    )]
    NotFinished {
        /// The folder.
        folder: PathBuf,
    },
    /// A comparison's folder has no finished run.
    #[error("`{}` is a comparison's folder without any finished run: give the experiments again", folder.display())]
    NoneFinished {
        /// The folder.
        folder: PathBuf,
    },
    /// Overrides have nothing to override.
    #[error("{option} changes experiments that are run, but only folders of finished runs are given")]
    NothingToRun {
        /// The option.
        option: &'static str,
    },
    /// A seed is given twice.
    #[error("--seeds has {seed} twice")]
    SeedTwice {
        /// The seed.
        seed: u64,
    },
    /// Two runs could not be told apart.
    #[error(
        "{first} and {second} are both called `{name}`: give each experiment a name of its own with `name = ...`, \
         and each run once"
    )]
    SameName {
        /// Where the first is from.
        first: String,
        /// Where the second is from.
        second: String,
        /// The name.
        name: String,
    },
    /// A run's folder holds something else.
    #[error("`{}` is not empty, and not a previous run's: choose another folder with --out", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// A run's folder would stand where a file of the comparison does.
    #[error(
        "`name = \"{name}\"` of {from} is the name of a file that the comparison writes: give it another"
    )]
    Reserved {
        /// Where the experiment is from.
        from: String,
        /// The name.
        name: String,
    },
}

/// The runs, in the order of the command line.
pub(super) fn select(args: &CompareArgs) -> Result<Vec<Entry>, SelectionError> {
    check_options(args)?;
    let mut entries: Vec<Entry> = Vec::new();
    for what in &args.what {
        entries.extend(if what.join(COMPARISON).is_file() {
            compared(what)?
        } else if what.is_dir() {
            vec![finished(what)?]
        } else {
            experiments(what, args)?
        });
    }
    // Runs of one configuration with different overrides share its name: their folders tell them apart.
    let shared: Vec<bool> = entries.iter().map(|entry| namesake(entry, &entries).is_some()).collect();
    for (entry, _) in entries.iter_mut().zip(shared).filter(|(_, is_shared)| *is_shared) {
        if let (Source::Finished, Some(name)) = (&entry.source, entry.folder.file_name()) {
            entry.name = name.to_string_lossy().into_owned();
        }
    }
    match entries.iter().find_map(|entry| Some((entry, namesake(entry, &entries)?))) {
        Some((first, second)) => Err(SelectionError::SameName {
            first: first.from(),
            second: second.from(),
            name: first.name.clone(),
        }),
        None => Ok(entries),
    }
}

/// Another run with the entry's name that is not the same experiment with another seed.
fn namesake<'a>(entry: &Entry, entries: &'a [Entry]) -> Option<&'a Entry> {
    entries
        .iter()
        .find(|other| !std::ptr::eq(*other, entry) && other.name == entry.name && !other.is_repeat(entry))
}

fn check_options(args: &CompareArgs) -> Result<(), SelectionError> {
    if args.what.iter().all(|what| what.is_dir()) {
        for (option, is_given) in [("--set", !args.sets.is_empty()), ("--seeds", !args.seeds.is_empty())] {
            if is_given {
                return Err(SelectionError::NothingToRun { option });
            }
        }
    }
    let mut sorted = args.seeds.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(SelectionError::SeedTwice { seed: pair[0] }),
        None => Ok(()),
    }
}

/// A run that is there.
fn finished(folder: &Path) -> Result<Entry, SelectionError> {
    let outputs = Outputs::open(folder)?;
    let is_marked = [RUN_MARKER, DAEMON_MARKER].iter().any(|marker| folder.join(marker).is_file());
    if !is_marked && !folder.join(SUMMARY_FILE).is_file() {
        return Err(SelectionError::NoRun { folder: folder.to_owned() });
    }
    let not_finished = || SelectionError::NotFinished { folder: folder.to_owned() };
    let summary = outputs.summary()?.filter(is_finished).ok_or_else(not_finished)?;
    Ok(Entry {
        name: summary.name,
        seed: summary.seed,
        folder: folder.to_owned(),
        source: Source::Finished,
        experiment: outputs.config_text()?.and_then(|config| without_seed(&config)),
    })
}

/// The finished runs of an earlier comparison, by the names of their folders.
fn compared(folder: &Path) -> Result<Vec<Entry>, SelectionError> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut runs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    runs.sort();
    let finished: Vec<Entry> = runs.iter().filter_map(|run| finished(run).ok()).collect();
    if finished.is_empty() {
        return Err(SelectionError::NoneFinished { folder: folder.to_owned() });
    }
    Ok(finished)
}

/// Whether it is the summary of a whole run: only that has a global model at its end.
pub(super) fn is_finished(summary: &partway_cloud::record::Summary) -> bool {
    summary.weights_sha256.is_some()
}

/// An experiment with each of the seeds, or with its own.
fn experiments(config: &Path, args: &CompareArgs) -> Result<Vec<Entry>, SelectionError> {
    let entry = |seed: Option<u64>| {
        let seed_set = seed.map(|seed| format!("seed={seed}"));
        let sets = args.sets.iter().cloned().chain(seed_set).collect();
        let run = ExperimentArgs { config: config.to_owned(), sets };
        // Everything that can be wrong with it is found before the first run starts.
        let experiment = Experiment::load(&run)?;
        let name = experiment.config.name.as_str().to_owned();
        let folder = match seed {
            Some(seed) => format!("{name}-seed-{seed}"),
            None => name.clone(),
        };
        if FILES.contains(&folder.as_str()) {
            return Err(SelectionError::Reserved { from: shown(config), name });
        }
        let folder = args.out.join(folder);
        if is_foreign(&folder) {
            return Err(SelectionError::Foreign { folder });
        }
        let text = experiment.config.to_toml();
        Ok(Entry {
            seed: experiment.config.seed,
            folder,
            experiment: without_seed(&text),
            source: Source::Experiment { args: run, config: text },
            name,
        })
    };
    if args.seeds.is_empty() {
        return Ok(vec![entry(None)?]);
    }
    args.seeds.iter().map(|seed| entry(Some(*seed))).collect()
}

/// Whether a run would refuse the folder.
fn is_foreign(folder: &Path) -> bool {
    let is_empty = std::fs::read_dir(folder).map_or(!folder.exists(), |mut files| files.next().is_none());
    !is_empty && !Layout::new(folder).marker().is_file()
}

fn without_seed(config: &str) -> Option<toml::Table> {
    let mut table: toml::Table = config.parse().ok()?;
    table.remove("seed");
    Some(table)
}

impl Entry {
    /// Whether the other is the same experiment with another seed, in a folder of its own.
    fn is_repeat(&self, other: &Self) -> bool {
        self.seed != other.seed
            && self.folder != other.folder
            && self.experiment.is_some()
            && self.experiment == other.experiment
    }

    /// What was given on the command line for it.
    fn from(&self) -> String {
        match &self.source {
            Source::Finished => shown(&self.folder),
            Source::Experiment { args, .. } => shown(&args.config),
        }
    }
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests;
