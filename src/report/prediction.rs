//! Predicted against measured step times.

use super::Run;
use super::history::{History, Step};
use super::per_edge::{PerEdge, medians, rounds_of_a_point, rounds_together};
use crate::markup::Markup;
use crate::plot::lines::{LinePlot, Rule, Series, Shape};
use crate::plot::number::{count, milliseconds, percent};
use crate::plot::scatter::{Group, ScatterPlot};
use crate::plot::{Axis, Figure, Style};
use crate::statistics::{median, quantile};

/// Steps beyond this quantile, such as one that waited for a lost connection, would squeeze all others
/// into a corner.
const SHOWN: f64 = 0.99;

/// Writes the plots.
pub(super) fn write(m: &mut Markup, run: &Run) {
    scatter(m, run);
    error(m, run);
}

fn scatter(m: &mut Markup, run: &Run) {
    let mut groups: Vec<Group> = run
        .history
        .edges
        .iter()
        .enumerate()
        .map(|(nth, (name, edge))| Group {
            name: name.clone(),
            style: Style::Nth(nth),
            points: edge
                .steps()
                .map(|step| (f64::from(step.predicted_ms), f64::from(step.latency_ms)))
                .collect(),
        })
        .collect();
    if groups.len() > Style::DISTINCT {
        let points = groups.into_iter().flat_map(|group| group.points).collect();
        groups = vec![Group { name: "all edges".to_owned(), style: Style::Nth(0), points }];
    }
    let points = || groups.iter().flat_map(|group| group.points.iter().copied());
    let measured = || points().map(|(_, measured)| measured);
    let predicted = || points().map(|(predicted, _)| predicted);
    let usual = quantile(measured(), SHOWN).unwrap_or(1.0).max(quantile(predicted(), SHOWN).unwrap_or(1.0));
    let limit = 1.5 * usual;
    let largest = measured().chain(predicted()).fold(0.0, f64::max);
    let beyond = points().filter(|(x, y)| *x > limit || *y > limit).count();
    let description = match median(run.history.steps().filter_map(|(_, step)| step.error())) {
        Some(error) => format!(
            "Of {} steps, the predicted time misses the measured one by {} in the median.",
            count(points().count() as u64),
            percent(error)
        ),
        None => String::new(),
    };
    let note = match beyond {
        0 => "Above the line, a step took longer than predicted.".to_owned(),
        _ => format!(
            "Above the line, a step took longer than predicted. Not shown: {} beyond {}, up to {}.",
            if beyond == 1 { "1 step".to_owned() } else { format!("{} steps", count(beyond as u64)) },
            milliseconds(limit),
            milliseconds(largest)
        ),
    };
    let shown = |value: &f64| *value <= limit;
    ScatterPlot {
        figure: Figure {
            id: "prediction",
            title: "Predicted and measured step times".to_owned(),
            description,
            note,
        },
        x: Axis::around("predicted milliseconds", predicted().filter(shown)),
        y: Axis::around("measured milliseconds", measured().filter(shown)),
        groups,
    }
    .write(m);
}

fn error(m: &mut Markup, run: &Run) {
    let history = &run.history;
    let per_edge = PerEdge::of(history, |round| {
        median(round.steps.iter().filter_map(Step::error)).map(|error| 100.0 * error)
    })
    .together();
    let overall = overall(history);
    let floor =
        run.summary.as_ref().and_then(|summary| summary.repeatability_floor).map(|floor| 100.0 * floor);
    let (mut series, areas) = per_edge.draw(false);
    let description = match (overall.first(), overall.last()) {
        (Some((_, first)), Some((_, last))) => {
            format!("The median error goes from {first:.1} % at first to {last:.1} % in the end.")
        }
        _ => String::new(),
    };
    if areas.is_empty() {
        series.push(Series {
            name: "all steps".to_owned(),
            style: Style::All,
            shape: Shape::Straight,
            points: overall,
        });
    }
    LinePlot {
        figure: Figure {
            id: "prediction-error",
            title: "Prediction error over rounds".to_owned(),
            description,
            note: format!(
                "Median of |measured - predicted| / measured over the steps of {}; identical steps differ by the \
                 floor, so that no prediction can be better.",
                rounds_of_a_point(history)
            ),
        },
        x: Axis::whole("round", history.rounds.keys().map(|round| f64::from(*round))),
        y: Axis::from_zero("error in %", per_edge.all().chain(floor)),
        areas,
        series,
        rules: floor.map(|y| Rule { y, text: format!("floor {y:.1} %") }).into_iter().collect(),
    }
    .write(m);
}

/// The median error of all edges' steps, in percent, over as many rounds as make a point.
fn overall(history: &History) -> Vec<(f64, f64)> {
    let rounds: Vec<f64> = history.rounds.keys().map(|round| f64::from(*round)).collect();
    let error = |round: &u32| {
        let steps = history.edges.values().filter_map(|edge| edge.rounds.get(round)).flat_map(|of| &of.steps);
        median(steps.filter_map(Step::error)).map_or(f64::NAN, |error| 100.0 * error)
    };
    let errors: Vec<f64> = history.rounds.keys().map(error).collect();
    let size = rounds_together(rounds.len());
    medians(&rounds, size).into_iter().zip(medians(&errors, size)).collect()
}
