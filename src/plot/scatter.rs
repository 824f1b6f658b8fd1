//! Points of two measurements of the same thing, with the line on which both agree.

use super::axes::{Axes, rule};
use super::figure::{Figure, Key};
use super::scale::Axis;
use super::style::Style;
use super::thin::thin;
use super::{HEIGHT, WIDTH};
use crate::markup::Markup;

/// Points of all groups together.
const MOST_POINTS: usize = 1500;

/// A scatter plot.
#[derive(Clone, Debug)]
pub(crate) struct ScatterPlot {
    pub(crate) figure: Figure,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) groups: Vec<Group>,
}

/// Points that look the same.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) style: Style,
    pub(crate) points: Vec<(f64, f64)>,
}

impl ScatterPlot {
    /// Writes the figure; of very many points, some.
    pub(crate) fn write(&self, m: &mut Markup) {
        if self.groups.iter().all(|group| group.points.is_empty()) {
            self.figure.write_empty(m, "There is nothing to show yet.");
            return;
        }
        let points = self.groups.iter().map(|group| Key::Points(group.style, group.name.clone()));
        let keys: Vec<Key> = points.chain([Key::Rule("rule", "exact".to_owned())]).collect();
        self.figure.write(m, &keys, (WIDTH, HEIGHT), |m| {
            let axes = Axes::new(&self.x, &self.y);
            axes.draw(m);
            let low = self.x.ends().0.max(self.y.ends().0);
            let high = self.x.ends().1.min(self.y.ends().1);
            rule(m, "rule", (axes.x(low), axes.y(low)), (axes.x(high), axes.y(high)));
            let most = MOST_POINTS / self.groups.len();
            for group in &self.groups {
                m.tag("g").class("cloud").body(|m| {
                    m.text("title", &group.name);
                    let on = |&(x, y): &(f64, f64)| self.x.holds(x) && self.y.holds(y);
                    let points = thin(&group.points, most).into_iter().filter(on);
                    group.style.draw_markers(m, points.map(|(x, y)| (axes.x(x), axes.y(y))));
                });
            }
        });
    }
}
