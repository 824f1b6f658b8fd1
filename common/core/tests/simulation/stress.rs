//! temp
use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, Scenario};
use partway_core::coordinator::{Cuts, Outcome};
use std::time::Duration;

#[test]
fn stress() {
    let from: u64 = std::env::var("FROM").ok().and_then(|x| x.parse().ok()).unwrap_or(0);
    let n: u64 = std::env::var("N").ok().and_then(|x| x.parse().ok()).unwrap_or(0);
    let mut fails = 0;
    for seed in from..from + n {
        let mut dice = Dice::new(seed);
        let base = match dice.below(6) {
            0 => Scenario::new(seed),
            1 => Scenario::new(seed).any_depth(),
            2 => Scenario::new(seed).cut_at(LAYERS),
            3 => Scenario { cuts: Cuts::Planned, ..Scenario::new(seed) },
            4 => Scenario { reset_moments: true, workers: 1, ..Scenario::new(seed).any_depth() },
            _ => Scenario::centralized(seed),
        };
        let exact = dice.chance(0.7);
        let ends = base.run().ended_at;
        let mut scenario = Scenario {
            copies: if dice.chance(0.5) { 0.3 } else { 0.0 },
            quorum: if exact { 1.0 } else { 0.3 },
            rounds: 3 + dice.below(6) as u32,
            aggregate_every: 1 + dice.below(4) as u32,
            evaluation_ms: (1, 1 + 2000 * dice.below(2)),
            ..base
        };
        for _ in 0..=dice.below(8) {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(8) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 3000) },
                1 | 2 | 3 => Fault::Crash {
                    edge,
                    restart: if exact || dice.chance(0.7) {
                        Some(dice.ms(0, if exact { 3000 } else { 90000 }))
                    } else {
                        None
                    },
                    folder_lost: !exact && dice.chance(0.4),
                },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, if exact { 1500 } else { 70000 }) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        let r = std::panic::catch_unwind(|| {
            if exact {
                scenario.run_exactly();
            } else {
                let r = scenario.run();
                if let Outcome::Aborted { reason } = r.outcome {
                    if !reason.contains("did not come back") && !reason.contains("asked to take part") {
                        panic!("{reason}")
                    }
                }
            }
        });
        if r.is_err() {
            fails += 1;
            eprintln!("FAIL seed {seed} exact {exact}");
            if fails > 5 {
                break;
            }
        }
    }
    assert_eq!(fails, 0);
}
