//! What crossed the wire.

use super::Run;
use super::latency::MOST_BARS;
use crate::markup::Markup;
use crate::plot::bars::{Bar, BarPlot};
use crate::plot::lines::{LinePlot, Series, Shape};
use crate::plot::number::bytes;
use crate::plot::{Axis, Figure, Style};

/// Writes the plots.
pub(super) fn write(m: &mut Markup, run: &Run) {
    per_edge(m, run);
    over_rounds(m, run);
}

fn per_edge(m: &mut Markup, run: &Run) {
    let mut edges: Vec<(&String, f64, f64)> = run
        .history
        .edges
        .iter()
        .map(|(name, edge)| (name, edge.bytes_up as f64, edge.bytes_down as f64))
        .collect();
    let of_all = edges.len();
    let mut note = String::new();
    if of_all > MOST_BARS {
        edges.sort_by(|a, b| (b.1 + b.2).total_cmp(&(a.1 + a.2)).then_with(|| a.0.cmp(b.0)));
        edges.truncate(MOST_BARS);
        note = format!("The {MOST_BARS} of {of_all} edges with the most bytes.");
    }
    let words =
        edges.iter().map(|(name, up, down)| format!("{name} {} up, {} down", bytes(*up), bytes(*down)));
    BarPlot {
        figure: Figure {
            id: "bytes-per-edge",
            title: "Bytes of each edge".to_owned(),
            description: format!("{}.", words.collect::<Vec<_>>().join("; ")),
            note,
        },
        x: Axis::bytes("sent and received", edges.iter().map(|(_, up, down)| up + down)),
        parts: vec![("up, to the cloud".to_owned(), "up"), ("down, to the edge".to_owned(), "down")],
        mark: None,
        bars: edges
            .into_iter()
            .map(|(name, up, down)| Bar { name: name.clone(), parts: vec![up, down], text: bytes(up + down) })
            .collect(),
    }
    .write(m, bytes);
}

fn over_rounds(m: &mut Markup, run: &Run) {
    let (mut up, mut down) = (0.0, 0.0);
    let mut points = (Vec::new(), Vec::new());
    for (round, of) in &run.history.rounds {
        up += of.bytes_up as f64;
        down += of.bytes_down as f64;
        points.0.push((f64::from(*round), up));
        points.1.push((f64::from(*round), down));
    }
    LinePlot {
        figure: Figure {
            id: "bytes-over-rounds",
            title: "Bytes over rounds".to_owned(),
            description: format!("In all, {} went up and {} down.", bytes(up), bytes(down)),
            note: "All edges together, from the start of training, rounds that were repeated included."
                .to_owned(),
        },
        x: Axis::whole("round", run.history.rounds.keys().map(|round| f64::from(*round))),
        y: Axis::bytes("so far", [up, down]),
        areas: Vec::new(),
        rules: Vec::new(),
        series: vec![
            Series { name: "up".to_owned(), style: Style::Nth(0), shape: Shape::Straight, points: points.0 },
            Series {
                name: "down".to_owned(),
                style: Style::Nth(1),
                shape: Shape::Straight,
                points: points.1,
            },
        ],
    }
    .write(m);
}
