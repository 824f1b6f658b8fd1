//! Plots as SVG inside a page: legible without colour, readable without sight, styled by the page.
//!
//! [`Figure`] is what every plot has: a title, words that say what is to be seen, a legend. The kinds are
//! [`lines`], [`scatter`], [`bars`] and [`timeline`].

pub(crate) mod axes;
pub(crate) mod bars;
pub(crate) mod figure;
pub(crate) mod lines;
pub(crate) mod number;
pub(crate) mod scale;
pub(crate) mod scatter;
pub(crate) mod style;
pub(crate) mod thin;
pub(crate) mod timeline;

pub(crate) use figure::Figure;
pub(crate) use scale::Axis;
pub(crate) use style::Style;

/// What plots look like, in colours of the page's palette.
pub(crate) const STYLES: &str = include_str!("plot/plot.css");
/// Width of a plot, in pixels.
pub(crate) const WIDTH: f64 = 540.0;
/// Height of a plot whose content does not ask for another, in pixels.
pub(crate) const HEIGHT: f64 = 290.0;
/// Height of a line of text, in pixels.
pub(crate) const LINE: f64 = 16.0;

/// About how wide text is, in pixels: nothing here knows the reader's fonts.
pub(crate) fn text_width(text: &str) -> f64 {
    7.0 * text.chars().count() as f64
}

/// The text, its middle left out if it is longer than `most` characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shortened("camera-0", 8), "camera-0");
        assert_eq!(shortened("camera-in-the-hall-0", 9), "came…ll-0");
        assert_eq!(shortened("größer", 3), "g…r");
    }
}
