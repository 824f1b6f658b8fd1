//! A page that needs nothing but itself: no script, no font, no picture from elsewhere.

use std::fs;
use std::io;
use std::path::Path;

use crate::markup::Markup;
use crate::plot::STYLES;

/// The colours of everything, by name, first those on light paper.
pub(crate) const PALETTE: &str = include_str!("palette.css");

/// The whole document. A page holds no scripts, and its policy lets none run: text from outside that
/// became markup after all could do nothing.
pub(crate) fn page(title: &str, body: impl FnOnce(&mut Markup)) -> String {
    let mut m = Markup::default();
    m.raw("<!DOCTYPE html>\n");
    m.tag("html").attr("lang", "en").attr("xmlns", "http://www.w3.org/1999/xhtml").body(|m| {
        m.tag("head").body(|m| {
            m.tag("meta").attr("charset", "utf-8").empty();
            m.tag("meta")
                .attr("http-equiv", "Content-Security-Policy")
                .attr("content", "default-src 'none'; style-src 'unsafe-inline'")
                .empty();
            m.tag("meta")
                .attr("name", "viewport")
                .attr("content", "width=device-width, initial-scale=1")
                .empty();
            m.tag("meta").attr("name", "color-scheme").attr("content", "light dark").empty();
            m.text("title", title);
            let styles = [PALETTE, include_str!("page.css"), STYLES];
            m.tag("style").body(|m| styles.into_iter().for_each(|styles| m.raw(styles)));
        });
        m.tag("body").body(|m| m.tag("main").body(body));
    });
    m.raw("\n");
    m.into_string()
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column<'a> {
    /// Of numbers, and so lined up on the right.
    Numbers(&'a str),
    /// Of short words.
    Words(&'a str),
    /// Of sentences, which may take several lines.
    Sentences(&'a str),
}

/// A table that scrolls by itself where the page is too narrow.
pub(crate) fn table(m: &mut Markup, caption: &str, columns: &[Column<'_>], rows: &[Vec<String>]) {
    let class = |column: &Column<'_>| match column {
        Column::Numbers(_) => "",
        Column::Words(_) => "words",
        Column::Sentences(_) => "words long",
    };
    // A keyboard can scroll what has the focus.
    m.tag("div").class("scroll").attr("tabindex", "0").body(|m| {
        m.tag("table").body(|m| {
            m.text("caption", caption);
            m.tag("thead").body(|m| {
                m.tag("tr").body(|m| {
                    for column in columns {
                        let (Column::Numbers(name) | Column::Words(name) | Column::Sentences(name)) = column;
                        m.tag("th").attr("scope", "col").class(class(column)).text(name);
                    }
                });
            });
            m.tag("tbody").body(|m| {
                for row in rows {
                    m.tag("tr").body(|m| {
                        for (cell, column) in row.iter().zip(columns) {
                            m.tag("td").class(class(column)).text(cell);
                        }
                    });
                }
            });
        });
    });
}

/// Puts `text` in place of the file, which is never seen half written.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
