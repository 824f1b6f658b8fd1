//! HTML and SVG as they are written: every text and attribute is escaped and every tag is closed, so that
//! no name from a configuration or from the network can become markup. It is well-formed XML, too.

use std::fmt::{Display, Write};

/// A document or a part of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markup {
    text: String,
}

/// A start tag that still takes attributes.
#[must_use = "a tag must be ended with its content"]
#[derive(Debug)]
pub(crate) struct Tag<'a> {
    markup: &'a mut Markup,
    name: &'static str,
}

impl Markup {
    /// Begins an element.
    pub(crate) fn tag(&mut self, name: &'static str) -> Tag<'_> {
        self.text.push('<');
        self.text.push_str(name);
        Tag { markup: self, name }
    }

    /// An element with nothing but text in it.
    pub(crate) fn text(&mut self, name: &'static str, text: impl Display) {
        self.tag(name).text(text);
    }

    /// Bare text.
    pub(crate) fn say(&mut self, text: impl Display) {
        escape(&mut self.text, &text.to_string());
    }

    /// Markup of this program's own.
    pub(crate) fn raw(&mut self, markup: &'static str) {
        self.text.push_str(markup);
    }

    /// What was written.
    pub(crate) fn into_string(self) -> String {
        self.text
    }
}

impl Tag<'_> {
    /// An attribute.
    pub(crate) fn attr(self, key: &'static str, value: impl Display) -> Self {
        let text = &mut self.markup.text;
        text.push(' ');
        text.push_str(key);
        text.push_str("=\"");
        escape(text, &value.to_string());
        text.push('"');
        self
    }

    /// `class`.
    pub(crate) fn class(self, class: impl Display) -> Self {
        self.attr("class", class)
    }

    /// A length or a coordinate, in pixels.
    pub(crate) fn at(self, key: &'static str, pixels: f64) -> Self {
        self.attr(key, px(pixels))
    }

    /// Ends an element without content, such as a line of SVG.
    pub(crate) fn empty(self) {
        self.markup.text.push_str("/>");
    }

    /// Ends the tag; the element holds this text.
    pub(crate) fn text(self, text: impl Display) {
        self.body(|m| m.say(text));
    }

    /// Ends the tag; the element holds what is written in `body`.
    pub(crate) fn body(self, body: impl FnOnce(&mut Markup)) {
        self.markup.text.push('>');
        body(self.markup);
        let _ = write!(self.markup.text, "</{}>", self.name);
    }
}

/// Pixels to a hundredth; what is no number is at 0.
pub(crate) fn px(pixels: f64) -> String {
    let rounded = if pixels.is_finite() { (pixels * 100.0).round() / 100.0 } else { 0.0 };
    // Adding 0 turns -0 into 0.
    format!("{}", rounded + 0.0)
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // No XML may hold these, and those that turn the direction of text around mislead.
            c if c.is_control() || is_direction(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            c => out.push(c),
        }
    }
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(text: &str) -> String {
        let mut markup = Markup::default();
        markup.tag("p").attr("title", text).text(text);
        markup.into_string()
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            element("<b>&\"'\u{1}\u{202e}"),
            "<p title=\"&lt;b&gt;&amp;&quot;&#39;\u{fffd}\u{fffd}\">&lt;b&gt;&amp;&quot;&#39;\u{fffd}\u{fffd}</p>"
        );
    }

    #[test]
    fn coordinates_are_short_and_always_numbers() {
        assert_eq!(px(1.0 / 3.0), "0.33");
        assert_eq!(px(-0.001), "0");
        assert_eq!((px(f64::NAN), px(f64::INFINITY)), ("0".to_owned(), "0".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_out_of_an_xml_reader(text: String) {
            let markup = element(&text);
            let read = roxmltree::Document::parse(&markup).expect("it is well-formed");
            let shown = read.root_element().text().unwrap_or_default().replace('\u{fffd}', "");
            let visible = |c: char| !matches!(element(&c.to_string()), e if e.contains('\u{fffd}'));
            prop_assert_eq!(shown, text.chars().filter(|c| visible(*c)).collect::<String>());
        }
    }
}
