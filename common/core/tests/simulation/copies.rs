//! The network delivers messages and tensors again, up to much later: nobody notices.

use std::time::Duration;

use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, Scenario};

#[test]
fn copies_of_messages_and_tensors_change_nothing() {
    for seed in 0..60 {
        for base in [
            Scenario::new(seed).any_depth(),
            Scenario::centralized(seed),
            Scenario::shared_behind_a_cut(seed),
            Scenario::handed_on(seed),
        ] {
            Scenario { copies: 0.4, ..base }.run_exactly();
        }
    }
}

#[test]
fn copies_change_nothing_while_connections_are_lost_and_edges_crash() {
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let base = match seed % 4 {
            0 | 1 => Scenario::new(seed).any_depth(),
            2 => Scenario::new(seed).cut_at(LAYERS),
            _ => Scenario::centralized(seed),
        };
        let ends = base.run().ended_at;
        let mut scenario = Scenario { copies: 0.3, ..base };
        for _ in 0..6 {
            let edge = dice.below(3) as usize;
            let fault = if dice.chance(0.4) {
                Fault::Crash { edge, restart: Some(dice.ms(0, 2000)), folder_lost: false }
            } else {
                Fault::Cut { edge, unreachable: dice.ms(0, 1500) }
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        scenario.run_exactly();
    }
}
