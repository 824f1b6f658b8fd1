//! What happened to whom and when: spans and moments, a row per name.

use super::axes::{fitting, label, rule};
use super::figure::{Figure, Key};
use super::scale::Axis;
use super::style::Style;
use super::{LINE, WIDTH, shortened, text_width};
use crate::markup::Markup;

const TOP: f64 = 8.0;
const ROW: f64 = 22.0;
const MOST_NAME: usize = 22;

/// A timeline.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pub(crate) figure: Figure,
    pub(crate) x: Axis,
    /// What a span is.
    pub(crate) span: String,
    /// What moments are, by kind.
    pub(crate) kinds: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One name's part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// From when to when.
    pub(crate) spans: Vec<(f64, f64)>,
    /// When, of which kind, and in words.
    pub(crate) moments: Vec<(f64, usize, String)>,
}

impl Timeline {
    /// Writes the figure.
    pub(crate) fn write(&self, m: &mut Markup) {
        let kinds = self.kinds.iter().enumerate();
        let keys: Vec<Key> = std::iter::once(Key::Area("span", self.span.clone()))
            .chain(kinds.map(|(nth, kind)| Key::Points(Style::Nth(nth), kind.clone())))
            .collect();
        let name = |row: &Row| shortened(&row.name, MOST_NAME);
        let left = 12.0 + self.rows.iter().map(|row| text_width(&name(row))).fold(0.0, f64::max);
        let right = WIDTH - 18.0;
        let bottom = TOP + ROW * self.rows.len() as f64;
        let column = |at: f64| left + self.x.place(at).clamp(0.0, 1.0) * (right - left);
        self.figure.write(m, &keys, (WIDTH, bottom + 2.0 * LINE + 12.0), |m| {
            for tick in fitting(&self.x, right - left) {
                let x = column(tick.at);
                rule(m, "grid", (x, TOP), (x, bottom));
                label(m, "tick middle", (x, bottom + LINE), &tick.text);
            }
            label(m, "label middle", (f64::midpoint(left, right), bottom + 2.0 * LINE + 6.0), &self.x.label);
            for (index, row) in self.rows.iter().enumerate() {
                let middle = TOP + ROW * (index as f64 + 0.5);
                label(m, "tick end", (left - 6.0, middle + 4.0), &name(row));
                rule(m, "grid", (left, middle), (right, middle));
                for &(from, to) in &row.spans {
                    let (start, end) = (column(from), column(to));
                    m.tag("rect")
                        .class("span")
                        .at("x", start)
                        .at("y", middle - 4.0)
                        .at("width", (end - start).max(1.0))
                        .at("height", 8.0)
                        .body(|m| m.text("title", format!("{}: {}", row.name, self.span)));
                }
                for (at, kind, text) in &row.moments {
                    m.tag("g").body(|m| {
                        m.text("title", format!("{}: {text}", row.name));
                        Style::Nth(*kind).draw_markers(m, [(column(*at), middle)]);
                    });
                }
            }
        });
    }
}
