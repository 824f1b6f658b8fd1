//! Edges crash at every moment of a run: all memory is lost, the state folder stays, or not.

use std::time::Duration;

use partway_core::coordinator::Outcome;
use partway_core::event::{EventKind, Recovery};

use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, Scenario};

fn crash(edge: usize, restart: Duration) -> Fault {
    Fault::Crash { edge, restart: Some(restart), folder_lost: false }
}

/// Crashes one edge of the scenario once at each of `times` moments spread over the run.
fn sweep(scenario: &Scenario, times: u32) {
    let ends = scenario.run().ended_at;
    for at in 0..times {
        let mut dice = Dice::new(u64::from(at));
        let fault = crash(dice.below(3) as usize, dice.ms(20, 4000));
        scenario.clone().fault(ends * at / times, fault).run_exactly();
    }
}

#[test]
fn a_crash_at_any_moment_changes_nothing() {
    for seed in 0..3 {
        sweep(&Scenario::new(seed), 150);
    }
}

#[test]
fn a_crash_at_any_moment_changes_nothing_from_raw_data_to_local_training() {
    for seed in 3..6 {
        sweep(&Scenario::new(seed).any_depth(), 150);
    }
}

#[test]
fn a_crash_at_any_moment_changes_nothing_in_federated_training() {
    sweep(&Scenario::new(6).cut_at(LAYERS), 150);
}

#[test]
fn a_crash_at_any_moment_changes_nothing_in_centralized_training() {
    sweep(&Scenario::centralized(7), 150);
}

#[test]
fn a_crash_at_any_moment_changes_nothing_in_a_model_behind_a_common_cut() {
    for seed in 8..11 {
        sweep(&Scenario::shared_behind_a_cut(seed), 150);
    }
}

#[test]
fn a_crash_at_any_moment_changes_nothing_in_a_model_that_is_handed_on() {
    for seed in 11..14 {
        sweep(&Scenario::handed_on(seed), 150);
    }
}

#[test]
fn a_crash_at_any_moment_changes_nothing_where_the_first_model_was_given() {
    sweep(&Scenario { given: true, ..Scenario::new(8) }.any_depth(), 100);
}

#[test]
fn several_crashes_change_nothing() {
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let mut scenario = match seed % 6 {
            0 => Scenario::new(seed),
            1 => Scenario::new(seed).any_depth(),
            2 => Scenario::new(seed).cut_at(LAYERS),
            3 => Scenario::shared_behind_a_cut(seed),
            4 => Scenario::handed_on(seed),
            _ => Scenario::centralized(seed),
        };
        let ends = scenario.run().ended_at;
        for _ in 0..=dice.below(4) {
            let fault = crash(dice.below(3) as usize, dice.ms(0, 3000));
            scenario = scenario.fault(dice.between(Duration::ZERO, ends.mul_f64(1.5)), fault);
        }
        scenario.run_exactly();
    }
}

#[test]
fn crashes_and_lost_connections_together_change_nothing() {
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario::new(seed).any_depth();
        let ends = scenario.run().ended_at;
        for _ in 0..8 {
            let edge = dice.below(3) as usize;
            let fault = if dice.chance(0.4) {
                crash(edge, dice.ms(0, 3000))
            } else {
                Fault::Cut { edge, unreachable: dice.ms(0, 1500) }
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 3), fault);
        }
        scenario.run_exactly();
    }
}

/// The simulator checks at every aggregation that no step is counted twice, and that an edge's weight
/// counts exactly the steps that its weights have seen.
#[test]
fn an_edge_that_loses_its_folder_starts_again_from_the_global_model() {
    let (mut lost, mut rolled_back) = (0, 0);
    for seed in 0..30 {
        let scenario = Scenario::new(seed).any_depth();
        let ends = scenario.run().ended_at;
        for at in 0..60 {
            let mut dice = Dice::new(at);
            let mut scenario = scenario.clone();
            for crash in 0..=at % 2 {
                let edge = dice.below(3) as usize;
                let fault = Fault::Crash { edge, restart: Some(dice.ms(20, 4000)), folder_lost: true };
                scenario = scenario.fault(ends.mul_f64((at + 20 * crash) as f64 / 60.0), fault);
            }
            let report = scenario.run();
            assert!(matches!(report.outcome, Outcome::Finished { rounds: 5, .. }), "{:?}", report.outcome);
            for (_, how) in report.recoveries() {
                lost += u32::from(how == Recovery::StateLost);
                rolled_back += u32::from(how == Recovery::RolledBack);
            }
        }
    }
    assert!(lost > 50 && rolled_back > 50, "{lost} states were lost, {rolled_back} were with the cloud");
}

/// Edges crash, folder and all, well after they have sent their part of the last aggregation.
#[test]
fn a_lost_folder_costs_nothing_once_its_round_is_aggregated() {
    let mut crashed = 0;
    for seed in 0..60 {
        let scenario = Scenario::new(seed);
        let undisturbed = scenario.run();
        let last_round = undisturbed.first(|kind| matches!(kind, EventKind::RoundDone { round: 5, .. }));
        let mut ends: Vec<(Duration, usize)> = Vec::new();
        for (number, edge) in scenario.edges.iter().enumerate() {
            let ended = undisturbed.events.iter().rfind(
                |event| matches!(&event.kind, EventKind::EdgeMemory { edge: of, .. } if *of == edge.name),
            );
            ends.extend(ended.map(|event| (Duration::from_secs_f64(event.at), number)));
        }
        let (ended, edge) = ends.into_iter().min().expect("every edge ends its rounds");
        let upload_is_there = ended + Duration::from_secs(1);
        if upload_is_there < last_round {
            crashed += 1;
            let fault = Fault::Crash { edge, restart: Some(Duration::ZERO), folder_lost: true };
            scenario.fault(upload_is_there, fault).run_exactly();
        }
    }
    assert!(crashed > 5, "only {crashed} edges were so much faster than the others");
}

/// What it did since the last aggregation stays in the shared model; the others lose nothing.
#[test]
fn an_edge_that_loses_its_folder_behind_a_common_cut_starts_its_own_layers_again() {
    let mut lost = 0;
    for seed in 0..20 {
        let scenario = Scenario::shared_behind_a_cut(seed);
        let ends = scenario.run().ended_at;
        for at in 0..30 {
            let mut dice = Dice::new(at);
            let edge = dice.below(3) as usize;
            let fault = Fault::Crash { edge, restart: Some(dice.ms(20, 4000)), folder_lost: true };
            let report = scenario.clone().fault(ends.mul_f64(at as f64 / 30.0), fault).run();
            assert!(matches!(report.outcome, Outcome::Finished { rounds: 5, .. }), "{:?}", report.outcome);
            lost += report.recoveries().iter().filter(|(_, how)| *how == Recovery::StateLost).count();
        }
    }
    assert!(lost > 50, "{lost} states were lost");
}

#[test]
fn a_lost_folder_costs_nothing_where_the_cloud_has_it_all() {
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let base = if seed % 3 == 0 { Scenario::centralized(seed) } else { Scenario::handed_on(seed) };
        let mut scenario = base;
        let ends = scenario.run().ended_at;
        for _ in 0..=seed % 2 {
            let edge = dice.below(3) as usize;
            let fault = Fault::Crash { edge, restart: Some(dice.ms(20, 4000)), folder_lost: true };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends), fault);
        }
        let report = scenario.run_exactly();
        assert!(report.recoveries().iter().all(|(_, how)| *how != Recovery::StateLost));
    }
}
