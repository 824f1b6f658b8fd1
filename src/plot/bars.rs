//! Horizontal bars of parts in a row, one per name.

use super::axes::{fitting, label, rule};
use super::figure::{Figure, Key};
use super::scale::Axis;
use super::{LINE, WIDTH, shortened, text_width};
use crate::markup::Markup;

const TOP: f64 = 22.0;
const ROW: f64 = 24.0;
const BAR: f64 = 16.0;
const MOST_NAME: usize = 22;

/// A plot of stacked bars.
#[derive(Clone, Debug)]
pub(crate) struct BarPlot {
    pub(crate) figure: Figure,
    /// From 0, and long enough for every bar.
    pub(crate) x: Axis,
    /// What the parts are, in order, each with its class.
    pub(crate) parts: Vec<(String, &'static str)>,
    pub(crate) bars: Vec<Bar>,
    /// A value that bars are measured against.
    pub(crate) mark: Option<(f64, String)>,
}

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) parts: Vec<f64>,
    /// Beside it.
    pub(crate) text: String,
}

impl BarPlot {
    /// Writes the figure. `say` puts a part's value in words.
    pub(crate) fn write(&self, m: &mut Markup, say: impl Fn(f64) -> String) {
        if self.bars.is_empty() {
            self.figure.write_empty(m, "There is nothing to show yet.");
            return;
        }
        let keys: Vec<Key> = self.parts.iter().map(|(name, class)| Key::Area(class, name.clone())).collect();
        let width = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| text_width(&shortened(text, MOST_NAME))).fold(0.0, f64::max)
        };
        let left = 12.0 + width(&mut self.bars.iter().map(|bar| &bar.name));
        let right = WIDTH - 18.0 - width(&mut self.bars.iter().map(|bar| &bar.text));
        let bottom = TOP + ROW * self.bars.len() as f64;
        let column = |value: f64| left + self.x.place(value).clamp(0.0, 1.0) * (right - left);
        self.figure.write(m, &keys, (WIDTH, bottom + 2.0 * LINE + 12.0), |m| {
            for tick in fitting(&self.x, right - left) {
                let x = column(tick.at);
                rule(m, "grid", (x, TOP), (x, bottom));
                label(m, "tick middle", (x, bottom + LINE), &tick.text);
            }
            label(m, "label middle", (f64::midpoint(left, right), bottom + 2.0 * LINE + 6.0), &self.x.label);
            for (index, bar) in self.bars.iter().enumerate() {
                let top = TOP + ROW * index as f64 + (ROW - BAR) / 2.0;
                label(m, "tick end", (left - 6.0, top + 12.0), &shortened(&bar.name, MOST_NAME));
                let mut from = 0.0;
                for (value, (part, class)) in bar.parts.iter().zip(&self.parts) {
                    let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
                    let (start, end) = (column(from), column(from + value));
                    from += value;
                    m.tag("rect")
                        .class(format!("bar {class}"))
                        .at("x", start)
                        .at("y", top)
                        .at("width", end - start)
                        .at("height", BAR)
                        .body(|m| m.text("title", format!("{}: {part} {}", bar.name, say(value))));
                }
                label(m, "tick end", (WIDTH - 6.0, top + 12.0), &bar.text);
            }
            rule(m, "axis", (left, TOP), (left, bottom));
            if let Some((value, text)) = &self.mark {
                let x = column(*value);
                for class in ["mark-edge", "mark"] {
                    rule(m, class, (x, TOP - 4.0), (x, bottom));
                }
                let half = text_width(text) / 2.0;
                label(m, "tick middle", (x.clamp(half, WIDTH - half), TOP - 8.0), text);
            }
        });
    }
}
