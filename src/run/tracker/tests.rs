use partway_core::event::{PlannedEdge, TermsMs};

use super::*;

pub(crate) fn planned(round: u32, edges: &[(&str, u32)]) -> Event {
    let edge = |&(name, cut): &(&str, u32)| PlannedEdge {
        edge: name.to_owned(),
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
    let edges = edges.iter().map(edge).collect();
    Event { at: 0.0, kind: EventKind::Planned { round, deadline_ms: 90.0, optimality_gap: 0.0, edges } }
}

pub(crate) fn step(round: u32, attempt: u32, edge: &str, latency_ms: f64, loss: f32) -> Event {
    Event {
        at: 1.0,
        kind: EventKind::Step {
            round,
            attempt,
            edge: edge.to_owned(),
            step: 1,
            cut: 3,
            latency_ms,
            predicted_ms: 70.0,
            deadline_ms: 90.0,
            terms_ms: TermsMs::default(),
            loss,
            correct: 1,
            bytes_up: 1,
            bytes_down: 1,
        },
    }
}

fn observe(tracker: &mut Tracker, kind: EventKind) -> Option<Line> {
    tracker.observe(&Event { at: 2.0, kind })
}

#[test]
fn a_round_is_one_line() {
    let mut tracker = Tracker::default();
    tracker.observe(&planned(1, &[("b", 3), ("a", 3)]));
    for (edge, latency, loss) in [("a", 80.0, 1.0), ("a", 60.0, 2.0), ("b", 95.0, 0.5)] {
        tracker.observe(&step(1, 0, edge, latency, loss));
    }
    assert_eq!(
        observe(&mut tracker, EventKind::RoundDone { round: 1, seconds: 1.234 }),
        Some(Line::Round(
            "round 1: 1.23 s, deadline 90.0 ms, mean loss 1.0000; a cut 3 70.0 ms, \
             b cut 3 95.0 ms over the deadline"
                .into()
        ))
    );
}

#[test]
fn a_large_fleet_is_not_listed_whole() {
    let names: Vec<String> = (0..10).map(|n| format!("e{n}")).collect();
    let mut tracker = Tracker::default();
    tracker.observe(&planned(1, &names.iter().map(|name| (name.as_str(), 3)).collect::<Vec<_>>()));
    for name in &names {
        tracker.observe(&step(1, 0, name, 50.0, 1.0));
    }
    let line = observe(&mut tracker, EventKind::RoundDone { round: 1, seconds: 1.0 });
    assert!(matches!(&line, Some(Line::Round(text)) if text.ends_with("e7 cut 3 50.0 ms, and 2 more")));
}

#[test]
fn steps_that_were_rolled_back_do_not_count() {
    let mut tracker = Tracker::default();
    tracker.observe(&planned(2, &[("a", 3)]));
    tracker.observe(&step(2, 0, "a", 500.0, 9.0));
    tracker.observe(&step(2, 1, "a", 60.0, 1.0));
    tracker.observe(&step(2, 0, "a", 500.0, 9.0));
    tracker.observe(&step(1, 5, "a", 500.0, 9.0));
    let track = &tracker.edges["a"];
    assert_eq!((track.steps(), track.median_ms(), track.mean_loss()), (1, Some(60.0), Some(1.0)));
}

#[test]
fn what_the_edges_found_stands_beside_their_sum() {
    let mut tracker = Tracker::default();
    for (edge, accuracy, samples) in [("b", 0.5, 30), ("a", 1.0, 10)] {
        let edge = edge.to_owned();
        let kind = EventKind::EdgeEvaluated { round: 5, edge, accuracy, loss: 0.1, samples };
        assert_eq!(observe(&mut tracker, kind), None);
    }
    let sum = || EventKind::Evaluated { round: 5, accuracy: 0.625, loss: 0.1, samples: 40 };
    let said = |line| match line {
        Some(Line::Notice(text)) => text,
        other => panic!("not a notice: {other:?}"),
    };
    assert_eq!(
        said(observe(&mut tracker, sum())),
        "aggregation after round 5: accuracy 0.6250, loss 0.1000 on 40 held-out samples; a 1.0000, b 0.5000"
    );
    assert!(said(observe(&mut tracker, sum())).ends_with("on 40 test samples"), "said once");
}

#[test]
fn an_edge_that_is_left_behind_says_so_until_it_is_planned_for_again() {
    let mut tracker = Tracker::default();
    tracker.observe(&planned(1, &[("a", 3), ("b", 3)]));
    let edge = || "b".to_owned();
    let said = |tracker: &mut Tracker, kind| match observe(tracker, kind) {
        Some(Line::Notice(text)) => text,
        other => panic!("not a notice: {other:?}"),
    };
    let reason = "it was late".to_owned();
    assert_eq!(
        said(&mut tracker, EventKind::EdgeDeferred { round: 1, edge: edge(), reason }),
        "edge b: deferred in round 1: it was late"
    );
    tracker.observe(&planned(2, &[("a", 3)]));
    tracker.observe(&step(1, 0, "b", 500.0, 9.0));
    assert_eq!((tracker.edges["b"].standing, tracker.edges["b"].steps()), (Standing::Deferred, 0));
    observe(&mut tracker, EventKind::EdgeLost { round: 2, edge: edge() });
    assert_eq!(tracker.edges["b"].standing, Standing::Lost);
    let how = Recovery::RolledBack;
    observe(&mut tracker, EventKind::EdgeResumed { round: 1, edge: edge(), how });
    assert_eq!(tracker.edges["b"].standing, Standing::Deferred);
    assert_eq!(
        said(&mut tracker, EventKind::EdgeCaughtUp { round: 1, edge: edge(), steps: 3 }),
        "edge b: has finished round 1, which counts at the next aggregation"
    );
    tracker.observe(&planned(3, &[("a", 3), ("b", 3)]));
    assert_eq!(tracker.edges["b"].standing, Standing::Present);
}

#[test]
fn accuracy_and_trouble_are_noticed() {
    let mut tracker = Tracker::default();
    tracker.observe(&planned(5, &[("a", 3)]));
    let edge = || "a".to_owned();
    let mut said = |kind| match observe(&mut tracker, kind) {
        Some(Line::Notice(text)) => text,
        other => panic!("not a notice: {other:?}"),
    };
    assert_eq!(
        said(EventKind::Evaluated { round: 5, accuracy: 0.91234, loss: 0.3, samples: 100 }),
        "aggregation after round 5: accuracy 0.9123, loss 0.3000 on 100 test samples"
    );
    let reason = "it did not come back".to_owned();
    assert_eq!(
        said(EventKind::EvaluationDeclined { round: 5, edge: edge(), reason }),
        "edge a: the model after round 5 was not evaluated: it did not come back"
    );
    assert_eq!(said(EventKind::EdgeLost { round: 5, edge: edge() }), "edge a: connection lost in round 5");
    let how = Recovery::RolledBack;
    assert_eq!(
        said(EventKind::EdgeResumed { round: 5, edge: edge(), how }),
        "edge a: back in round 5; it repeats the round from its start"
    );
    let reason = "too slow".to_owned();
    assert!(said(EventKind::EdgeDropped { round: 5, edge: edge(), reason }).ends_with(": too slow"));
    let reason = "another protocol".to_owned();
    let refused = EventKind::EdgeRefused { edge: String::new(), reason };
    assert_eq!(said(refused), "refused a connection: another protocol");
    assert_eq!(tracker.edges["a"].standing, Standing::Dropped);
    assert_eq!(tracker.accuracy, Some(0.91234));
    tracker.observe(&planned(6, &[("a", 3)]));
    assert_eq!(tracker.edges["a"].standing, Standing::Present, "it is planned for again");
}
