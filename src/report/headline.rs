//! The run in some numbers.

use super::Run;
use super::history::Ending;
use crate::markup::Markup;
use crate::plot::number::{bytes, count, grouped, milliseconds, percent, seconds};
use crate::statistics::median;

/// Writes the head of the page.
pub(super) fn write(m: &mut Markup, run: &Run) {
    m.text("h1", &run.name);
    m.tag("p").class("soft").text(introduction(run));
    for warning in &run.warnings {
        m.tag("p").class("warning").text(format!("Warning: {warning}."));
    }
    m.text("p", ending(run));
    m.tag("dl").class("cards").body(|m| {
        for Card { name, value, more } in cards(run) {
            m.tag("div").body(|m| {
                m.text("dt", name);
                m.tag("dd").body(|m| {
                    m.say(value);
                    if !more.is_empty() {
                        m.text("small", more);
                    }
                });
            });
        }
    });
}

/// One number.
struct Card {
    name: &'static str,
    value: String,
    more: String,
}

fn card(name: &'static str, value: impl Into<String>, more: impl Into<String>) -> Card {
    Card { name, value: value.into(), more: more.into() }
}

fn introduction(run: &Run) -> String {
    let mut parts = Vec::new();
    if let Some(model) = &run.history.model {
        parts.push(format!(
            "{}, {} layers, {} parameters, {} multiply-adds per sample forward",
            model.name,
            model.layers,
            count(model.parameters),
            count(model.macs)
        ));
    }
    parts.extend(run.settings.dataset.clone());
    parts.extend(run.settings.algorithm.clone());
    parts.push(format!("{} edges", run.history.edges.len()));
    parts.extend(run.summary.as_ref().map(|summary| format!("seed {}", summary.seed)));
    parts.join(" · ")
}

fn ending(run: &Run) -> String {
    match &run.history.ending {
        Some(Ending::Finished(reason)) => format!("Finished: {reason}."),
        Some(Ending::Aborted(reason)) => format!("Failed: {reason}"),
        None => {
            "Not finished: the run was interrupted, or is still at work. These are its events so far.".into()
        }
    }
}

fn cards(run: &Run) -> Vec<Card> {
    let mut cards = accuracy_cards(run);
    cards.extend(time_cards(run));
    let history = &run.history;
    let total =
        |of: fn(&super::history::EdgeHistory) -> u64| history.edges.values().map(of).sum::<u64>() as f64;
    let up = run.summary.as_ref().map_or_else(|| total(|edge| edge.bytes_up), |it| it.bytes_up as f64);
    let down = run.summary.as_ref().map_or_else(|| total(|edge| edge.bytes_down), |it| it.bytes_down as f64);
    cards.push(card("Bytes up", bytes(up), "activations, labels and weights"));
    cards.push(card("Bytes down", bytes(down), "cut gradients and weights"));
    cards.extend(latency_cards(run));
    if let Some(mib) = run.summary.as_ref().and_then(|summary| summary.cloud.peak_rss_mib) {
        cards.push(card("Cloud memory", format!("{} MiB", grouped(mib, 0)), "largest resident set"));
    }
    if let Some(hash) = run.summary.as_ref().and_then(|summary| summary.weights_sha256.clone()) {
        let short = hash.chars().take(12).collect::<String>();
        cards.push(card("Weights", short, "SHA-256 begins with this"));
    }
    cards
}

fn accuracy_cards(run: &Run) -> Vec<Card> {
    let accuracies = || run.progress.iter().map(|row| row.accuracy);
    let last = run.summary.as_ref().map_or_else(|| accuracies().next_back(), |it| it.final_accuracy);
    let best = run.summary.as_ref().map_or_else(|| accuracies().reduce(f64::max), |it| it.best_accuracy);
    let target = match (run.settings.target_accuracy, &run.summary) {
        (Some(target), Some(it)) if it.target_reached => format!("target {target} reached"),
        (Some(target), Some(_)) => format!("target {target} not reached"),
        (Some(target), None) => format!("target {target}"),
        (None, _) => String::new(),
    };
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    vec![card("Accuracy", shown(last), target), card("Best accuracy", shown(best), "")]
}

fn time_cards(run: &Run) -> Vec<Card> {
    let history = &run.history;
    let Some(summary) = &run.summary else {
        return vec![
            card("Rounds", count(history.rounds_done().into()), "so far"),
            card("Training time", seconds(history.training_time(history.last_at)), "so far"),
        ];
    };
    let aggregations = format!("{} aggregations", count(summary.aggregations.into()));
    let mut cards = vec![
        card("Rounds", count(summary.rounds.into()), aggregations),
        card(
            "Training time",
            seconds(summary.seconds_training),
            format!("of {} in all", seconds(summary.seconds_total)),
        ),
    ];
    if let Some(to_target) = summary.seconds_to_target {
        cards.push(card("Time to target", seconds(to_target), ""));
    }
    let rate = format!("{} a second", grouped(summary.samples_per_second, 0));
    cards.push(card("Samples trained", count(summary.samples_trained), rate));
    cards
}

fn latency_cards(run: &Run) -> Vec<Card> {
    let mut cards = Vec::new();
    let history = &run.history;
    let last = history.rounds.values().rev().find(|round| round.deadline_ms > 0.0);
    let hits =
        history.steps().filter(|(_, step)| step.in_time).count() as f64 / history.steps().count() as f64;
    let hit_rate = run.summary.as_ref().map_or(Some(hits), |summary| summary.deadline_hit_rate);
    if let Some(round) = last {
        let more = hit_rate.filter(|rate| rate.is_finite());
        let more = more.map_or(String::new(), |rate| format!("{} of steps met theirs", percent(rate)));
        cards.push(card("Last deadline", milliseconds(round.deadline_ms), more));
    }
    let own = || median(history.steps().filter_map(|(_, step)| step.error()));
    let error = run.summary.as_ref().map_or_else(own, |summary| summary.prediction_median_error);
    if let Some(error) = error {
        let floor = run.summary.as_ref().and_then(|summary| summary.repeatability_floor);
        let more =
            floor.map_or(String::new(), |floor| format!("identical steps differ by {}", percent(floor)));
        cards.push(card("Prediction error", percent(error), more));
    }
    cards
}
