//! What the log says of connections that were turned away: whoever comes again and again must not fill the disk.

use std::time::Duration;

use partway_core::event::{Event, EventKind};

/// The time over which refusals are counted.
const WINDOW: Duration = Duration::from_mins(1);

/// Refusals of a window that are told one by one; with some 200 bytes each, 17 MB a day.
const MOST_TOLD: u32 = 60;

/// Refusals of those without a name, and of those with one: strangers' do not hide what an edge's operator looks for.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    nameless: Counted,
    named: Counted,
}

#[derive(Debug, Default)]
struct Counted {
    /// When the window began.
    since: Duration,
    told: u32,
    /// Of this window or one before, not told yet.
    untold: u64,
}

impl Refusals {
    /// An event is to be written; gives what is written instead, if anything: the first refusals of a window, of which
    /// the very first says how many others there have been. Other events stay as they are.
    pub(super) fn handle(&mut self, event: Event) -> Option<Event> {
        let Event { at, kind: EventKind::EdgeRefused { edge, mut reason } } = event else {
            return Some(event);
        };
        let counted = if edge.is_empty() { &mut self.nameless } else { &mut self.named };
        let now = Duration::try_from_secs_f64(at).unwrap_or_default();
        if now.saturating_sub(counted.since) >= WINDOW {
            (counted.since, counted.told) = (now, 0);
        }
        if counted.told == MOST_TOLD {
            counted.untold += 1;
            return None;
        }
        counted.told += 1;
        let untold = std::mem::take(&mut counted.untold);
        if untold > 0 {
            reason = format!("{reason}; {untold} more were turned away before");
        }
        Some(Event { at, kind: EventKind::EdgeRefused { edge, reason } })
    }

    /// At the end of the log: what has not been told.
    pub(super) fn finish(&mut self, now: Duration) -> Option<Event> {
        let untold = [&mut self.nameless, &mut self.named].map(|counted| std::mem::take(&mut counted.untold));
        let untold: u64 = untold.iter().sum();
        let reason = format!("{untold} more connections were turned away before");
        let kind = EventKind::EdgeRefused { edge: String::new(), reason };
        (untold > 0).then_some(Event { at: now.as_secs_f64(), kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(at: f64, edge: &str) -> Event {
        Event { at, kind: EventKind::EdgeRefused { edge: edge.to_owned(), reason: "no".to_owned() } }
    }

    fn reason(event: Option<Event>) -> Option<String> {
        match event?.kind {
            EventKind::EdgeRefused { reason, .. } => Some(reason),
            other => panic!("{other:?} is no refusal"),
        }
    }

    #[test]
    fn a_stranger_that_comes_again_and_again_is_told_so_often_a_minute() {
        let mut refusals = Refusals::default();
        // A hundred a second for ten minutes.
        let told: Vec<String> =
            (0..60_000).filter_map(|n| reason(refusals.handle(refused(f64::from(n) * 0.01, "")))).collect();
        assert_eq!(told.len(), 600);
        assert_eq!(told[0], "no");
        assert_eq!(told[60], "no; 5940 more were turned away before");
        assert_eq!(told[61], "no");
        let rest = refusals.finish(Duration::from_mins(10));
        assert_eq!(reason(rest), Some("5940 more connections were turned away before".to_owned()));
        assert_eq!(refusals.finish(Duration::from_mins(10)), None, "nothing is told twice");
    }

    #[test]
    fn strangers_hide_neither_edges_nor_other_events() {
        let mut refusals = Refusals::default();
        (0..1000).for_each(|_| drop(refusals.handle(refused(1.0, ""))));
        assert_eq!(refusals.handle(refused(1.0, "")), None);
        let (edge, other) = (
            refused(1.0, "camera-0"),
            Event { at: 1.0, kind: EventKind::Listening { address: "here".to_owned(), data_address: None } },
        );
        assert_eq!(refusals.handle(edge.clone()), Some(edge));
        assert_eq!(refusals.handle(other.clone()), Some(other));
    }
}
