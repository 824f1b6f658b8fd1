//! The edges: what each did, and which part of the data it had.

use super::Run;
use super::history::EdgeHistory;
use crate::markup::Markup;
use crate::outputs::missed;
use crate::page::{Column, table};
use crate::plot::number::{bytes, count, grouped, milliseconds};
use crate::statistics::median;

/// More rows than this are not read.
const MOST_EDGES: usize = 100;
/// More labels than this are shown several to a column.
const MOST_LABELS: usize = 20;
/// The darkest cell: text on it must stay legible.
const DARKEST: f64 = 0.55;

/// Writes the tables.
pub(super) fn write(m: &mut Markup, run: &Run) {
    edges(m, run);
    partition(m, run);
}

fn edges(m: &mut Markup, run: &Run) {
    let columns = [
        Column::Words("edge"),
        Column::Words("cut"),
        Column::Numbers("steps"),
        Column::Numbers("median step"),
        Column::Numbers("predicted"),
        Column::Numbers("up"),
        Column::Numbers("down"),
        Column::Numbers("memory"),
        Column::Words(""),
    ];
    let memory = |name: &str| {
        let edges = run.summary.as_ref().map(|summary| summary.edges.as_slice()).unwrap_or_default();
        edges.iter().find(|edge| edge.name == name)?.peak_rss_mib
    };
    let row = |(name, edge): (&String, &EdgeHistory)| {
        let cut = |round: Option<(&u32, &super::history::EdgeRound)>| {
            round.map_or("-".to_owned(), |(_, round)| round.cut.to_string())
        };
        let ms = |of: fn(&super::history::Step) -> f32| {
            median(edge.steps().map(|step| f64::from(of(step)))).map_or("-".to_owned(), milliseconds)
        };
        vec![
            name.clone(),
            format!("{} → {}", cut(edge.rounds.first_key_value()), cut(edge.rounds.last_key_value())),
            count(edge.steps().count() as u64),
            ms(|step| step.latency_ms),
            ms(|step| step.predicted_ms),
            bytes(edge.bytes_up as f64),
            bytes(edge.bytes_down as f64),
            memory(name).map_or("-".to_owned(), |mib| format!("{} MiB", grouped(mib, 0))),
            missed(edge.is_dropped, edge.deferrals),
        ]
    };
    let rows: Vec<Vec<String>> = run.history.edges.iter().take(MOST_EDGES).map(row).collect();
    table(m, "What each edge did", &columns, &rows);
    more(m, run.history.edges.len());
}

fn partition(m: &mut Markup, run: &Run) {
    let history = &run.history;
    let labels = history.edges.values().map(|edge| edge.labels.len()).max().unwrap_or(0);
    if labels == 0 {
        return;
    }
    let per_column = labels.div_ceil(MOST_LABELS);
    let columns = labels.div_ceil(per_column);
    let name = |column: usize| {
        let (first, last) = (column * per_column, ((column + 1) * per_column).min(labels) - 1);
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let in_column = |edge: &EdgeHistory, column: usize| -> u64 {
        edge.labels.iter().skip(column * per_column).take(per_column).sum()
    };
    let cells =
        history.edges.values().flat_map(|edge| (0..columns).map(move |column| in_column(edge, column)));
    let largest = cells.max().unwrap_or(0).max(1) as f64;
    m.tag("div").class("scroll").attr("tabindex", "0").attr("id", "partition").body(|m| {
        m.tag("table").body(|m| {
            m.text("caption", "Who has which samples, by label");
            m.tag("thead").body(|m| {
                m.tag("tr").body(|m| {
                    m.tag("th").attr("scope", "col").class("words").text("edge");
                    m.tag("th").attr("scope", "col").text("samples");
                    (0..columns).for_each(|column| m.tag("th").attr("scope", "col").text(name(column)));
                });
            });
            m.tag("tbody").body(|m| {
                for (name, edge) in history.edges.iter().take(MOST_EDGES) {
                    m.tag("tr").body(|m| {
                        m.tag("th").attr("scope", "row").class("words").text(name);
                        m.text("td", count(edge.samples));
                        for column in 0..columns {
                            let samples = in_column(edge, column);
                            let heat = DARKEST * samples as f64 / largest;
                            m.tag("td")
                                .class("heat")
                                .attr("style", format!("--h:{heat:.3}"))
                                .text(count(samples));
                        }
                    });
                }
            });
        });
    });
    more(m, history.edges.len());
}

fn more(m: &mut Markup, edges: usize) {
    if edges > MOST_EDGES {
        m.tag("p").class("note").text(format!("The first {MOST_EDGES} of {} edges.", count(edges as u64)));
    }
}
