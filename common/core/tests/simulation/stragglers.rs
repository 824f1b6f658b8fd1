//! Edges that become slow, under each policy.

use std::time::Duration;

use partway_core::coordinator::{Outcome, Stragglers};
use partway_core::event::{EventKind, Recovery};
use partway_core::plan::Deadline;

use crate::scenario::{Fault, Report, Scenario};

/// Simulated devices differ from their profiles by more than real ones do.
const DROP: Stragglers = Stragglers::Drop { factor: 40.0 };

/// Slower than anything that a plan expects: a job takes half a minute.
const CRAWLING: u32 = 2000;

/// Five rounds, of which the third and the fifth end with an aggregation; barn crawls from the first one on.
fn crawling(base: Scenario) -> Scenario {
    // An automatic deadline would follow the slow edge.
    let base = Scenario { deadline: Deadline::Fixed(0.1), ..base };
    let trained_at = base.run().trained_at();
    base.fault(trained_at + Duration::from_millis(50), Fault::Slow { edge: 1, slowness: CRAWLING })
}

/// Who was left out, and in which round.
fn dropped(report: &Report) -> Vec<(&str, u32, &str)> {
    let dropped = report.events.iter().filter_map(|event| match &event.kind {
        EventKind::EdgeDropped { edge, round, reason } => Some((edge.as_str(), *round, reason.as_str())),
        _ => None,
    });
    dropped.collect()
}

/// Who is in each global model.
fn contributors(report: &Report) -> Vec<Vec<&str>> {
    let aggregated = report.events.iter().filter_map(|event| match &event.kind {
        EventKind::Aggregated { weights, .. } => {
            Some(weights.iter().map(|(edge, _)| edge.as_str()).collect())
        }
        _ => None,
    });
    aggregated.collect()
}

fn assert_finished(report: &Report) {
    assert!(matches!(report.outcome, Outcome::Finished { rounds: 5, .. }), "{:?}", report.outcome);
}

#[test]
fn a_straggler_is_left_out_and_holds_nobody_up() {
    for seed in 0..20 {
        let scenario = crawling(Scenario { quorum: 0.5, ..Scenario::new(seed).in_one_part() });
        let waited = scenario.run();
        assert_finished(&waited);
        assert_eq!(dropped(&waited), []);
        let left_out = Scenario { stragglers: DROP, ..scenario }.run();
        assert_finished(&left_out);
        let dropped = dropped(&left_out);
        assert_eq!(dropped[0].0, "barn", "{dropped:?}");
        assert!(dropped[0].2.starts_with("it took more than 40 times the planned "), "{dropped:?}");
        assert_eq!(contributors(&left_out)[0], ["attic", "cellar"]);
        assert!(left_out.ended_at * 4 < waited.ended_at, "{:?} of {:?}", left_out.ended_at, waited.ended_at);
    }
}

#[test]
fn an_edge_that_is_fast_again_takes_part_from_the_next_aggregation_on() {
    for seed in 0..20 {
        let scenario = Scenario {
            quorum: 0.5,
            stragglers: DROP,
            rounds: 150,
            ..crawling(Scenario::new(seed).in_one_part())
        };
        let first = scenario.run().first(|kind| matches!(kind, EventKind::EdgeDropped { .. }));
        let report = scenario.fault(first, Fault::Slow { edge: 1, slowness: 1 }).run();
        let contributors = contributors(&report);
        assert_eq!(contributors[0], ["attic", "cellar"]);
        assert_eq!(contributors.last().map(Vec::len), Some(3), "{contributors:?}");
        let recoveries = report.recoveries();
        assert!(!recoveries.is_empty(), "{recoveries:?}");
        assert!(recoveries.iter().all(|how| *how == ("barn", Recovery::Readmitted)), "{recoveries:?}");
    }
}

#[test]
fn the_turn_of_a_straggler_is_passed_over() {
    for seed in 0..20 {
        let scenario =
            crawling(Scenario { quorum: 0.5, stragglers: DROP, ..Scenario::handed_on(seed).in_one_part() });
        let report = scenario.run();
        assert_finished(&report);
        assert_eq!(dropped(&report)[0].0, "barn");
        let handed_on = |name: &str| {
            let by = |kind: &EventKind| matches!(kind, EventKind::HandedOn { edge, .. } if edge == name);
            report.events.iter().filter(|event| by(&event.kind)).count()
        };
        assert_eq!((handed_on("attic"), handed_on("cellar")), (5, 5));
        assert!(handed_on("barn") < 3);
    }
}

/// Waiting would not end the run, so leaving out does not either.
#[test]
fn a_quorum_is_waited_for_however_late_it_is() {
    for seed in 0..20 {
        let scenario = crawling(Scenario { stragglers: DROP, ..Scenario::new(seed).in_one_part() });
        let full = Scenario { quorum: 1.0, ..scenario.clone() }.run();
        assert_finished(&full);
        assert_eq!(dropped(&full), []);
        // Two of three must be there, and two crawl: the later one of these is left out.
        let trained_at = scenario.run().trained_at();
        let two = Scenario { quorum: 0.6, ..scenario }
            .fault(trained_at + Duration::from_millis(50), Fault::Slow { edge: 2, slowness: CRAWLING })
            .run();
        assert_finished(&two);
        assert!(contributors(&two).iter().all(|edges| edges.len() >= 2), "{:?}", contributors(&two));
        assert!(!dropped(&two).is_empty());
    }
}

/// Time without a connection is the rejoin window's to judge.
#[test]
fn an_edge_is_not_late_for_having_been_away() {
    for seed in 0..20 {
        let scenario = Scenario {
            quorum: 0.5,
            stragglers: Stragglers::Drop { factor: 40.0 },
            ..Scenario::new(seed).in_one_part()
        };
        let trained_at = scenario.run().trained_at();
        let cut = Fault::Cut { edge: 1, unreachable: Duration::from_secs(30) };
        let report = scenario.fault(trained_at + Duration::from_millis(50), cut).run();
        assert_finished(&report);
        assert_eq!(dropped(&report), []);
        assert_eq!(report.recoveries().len(), 1);
    }
}
