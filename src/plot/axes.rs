//! The part of a plot that holds values: its frame, grid, ticks and labels, and where values lie in it.

use super::scale::{Axis, Tick};
use super::{HEIGHT, LINE, WIDTH, text_width};
use crate::markup::{Markup, px};

const TOP: f64 = 10.0;
const RIGHT: f64 = 18.0;
/// Between an axis and its ticks' texts.
const GAP: f64 = 6.0;

/// A frame with both axes.
#[derive(Debug)]
pub(crate) struct Axes<'a> {
    x: &'a Axis,
    y: &'a Axis,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl<'a> Axes<'a> {
    /// Room for ticks' texts is left where they are.
    pub(crate) fn new(x: &'a Axis, y: &'a Axis) -> Self {
        let bottom = HEIGHT - 2.0 * LINE - 2.0 * GAP;
        let y_ticks = y.ticks(((bottom - TOP) / (1.5 * LINE)) as usize);
        let left = LINE + 2.0 * GAP + widest(&y_ticks);
        let right = WIDTH - RIGHT;
        let x_ticks = fitting(x, right - left);
        Self { x, y, x_ticks, y_ticks, left, right, top: TOP, bottom }
    }

    /// The pixel column of a value.
    pub(crate) fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    /// The pixel row of a value.
    pub(crate) fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.place(value) * (self.bottom - self.top)
    }

    /// Both ends of the pixel columns.
    pub(crate) fn columns(&self) -> (f64, f64) {
        (self.left, self.right)
    }

    /// Draws grid, ticks and labels.
    pub(crate) fn draw(&self, m: &mut Markup) {
        for tick in &self.y_ticks {
            let y = self.y(tick.at);
            rule(m, "grid", (self.left, y), (self.right, y));
            label(m, "tick end", (self.left - GAP, y + 4.0), &tick.text);
        }
        for tick in &self.x_ticks {
            let x = self.x(tick.at);
            rule(m, "grid", (x, self.top), (x, self.bottom));
            label(m, "tick middle", (x, self.bottom + LINE), &tick.text);
        }
        rule(m, "axis", (self.left, self.bottom), (self.right, self.bottom));
        rule(m, "axis", (self.left, self.top), (self.left, self.bottom));
        label(m, "label middle", (f64::midpoint(self.left, self.right), HEIGHT - GAP), &self.x.label);
        let (x, y) = (LINE - 4.0, f64::midpoint(self.top, self.bottom));
        m.tag("text")
            .class("label middle")
            .attr("transform", format!("translate({} {}) rotate(-90)", px(x), px(y)))
            .text(&self.y.label);
    }
}

fn widest(ticks: &[Tick]) -> f64 {
    ticks.iter().map(|tick| text_width(&tick.text)).fold(0.0, f64::max)
}

/// As many ticks as have room for their texts beside each other.
pub(crate) fn fitting(axis: &Axis, room: f64) -> Vec<Tick> {
    let fits = |ticks: &Vec<Tick>| ticks.len() as f64 * (widest(ticks) + 2.0 * GAP) <= room;
    (1..=10).rev().map(|most| axis.ticks(most)).find(fits).unwrap_or_default()
}

/// A straight line.
pub(crate) fn rule(m: &mut Markup, class: &str, from: (f64, f64), to: (f64, f64)) {
    m.tag("line").class(class).at("x1", from.0).at("y1", from.1).at("x2", to.0).at("y2", to.1).empty();
}

/// Text at a point.
pub(crate) fn label(m: &mut Markup, class: &str, at: (f64, f64), text: &str) {
    m.tag("text").class(class).at("x", at.0).at("y", at.1).text(text);
}
