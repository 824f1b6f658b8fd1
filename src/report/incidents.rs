//! Lost connections, returns, drops, deferrals and refusals.

use std::collections::BTreeMap;

use partway_core::event::Recovery;

use super::history::{History, What};
use crate::markup::Markup;
use crate::page::{Column, table};
use crate::plot::number::{count, grouped};
use crate::plot::timeline::{Row, Timeline};
use crate::plot::{Axis, Figure};

/// More rows than this are not read.
const MOST_ROWS: usize = 24;
const KINDS: [&str; 4] = ["back", "dropped", "coordinator started again", "deferred"];
const COORDINATOR: &str = "(coordinator)";

/// Writes the timeline and the table.
pub(super) fn write(m: &mut Markup, history: &History) {
    let rows = rows(history);
    if !rows.is_empty() {
        let of_all = rows.len();
        let end = history.training_time(history.last_at);
        m.tag("div").class("plots").body(|m| {
            Timeline {
                figure: Figure {
                    id: "timeline",
                    title: "Who was away when".to_owned(),
                    description: "The table below says the same.".to_owned(),
                    note: if of_all > MOST_ROWS {
                        format!("The first {MOST_ROWS} of {of_all} edges with incidents.")
                    } else {
                        String::new()
                    },
                },
                x: Axis::from_zero("seconds of training", [end]),
                span: "connection lost".to_owned(),
                kinds: KINDS.map(str::to_owned).to_vec(),
                rows: rows.into_iter().take(MOST_ROWS).collect(),
            }
            .write(m);
        });
    }
    let columns = [
        Column::Numbers("seconds"),
        Column::Numbers("round"),
        Column::Words("who"),
        Column::Sentences("what"),
    ];
    let cells = history.incidents.iter().map(|incident| {
        vec![
            grouped(history.training_time(incident.at), 1),
            incident.round.map_or(String::new(), |round| round.to_string()),
            incident.edge.clone(),
            in_words(&incident.what),
        ]
    });
    table(m, "Incidents", &columns, &cells.collect::<Vec<_>>());
    if history.further_incidents > 0 {
        let further = count(history.further_incidents);
        m.tag("p").class("note").text(format!("And {further} more, in events.jsonl."));
    }
}

fn in_words(what: &What) -> String {
    match what {
        What::Lost => "connection lost".to_owned(),
        What::Back(Recovery::Connection) => "back: it goes on where it was".to_owned(),
        What::Back(Recovery::RolledBack) => "back: it repeats the round from its start".to_owned(),
        What::Back(Recovery::Readmitted) => "back: it takes part again, from the global model".to_owned(),
        What::Back(Recovery::StateLost) => {
            "back: its state was gone, it starts again from the global model".to_owned()
        }
        What::Dropped(reason) => format!("dropped: {reason}"),
        What::Deferred(reason) => format!("deferred, the others go on: {reason}"),
        What::CaughtUp => "it has finished the round; that counts at the next aggregation".to_owned(),
        What::Refused(reason) => format!("refused: {reason}"),
        What::Resumed => "the coordinator was started again".to_owned(),
    }
}

/// Who was away when, by name. Refusals are of strangers, and only in the table.
fn rows(history: &History) -> Vec<Row> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut lost: BTreeMap<&str, f64> = BTreeMap::new();
    for incident in &history.incidents {
        let at = history.training_time(incident.at).max(0.0);
        let name = if incident.what == What::Resumed { COORDINATOR } else { incident.edge.as_str() };
        let moment = match &incident.what {
            What::Refused(_) | What::CaughtUp => continue,
            What::Lost => {
                rows.entry(name).or_default();
                lost.entry(name).or_insert(at);
                continue;
            }
            What::Back(_) => (at, 0, in_words(&incident.what)),
            What::Dropped(_) => (at, 1, in_words(&incident.what)),
            What::Resumed => (at, 2, in_words(&incident.what)),
            What::Deferred(_) => (at, 3, in_words(&incident.what)),
        };
        let row = rows.entry(name).or_default();
        row.spans.extend(lost.remove(name).map(|since| (since, at)));
        row.moments.push(moment);
    }
    let end = history.training_time(history.last_at);
    for (name, since) in lost {
        rows.entry(name).or_default().spans.push((since, end));
    }
    rows.into_iter().map(|(name, row)| Row { name: name.to_owned(), ..row }).collect()
}

#[cfg(test)]
mod tests {
    use partway_core::coordinator::Topology;
    use partway_core::event::{Event, EventKind};

    use super::*;

    #[test]
    fn an_edge_is_away_from_its_loss_to_its_return_or_to_the_end() {
        let edge = || "a".to_owned();
        let reason = || "too late".to_owned();
        let events = [
            (1.0, EventKind::EdgeLost { round: 1, edge: edge() }),
            (3.0, EventKind::EdgeResumed { round: 1, edge: edge(), how: Recovery::RolledBack }),
            (4.0, EventKind::EdgeLost { round: 2, edge: edge() }),
            (6.0, EventKind::EdgeDropped { round: 2, edge: edge(), reason: reason() }),
            (7.0, EventKind::EdgeLost { round: 3, edge: "b".to_owned() }),
            (8.0, EventKind::EdgeRefused { edge: "stranger".to_owned(), reason: reason() }),
            (9.0, EventKind::Checkpointed { round: 3 }),
        ];
        let read = |observe: &mut dyn FnMut(Event)| {
            for (at, kind) in events {
                observe(Event { at, kind });
            }
            Ok::<(), ()>(())
        };
        let (mut history, ()) = History::read(Topology::ReplicaPerEdge, read).expect("they are there");
        history.training_since = Some(0.0);
        let rows = rows(&history);
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (rows[0].spans.as_slice(), rows[1].spans.as_slice()),
            (&[(1.0, 3.0), (4.0, 6.0)][..], &[(7.0, 9.0)][..])
        );
        assert_eq!(
            rows[0].moments.iter().map(|(at, kind, _)| (*at, *kind)).collect::<Vec<_>>(),
            [(3.0, 0), (6.0, 1)]
        );
    }
}
