//! Where the cuts were, how long steps took, and what took that long.

use std::collections::BTreeSet;
use std::fmt::Write;

use partway_core::model::ModelSpec;

use super::Run;
use super::history::{EdgeHistory, Step};
use super::per_edge::{PerEdge, rounds_of_a_point};
use crate::markup::Markup;
use crate::plot::bars::{Bar, BarPlot};
use crate::plot::lines::{LinePlot, Series, Shape};
use crate::plot::number::milliseconds;
use crate::plot::scale::Tick;
use crate::plot::{Axis, Figure, Style, shortened};
use crate::statistics::median;

/// More bars than this are not read.
pub(super) const MOST_BARS: usize = 24;

/// Of more cuts than this, only those that were used are named.
const MOST_CUTS: usize = 12;

const CUTS_NOTE: &str = "The layers up to the cut run on the edge, the others in the cloud. Edges with the same \
                         cut are drawn beside each other.";
const TERMS_NOTE: &str = "Medians since the edge's cut last moved, with the median of the whole step at the \
                          right; the deadline is the last round's.";

/// The terms in the order of a step, each with its class.
const TERMS: [(&str, &str); 5] = [
    ("edge forward", "edge-forward"),
    ("uplink", "uplink"),
    ("cloud", "cloud-term"),
    ("downlink", "downlink"),
    ("edge backward", "edge-backward"),
];

/// Writes the plots.
pub(super) fn write(m: &mut Markup, run: &Run) {
    cuts(m, run);
    step_times(m, run);
    terms(m, run);
}

fn cuts(m: &mut Markup, run: &Run) {
    let per_edge = PerEdge::of(&run.history, |round| Some(f64::from(round.cut)));
    let used: BTreeSet<u32> =
        run.history.edges.values().flat_map(|edge| edge.rounds.values()).map(|round| round.cut).collect();
    let reach = used.first().zip(used.last()).map_or(0..=0, |(first, last)| *first..=*last);
    let shown = if reach.clone().count() > MOST_CUTS { used } else { reach.collect() };
    let names =
        shown.into_iter().map(|cut| Tick { at: f64::from(cut), text: name_of(cut, run.model.as_ref()) });
    let last = run.history.edges.iter().filter_map(|(name, edge)| {
        let (_, round) = edge.rounds.last_key_value()?;
        Some(format!("{name} {}", round.cut))
    });
    let listed: Vec<String> = last.take(Style::DISTINCT).collect();
    let (series, areas) = per_edge.draw(true);
    LinePlot {
        figure: Figure {
            id: "cuts",
            title: "Cut of each edge".to_owned(),
            description: format!("The cuts in the last round are: {}.", listed.join(", ")),
            note: CUTS_NOTE.to_owned(),
        },
        x: Axis::whole("round", run.history.rounds.keys().map(|round| f64::from(*round))),
        y: Axis::named("cut, after this layer", names.collect()),
        areas,
        series,
        rules: Vec::new(),
    }
    .write(m);
}

/// The cut and the layer before it.
fn name_of(cut: u32, model: Option<&ModelSpec>) -> String {
    let before = model.zip((cut as usize).checked_sub(1));
    let layer = before.and_then(|(model, index)| model.layers.get(index));
    layer.map_or(cut.to_string(), |layer| format!("{cut} {}", shortened(&layer.name, 10)))
}

fn step_times(m: &mut Markup, run: &Run) {
    let per_edge =
        PerEdge::of(&run.history, |round| median(round.steps.iter().map(|step| f64::from(step.latency_ms))))
            .together();
    let deadlines: Vec<(f64, f64)> =
        run.history.rounds.iter().map(|(round, of)| (f64::from(*round), of.deadline_ms)).collect();
    let (mut series, areas) = per_edge.draw(false);
    if !series.is_empty() {
        series.push(Series {
            name: "deadline".to_owned(),
            style: Style::All,
            shape: Shape::Steps(0.0),
            points: deadlines.clone(),
        });
    }
    LinePlot {
        figure: Figure {
            id: "step-times",
            title: "Step time against the deadline".to_owned(),
            description: match deadlines.last() {
                Some((round, deadline)) => {
                    format!("The deadline in round {round} is {}.", milliseconds(*deadline))
                }
                None => String::new(),
            },
            note: format!("Median of each edge's steps in {}.", rounds_of_a_point(&run.history)),
        },
        x: Axis::whole("round", run.history.rounds.keys().map(|round| f64::from(*round))),
        y: Axis::from_zero(
            "milliseconds",
            per_edge.all().chain(deadlines.iter().map(|(_, deadline)| *deadline)),
        ),
        areas,
        series,
        rules: Vec::new(),
    }
    .write(m);
}

/// One edge's medians at its last cut.
struct Terms {
    name: String,
    step_ms: f64,
    parts_ms: Vec<f64>,
}

impl Terms {
    fn of(name: &str, edge: &EdgeHistory) -> Option<Self> {
        let steps = at_last_cut(edge);
        Some(Self {
            name: name.to_owned(),
            step_ms: median(steps.iter().map(|step| f64::from(step.latency_ms)))?,
            parts_ms: (0..TERMS.len())
                .map(|term| median(steps.iter().map(|step| f64::from(step.terms_ms[term]))).unwrap_or(0.0))
                .collect(),
        })
    }
}

/// The steps since the edge's cut last moved.
fn at_last_cut(edge: &EdgeHistory) -> Vec<&Step> {
    let trained = || edge.rounds.values().rev().filter(|round| !round.steps.is_empty());
    let Some(last) = trained().next().map(|round| round.cut) else { return Vec::new() };
    trained().take_while(|round| round.cut == last).flat_map(|round| &round.steps).collect()
}

fn terms(m: &mut Markup, run: &Run) {
    let mut edges: Vec<Terms> =
        run.history.edges.iter().filter_map(|(name, edge)| Terms::of(name, edge)).collect();
    let of_all = edges.len();
    let mut note = TERMS_NOTE.to_owned();
    if of_all > MOST_BARS {
        edges.sort_by(|a, b| b.step_ms.total_cmp(&a.step_ms).then_with(|| a.name.cmp(&b.name)));
        edges.truncate(MOST_BARS);
        let _ = write!(note, " The {MOST_BARS} slowest of {of_all} edges.");
    }
    let deadline = run.history.rounds.values().rev().map(|round| round.deadline_ms).find(|ms| *ms > 0.0);
    let sum = |edge: &Terms| edge.parts_ms.iter().sum::<f64>();
    let words = edges.iter().map(|edge| format!("{} {}", edge.name, milliseconds(edge.step_ms)));
    BarPlot {
        figure: Figure {
            id: "terms",
            title: "What a step's time is made of".to_owned(),
            description: format!("Median steps: {}.", words.collect::<Vec<_>>().join(", ")),
            note,
        },
        x: Axis::from_zero("milliseconds", edges.iter().map(sum).chain(deadline)),
        parts: TERMS.map(|(name, class)| (name.to_owned(), class)).to_vec(),
        mark: deadline.map(|deadline| (deadline, format!("deadline {}", milliseconds(deadline)))),
        bars: edges
            .into_iter()
            .map(|edge| Bar { name: edge.name, text: milliseconds(edge.step_ms), parts: edge.parts_ms })
            .collect(),
    }
    .write(m, milliseconds);
}
