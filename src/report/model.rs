//! The model's layers, and where it was cut in the end.

use partway_core::model::{ModelCost, ModelSpec};

use super::history::History;
use crate::markup::Markup;
use crate::page::{Column, table};
use crate::plot::number::{bytes, count, percent};

/// Names that fit into one cell.
const MOST_NAMES: usize = 6;

/// Writes the table.
pub(super) fn write(m: &mut Markup, spec: &ModelSpec, history: &History) {
    let columns = [
        Column::Numbers("cut"),
        Column::Words("after layer"),
        Column::Words("kind"),
        Column::Words("output"),
        Column::Numbers("multiply-adds"),
        Column::Numbers("on the edge"),
        Column::Numbers("parameters"),
        Column::Numbers("sent per sample"),
        Column::Sentences("last cut of"),
    ];
    let cost = ModelCost::of(spec);
    let shapes = spec.shapes().unwrap_or_default();
    let total = cost.total_macs().max(1) as f64;
    let rows = spec.layers.iter().zip(&cost.layers).zip(shapes.iter().skip(1)).enumerate();
    let rows = rows.map(|(index, ((layer, of), shape))| {
        vec![
            (index + 1).to_string(),
            layer.name.clone(),
            layer.op.kind().to_string(),
            shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × "),
            count(of.macs),
            percent(cost.macs(0..index + 1) as f64 / total),
            count(of.params),
            bytes(of.output_bytes as f64),
            cut_here(history, index as u32 + 1),
        ]
    });
    table(m, "Layers, per sample; values sent as f32", &columns, &rows.collect::<Vec<_>>());
}

fn cut_here(history: &History, cut: u32) -> String {
    let last = history
        .edges
        .iter()
        .filter(|(_, edge)| edge.rounds.last_key_value().is_some_and(|(_, round)| round.cut == cut));
    let names: Vec<&str> = last.map(|(name, _)| name.as_str()).collect();
    match names.len().checked_sub(MOST_NAMES) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..MOST_NAMES].join(", ")),
        _ => names.join(", "),
    }
}
