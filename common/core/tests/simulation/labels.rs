//! The labels stay on the edges, with the last layers: every step passes through the cloud twice, the same
//! things go wrong, and the model is still that of undisturbed unsplit training.
//!
//! The simulator refuses to send a label.

use std::time::Duration;

use partway_core::coordinator::{Cuts, Outcome};
use partway_core::event::Recovery;

use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, Scenario};

#[test]
fn every_cut_before_the_last_layers_gives_the_bits_of_unsplit_training() {
    for cut in 0..=LAYERS {
        for seed in 0..4 {
            Scenario::new(seed).any_depth().cut_at(cut).labels_on_the_edge().run_exactly();
        }
    }
}

#[test]
fn cuts_that_move_give_the_same_bits() {
    for seed in 0..40 {
        Scenario::new(seed).labels_on_the_edge().run_exactly();
        Scenario::new(seed).any_depth().labels_on_the_edge().run_exactly();
        Scenario { cuts: Cuts::Planned, ..Scenario::new(seed).labels_on_the_edge() }.run_exactly();
        Scenario { reset_moments: true, ..Scenario::new(seed).labels_on_the_edge() }.run_exactly();
    }
}

#[test]
fn a_crash_at_any_moment_changes_nothing() {
    for seed in 0..4 {
        let scenario = Scenario::new(seed).any_depth().labels_on_the_edge();
        let ends = scenario.run().ended_at;
        for at in 0..150 {
            let mut dice = Dice::new(u64::from(at));
            let edge = dice.below(3) as usize;
            let fault = Fault::Crash { edge, restart: Some(dice.ms(20, 4000)), folder_lost: false };
            scenario.clone().fault(ends * at / 150, fault).run_exactly();
        }
    }
}

#[test]
fn a_lost_connection_at_any_moment_changes_nothing() {
    for seed in 0..4 {
        let scenario = Scenario::new(seed).labels_on_the_edge();
        let ends = scenario.run().ended_at;
        for at in 0..150 {
            let mut dice = Dice::new(u64::from(at));
            let fault = Fault::Cut { edge: dice.below(3) as usize, unreachable: dice.ms(0, 4000) };
            let report = scenario.clone().fault(ends * at / 150, fault).run_exactly();
            let recoveries = report.recoveries();
            assert!(recoveries.iter().all(|(_, how)| *how != Recovery::StateLost), "nothing is lost");
        }
    }
}

#[test]
fn copies_and_faults_of_all_kinds_together_change_nothing() {
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let base = Scenario::new(seed).any_depth().labels_on_the_edge();
        let ends = base.run().ended_at;
        let mut scenario = Scenario { copies: 0.4, ..base };
        for _ in 0..8 {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(8) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 3000) },
                1..4 => Fault::Crash { edge, restart: Some(dice.ms(0, 3000)), folder_lost: false },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 1500) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 3), fault);
        }
        scenario.run_exactly();
    }
}

/// Only the edge has the last layers of its model between two aggregations.
#[test]
fn an_edge_that_loses_its_folder_gets_its_last_layers_from_the_global_model() {
    let mut lost = 0;
    for seed in 0..60 {
        let scenario = Scenario::new(seed).any_depth().labels_on_the_edge();
        let ends = scenario.run().ended_at;
        for at in 0..20 {
            let mut dice = Dice::new(at);
            let edge = dice.below(3) as usize;
            let fault = Fault::Crash { edge, restart: Some(dice.ms(20, 4000)), folder_lost: true };
            let report = scenario.clone().fault(ends.mul_f64(at as f64 / 20.0), fault).run();
            assert!(matches!(report.outcome, Outcome::Finished { rounds: 5, .. }), "{:?}", report.outcome);
            lost += report.recoveries().iter().filter(|(_, how)| *how == Recovery::StateLost).count();
        }
    }
    assert!(lost > 50, "only {lost} states were lost");
}
