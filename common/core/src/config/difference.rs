//! Where two configurations differ that are written out in full.

/// The first line in which they differ, from each, quoted.
///
/// ```
/// use partway_core::config::first_difference;
/// let difference = first_difference("seed = 1\nname = \"x\"\n", "seed = 2\nname = \"x\"\n");
/// assert_eq!(difference, Some(("`seed = 1`".into(), "`seed = 2`".into())));
/// ```
pub fn first_difference(before: &str, now: &str) -> Option<(String, String)> {
    let (mut before, mut now) = (before.lines(), now.lines());
    let quoted = |line: Option<&str>| line.map_or("nothing".to_owned(), |line| format!("`{line}`"));
    loop {
        match (before.next(), now.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => return Some((quoted(one), quoted(other))),
        }
    }
}
