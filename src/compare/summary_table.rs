//! The comparison as one table: a row per experiment.

use super::outcome::{Comparison, ExperimentOutcome, MEASURES};
use crate::plot::number::{byte_unit, grouped, significant_decimals};
use crate::statistics::Spread;
use crate::table::{Align, table};

/// Columns and rows, for the terminal and for the page.
pub(super) struct SummaryTable {
    pub(super) columns: Vec<(&'static str, Align)>,
    pub(super) rows: Vec<Vec<String>>,
}

impl SummaryTable {
    pub(super) fn of(comparison: &Comparison) -> Self {
        let mut columns = vec![
            ("name", Align::Left),
            ("algorithm", Align::Left),
            ("runs", Align::Right),
            ("rounds", Align::Right),
            ("accuracy", Align::Right),
            ("best", Align::Right),
            ("target", Align::Left),
            ("seconds to it", Align::Right),
            ("up", Align::Right),
            ("down", Align::Right),
            ("in time", Align::Right),
            ("prediction error", Align::Right),
        ];
        let mut rows: Vec<Vec<String>> = comparison.experiments.iter().map(row).collect();
        if !comparison.has_repeats() {
            columns.remove(2);
            for row in &mut rows {
                row.remove(2);
            }
        }
        if comparison.mixes_clocks() {
            columns.insert(2, ("clock", Align::Left));
            for (row, experiment) in rows.iter_mut().zip(&comparison.experiments) {
                row.insert(2, experiment.clock().map_or("-".to_owned(), |clock| clock.to_string()));
            }
        }
        Self { columns, rows }
    }
}

/// What the numbers of the table are, where that is not plain.
pub(super) fn note(comparison: &Comparison) -> String {
    let mut notes = Vec::new();
    if comparison.has_repeats() {
        notes.push("means and standard deviations over the seeds");
    }
    if comparison.is_target_reached_by_some() {
        notes.push("seconds to the target of those runs that reached it");
    }
    if comparison.mixes_clocks() {
        notes.push("seconds of different clocks do not compare");
    }
    notes.join("; ")
}

/// For the terminal.
pub(super) fn text(comparison: &Comparison) -> String {
    let SummaryTable { columns, rows } = SummaryTable::of(comparison);
    let note = note(comparison);
    let end = if note.is_empty() { "" } else { "\n" };
    format!("\n{}{note}{end}", table(&columns, &rows))
}

fn row(experiment: &ExperimentOutcome) -> Vec<String> {
    let cell = |key: &str, unit: Unit| {
        let measure = MEASURES.iter().find(|measure| measure.key == key);
        let mean = measure.and_then(|measure| experiment.mean(*measure));
        mean.map_or("-".to_owned(), |mean| unit.say(mean))
    };
    let is_mean = experiment.runs.len() > 1;
    vec![
        experiment.name.clone(),
        experiment.algorithm().unwrap_or("-").to_owned(),
        experiment.runs.len().to_string(),
        cell("rounds", Unit::Plain(usize::from(is_mean))),
        cell("final_accuracy", Unit::Plain(4)),
        cell("best_accuracy", Unit::Plain(4)),
        target(experiment),
        cell("seconds_to_target", Unit::Plain(1)),
        cell("bytes_up", Unit::Bytes),
        cell("bytes_down", Unit::Bytes),
        cell("deadline_hit_rate", Unit::Percent),
        cell("prediction_median_error", Unit::Percent),
    ]
}

/// How a number is shown.
#[derive(Clone, Copy)]
enum Unit {
    /// With so many decimals.
    Plain(usize),
    Percent,
    Bytes,
}

impl Unit {
    /// The mean, with the deviation where there are several values, both in one unit.
    fn say(self, Spread { mean, deviation, count }: Spread) -> String {
        let (unit, decimals, name) = match self {
            Self::Plain(decimals) => (1.0, decimals, String::new()),
            Self::Percent => (0.01, 1, " %".to_owned()),
            Self::Bytes => {
                let (unit, name) = byte_unit(mean);
                (unit, significant_decimals(mean / unit), format!(" {name}"))
            }
        };
        let number = |value: f64| grouped(value / unit, decimals);
        match count {
            1 => format!("{}{name}", number(mean)),
            _ => format!("{} ± {}{name}", number(mean), number(deviation)),
        }
    }
}

fn target(experiment: &ExperimentOutcome) -> String {
    match (experiment.with_target(), experiment.reached_target()) {
        (0, _) => "none".to_owned(),
        (1, 1) => "reached".to_owned(),
        (1, _) => "not reached".to_owned(),
        (all, reached) => format!("{reached} of {all}"),
    }
}
