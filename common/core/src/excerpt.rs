//! What others say, as it may be repeated: in a log, on a terminal, in a message to a third.

/// Longest excerpt, in bytes.
const MOST_BYTES: usize = 1024;

/// The beginning of a text that somebody else has written, in at most 1 KiB. What a terminal might obey, or what cannot be
/// seen, is escaped as in Rust; quotes and backslashes stay as they are.
///
/// ```
/// use partway_core::excerpt::excerpt;
///
/// assert_eq!(excerpt("`lenet5` needs 4 MiB\n"), "`lenet5` needs 4 MiB\\n");
/// assert_eq!(excerpt("\u{1b}[2Jnothing"), "\\u{1b}[2Jnothing");
/// ```
pub fn excerpt(text: &str) -> String {
    const ELLIPSIS: char = '…';
    let mut excerpt = String::new();
    for character in text.chars() {
        let before = excerpt.len();
        match character {
            '"' | '\'' | '\\' => excerpt.push(character),
            _ => excerpt.extend(character.escape_debug()),
        }
        if excerpt.len() + ELLIPSIS.len_utf8() > MOST_BYTES {
            excerpt.truncate(before);
            excerpt.push(ELLIPSIS);
            break;
        }
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_words_stay_as_they_are() {
        for text in ["", "cut 3 of `mlp` isn't \"possible\": C:\\shard, 2 µs, naïve, 猫"] {
            assert_eq!(excerpt(text), text);
        }
    }

    #[test]
    fn however_long_it_is_short_and_can_be_seen() {
        for text in ["x".repeat(1 << 20), "猫".repeat(1000), "\u{7}\u{202e}\u{9b}".repeat(1000)] {
            let excerpt = excerpt(&text);
            assert!((MOST_BYTES - 16..=MOST_BYTES).contains(&excerpt.len()), "{} bytes", excerpt.len());
            assert!(excerpt.ends_with('…') && !excerpt.chars().any(char::is_control), "{excerpt}");
            assert!(!excerpt.contains('\u{202e}'), "the direction of writing stays");
        }
    }
}
