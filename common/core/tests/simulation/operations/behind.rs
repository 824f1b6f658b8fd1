//! An edge that finishes a round which the others have left behind, operation by operation: what only an exact order
//! of events brings about.

use std::time::Duration;

use partway_core::coordinator::{Job, Stragglers};
use partway_core::event::EventKind;
use partway_core::plan::Deadline;

use super::bench::{Bench, Operation};
use crate::fake_model::FakeModel;
use crate::scenario::{LAYERS, REJOIN_WINDOW, Scenario};

/// Connections in the order of their making; the fourth is barn's as well.
const BARN: usize = 0;
const CELLAR: usize = 1;
const ATTIC: usize = 2;

/// Barn and cellar are done with the first round, whose model is about to be averaged; attic has been left behind in it,
/// and has trained nothing.
fn attic_is_behind(scenario: Scenario) -> Bench {
    let scenario = Scenario {
        deadline: Deadline::Fixed(0.1),
        stragglers: Stragglers::Defer { factor: 2.0 },
        quorum: 0.3,
        aggregate_every: 1,
        steps: 1,
        ..scenario.in_one_part().cut_at(LAYERS - 1)
    };
    let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
    for _ in [BARN, CELLAR, ATTIC] {
        bench.operate(Operation::Connect);
    }
    // They ask, measure, and are ready.
    for edge in [BARN, CELLAR, ATTIC].repeat(3) {
        bench.operate(Operation::Proceed(edge));
    }
    for edge in [BARN, CELLAR] {
        bench.operate(Operation::Proceed(edge));
        bench.finish(|job| matches!(job, Job::Step(_)));
        bench.operate(Operation::Proceed(edge));
        bench.finish(|job| matches!(job, Job::Export { .. }));
    }
    bench.operate(Operation::Wait(1000));
    let deferred = |kind: &EventKind| matches!(kind, EventKind::EdgeDeferred { edge, .. } if edge == "attic");
    assert!(bench.events.iter().any(deferred), "attic is late");
    bench
}

/// Attic sends all that is asked of it; its half in the cloud is yet to be exported.
fn attic_hands_in(bench: &mut Bench, number: usize) {
    bench.operate(Operation::Proceed(number));
    bench.finish(|job| matches!(job, Job::Step(_)));
    bench.operate(Operation::Proceed(number));
}

fn rounds_planned(bench: &Bench) -> u32 {
    let planned = bench.events.iter().filter_map(|kind| match kind {
        EventKind::Planned { round, .. } => Some(*round),
        _ => None,
    });
    planned.max().unwrap_or_default()
}

#[test]
fn one_that_is_gone_when_its_model_is_complete_is_given_up_in_time() {
    let mut bench = attic_is_behind(Scenario { holdout: Some(0.1), ..Scenario::new(1) });
    attic_hands_in(&mut bench, ATTIC);
    bench.operate(Operation::Disconnect(ATTIC));
    bench.finish(|job| matches!(job, Job::Aggregate { .. }));
    // Everybody evaluates, and attic owes nothing until it has caught up.
    bench.finish(|job| matches!(job, Job::Export { .. }));
    bench.operate(Operation::Proceed(BARN));
    bench.operate(Operation::Proceed(CELLAR));
    assert_eq!(rounds_planned(&bench), 1, "attic may come back");
    bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
    assert_eq!(rounds_planned(&bench), 2, "it is waited for no longer");
}

#[test]
fn who_is_left_out_of_a_round_gets_no_plan_of_it_when_it_begins_again() {
    let mut bench = attic_is_behind(Scenario::new(1));
    bench.finish_all();
    assert_eq!(rounds_planned(&bench), 2);
    let window = REJOIN_WINDOW + Duration::from_secs(1);
    // Barn goes, is left out, and comes back: it may take part after the next aggregation.
    bench.operate(Operation::Disconnect(BARN));
    bench.operate(Operation::Wait(window.as_millis() as u64));
    bench.operate(Operation::Connect);
    let (cellar, attic, barn) = (0, 1, 2);
    for _ in ["asks", "is ready"] {
        bench.operate(Operation::Proceed(barn));
    }
    attic_hands_in(&mut bench, attic);
    bench.finish_all();
    // Cellar, the last one in this round, goes for good.
    bench.operate(Operation::Disconnect(cellar));
    bench.operate(Operation::Wait(window.as_millis() as u64));
    let again = bench.events.iter().filter_map(|kind| match kind {
        EventKind::Planned { round: 2, edges, .. } => Some(edges),
        _ => None,
    });
    let names: Vec<Vec<&str>> =
        again.map(|edges| edges.iter().map(|planned| planned.edge.as_str()).collect()).collect();
    assert_eq!(names, [vec!["barn", "cellar"], vec!["attic"]]);
}

#[test]
fn one_that_hangs_behind_for_good_holds_nobody_up() {
    let mut bench = attic_is_behind(Scenario { holdout: Some(0.1), rounds: 100, ..Scenario::new(1) });
    bench.finish_all();
    // Longer than it is kept: then it gets another round, and says as little.
    for round in 2..80 {
        let mut tries = 0;
        while rounds_planned(&bench) < round {
            for edge in [BARN, CELLAR] {
                bench.operate(Operation::Proceed(edge));
                bench.finish_all();
            }
            bench.operate(Operation::Wait(1000));
            tries += 1;
            assert!(tries < 20, "round {round} never begins");
        }
    }
    let told: Vec<&str> = bench
        .events
        .iter()
        .filter_map(|kind| match kind {
            EventKind::EdgeDeferred { edge, .. } if edge == "attic" => Some("deferred"),
            EventKind::EdgeDropped { edge, .. } if edge == "attic" => Some("dropped"),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["deferred", "dropped", "deferred"]);
}
