//! The exchange of statistics, which takes two turns for `log`: whoever is lost or crashes in between,
//! the standardizer is the one that all data in one place gives.

use std::time::Duration;

use partway_core::event::EventKind;
use partway_core::standardize::{Fit, Method, Standardizer, Transform};
use partway_core::statistics::ChannelStatistics;

use crate::edge::data;
use crate::network::Dice;
use crate::scenario::{Fault, Report, Scenario};

fn log(seed: u64) -> Scenario {
    Scenario { standardization: Method::Log, rounds: 2, ..Scenario::new(seed) }
}

/// What the edges' data, all in one place, gives.
fn pooled(scenario: &Scenario) -> Standardizer {
    let all: Vec<f32> = scenario.edges.iter().flat_map(|edge| data(&edge.name)).collect();
    let measured = |of: &Transform| {
        let mut values = all.clone();
        of.apply(&mut values, all.len()).expect("one channel");
        let mut channel = ChannelStatistics::default();
        channel.push_all(&values);
        Standardizer::fit(scenario.standardization, of, &[channel]).expect("finite")
    };
    match measured(&Transform::Identity) {
        Fit::Done(standardizer) => standardizer,
        Fit::Measure(next) => match measured(&next) {
            Fit::Done(standardizer) => standardizer,
            Fit::Measure(_) => panic!("two exchanges are enough"),
        },
    }
}

/// Every coordinator of the run fitted what the pooled data gives.
fn assert_pooled(scenario: &Scenario, report: &Report) {
    let expected = pooled(scenario);
    let mut fitted = 0;
    for event in &report.events {
        let EventKind::Standardized { method, shifts, offsets, scales } = &event.kind else { continue };
        fitted += 1;
        assert_eq!(*method, expected.method.to_string());
        assert_eq!(shifts, expected.transform.shifts());
        let near = |fitted: f32, pooled: f32| (fitted - pooled).abs() <= 1e-6 * pooled.abs();
        let affine = expected.channels[0];
        assert!(near(offsets[0], affine.offset) && near(scales[0], affine.scale), "{event:?} {affine:?}");
    }
    assert!(fitted > 0);
}

#[test]
fn every_method_is_fitted_to_everybodys_data() {
    for method in [Method::Zscore, Method::MinMax, Method::Log, Method::UnitNorm, Method::None] {
        let scenario = Scenario { standardization: method, ..log(1) };
        assert_pooled(&scenario, &scenario.run_exactly());
    }
}

#[test]
fn lost_connections_and_crashes_between_the_exchanges_change_nothing() {
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario { copies: if seed % 3 == 0 { 0.4 } else { 0.0 }, ..log(seed) };
        let begins = scenario.run().trained_at();
        for _ in 0..4 {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(5) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 500) },
                1..3 => Fault::Crash { edge, restart: Some(dice.ms(0, 500)), folder_lost: dice.chance(0.5) },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 200) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, begins * 2), fault);
        }
        assert_pooled(&scenario, &scenario.run());
    }
}

#[test]
fn an_edge_that_vanishes_between_the_exchanges_stops_the_others_only_for_the_window() {
    let scenario = Scenario { quorum: 0.5, ..log(3) };
    let undisturbed = scenario.run();
    let (from, to) = (undisturbed.gathered_at(), undisturbed.trained_at());
    for at in 0..40 {
        let fault = Fault::Crash { edge: 1, restart: None, folder_lost: false };
        let report = scenario.clone().fault(from + (to - from) * at / 40, fault).run();
        assert_eq!(report.aborted(), None);
        assert!(report.events.iter().any(|event| matches!(event.kind, EventKind::EdgeDropped { .. })));
    }
}
