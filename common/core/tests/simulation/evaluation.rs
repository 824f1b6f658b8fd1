//! The edges evaluate the global model: all of them, between two rounds, whatever goes wrong; and
//! without one that stays away or has too little memory.

use std::time::Duration;

use partway_core::coordinator::Outcome;
use partway_core::event::{Event, EventKind};
use partway_core::holdout::held_out;
use partway_core::model::ModelCost;

use crate::fake_model::FakeModel;
use crate::network::Dice;
use crate::scenario::{Fault, LAYERS, MODEL, REJOIN_WINDOW, Report, Scenario, bits};

const SHARE: f64 = 0.2;

fn edges_evaluate(base: Scenario) -> Scenario {
    Scenario { holdout: Some(SHARE), ..base }
}

/// What an evaluation of the model after a round (from 1) gives over some edges.
fn expected(scenario: &Scenario, round: u32, edges: &[&str]) -> (f64, u64) {
    let counted = scenario.edges.iter().filter(|edge| edges.contains(&edge.name.as_str()));
    let counts = counted.map(|edge| held_out(edge.samples, SHARE));
    let (correct, samples) = counts.fold((0, 0), |(correct, all), samples| {
        (correct + scenario.correct(round - 1, samples), all + samples)
    });
    (correct as f64 / samples as f64, samples)
}

fn evaluations(report: &Report) -> Vec<(u32, f64, u64)> {
    let evaluated = |event: &Event| match event.kind {
        EventKind::Evaluated { round, accuracy, samples, .. } => Some((round, accuracy, samples)),
        _ => None,
    };
    report.events.iter().filter_map(evaluated).collect()
}

const ALL: [&str; 3] = ["attic", "barn", "cellar"];

/// Every edge's part is in every evaluation, and the last global model has one.
fn assert_complete(scenario: &Scenario, report: &Report) {
    let evaluated = evaluations(report);
    assert_eq!(evaluated.last().map(|(round, ..)| *round), Some(scenario.rounds));
    for (round, accuracy, samples) in evaluated {
        assert_eq!((accuracy, samples), expected(scenario, round, &ALL), "after round {round}");
    }
}

#[test]
fn every_aggregation_is_evaluated_by_all_edges_before_the_next_round() {
    for base in [
        Scenario::new(1),
        Scenario::new(2).any_depth(),
        Scenario::new(3).cut_at(LAYERS),
        Scenario::centralized(4),
    ] {
        let scenario = edges_evaluate(Scenario { rounds: 8, ..base });
        let report = scenario.run_exactly();
        assert_complete(&scenario, &report);
        assert_eq!(evaluations(&report).iter().map(|(round, ..)| *round).collect::<Vec<_>>(), [3, 6, 8]);
        let mut aggregated = 0;
        for event in &report.events {
            match event.kind {
                EventKind::Aggregated { round, .. } => aggregated = round,
                EventKind::EdgeEvaluated { round, .. } | EventKind::Evaluated { round, .. } => {
                    assert_eq!(round, aggregated);
                    aggregated = round;
                }
                EventKind::Planned { round, .. } if aggregated > 0 && round == aggregated + 1 => {
                    assert!(evaluations(&report).iter().any(|(of, ..)| *of == aggregated));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn lost_connections_and_crashes_at_any_time_leave_no_part_out() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let base = match seed % 4 {
            0 => Scenario::new(seed).any_depth(),
            1 => Scenario::new(seed).cut_at(LAYERS),
            2 => Scenario { copies: 0.3, ..Scenario::new(seed) },
            _ => Scenario::centralized(seed),
        };
        let mut scenario = edges_evaluate(Scenario { aggregate_every: 1, rounds: 4, ..base });
        let ends = scenario.run().ended_at;
        for _ in 0..6 {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(8) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 2000) },
                1..4 => Fault::Crash { edge, restart: Some(dice.ms(0, 3000)), folder_lost: false },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 1500) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        assert_complete(&scenario, &scenario.run_exactly());
    }
}

/// When the edges are asked for the last global model.
fn last_asked(report: &Report) -> Duration {
    let asked = report.events.iter().rfind(|event| matches!(event.kind, EventKind::Aggregated { .. }));
    Duration::from_secs_f64(asked.expect("it ends on one").at)
}

#[test]
fn an_edge_that_is_gone_in_the_last_evaluation_is_waited_for_as_long_as_in_a_round() {
    let (mut missing, mut in_time) = (0, 0);
    for seed in 0..40 {
        let scenario = edges_evaluate(Scenario::new(seed));
        let undisturbed = scenario.run();
        let gone = last_asked(&undisturbed);
        let back = seed % 2 == 0;
        let restart = back.then(|| Duration::from_secs(20));
        let fault = Fault::Crash { edge: 1, restart, folder_lost: seed % 4 == 0 };
        let report = scenario.clone().fault(gone + Duration::from_micros(10), fault).run_exactly();
        let (round, accuracy, samples) = *evaluations(&report).last().expect("the others evaluate");
        assert_eq!(round, 5);
        if samples == expected(&scenario, 5, &ALL).1 {
            assert!(back, "it never answered");
            in_time += 1;
            continue;
        }
        assert!(!back, "it was asked again");
        assert_eq!((accuracy, samples), expected(&scenario, 5, &["attic", "cellar"]));
        assert!(report.ended_at >= gone + REJOIN_WINDOW);
        assert!(report.ended_at < gone + REJOIN_WINDOW + Duration::from_secs(3));
        let says_so = |event: &Event| matches!(&event.kind, EventKind::EvaluationDeclined { round: 5, edge, reason } if edge == "barn" && reason.contains("fleet.rejoin_window"));
        assert!(report.events.iter().any(says_so));
        missing += 1;
    }
    assert!(missing > 10 && in_time > 10, "{missing} parts were missing, {in_time} came in time");
}

#[test]
fn without_anybody_there_is_no_evaluation_and_still_an_end() {
    let scenario = edges_evaluate(Scenario::new(1));
    let gone = last_asked(&scenario.run()) + Duration::from_micros(10);
    let mut disturbed = scenario.clone();
    for edge in 0..3 {
        disturbed = disturbed.fault(gone, Fault::Crash { edge, restart: None, folder_lost: false });
    }
    let report = disturbed.run_exactly();
    assert_eq!(evaluations(&report).iter().map(|(round, ..)| *round).collect::<Vec<_>>(), [3]);
    let reason = report.events.iter().find_map(|event| match &event.kind {
        EventKind::Finished { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(reason, Some("max_rounds were done without an evaluation of the last model"));
}

/// The model after three rounds is good: no step of the fourth is trained.
#[test]
fn a_target_ends_the_run_before_the_next_round() {
    for seed in 0..20 {
        let scenario = edges_evaluate(Scenario {
            rounds: 9,
            target_accuracy: Some(0.5),
            ..Scenario::new(seed).any_depth()
        });
        let report = scenario.run();
        let Outcome::Finished { rounds, state, target_reached } = &report.outcome else {
            panic!("{:?}", report.outcome);
        };
        assert!(*target_reached && *rounds == 3);
        assert!(bits(state) == bits(&scenario.expected(&MODEL, 3, &report.common_cuts())));
        assert!(!report.events.iter().any(|event| matches!(event.kind, EventKind::Planned { round: 4, .. })));
    }
}

#[test]
fn an_edge_without_memory_for_the_whole_model_trains_and_does_not_evaluate() {
    let mut scenario = edges_evaluate(Scenario::new(4));
    let batch = scenario.batch_size();
    let too_little = ModelCost::of(&FakeModel::new().spec).inference_memory_bytes(batch.into()) - 1;
    scenario.edges[2].memory_limit = Some(too_little);
    let report = scenario.run_exactly();
    for (round, accuracy, samples) in evaluations(&report) {
        assert_eq!((accuracy, samples), expected(&scenario, round, &["attic", "barn"]));
    }
    let declined: Vec<_> = report
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::EvaluationDeclined { round, edge, reason } => Some((*round, edge, reason)),
            _ => None,
        })
        .collect();
    let [(0, edge, reason)] = declined[..] else { panic!("said once: {declined:?}") };
    assert!(edge == "cellar" && reason.contains(&format!("the memory limit is {too_little}")), "{reason}");

    for edge in &mut scenario.edges {
        edge.memory_limit = Some(too_little);
    }
    let report = scenario.run();
    let reason = report.aborted().expect("nobody could say how good the model is");
    assert!(reason.contains("no edge can evaluate `fake`") && reason.contains("data.evaluate"), "{reason}");
    assert!(!report.events.iter().any(|event| matches!(event.kind, EventKind::Planned { .. })));
}
