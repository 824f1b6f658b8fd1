//! Anything, at any time: random topologies, settings and faults.
//!
//! `PARTWAY_SIMULATIONS=100000 cargo test -p partway-core --test simulation anything` explores further.

use std::time::Duration;

use partway_core::coordinator::{Cuts, Outcome, Stragglers};
use partway_core::standardize::Method;

use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, Scenario};

/// How many seeds are tried.
fn simulations() -> u64 {
    std::env::var("PARTWAY_SIMULATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

fn drawn(dice: &mut Dice, seed: u64) -> Scenario {
    let base = match dice.below(10) {
        0 => Scenario::new(seed),
        1 => Scenario::new(seed).any_depth(),
        2 => Scenario::new(seed).cut_at(LAYERS),
        3 => Scenario { cuts: Cuts::Planned, ..Scenario::new(seed) },
        4 => Scenario { reset_moments: true, workers: 1, ..Scenario::new(seed).any_depth() },
        5 => Scenario::shared_behind_a_cut(seed),
        6 => Scenario { reset_moments: true, workers: 1, ..Scenario::shared_behind_a_cut(seed) },
        7 => Scenario::handed_on(seed),
        8 => Scenario { cuts: Cuts::Planned, depth: 1..=LAYERS - 1, ..Scenario::handed_on(seed) },
        _ => Scenario::centralized(seed),
    };
    let base = if dice.chance(0.4) && !base.has_one_model() { base.labels_on_the_edge() } else { base };
    Scenario {
        rounds: 3 + dice.below(6) as u32,
        aggregate_every: 1 + dice.below(4) as u32,
        copies: if dice.chance(0.5) { 0.3 } else { 0.0 },
        evaluation_ms: (1, 1 + 2000 * dice.below(2)),
        holdout: dice.chance(0.3).then_some(0.1),
        standardization: if dice.chance(0.3) { Method::Log } else { Method::Zscore },
        stragglers: match dice.below(10) {
            0..3 => Stragglers::Drop { factor: 2.0 },
            3..6 => Stragglers::Defer { factor: 2.0 },
            _ => Stragglers::Wait,
        },
        ..base
    }
}

#[test]
fn whatever_happens_to_edges_that_come_back_changes_nothing() {
    for seed in 0..simulations() {
        let mut dice = Dice::new(seed);
        let mut scenario = drawn(&mut dice, seed);
        let ends = scenario.run().ended_at;
        for _ in 0..=dice.below(8) {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(8) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 3000) },
                1..4 => Fault::Crash { edge, restart: Some(dice.ms(0, 3000)), folder_lost: false },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 1500) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        scenario.run_exactly();
    }
}

/// Edges stay away for longer than the window or for good, and lose their folders: the run ends, and the
/// simulator sees to it that no step counts twice.
#[test]
fn whatever_happens_to_anybody_the_run_ends() {
    for seed in 0..simulations() {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario { quorum: 0.3, ..drawn(&mut dice, seed) };
        let ends = scenario.run().ended_at;
        for _ in 0..=dice.below(8) {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(8) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 3000) },
                1..4 => {
                    let restart = dice.chance(0.7).then(|| dice.ms(0, 90_000));
                    Fault::Crash { edge, restart, folder_lost: dice.chance(0.4) }
                }
                4 => Fault::Slow { edge, slowness: 1 << dice.below(9) },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 70_000) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        if let Outcome::Aborted { reason } = scenario.run().outcome {
            let too_few = ["did not come back within", "asked to take part within"];
            assert!(too_few.iter().any(|words| reason.contains(words)), "seed {seed}: {reason}");
        }
    }
}
