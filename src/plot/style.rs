//! How one of several series looks: a colour, a dash and a marker, so that none is told by colour alone.

use crate::markup::{Markup, px};

/// Colours of `plot.css`.
const COLOURS: usize = 8;
const DASHES: [&str; 4] = ["", "7 3", "2 3", "9 3 2 3"];
const MARKERS: usize = 4;

/// One look among as many as there are series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Of a series.
    Nth(usize),
    /// Of all series together.
    All,
}

impl Style {
    /// Series with styles of their own before colours and dashes begin to repeat.
    pub(crate) const DISTINCT: usize = COLOURS;

    /// The class that sets the colour.
    pub(crate) fn class(self) -> String {
        match self {
            Self::Nth(nth) => format!("s{}", nth % COLOURS),
            Self::All => "all".to_owned(),
        }
    }

    /// `stroke-dasharray`; neighbouring colours differ in it, too.
    pub(crate) fn dash(self) -> &'static str {
        match self {
            Self::Nth(nth) => DASHES[(nth + nth / COLOURS) % DASHES.len()],
            Self::All => "",
        }
    }

    /// The outline of the marker around a point.
    pub(crate) fn marker(self, x: f64, y: f64) -> String {
        let kind = match self {
            Self::Nth(nth) => (nth + nth / COLOURS) % MARKERS,
            Self::All => 0,
        };
        let at = |dx: f64, dy: f64| format!("{} {}", px(x + dx), px(y + dy));
        match kind {
            0 => format!("M{}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z", at(-3.0, 0.0)),
            1 => format!("M{}h5.4v5.4h-5.4z", at(-2.7, -2.7)),
            2 => format!("M{}L{}L{}z", at(0.0, -3.6), at(3.6, 2.9), at(-3.6, 2.9)),
            _ => format!("M{}L{}L{}L{}z", at(0.0, -3.9), at(3.9, 0.0), at(0.0, 3.9), at(-3.9, 0.0)),
        }
    }

    /// Draws the points, with this marker.
    pub(crate) fn draw_markers(self, m: &mut Markup, points: impl IntoIterator<Item = (f64, f64)>) {
        let path: String = points.into_iter().map(|(x, y)| self.marker(x, y)).collect();
        if !path.is_empty() {
            m.tag("path").class(format!("dot {}", self.class())).attr("d", path).empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn more_series_than_colours_still_look_different() {
        let looks: BTreeSet<(String, &str)> =
            (0..3 * COLOURS).map(|nth| (Style::Nth(nth).class(), Style::Nth(nth).dash())).collect();
        assert_eq!(looks.len(), 3 * COLOURS);
    }
}
