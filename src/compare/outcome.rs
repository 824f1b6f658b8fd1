//! What came of each run, and of each experiment over its seeds.

use partway_cloud::record::Summary;
use partway_core::config::Clock;

use super::selection::Entry;
use crate::outputs::metrics::Progress;
use crate::outputs::settings::Settings;
use crate::outputs::{OutputError, Outputs};
use crate::statistics::Spread;

/// A finished run.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Of the experiment.
    pub(super) name: String,
    pub(super) folder: String,
    pub(super) settings: Settings,
    pub(super) summary: Summary,
    pub(super) progress: Vec<Progress>,
}

/// All runs, by experiment in the order in which they were given.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) experiments: Vec<ExperimentOutcome>,
}

/// The runs of one experiment.
#[derive(Clone, Debug)]
pub(super) struct ExperimentOutcome {
    pub(super) name: String,
    pub(super) runs: Vec<Outcome>,
}

/// A number that runs are compared by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// In files.
    pub(super) key: &'static str,
    pub(super) of: fn(&Summary) -> Option<f64>,
}

/// What runs are compared by, in the order of the files.
pub(super) const MEASURES: [Measure; 9] = [
    Measure { key: "rounds", of: |summary| Some(summary.rounds.into()) },
    Measure { key: "final_accuracy", of: |summary| summary.final_accuracy },
    Measure { key: "best_accuracy", of: |summary| summary.best_accuracy },
    Measure { key: "seconds_to_target", of: |summary| summary.seconds_to_target },
    Measure { key: "seconds_training", of: |summary| Some(summary.seconds_training) },
    Measure { key: "bytes_up", of: |summary| Some(summary.bytes_up as f64) },
    Measure { key: "bytes_down", of: |summary| Some(summary.bytes_down as f64) },
    Measure { key: "deadline_hit_rate", of: |summary| summary.deadline_hit_rate },
    Measure { key: "prediction_median_error", of: |summary| summary.prediction_median_error },
];

impl Outcome {
    /// Of a run that is finished.
    pub(super) fn read(entry: &Entry) -> Result<Self, OutputError> {
        let outputs = Outputs::open(&entry.folder)?;
        let missing = |missing| OutputError::Missing { folder: entry.folder.clone(), missing };
        Ok(Self {
            name: entry.name.clone(),
            folder: entry.folder.display().to_string(),
            settings: outputs.config_text()?.map(|config| Settings::read(&config)).unwrap_or_default(),
            summary: outputs.summary()?.ok_or_else(|| missing("summary.json"))?,
            progress: outputs.metrics()?.ok_or_else(|| missing("metrics.csv"))?,
        })
    }
}

impl Comparison {
    /// Of at least one run.
    pub(super) fn of(outcomes: Vec<Outcome>) -> Self {
        let mut experiments: Vec<ExperimentOutcome> = Vec::new();
        for outcome in outcomes {
            match experiments.iter_mut().find(|experiment| experiment.name == outcome.name) {
                Some(experiment) => experiment.runs.push(outcome),
                None => {
                    let name = outcome.name.clone();
                    experiments.push(ExperimentOutcome { name, runs: vec![outcome] });
                }
            }
        }
        Self { experiments }
    }

    /// Whether the times of some are virtual and those of others are not.
    pub(super) fn mixes_clocks(&self) -> bool {
        let mut clocks = self.experiments.iter().filter_map(ExperimentOutcome::clock);
        let first = clocks.next();
        clocks.any(|clock| Some(clock) != first)
    }

    /// Whether of any experiment's runs some reached the target and others did not.
    pub(super) fn is_target_reached_by_some(&self) -> bool {
        self.experiments.iter().any(|experiment| {
            let reached = experiment.reached_target();
            reached > 0 && reached < experiment.runs.len()
        })
    }

    /// Whether any experiment ran more than once.
    pub(super) fn has_repeats(&self) -> bool {
        self.experiments.iter().any(|experiment| experiment.runs.len() > 1)
    }
}

impl ExperimentOutcome {
    /// The mean and deviation over those runs that have the number.
    pub(super) fn mean(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| (measure.of)(&run.summary)))
    }

    /// What passed their time: runs of one experiment differ in their seeds only.
    pub(super) fn clock(&self) -> Option<Clock> {
        Some(self.runs.first()?.summary.clock)
    }

    /// What the runs trained by.
    pub(super) fn algorithm(&self) -> Option<&str> {
        self.runs.first()?.settings.algorithm.as_deref()
    }

    /// Runs that had an accuracy target.
    pub(super) fn with_target(&self) -> usize {
        self.runs.iter().filter(|run| run.settings.target_accuracy.is_some()).count()
    }

    /// Runs that reached it.
    pub(super) fn reached_target(&self) -> usize {
        self.runs.iter().filter(|run| run.summary.target_reached).count()
    }
}
