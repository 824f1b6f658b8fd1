//! Lines for the terminal. A reader that has gone away, such as `head`, is no reason to fail.

use std::io::Write;

/// Writes a result to standard output.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes progress, a warning or an error to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
