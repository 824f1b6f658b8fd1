//! The comparison as a page, its table and accuracy over time, rounds and bytes; and the first of these as a picture.

use super::outcome::{Comparison, ExperimentOutcome};
use super::summary_table::{SummaryTable, note};
use crate::markup::Markup;
use crate::outputs::metrics::Progress;
use crate::page::{self, Column, table};
use crate::plot::lines::{LinePlot, Series, Shape};
use crate::plot::{Axis, Figure, Style};
use crate::table::Align;

/// The whole page.
pub(super) fn page(comparison: &Comparison) -> String {
    page::page("Comparison - Partway", |m| {
        m.text("h1", "Comparison");
        let names: Vec<&str> =
            comparison.experiments.iter().map(|experiment| experiment.name.as_str()).collect();
        m.tag("p").class("soft").text(names.join(" · "));
        summary(m, comparison);
        m.text("h2", "Accuracy");
        m.tag("div").class("plots").body(|m| {
            over_time(comparison).write(m);
            let rounds = |row: &Progress| f64::from(row.round);
            let axis = |values| Axis::whole("round", values);
            accuracy(comparison, "over-rounds", "Accuracy over rounds", rounds, axis).write(m);
            let bytes = |row: &Progress| row.bytes_up + row.bytes_down;
            let axis = |values| Axis::bytes("up and down", values);
            accuracy(comparison, "over-bytes", "Accuracy over bytes", bytes, axis).write(m);
        });
    })
}

/// Accuracy over time as a picture of its own, an SVG file.
pub(super) fn picture(comparison: &Comparison) -> String {
    over_time(comparison).alone()
}

fn over_time(comparison: &Comparison) -> LinePlot {
    let axis = |values| Axis::from_zero("seconds of training", values);
    accuracy(comparison, "over-time", "Accuracy over time", |row| row.seconds, axis)
}

fn summary(m: &mut Markup, comparison: &Comparison) {
    let SummaryTable { columns, rows } = SummaryTable::of(comparison);
    let columns: Vec<Column<'_>> = columns
        .iter()
        .map(|(name, align)| match align {
            Align::Left => Column::Words(name),
            Align::Right => Column::Numbers(name),
        })
        .collect();
    let note = note(comparison);
    let note = if note.is_empty() { note } else { format!(": {note}") };
    table(m, &format!("What each experiment came to{note}"), &columns, &rows);
}

fn accuracy(
    comparison: &Comparison,
    id: &'static str,
    title: &str,
    along: fn(&Progress) -> f64,
    axis: impl Fn(Vec<f64>) -> Axis,
) -> LinePlot {
    let name = |experiment: &ExperimentOutcome| match experiment.clock().filter(|_| comparison.mixes_clocks())
    {
        Some(clock) => format!("{} ({clock} clock)", experiment.name),
        None => experiment.name.clone(),
    };
    let experiments = comparison.experiments.iter().enumerate();
    let series: Vec<Series> = experiments
        .flat_map(|(nth, experiment)| experiment.runs.iter().map(move |run| (nth, experiment, run)))
        .map(|(nth, experiment, run)| Series {
            name: name(experiment),
            style: Style::Nth(nth),
            shape: Shape::Straight,
            points: run.progress.iter().map(|row| (along(row), row.accuracy)).collect(),
        })
        .collect();
    let points = || series.iter().flat_map(|series| series.points.iter().copied());
    let ends = series.iter().filter_map(|series| {
        let (_, accuracy) = series.points.last()?;
        Some(format!("{} {accuracy:.4}", series.name))
    });
    let note = if comparison.has_repeats() { "One line per seed." } else { "" };
    LinePlot {
        figure: Figure {
            id,
            title: title.to_owned(),
            description: format!("Accuracies at the end: {}.", ends.collect::<Vec<_>>().join(", ")),
            note: note.to_owned(),
        },
        x: axis(points().map(|(x, _)| x).collect()),
        y: Axis::around("accuracy", points().map(|(_, accuracy)| accuracy)),
        areas: Vec::new(),
        rules: Vec::new(),
        series,
    }
}
