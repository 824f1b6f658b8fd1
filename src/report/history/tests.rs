use super::*;

fn planned(round: u32, cuts: &[(&str, u32)]) -> EventKind {
    let edge = |&(edge, cut): &(&str, u32)| partway_core::event::PlannedEdge {
        edge: edge.to_owned(),
        cut,
        feasible: true,
        reason: String::new(),
        terms_ms: TermsMs::default(),
        step_ms: 70.0,
        reserved_up_mbps: 1.0,
        reserved_down_mbps: 1.0,
        estimated_up_mbps: 1.0,
        estimated_down_mbps: 1.0,
    };
    EventKind::Planned {
        round,
        deadline_ms: 90.0,
        optimality_gap: 0.0,
        edges: cuts.iter().map(edge).collect(),
    }
}

fn step(round: u32, attempt: u32, edge: &str, latency_ms: f64) -> EventKind {
    EventKind::Step {
        round,
        attempt,
        edge: edge.to_owned(),
        step: 1,
        cut: 3,
        latency_ms,
        predicted_ms: 80.0,
        deadline_ms: 90.0,
        terms_ms: TermsMs { edge_forward: 1.0, uplink: 2.0, cloud: 3.0, downlink: 4.0, edge_backward: 5.0 },
        loss: 1.0,
        correct: 1,
        bytes_up: 10,
        bytes_down: 20,
    }
}

fn history(kinds: impl IntoIterator<Item = EventKind>) -> History {
    let events = kinds.into_iter().enumerate().map(|(second, kind)| Event { at: second as f64, kind });
    let read = |observe: &mut dyn FnMut(Event)| {
        events.for_each(observe);
        Ok::<(), ()>(())
    };
    History::read(Topology::ReplicaPerEdge, read).expect("they are there").0
}

fn latencies(history: &History, edge: &str) -> Vec<f32> {
    history.edges[edge].steps().map(|step| step.latency_ms).collect()
}

#[test]
fn steps_of_an_earlier_attempt_do_not_count_but_their_bytes_do() {
    let history = history([
        planned(1, &[("a", 3)]),
        step(1, 0, "a", 500.0),
        step(1, 1, "a", 100.0),
        step(1, 0, "a", 600.0),
    ]);
    assert_eq!(latencies(&history, "a"), [100.0]);
    let edge = &history.edges["a"];
    assert_eq!((edge.bytes_up, edge.bytes_down, history.rounds[&1].bytes_up), (30, 60, 30));
    let (_, step) = history.steps().next().expect("there is one");
    assert_eq!((step.in_time, step.error(), step.terms_ms), (false, Some(0.2), [1.0, 2.0, 3.0, 4.0, 5.0]));
}

#[test]
fn rounds_that_a_restarted_coordinator_repeats_replace_what_was() {
    let done = |round| EventKind::RoundDone { round, seconds: 1.0 };
    let history = history([
        planned(1, &[("a", 3)]),
        step(1, 0, "a", 50.0),
        done(1),
        planned(2, &[("a", 4)]),
        step(2, 0, "a", 60.0),
        done(2),
        EventKind::Listening { address: "127.0.0.1:1".to_owned(), data_address: None },
        planned(2, &[("a", 5)]),
        step(2, 0, "a", 70.0),
    ]);
    assert_eq!(latencies(&history, "a"), [50.0, 70.0]);
    assert_eq!(history.rounds_done(), 1);
    assert_eq!(history.incidents.iter().map(|incident| &incident.what).collect::<Vec<_>>(), [&What::Resumed]);
    assert!((history.training_time(history.last_at) - 8.0).abs() < 1e-9);
}

#[test]
fn work_that_is_lost_does_not_count() {
    let aggregated = |round| EventKind::Aggregated { round, aggregation: round, weights: Vec::new() };
    let dropped = |edge: &str| EventKind::EdgeDropped { round: 3, edge: edge.into(), reason: "slow".into() };
    let lost = |edge: &str| EventKind::EdgeResumed { round: 3, edge: edge.into(), how: Recovery::StateLost };
    let finished = EventKind::Finished { round: 2, reason: "enough".into(), target_reached: true };
    let round =
        |round| [planned(round, &[("a", 3), ("b", 3)]), step(round, 0, "a", 50.0), step(round, 0, "b", 60.0)];
    let start = || round(1).into_iter().chain([aggregated(1)]).chain(round(2)).chain(round(3));
    let steps = |history: &History| [latencies(history, "a").len(), latencies(history, "b").len()];
    assert_eq!(steps(&history(start())), [3, 3]);
    assert_eq!(steps(&history(start().chain([dropped("a")]))), [1, 3], "up to the aggregation");
    assert_eq!(steps(&history(start().chain([lost("b")]))), [3, 1]);
    let over = history(start().chain([finished]));
    assert_eq!(steps(&over), [2, 2], "the round that the end cut off");
    assert_eq!(over.rounds.len(), 2);
}

#[test]
fn weights_that_moved_count_as_bytes() {
    let moved = |direction: &str| EventKind::StateMoved {
        round: 1,
        edge: "a".to_owned(),
        direction: direction.to_owned(),
        bytes: 7,
    };
    let probed = EventKind::Probed { round: 1, edge: "a".into(), direction: "down".into(), bytes: 3 };
    let history = history([moved("up"), moved("down"), moved("up"), probed]);
    assert_eq!((history.rounds[&1].bytes_up, history.rounds[&1].bytes_down), (14, 10));
}

#[test]
fn strangers_cannot_make_the_report_endless() {
    let refused = |n| EventKind::EdgeRefused { edge: format!("stranger-{n}"), reason: "no".to_owned() };
    let history = history((0..2 * MOST_INCIDENTS).map(refused));
    assert_eq!((history.incidents.len(), history.further_incidents), (MOST_INCIDENTS, MOST_INCIDENTS as u64));
    assert!(history.edges.is_empty(), "they are no edges");
}
