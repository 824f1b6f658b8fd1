//! Edges that do not come back, cannot take part, or diverge.

use std::time::Duration;

use partway_core::coordinator::Outcome;
use partway_core::event::EventKind;
use partway_core::participant;

use crate::edge::Poison;
use crate::network::Dice;
use crate::scenario::{Fault, REJOIN_WINDOW, Report, Scenario};

const FOR_GOOD: Fault = Fault::Crash { edge: 1, restart: None, folder_lost: false };

fn every_topology() -> [Scenario; 5] {
    [
        Scenario::new(1),
        Scenario::new(2).any_depth(),
        Scenario::centralized(3),
        Scenario::shared_behind_a_cut(4),
        Scenario::handed_on(5),
    ]
}

/// Crashes one edge for good at moments spread over the run, from when it has joined.
fn vanish(scenario: &Scenario) -> impl Iterator<Item = (Duration, Report)> + '_ {
    let undisturbed = scenario.run();
    let (from, to) = (undisturbed.gathered_at(), undisturbed.ended_at);
    (0..60).map(move |at| {
        let moment = from + (to - from) * at / 60;
        (moment, scenario.clone().fault(moment, FOR_GOOD).run())
    })
}

#[test]
fn with_full_quorum_a_vanished_edge_ends_the_run_after_the_window() {
    for scenario in every_topology() {
        let (mut aborted, ends) = (0, scenario.run().ended_at);
        for (moment, report) in vanish(&scenario) {
            match report.aborted() {
                Some(reason) => {
                    assert!(reason.contains("edge `barn` did not come back within 60s"), "{reason}");
                    assert!(reason.contains("fleet.quorum = 1"), "{reason}");
                    assert!(report.ended_at >= moment + REJOIN_WINDOW);
                    assert!(report.ended_at < moment + REJOIN_WINDOW + Duration::from_secs(3));
                    aborted += 1;
                }
                // It had done its part.
                None => assert!(moment + Duration::from_secs(3) > ends),
            }
        }
        assert!(aborted > 30, "only {aborted} runs were aborted");
    }
}

#[test]
fn with_half_a_quorum_the_others_go_on_without_it() {
    for scenario in every_topology() {
        let scenario = Scenario { quorum: 0.5, ..scenario };
        let mut dropped = 0;
        for (_, report) in vanish(&scenario) {
            assert!(matches!(report.outcome, Outcome::Finished { rounds: 5, .. }), "{:?}", report.outcome);
            let drops = |event: &&partway_core::event::Event| matches!(&event.kind, EventKind::EdgeDropped { edge, .. } if edge == "barn");
            let drops = report.events.iter().filter(drops).count();
            assert!(drops <= 1, "barn was dropped {drops} times");
            dropped += drops;
        }
        assert!(dropped > 30, "barn was dropped only {dropped} times");
    }
}

#[test]
fn a_dropped_edge_that_comes_back_takes_part_from_the_next_aggregation_on() {
    let mut together = 0;
    for seed in 0..40 {
        let base = match seed % 4 {
            0 => Scenario::shared_behind_a_cut(seed),
            1 => Scenario::handed_on(seed),
            _ => Scenario::new(seed).any_depth(),
        };
        let scenario = Scenario { quorum: 0.5, rounds: 9, ..base };
        let undisturbed = scenario.run();
        let mut dice = Dice::new(seed);
        // A long cut holds the others up, so that the first comes back in time.
        let first = dice.between(undisturbed.gathered_at(), undisturbed.ended_at / 2);
        let back = REJOIN_WINDOW + dice.ms(100, 4000);
        let folder_lost = dice.chance(0.5);
        let report = scenario
            .fault(first, Fault::Crash { edge: 1, restart: Some(back), folder_lost })
            .fault(first + dice.ms(1000, 2000), Fault::Cut { edge: 0, unreachable: Duration::from_secs(56) })
            .run();
        assert!(matches!(report.outcome, Outcome::Finished { rounds: 9, .. }), "{:?}", report.outcome);
        let dropped = report
            .events
            .iter()
            .position(|event| matches!(&event.kind, EventKind::EdgeDropped { edge, .. } if edge == "barn"));
        let weights = report.events.iter().rev().find_map(|event| match &event.kind {
            EventKind::Aggregated { weights, .. } => Some(weights.len()),
            _ => None,
        });
        together += usize::from(dropped.is_some() && weights == Some(3));
    }
    assert!(together > 10, "a dropped edge took part again only {together} times");
}

#[test]
fn an_edge_that_declines_is_named_with_its_reason() {
    let mut scenario = Scenario::new(4);
    scenario.edges[2].memory_limit = Some(1);
    let report = scenario.run();
    let reason = report.aborted().expect("the quorum is full");
    assert!(reason.contains("cellar") && reason.contains("the memory limit is 1"), "{reason}");
    let Some(participant::Outcome::Failed { reason }) = &report.edges[2] else { panic!("it failed") };
    assert!(reason.contains("the memory limit is 1"), "{reason}");

    let report = Scenario { quorum: 0.5, ..scenario }.run();
    assert!(matches!(report.outcome, Outcome::Finished { rounds: 5, .. }), "{:?}", report.outcome);
}

#[test]
fn an_edge_whose_activations_are_not_finite_is_turned_away() {
    for step in 0..15 {
        let mut scenario = Scenario::new(5);
        scenario.edges[0].poison = Some(Poison { step, once: false });
        let report = scenario.run();
        let reason = report.aborted().expect("the quorum is full");
        assert!(reason.contains("attic") && reason.contains("not finite"), "{reason}");
        let report = Scenario { quorum: 0.5, ..scenario }.run();
        assert!(matches!(report.outcome, Outcome::Finished { rounds: 5, .. }), "{:?}", report.outcome);
    }
}

#[test]
fn a_step_that_was_rejected_is_not_in_the_model_after_a_restart() {
    for seed in 0..15 {
        let mut scenario = Scenario::new(seed);
        scenario.edges[0].poison = Some(Poison { step: seed, once: true });
        // It ends when it is refused, and somebody starts it again.
        for restart in 1..20 {
            let at = Duration::from_secs(3 * restart);
            scenario = scenario.fault(at, Fault::Start { edge: 0 });
        }
        scenario.run_exactly();
    }
}
