//! An edge that hangs behind a live connection where no step is waited for: a policy that does not wait for stragglers
//! goes on without it, and "wait" does wait.

use partway_core::coordinator::{Job, Stragglers};
use partway_core::event::EventKind;
use partway_core::plan::Deadline;

use super::bench::{Bench, Operation};
use super::returns::ask_again;
use crate::fake_model::FakeModel;
use crate::scenario::{LAYERS, REJOIN_WINDOW, Scenario};

const DROP: Stragglers = Stragglers::Drop { factor: 2.0 };
const DEFER: Stragglers = Stragglers::Defer { factor: 2.0 };

/// Connections in the order of their making; attic's is the third.
const OTHERS: [usize; 2] = [0, 1];
const ATTIC: usize = 2;

/// Three edges that have asked.
fn all_have_asked(stragglers: Stragglers, scenario: Scenario) -> Bench {
    let scenario = Scenario {
        deadline: Deadline::Fixed(0.1),
        stragglers,
        quorum: 0.5,
        aggregate_every: 1,
        steps: 1,
        ..scenario.in_one_part().cut_at(LAYERS - 1)
    };
    let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
    for _ in 0..3 {
        bench.operate(Operation::Connect);
    }
    proceed(&mut bench, &[0, 1, 2]);
    bench
}

fn proceed(bench: &mut Bench, edges: &[usize]) {
    for edge in edges {
        bench.operate(Operation::Proceed(*edge));
    }
}

/// These edges do a round of one step, which goes on as soon as they have.
fn train(bench: &mut Bench, edges: &[usize]) {
    for _ in ["step", "end"] {
        proceed(bench, edges);
        bench.finish_all();
    }
}

fn wait_for_a_window(bench: &mut Bench) {
    bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
}

/// How often attic was left out of the training, and how often of an evaluation.
fn left_out(bench: &Bench) -> (usize, usize) {
    let count = |is_it: &dyn Fn(&EventKind) -> bool| bench.events.iter().filter(|kind| is_it(kind)).count();
    (
        count(&|kind| matches!(kind, EventKind::EdgeDropped { edge, .. } if edge == "attic")),
        count(&|kind| matches!(kind, EventKind::EvaluationDeclined { edge, .. } if edge == "attic")),
    )
}

fn planned(bench: &Bench) -> usize {
    bench.events.iter().filter(|kind| matches!(kind, EventKind::Planned { .. })).count()
}

#[test]
fn before_the_first_round_the_others_go_on_without_it() {
    for (stragglers, goes) in [(DROP, true), (DEFER, true), (Stragglers::Wait, false)] {
        for answers in 0..2 {
            let mut bench = all_have_asked(stragglers, Scenario::new(1));
            // It sends its statistics, or not even these.
            proceed(&mut bench, &vec![ATTIC; answers]);
            proceed(&mut bench, &OTHERS);
            if answers == 1 {
                proceed(&mut bench, &OTHERS);
            }
            bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64 / 2));
            assert_eq!(left_out(&bench), (0, 0), "it may be slow");
            wait_for_a_window(&mut bench);
            assert_eq!(left_out(&bench), (usize::from(goes), 0), "{stragglers:?}, {answers} answers");
            if goes {
                if answers == 0 {
                    proceed(&mut bench, &OTHERS);
                }
                assert_eq!(planned(&bench), 1);
                // What it says later comes in time for the round after the aggregation.
                proceed(&mut bench, &[ATTIC; 2]);
                train(&mut bench, &OTHERS);
                let takes_part = |kind: &EventKind| matches!(kind, EventKind::Planned { round: 2, edges, .. } if edges.len() == 3);
                assert!(bench.events.iter().any(takes_part));
            }
        }
    }
}

#[test]
fn a_quorum_is_waited_for() {
    let mut bench = all_have_asked(DROP, Scenario::new(1));
    proceed(&mut bench, &[0]);
    for _ in 0..3 {
        wait_for_a_window(&mut bench);
    }
    assert!(!bench.finished && left_out(&bench) == (0, 0), "one of three is not half of them");
    // Now there is one, and the time begins anew.
    proceed(&mut bench, &[1]);
    assert_eq!(left_out(&bench), (0, 0));
    wait_for_a_window(&mut bench);
    assert_eq!(left_out(&bench), (1, 0));
}

#[test]
fn an_evaluation_goes_on_without_it() {
    for (stragglers, goes) in [(DROP, true), (DEFER, true), (Stragglers::Wait, false)] {
        let mut bench = all_have_asked(stragglers, Scenario { holdout: Some(0.1), ..Scenario::new(1) });
        proceed(&mut bench, &[0, 1, 2, 0, 1, 2]);
        train(&mut bench, &[0, 1, 2]);
        wait_for_a_window(&mut bench);
        assert_eq!(
            (left_out(&bench), planned(&bench)),
            ((0, 0), 1),
            "without any answer there is no accuracy"
        );
        proceed(&mut bench, &OTHERS);
        assert_eq!((left_out(&bench), planned(&bench)), ((0, 0), 1), "it may be slow");
        wait_for_a_window(&mut bench);
        assert_eq!(left_out(&bench), (0, usize::from(goes)), "{stragglers:?}");
        assert_eq!(planned(&bench), 1 + usize::from(goes));
    }
}

/// It has done its part of a round, is started again, and has not come to the end of that when the next one begins.
#[test]
fn one_that_is_never_ready_for_a_round_is_late_in_it() {
    for (stragglers, goes) in [(DROP, true), (DEFER, true), (Stragglers::Wait, false)] {
        let mut bench = all_have_asked(stragglers, Scenario::new(1));
        proceed(&mut bench, &[0, 1, 2, 0, 1, 2]);
        bench.operate(Operation::Proceed(ATTIC));
        bench.finish(|job| matches!(job, Job::Step(_)));
        bench.operate(Operation::Proceed(ATTIC));
        bench.operate(Operation::Disconnect(ATTIC));
        ask_again(&mut bench, "attic", Some((0, 0)));
        train(&mut bench, &OTHERS);
        assert_eq!(planned(&bench), 2);
        train(&mut bench, &OTHERS);
        bench.operate(Operation::Wait(1000));
        bench.finish_all();
        assert_eq!(planned(&bench), 2 + usize::from(goes), "{stragglers:?}");
    }
}
