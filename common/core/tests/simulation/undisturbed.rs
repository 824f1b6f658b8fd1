//! Nothing goes wrong: any cut gives the bits of unsplit training.

use partway_core::coordinator::{Cuts, Outcome};
use partway_core::event::EventKind;

use crate::scenario::{LAYERS, Scenario, bits};

#[test]
fn every_fixed_cut_gives_the_bits_of_unsplit_training() {
    for cut in 0..=LAYERS {
        for seed in 0..3 {
            Scenario::new(seed).cut_at(cut).run_exactly();
        }
    }
}

#[test]
fn random_cuts_in_every_round_give_the_same_bits() {
    for seed in 0..40 {
        Scenario::new(seed).run_exactly();
        Scenario::new(seed).any_depth().run_exactly();
    }
}

#[test]
fn planned_cuts_give_the_same_bits() {
    for seed in 0..10 {
        Scenario { cuts: Cuts::Planned, ..Scenario::new(seed) }.run_exactly();
    }
}

#[test]
fn moments_that_start_anew_give_the_same_bits_everywhere() {
    for seed in 0..10 {
        Scenario { reset_moments: true, ..Scenario::new(seed) }.run_exactly();
    }
}

#[test]
fn one_model_gives_its_own_bits_whoever_trains_it() {
    for seed in 0..10 {
        for base in
            [Scenario::centralized(seed), Scenario::shared_behind_a_cut(seed), Scenario::handed_on(seed)]
        {
            Scenario { reset_moments: seed % 2 == 1, ..base }.run_exactly();
        }
        Scenario { cuts: Cuts::Planned, ..Scenario::shared_behind_a_cut(seed) }.run_exactly();
    }
}

#[test]
fn a_common_cut_is_one_for_all_and_moves_at_aggregations_only() {
    let mut moved = 0;
    for seed in 0..10 {
        let scenario = Scenario { rounds: 9, aggregate_every: 3, ..Scenario::shared_behind_a_cut(seed) };
        let report = scenario.run_exactly();
        for event in &report.events {
            if let EventKind::Planned { edges, .. } = &event.kind {
                assert!(edges.iter().all(|edge| edge.cut == edges[0].cut), "{edges:?}");
            }
        }
        for (round, cut) in report.common_cuts() {
            if round > 0 && report.common_cuts()[&(round - 1)] != cut {
                assert!(round % 3 == 0, "it moved before round {round}");
                moved += 1;
            }
        }
    }
    assert!(moved > 5, "it moved only {moved} times");
}

#[test]
fn edges_take_turns_in_name_order() {
    let scenario = Scenario::handed_on(3);
    let report = scenario.run_exactly();
    let turns: Vec<(u32, &str)> = report
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::HandedOn { round, edge, .. } => Some((*round, edge.as_str())),
            _ => None,
        })
        .collect();
    let order = (1..=scenario.rounds).flat_map(|round| ["attic", "barn", "cellar"].map(|edge| (round, edge)));
    assert_eq!(turns, order.collect::<Vec<_>>());
    let steps: Vec<(u32, &str)> = report
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Step { round, edge, .. } => Some((*round, edge.as_str())),
            _ => None,
        })
        .collect();
    assert!(steps.is_sorted() && steps.len() == (3 * scenario.steps * scenario.rounds) as usize, "{steps:?}");
}

/// With one edge there is nothing to average, nobody to wait for and nobody to hand on to.
#[test]
fn with_one_edge_all_algorithms_give_the_same_bits() {
    for seed in 0..10 {
        let alone = |mut scenario: Scenario| {
            scenario.edges.truncate(1);
            let scenario = Scenario { min_edges: 1, reset_moments: seed % 2 == 0, ..scenario };
            match scenario.run_exactly().outcome {
                Outcome::Finished { state, .. } => bits(&state),
                Outcome::Aborted { reason } => panic!("{reason}"),
            }
        };
        let fedavg = alone(Scenario::new(seed).cut_at(LAYERS));
        for other in [
            Scenario::new(seed),
            Scenario::shared_behind_a_cut(seed),
            Scenario::handed_on(seed),
            Scenario::centralized(seed),
        ] {
            let topology = other.topology;
            assert!(alone(other) == fedavg, "{topology:?}, seed {seed}");
        }
    }
}

#[test]
fn a_given_model_is_what_training_starts_from() {
    for seed in 0..10 {
        Scenario { given: true, ..Scenario::new(seed) }.any_depth().run_exactly();
        Scenario { given: true, ..Scenario::centralized(seed) }.run_exactly();
        Scenario { given: true, ..Scenario::shared_behind_a_cut(seed) }.run_exactly();
        Scenario { given: true, ..Scenario::handed_on(seed) }.run_exactly();
    }
}
