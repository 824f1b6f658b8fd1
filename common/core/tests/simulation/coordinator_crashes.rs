//! The coordinator crashes and continues from its last checkpoint; evaluations end when they like.

use std::collections::BTreeMap;
use std::time::Duration;

use partway_core::coordinator::Outcome;
use partway_core::event::{Event, EventKind};

use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, MODEL, Scenario, bits};

#[test]
fn a_crash_of_the_coordinator_at_any_moment_changes_nothing() {
    for base in [
        Scenario::new(1).any_depth(),
        Scenario::new(2).cut_at(LAYERS),
        Scenario::centralized(3),
        Scenario::shared_behind_a_cut(5),
        Scenario::handed_on(6),
        Scenario { reset_moments: true, ..Scenario::new(4) },
    ] {
        let scenario = Scenario { rounds: 8, ..base };
        let ends = scenario.run().ended_at;
        for at in 0..60 {
            let mut dice = Dice::new(u64::from(at));
            let fault = Fault::CrashCloud { restart: dice.ms(0, 3000) };
            scenario.clone().fault(ends * at / 60, fault).run_exactly();
        }
    }
}

#[test]
fn crashes_of_the_coordinator_before_the_first_round_change_nothing() {
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario { rounds: 2, ..Scenario::new(seed) };
        let begins = scenario.run().trained_at();
        for _ in 0..4 {
            let fault = Fault::CrashCloud { restart: dice.ms(0, 50) };
            scenario = scenario.fault(dice.between(Duration::ZERO, begins * 3), fault);
        }
        scenario.run_exactly();
    }
}

#[test]
fn everybody_crashes_and_nothing_changes() {
    for seed in 0..80 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario { rounds: 8, ..Scenario::new(seed).any_depth() };
        let ends = scenario.run().ended_at;
        for _ in 0..6 {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(3) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 3000) },
                1 => Fault::Crash { edge, restart: Some(dice.ms(0, 3000)), folder_lost: false },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 1500) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        scenario.run_exactly();
    }
}

#[test]
fn a_crash_after_the_last_round_trains_nothing_more() {
    let scenario = Scenario { evaluation_ms: (3000, 3001), ..Scenario::new(6) };
    let ends = scenario.run().ended_at;
    let fault = Fault::CrashCloud { restart: Duration::from_millis(500) };
    let report = scenario.fault(ends - Duration::from_millis(1500), fault).run_exactly();
    assert_eq!(report.checkpoint.map(|checkpoint| checkpoint.rounds), Some(5));
}

/// The model after three of nine rounds is good, and nobody knows it when the coordinator is killed.
#[test]
fn a_checkpoint_that_meets_the_target_ends_the_run_that_goes_on_from_it() {
    for seed in 0..20 {
        let scenario = Scenario {
            rounds: 9,
            target_accuracy: Some(0.5),
            evaluation_ms: (1000, 3000),
            ..Scenario::new(seed).any_depth()
        };
        let kept = scenario.run().first(|kind| matches!(kind, EventKind::Checkpointed { .. }));
        let fault = Fault::CrashCloud { restart: Duration::from_millis(500) };
        let report = scenario.clone().fault(kept + Duration::from_millis(500), fault).run();
        let Outcome::Finished { rounds: 3, state, target_reached: true } = report.outcome else {
            panic!("{:?}", report.outcome);
        };
        assert!(bits(&state) == bits(&scenario.expected(&MODEL, 3, &BTreeMap::new())));
    }
}

#[test]
fn evaluations_that_end_late_change_nothing() {
    for seed in 0..20 {
        Scenario { evaluation_ms: (1, 4000), rounds: 9, ..Scenario::new(seed) }.run_exactly();
    }
}

/// The models after three and nine of nine rounds are good, that after six is not: it must not be the
/// result, however late the evaluation of the first one ends.
#[test]
fn a_target_that_is_reached_during_later_rounds_ends_with_the_model_that_reached_it() {
    let (mut early, mut late) = (0, 0);
    for seed in 0..40 {
        let scenario = Scenario {
            rounds: 9,
            target_accuracy: Some(0.5),
            evaluation_ms: (1, 4000),
            ..Scenario::new(seed).any_depth()
        };
        let report = scenario.run();
        let Outcome::Finished { rounds, state, target_reached } = report.outcome else {
            panic!("{:?}", report.outcome);
        };
        assert!(target_reached && (rounds == 3 || rounds == 9), "{rounds}");
        assert!(
            bits(&state) == bits(&scenario.expected(&MODEL, rounds, &BTreeMap::new())),
            "not the model after {rounds} rounds"
        );
        let is_next = |event: &Event| matches!(event.kind, EventKind::Aggregated { round: 6, .. });
        let is_late = report.events.iter().any(is_next);
        early += u32::from(rounds == 3 && !is_late);
        late += u32::from(rounds == 3 && is_late);
    }
    assert!(early > 5 && late > 5, "{early} evaluations ended before the next aggregation, {late} after it");
}

#[test]
fn an_edge_that_is_gone_in_the_last_evaluation_is_not_waited_for() {
    let scenario = Scenario { evaluation_ms: (200_000, 200_001), ..Scenario::new(7) };
    let ends = scenario.run().ended_at;
    let gone = Fault::Crash { edge: 0, restart: None, folder_lost: false };
    scenario.fault(ends - Duration::from_secs(190), gone).run_exactly();
}
