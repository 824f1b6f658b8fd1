//! What is shown while a run is at work: live lines on a terminal, plain ones elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::tracker::{EdgeTrack, Line, Standing, Tracker};
use crate::output;

/// A larger fleet would not fit the terminal.
const LIVE_EDGES: usize = 16;

/// Where progress goes.
#[derive(Debug)]
pub(crate) enum Display {
    /// One line after the other.
    Plain,
    /// A header and a line per edge that change, below lines that stay.
    Live(Live),
}

/// The lines that change.
#[derive(Debug)]
pub(crate) struct Live {
    lines: MultiProgress,
    header: ProgressBar,
    edges: BTreeMap<String, ProgressBar>,
}

impl Display {
    /// For the standard error of this process, with a line for each of the first edges.
    pub(crate) fn new(edges: &[String]) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Plain;
        }
        let lines = MultiProgress::new();
        let header = lines.add(line("{elapsed_precise}  {wide_msg}"));
        header.set_message("starting");
        header.enable_steady_tick(Duration::from_millis(500));
        let shown = edges.iter().take(LIVE_EDGES);
        let edges = shown.map(|name| (name.clone(), lines.add(line("{wide_msg}")))).collect();
        Self::Live(Live { lines, header, edges })
    }

    /// Says what came of an event.
    pub(crate) fn update(&mut self, tracker: &Tracker, said: Option<&Line>) {
        match (said, &*self) {
            (Some(Line::Notice(text)), _) | (Some(Line::Round(text)), Self::Plain) => self.say(text),
            (Some(Line::Round(_)), Self::Live(_)) | (None, _) => {}
        }
        if let Self::Live(live) = self {
            live.update(tracker);
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Plain => output::note(text),
            Self::Live(live) => {
                let _ = live.lines.println(text);
            }
        }
    }

    /// Removes the lines that change.
    pub(crate) fn finish(self) {
        if let Self::Live(live) = self {
            live.header.disable_steady_tick();
            let _ = live.lines.clear();
        }
    }
}

impl Live {
    fn update(&mut self, tracker: &Tracker) {
        self.header.set_message(header(tracker));
        let width = tracker.edges.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, shown) in &self.edges {
            if let Some(track) = tracker.edges.get(name) {
                shown.set_message(format!("{name:<width$}  {}", edge(track, tracker)));
            }
        }
    }
}

fn line(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

/// The run in a line.
fn header(tracker: &Tracker) -> String {
    if tracker.round == 0 {
        return format!("waiting for the edges: {} have joined", tracker.edges.len());
    }
    let accuracy = tracker.accuracy.map_or("none yet".to_owned(), |accuracy| format!("{accuracy:.4}"));
    let more = match tracker.edges.len().saturating_sub(LIVE_EDGES) {
        0 => String::new(),
        more => format!("  ({more} more edges)"),
    };
    format!("round {}  accuracy {accuracy}  deadline {:.1} ms{more}", tracker.round, tracker.deadline_ms)
}

/// An edge in a line, without its name.
fn edge(track: &EdgeTrack, tracker: &Tracker) -> String {
    match track.standing {
        Standing::Lost => return "connection lost".to_owned(),
        Standing::Dropped => return "dropped".to_owned(),
        Standing::Deferred => return "deferred".to_owned(),
        Standing::Present => {}
    }
    let Some(cut) = track.cut else { return "waiting".to_owned() };
    let mut text = format!("round {:>3}  cut {cut:>2}  step {:>3}", tracker.round, track.steps());
    if let Some(median) = track.median_ms() {
        let _ = write!(text, "  median {median:>7.1} / {:.1} ms", tracker.deadline_ms);
    }
    if let Some(loss) = track.mean_loss() {
        let _ = write!(text, "  loss {loss:.4}");
    }
    text
}

#[cfg(test)]
mod tests {
    use partway_core::event::{Event, EventKind};

    use super::super::tracker::tests::{planned, step};
    use super::*;

    #[test]
    fn the_header_says_what_the_run_waits_for_and_where_it_is() {
        let mut tracker = Tracker::default();
        let joined = EventKind::EdgeJoined { edge: "a".into(), samples: 10, held_out: 0, labels: vec![10] };
        tracker.observe(&Event { at: 0.1, kind: joined });
        assert_eq!(header(&tracker), "waiting for the edges: 1 have joined");
        tracker.observe(&planned(3, &[("a", 5)]));
        assert_eq!(header(&tracker), "round 3  accuracy none yet  deadline 90.0 ms");
        let evaluated = EventKind::Evaluated { round: 3, accuracy: 0.5, loss: 1.0, samples: 10 };
        tracker.observe(&Event { at: 0.2, kind: evaluated });
        assert_eq!(header(&tracker), "round 3  accuracy 0.5000  deadline 90.0 ms");
    }

    #[test]
    fn an_edge_shows_its_median_step_against_the_deadline() {
        let mut tracker = Tracker::default();
        tracker.observe(&planned(3, &[("a", 5)]));
        assert_eq!(edge(&tracker.edges["a"], &tracker), "round   3  cut  5  step   0");
        tracker.observe(&step(3, 0, "a", 81.25, 0.5));
        assert_eq!(
            edge(&tracker.edges["a"], &tracker),
            "round   3  cut  3  step   1  median    81.2 / 90.0 ms  loss 0.5000"
        );
        tracker.observe(&Event { at: 0.3, kind: EventKind::EdgeLost { round: 3, edge: "a".into() } });
        assert_eq!(edge(&tracker.edges["a"], &tracker), "connection lost");
    }

    #[test]
    fn a_large_fleet_says_how_many_edges_are_not_shown() {
        let names: Vec<String> = (0..20).map(|n| format!("e{n}")).collect();
        let mut tracker = Tracker::default();
        tracker.observe(&planned(1, &names.iter().map(|name| (name.as_str(), 3)).collect::<Vec<_>>()));
        assert!(header(&tracker).ends_with("(4 more edges)"));
    }
}
