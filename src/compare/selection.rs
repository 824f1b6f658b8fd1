//! Which runs are compared: from experiments and folders on the command line, checked before any starts.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::CompareArgs;
use crate::experiment::{Experiment, ExperimentArgs, ExperimentError};
use crate::outputs::{OutputError, Outputs};
use crate::run::layout::Layout;

/// Files that stand beside the runs' folders.
pub(super) const FILES: [&str; 3] = ["compare.csv", "compare.json", "compare.html"];

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
mod tests {
    use super::*;
    use crate::experiment::tests::SMALL;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a temporary folder"))
        }

        fn config(&self, file: &str, name: &str) -> PathBuf {
            let path = self.0.path().join(file);
            let text = SMALL.replace("name = \"small\"", &format!("name = \"{name}\""));
            std::fs::write(&path, text).expect("written");
            path
        }

        fn select(what: &[&PathBuf], seeds: &[u64]) -> Result<Vec<(String, u64, String)>, String> {
            let args = CompareArgs {
                what: what.iter().map(|path| (*path).clone()).collect(),
                sets: Vec::new(),
                seeds: seeds.to_vec(),
                out: "out".into(),
            };
            let entries = select(&args).map_err(|error| error.to_string())?;
            let shown = |entry: Entry| (entry.name, entry.seed, entry.folder.display().to_string());
            Ok(entries.into_iter().map(shown).collect())
        }
    }

    #[test]
    fn every_experiment_runs_with_every_seed_in_a_folder_of_its_own() {
        let files = Files::new();
        let (a, b) = (files.config("1.toml", "a"), files.config("2.toml", "b"));
        let entry = |name: &str, seed, folder: &str| (name.to_owned(), seed, folder.to_owned());
        assert_eq!(Files::select(&[&b, &a], &[]), Ok(vec![entry("b", 42, "out/b"), entry("a", 42, "out/a")]));
        assert_eq!(
            Files::select(&[&a], &[1, 2]),
            Ok(vec![entry("a", 1, "out/a-seed-1"), entry("a", 2, "out/a-seed-2")])
        );
    }

    #[test]
    fn runs_that_cannot_be_told_apart_are_refused() {
        let files = Files::new();
        let (first, second) = (files.config("1.toml", "a"), files.config("2.toml", "a"));
        let error = Files::select(&[&first, &second], &[]).expect_err("two of one name");
        assert!(
            error.contains("1.toml") && error.contains("2.toml") && error.contains("both called `a`"),
            "{error}"
        );
        assert!(Files::select(&[&first, &second], &[1, 2]).is_err());
        assert_eq!(Files::select(&[&first], &[3, 1, 3]), Err("--seeds has 3 twice".to_owned()));
        let reserved = files.config("3.toml", "compare.csv");
        assert!(Files::select(&[&reserved], &[]).expect_err("a file's name").contains("give it another"));
    }

    #[test]
    fn what_is_no_run_is_not_written_over() {
        let files = Files::new();
        let config = files.config("1.toml", "a");
        std::fs::create_dir_all(files.0.path().join("a/mine")).expect("made");
        let args = |out: &str| CompareArgs {
            what: vec![config.clone()],
            sets: Vec::new(),
            seeds: Vec::new(),
            out: files.0.path().join(out),
        };
        let error = select(&args("")).expect_err("somebody's folder is there").to_string();
        assert!(error.contains("not a previous run's"), "{error}");
        assert!(select(&args("a")).is_ok(), "`a/a` is free");
    }

    /// A finished run of the experiment `quickstart`.
    fn run(files: &Files, folder: &str, config: &str, seed: u64) -> PathBuf {
        let folder = files.0.path().join(folder);
        std::fs::create_dir(&folder).expect("made");
        let summary = serde_json::json!({
            "name": "quickstart", "clock": "wall", "seed": seed, "rounds": 5, "aggregations": 1,
            "final_accuracy": 0.9, "best_accuracy": 0.9, "target_reached": false,
            "seconds_total": 1.0, "seconds_training": 1.0, "seconds_to_target": null, "seconds_clock": 1.0,
            "samples_trained": 1, "samples_per_second": 1.0, "bytes_up": 1, "bytes_down": 1,
            "deadline_ms": null, "deadline_hit_rate": null, "prediction_median_error": null,
            "repeatability_floor": null, "weights_sha256": "0", "edges": [], "cloud": {"peak_rss_mib": null}
        });
        std::fs::write(folder.join("summary.json"), summary.to_string()).expect("written");
        std::fs::write(folder.join("config.toml"), format!("seed = {seed}\n{config}")).expect("written");
        folder
    }

    #[test]
    fn runs_of_one_name_are_told_apart_by_their_folders_or_are_repeats() {
        let files = Files::new();
        let split = run(&files, "split", "algorithm = 1", 1);
        let fedavg = run(&files, "fedavg", "algorithm = 2", 1);
        let again = run(&files, "again", "algorithm = 1", 2);
        let names = |what: &[&PathBuf]| {
            let selected = Files::select(what, &[]).expect("they can be told apart");
            selected.into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[&split, &again]), ["quickstart", "quickstart"]);
        assert_eq!(names(&[&split, &fedavg]), ["split", "fedavg"]);
        assert!(Files::select(&[&split, &split], &[]).is_err(), "the same run twice");
    }

    #[test]
    fn a_comparisons_folder_stands_for_its_finished_runs() {
        let files = Files::new();
        let (one, two) = (run(&files, "one", "algorithm = 1", 1), run(&files, "two", "algorithm = 2", 1));
        std::fs::create_dir(files.0.path().join("failed")).expect("made");
        let folder = files.0.path().to_owned();
        std::fs::write(folder.join("compare.json"), "{}").expect("written");
        let selected = Files::select(&[&folder], &[]).expect("two runs");
        assert_eq!(selected, Files::select(&[&one, &two], &[]).expect("the same two"));
        assert_eq!(selected.len(), 2);

        let empty = files.0.path().join("failed");
        std::fs::write(empty.join("compare.json"), "{}").expect("written");
        let error = Files::select(&[&empty], &[]).expect_err("no runs");
        assert!(error.contains("without any finished run"), "{error}");
    }

    #[test]
    fn a_folder_must_have_a_finished_run() {
        let files = Files::new();
        let folder = files.0.path().to_owned();
        let error = Files::select(&[&folder], &[]).expect_err("it is empty");
        assert!(error.contains("did not finish"), "{error}");
        let error = Files::select(&[&folder], &[1]).expect_err("nothing to run");
        assert!(error.starts_with("--seeds changes"), "{error}");
        let absent = files.0.path().join("no/such.toml");
        assert!(
            Files::select(&[&absent], &[]).expect_err("no file").contains("cannot read the configuration")
        );
    }
}
