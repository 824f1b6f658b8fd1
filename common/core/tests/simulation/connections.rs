//! Connections are lost; nobody crashes. Training goes on inside the round, and nothing is lost.

use std::time::Duration;

use partway_core::event::Recovery;

use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, Scenario};

/// When an undisturbed run of this scenario ends: the window in which faults are interesting.
fn duration(scenario: &Scenario) -> Duration {
    scenario.run().ended_at
}

#[test]
fn one_lost_connection_at_any_time_changes_nothing() {
    let ends = duration(&Scenario::new(1));
    for at in 0..150 {
        let mut dice = Dice::new(at);
        let fault = Fault::Cut { edge: dice.below(3) as usize, unreachable: dice.ms(0, 4000) };
        Scenario::new(1).fault(ends.mul_f64(at as f64 / 150.0), fault).run_exactly();
    }
}

#[test]
fn many_lost_connections_change_nothing() {
    for seed in 0..80 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario::new(seed);
        if seed % 2 == 0 {
            scenario = scenario.any_depth();
        }
        let ends = duration(&scenario);
        for _ in 0..12 {
            let fault = Fault::Cut { edge: dice.below(3) as usize, unreachable: dice.ms(0, 1500) };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 3), fault);
        }
        let report = scenario.run_exactly();
        let connection_only = |(edge, how): &(&str, Recovery)| {
            assert_ne!(*how, Recovery::StateLost, "{edge} has lost nothing");
        };
        report.recoveries().iter().for_each(connection_only);
    }
}

#[test]
fn connections_lost_before_the_first_round_change_nothing() {
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario { rounds: 2, ..Scenario::new(seed) };
        let begins = scenario.run().trained_at();
        for _ in 0..5 {
            let fault = Fault::Cut { edge: dice.below(3) as usize, unreachable: dice.ms(0, 100) };
            scenario = scenario.fault(dice.between(Duration::ZERO, begins * 2), fault);
        }
        scenario.run_exactly();
    }
}

#[test]
fn lost_connections_change_nothing_in_the_other_algorithms() {
    for seed in 0..30 {
        for base in [
            Scenario::new(seed).cut_at(LAYERS),
            Scenario::centralized(seed),
            Scenario::shared_behind_a_cut(seed),
            Scenario::handed_on(seed),
        ] {
            let mut dice = Dice::new(seed);
            let mut scenario = base;
            let ends = duration(&scenario);
            for _ in 0..6 {
                let fault = Fault::Cut { edge: dice.below(3) as usize, unreachable: dice.ms(0, 1500) };
                scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
            }
            scenario.run_exactly();
        }
    }
}
