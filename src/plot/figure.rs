//! What every plot has around it: title, legend, and words for those who cannot see it.

use super::style::Style;
use super::{LINE, STYLES};
use crate::markup::{Markup, px};
use crate::page::PALETTE;

/// Left of a legend in a picture of its own, in pixels.
const INDENT: f64 = 12.0;

/// A plot's frame.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Names the plot within its page.
    pub(crate) id: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// What can be seen in it, in a sentence.
    pub(crate) description: String,
    /// What must be known to read it; may be empty.
    pub(crate) note: String,
}

/// An entry of the legend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A line with markers.
    Line(Style, String),
    /// A line without them.
    Bare(Style, String),
    /// Points without a line.
    Points(Style, String),
    /// An area of this class.
    Area(&'static str, String),
    /// A line without points, of this class.
    Rule(&'static str, String),
}

impl Figure {
    /// Writes the figure with a plot of this size, in pixels, that `draw` draws.
    pub(crate) fn write(
        &self,
        m: &mut Markup,
        keys: &[Key],
        (width, height): (f64, f64),
        draw: impl FnOnce(&mut Markup),
    ) {
        let Self { id, title, description, note } = self;
        m.tag("figure").attr("id", id).body(|m| {
            m.text("figcaption", title);
            if keys.len() > 1 {
                m.tag("ul").class("legend").body(|m| keys.iter().for_each(|key| key.write(m)));
            }
            m.tag("svg")
                .class("plot")
                .attr("role", "img")
                .attr("viewBox", format!("0 0 {} {}", px(width), px(height)))
                .at("width", width)
                .at("height", height)
                .attr("aria-labelledby", format!("{id}-title {id}-desc"))
                .body(|m| {
                    m.tag("title").attr("id", format!("{id}-title")).text(title);
                    m.tag("desc").attr("id", format!("{id}-desc")).text(description);
                    draw(m);
                });
            if !note.is_empty() {
                m.tag("p").class("note").text(note);
            }
        });
    }

    /// The figure as a picture of its own, an SVG file: the legend, a line per entry, stands above the plot.
    pub(crate) fn alone(
        &self,
        keys: &[Key],
        (width, height): (f64, f64),
        draw: impl FnOnce(&mut Markup),
    ) -> String {
        let above = LINE * (1.5 + keys.len() as f64);
        let mut m = Markup::default();
        m.tag("svg")
            .attr("xmlns", "http://www.w3.org/2000/svg")
            .class("plot")
            .attr("role", "img")
            .attr("viewBox", format!("0 0 {} {}", px(width), px(height + above)))
            .at("width", width)
            .at("height", height + above)
            .body(|m| {
                m.text("title", &self.title);
                m.text("desc", &self.description);
                m.text("style", on_light_paper(STYLES));
                m.tag("rect").class("paper").attr("width", "100%").attr("height", "100%").empty();
                m.tag("text").class("label").at("x", INDENT).at("y", LINE).text(&self.title);
                for (nth, key) in keys.iter().enumerate() {
                    let y = LINE * (1.5 + nth as f64);
                    m.tag("g").attr("transform", format!("translate({} {})", px(INDENT), px(y))).body(|m| {
                        key.draw(m);
                        m.tag("text").at("x", 34.0).at("y", 10.0).text(key.name());
                    });
                }
                m.tag("g").attr("transform", format!("translate(0 {})", px(above))).body(draw);
            });
        m.raw("\n");
        m.into_string()
    }

    /// Writes the figure without a plot, and why there is none.
    pub(crate) fn write_empty(&self, m: &mut Markup, why: &str) {
        m.tag("figure").attr("id", self.id).body(|m| {
            m.text("figcaption", &self.title);
            m.tag("p").class("note").text(why);
        });
    }
}

impl Key {
    fn name(&self) -> &str {
        match self {
            Self::Line(_, name)
            | Self::Bare(_, name)
            | Self::Points(_, name)
            | Self::Area(_, name)
            | Self::Rule(_, name) => name,
        }
    }

    fn write(&self, m: &mut Markup) {
        m.tag("li").body(|m| {
            m.tag("svg")
                .attr("viewBox", "0 0 26 12")
                .at("width", 26.0)
                .at("height", 12.0)
                .attr("aria-hidden", "true")
                .body(|m| self.draw(m));
            m.say(self.name());
        });
    }

    fn draw(&self, m: &mut Markup) {
        let line = |m: &mut Markup, class: &str, dash: &str| {
            m.tag("path").class(class).attr("stroke-dasharray", dash).attr("d", "M1 6H25").empty();
        };
        match self {
            Self::Line(style, _) | Self::Bare(style, _) => {
                line(m, &format!("line {}", style.class()), style.dash());
                if matches!(self, Self::Line(..)) {
                    style.draw_markers(m, [(13.0, 6.0)]);
                }
            }
            Self::Points(style, _) => style.draw_markers(m, [(13.0, 6.0)]),
            Self::Area(class, _) => {
                m.tag("rect").class(class).attr("width", "26").attr("height", "12").empty();
            }
            Self::Rule(class, _) => m.tag("path").class(class).attr("d", "M1 6H25").empty(),
        }
    }
}

/// Styles with the colours of light paper in place of their names, which not every program that draws SVG knows.
fn on_light_paper(styles: &str) -> String {
    let light = PALETTE.split(['{', '}']).nth(1).unwrap_or_default();
    let colours = light.split(';').filter_map(|line| line.trim().split_once(": "));
    colours.fold(styles.to_owned(), |styles, (name, colour)| styles.replace(&format!("var({name})"), colour))
}
