//! Accuracy and loss, over rounds and over time.

use super::Run;
use crate::markup::Markup;
use crate::outputs::metrics::Progress;
use crate::plot::lines::{LinePlot, Rule, Series, Shape};
use crate::plot::{Axis, Figure, Style};
use crate::statistics::Spread;

/// Writes the plots.
pub(super) fn write(m: &mut Markup, run: &Run) {
    let over_rounds = |row: &Progress| f64::from(row.round);
    let over_time = |row: &Progress| row.seconds;
    accuracy(m, run, "accuracy-over-rounds", "Accuracy over rounds", "round", over_rounds);
    accuracy(m, run, "accuracy-over-time", "Accuracy over time", "seconds of training", over_time);
    let training: Vec<(u32, f64)> = training_loss(run);
    let by_round = training.iter().map(|(round, loss)| (f64::from(*round), *loss)).collect();
    loss(m, run, "loss-over-rounds", "Loss over rounds", "round", over_rounds, by_round);
    let by_time = training.iter().filter_map(|(round, loss)| {
        let done_at = run.history.rounds.get(round)?.done_at?;
        Some((run.history.training_time(done_at), *loss))
    });
    loss(m, run, "loss-over-time", "Loss over time", "seconds of training", over_time, by_time.collect());
}

fn x_axis(label: &str, values: impl Iterator<Item = f64>) -> Axis {
    if label == "round" { Axis::whole(label, values) } else { Axis::from_zero(label, values) }
}

fn accuracy(
    m: &mut Markup,
    run: &Run,
    id: &'static str,
    title: &str,
    x: &str,
    along: impl Fn(&Progress) -> f64,
) {
    let points: Vec<(f64, f64)> = run.progress.iter().map(|row| (along(row), row.accuracy)).collect();
    let target = run.settings.target_accuracy;
    let values = || points.iter().map(|(_, accuracy)| *accuracy);
    let description = match (values().next(), values().next_back()) {
        (Some(first), Some(last)) => format!(
            "The accuracy of the global model goes from {first:.4} at the first of {} evaluations to {last:.4} at the last.",
            points.len()
        ),
        _ => String::new(),
    };
    LinePlot {
        figure: Figure { id, title: title.to_owned(), description, note: String::new() },
        x: x_axis(x, points.iter().map(|(x, _)| *x)),
        y: Axis::around("accuracy", values().chain(target)),
        areas: Vec::new(),
        rules: target.map(|y| Rule { y, text: format!("target {y}") }).into_iter().collect(),
        series: vec![Series {
            name: "global model".to_owned(),
            style: Style::Nth(0),
            shape: Shape::Straight,
            points,
        }],
    }
    .write(m);
}

fn loss(
    m: &mut Markup,
    run: &Run,
    id: &'static str,
    title: &str,
    x: &str,
    along: impl Fn(&Progress) -> f64,
    training: Vec<(f64, f64)>,
) {
    let test: Vec<(f64, f64)> = run.progress.iter().map(|row| (along(row), row.loss)).collect();
    let ends = |points: &[(f64, f64)]| match points {
        [(_, first), .., (_, last)] => format!("goes from {first:.3} to {last:.3}"),
        [(_, only)] => format!("is {only:.3}"),
        [] => "is not known".to_owned(),
    };
    let description = format!(
        "The mean loss of training steps {}, that of the global model on test samples {}.",
        ends(&training),
        ends(&test)
    );
    let both = || training.iter().chain(&test);
    LinePlot {
        figure: Figure { id, title: title.to_owned(), description, note: String::new() },
        x: x_axis(x, both().map(|(x, _)| *x)),
        y: Axis::from_zero("loss", both().map(|(_, loss)| *loss)),
        areas: Vec::new(),
        rules: Vec::new(),
        series: vec![
            Series {
                name: "training, mean of each round".to_owned(),
                style: Style::Nth(1),
                shape: Shape::Straight,
                points: training,
            },
            Series {
                name: "test, global model".to_owned(),
                style: Style::Nth(0),
                shape: Shape::Straight,
                points: test,
            },
        ],
    }
    .write(m);
}

/// The mean loss of all edges' steps in each round that has any.
fn training_loss(run: &Run) -> Vec<(u32, f64)> {
    let of = |round: &u32| {
        let edges = run.history.edges.values().filter_map(|edge| edge.rounds.get(round));
        let losses = edges.flat_map(|round| &round.steps).map(|step| f64::from(step.loss));
        Spread::of(losses).map(|mean| (*round, mean.mean))
    };
    run.history.rounds.keys().filter_map(of).collect()
}
