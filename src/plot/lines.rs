//! Lines and steps over a common axis, with areas behind them and rules across.

use std::fmt::Write;

use super::axes::{Axes, label, rule};
use super::figure::{Figure, Key};
use super::scale::Axis;
use super::style::Style;
use super::thin::thin;
use super::{HEIGHT, WIDTH};
use crate::markup::{Markup, px};

/// More points than this cannot be told apart.
const MOST_POINTS: usize = 500;
/// With more points, markers would hide the line.
const MOST_MARKERS: usize = 25;

/// A line plot.
#[derive(Clone, Debug)]
pub(crate) struct LinePlot {
    pub(crate) figure: Figure,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) areas: Vec<Area>,
    pub(crate) series: Vec<Series>,
    pub(crate) rules: Vec<Rule>,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// In the legend; series of one name have one entry.
    pub(crate) name: String,
    pub(crate) style: Style,
    pub(crate) shape: Shape,
    /// In order of x. One without a number interrupts the line.
    pub(crate) points: Vec<(f64, f64)>,
}

/// How points are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// By straight lines.
    Straight,
    /// Each value holds from half a unit before its x to half a unit after it, this many pixels aside, so
    /// that series of the same values do not hide each other.
    Steps(f64),
}

/// Between two values at each x.
#[derive(Clone, Debug)]
pub(crate) struct Area {
    pub(crate) name: String,
    pub(crate) class: &'static str,
    /// x, the lower and the upper value.
    pub(crate) points: Vec<(f64, f64, f64)>,
}

/// A value that holds everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) y: f64,
    pub(crate) text: String,
}

impl LinePlot {
    /// Writes the figure.
    pub(crate) fn write(&self, m: &mut Markup) {
        if self.series.iter().all(|series| series.points.is_empty()) {
            self.figure.write_empty(m, "There is nothing to show yet.");
            return;
        }
        self.figure.write(m, &self.keys(), (WIDTH, HEIGHT), |m| self.draw(m));
    }

    /// The figure as an SVG file.
    pub(crate) fn alone(&self) -> String {
        self.figure.alone(&self.keys(), (WIDTH, HEIGHT), |m| self.draw(m))
    }

    fn draw(&self, m: &mut Markup) {
        let axes = Axes::new(&self.x, &self.y);
        axes.draw(m);
        for area in &self.areas {
            let class = format!("area {}", area.class);
            m.tag("path").class(class).attr("d", area.path(&axes)).body(|m| m.text("title", &area.name));
        }
        let rules = || self.rules.iter().filter(|rule| self.y.holds(rule.y));
        rules().for_each(|rule| rule.draw(m, &axes));
        for series in &self.series {
            series.draw(m, &axes);
        }
        rules().for_each(|rule| rule.draw_text(m, &axes));
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        let shown = self.series.iter().filter(|series| !series.points.is_empty());
        let lines = shown.map(|series| match series.shape {
            Shape::Straight if series.points.len() <= MOST_MARKERS => {
                Key::Line(series.style, series.name.clone())
            }
            Shape::Straight | Shape::Steps(_) => Key::Bare(series.style, series.name.clone()),
        });
        let areas = self.areas.iter().map(|area| Key::Area(area.class, area.name.clone()));
        for key in lines.chain(areas) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

impl Series {
    fn draw(&self, m: &mut Markup, axes: &Axes<'_>) {
        let points = match self.shape {
            Shape::Straight => thin(&self.points, MOST_POINTS),
            Shape::Steps(_) => thin(&changes(&self.points), MOST_POINTS),
        };
        let path = match self.shape {
            Shape::Straight => straight(axes, &points),
            Shape::Steps(aside) => steps(axes, &points, aside),
        };
        m.tag("path")
            .class(format!("line {}", self.style.class()))
            .attr("stroke-dasharray", self.style.dash())
            .attr("d", path)
            .body(|m| m.text("title", &self.name));
        if self.shape == Shape::Straight {
            let shown: Vec<_> = points.into_iter().filter(|(_, y)| y.is_finite()).collect();
            let marked = if shown.len() > MOST_MARKERS { Vec::new() } else { shown };
            self.style.draw_markers(m, marked.into_iter().map(|(x, y)| (axes.x(x), axes.y(y))));
        }
    }
}

fn straight(axes: &Axes<'_>, points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    let mut is_interrupted = true;
    for &(x, y) in points {
        if y.is_finite() {
            let command = if is_interrupted { 'M' } else { 'L' };
            let _ = write!(path, "{command}{} {}", px(axes.x(x)), px(axes.y(y)));
        }
        is_interrupted = !y.is_finite();
    }
    path
}

/// The points at which another value begins, and the last.
fn changes(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let begins = |index: usize| index == 0 || !same(points[index - 1].1, points[index].1);
    (0..points.len())
        .filter(|&index| begins(index) || index + 1 == points.len())
        .map(|index| points[index])
        .collect()
}

fn steps(axes: &Axes<'_>, points: &[(f64, f64)], aside: f64) -> String {
    let (left, right) = axes.columns();
    let column = |x: f64| px(axes.x(x).clamp(left, right));
    let mut path = String::new();
    let mut is_interrupted = true;
    for (index, &(x, y)) in points.iter().enumerate() {
        if y.is_finite() {
            let row = px(axes.y(y) + aside);
            let end = points.get(index + 1).map_or(x + 0.5, |(next, _)| next - 0.5);
            let _ = if is_interrupted {
                write!(path, "M{} {row}H{}", column(x - 0.5), column(end))
            } else {
                write!(path, "V{row}H{}", column(end))
            };
        }
        is_interrupted = !y.is_finite();
    }
    path
}

impl Area {
    fn path(&self, axes: &Axes<'_>) -> String {
        let points = thin(&self.points, MOST_POINTS);
        let upper = points.iter().map(|&(x, _, high)| (x, high));
        let lower = points.iter().rev().map(|&(x, low, _)| (x, low));
        let mut path = String::new();
        for (x, y) in upper.chain(lower).filter(|(_, y)| y.is_finite()) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{} {}", px(axes.x(x)), px(axes.y(y)));
        }
        path.push('z');
        path
    }
}

impl Rule {
    fn draw(&self, m: &mut Markup, axes: &Axes<'_>) {
        let (left, right) = axes.columns();
        rule(m, "rule", (left, axes.y(self.y)), (right, axes.y(self.y)));
    }

    fn draw_text(&self, m: &mut Markup, axes: &Axes<'_>) {
        label(m, "tick halo", (axes.columns().0 + 6.0, axes.y(self.y) - 5.0), &self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_drawn_where_values_change() {
        let points = [(1.0, 3.0), (2.0, 3.0), (3.0, 5.0), (4.0, 5.0), (5.0, 5.0)];
        assert_eq!(changes(&points), [(1.0, 3.0), (3.0, 5.0), (5.0, 5.0)]);
        let (x, y) = (Axis::whole("x", [1.0, 5.0]), Axis::whole("y", [3.0, 5.0]));
        let axes = Axes::new(&x, &y);
        let path = steps(&axes, &changes(&points), 0.0);
        assert_eq!(path.matches('M').count(), 1, "{path}");
        assert_eq!(path.matches('V').count(), 2, "{path}");
        assert!(path.ends_with(&format!("H{}", px(axes.x(5.0)))), "{path}");
    }

    #[test]
    fn a_missing_value_interrupts_a_line() {
        let (x, y) = (Axis::whole("x", [1.0, 4.0]), Axis::whole("y", [0.0, 1.0]));
        let axes = Axes::new(&x, &y);
        let path = straight(&axes, &[(1.0, 0.0), (2.0, f64::NAN), (3.0, 0.0), (4.0, 1.0)]);
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        let path = steps(&axes, &[(1.0, 0.0), (2.0, f64::NAN), (3.0, 0.0)], 0.0);
        assert_eq!(path.matches('M').count(), 2, "{path}");
    }
}
