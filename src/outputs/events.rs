//! `events.jsonl`, line by line: however long the log is, one line of it is in memory.

use std::io::{self, BufRead, BufReader, Read};

use partway_core::event::Event;

/// Longest line: above any plan of thousands of edges.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// What was in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventLog {
    /// Events that were read.
    pub(crate) events: u64,
    /// The first whole line that is no event of this version.
    pub(crate) unreadable: Option<Unreadable>,
    /// How many such lines there are.
    pub(crate) unreadable_lines: u64,
    /// Whether the last line ends in the middle, as that of an interrupted run may.
    pub(crate) is_cut_off: bool,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// From 1.
    pub(crate) line: u64,
    pub(crate) reason: String,
}

/// Hands every event to `each`, in order.
pub(super) fn read(source: impl Read, mut each: impl FnMut(Event)) -> io::Result<EventLog> {
    let mut reader = BufReader::new(source);
    let mut log = EventLog::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let is_whole = line.last() == Some(&b'\n');
        let is_too_long = !is_whole && line.len() as u64 == MAX_LINE_BYTES;
        if is_too_long {
            reader.skip_until(b'\n')?;
        }
        match serde_json::from_slice(&line) {
            Ok(event) => {
                log.events += 1;
                each(event);
            }
            Err(_) if !is_whole && !is_too_long => log.is_cut_off = true,
            Err(error) => {
                log.unreadable_lines += 1;
                log.unreadable.get_or_insert(Unreadable { line: number, reason: error.to_string() });
            }
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> (EventLog, usize) {
        let mut events = 0;
        let log = read(text.as_bytes(), |_| events += 1).expect("memory can be read");
        (log, events)
    }

    const EVENT: &str = r#"{"at":0.5,"event":"checkpointed","round":5}"#;

    #[test]
    fn a_last_line_without_its_end_is_said_and_passed_over() {
        let (log, events) = log(&format!("{EVENT}\n{EVENT}\n{}", &EVENT[..20]));
        assert_eq!((log.events, events, log.is_cut_off, log.unreadable_lines), (2, 2, true, 0));
    }

    #[test]
    fn a_last_line_that_lacks_only_the_newline_counts() {
        let (log, _) = log(&format!("{EVENT}\n{EVENT}"));
        assert_eq!((log.events, log.is_cut_off), (2, false));
    }

    #[test]
    fn lines_of_another_version_are_counted_and_the_first_is_named() {
        let other = r#"{"at":1.0,"event":"teleported","edge":"a"}"#;
        let (log, events) = log(&format!("{EVENT}\n{other}\n\n{EVENT}\n"));
        let unreadable = log.unreadable.expect("one is named");
        assert_eq!((events, log.unreadable_lines, unreadable.line), (2, 2, 2));
        assert!(unreadable.reason.contains("teleported"), "{}", unreadable.reason);
    }
}
