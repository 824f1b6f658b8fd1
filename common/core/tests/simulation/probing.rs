//! Edges that train alone have their links probed, where the planner could move their cuts.

use std::collections::BTreeMap;
use std::time::Duration;

use partway_core::coordinator::Cuts;
use partway_core::event::EventKind;

use crate::scenario::{Fault, LAYERS, Report, Scenario};

/// How many probes there were, by round, edge and direction.
fn probes(report: &Report) -> BTreeMap<(u32, String, String), usize> {
    let mut counted = BTreeMap::new();
    for event in &report.events {
        if let EventKind::Probed { round, edge, direction, bytes } = &event.kind {
            assert!(*bytes > 16 * 1024, "{bytes} tell nothing");
            *counted.entry((*round, edge.clone(), direction.clone())).or_default() += 1;
        }
    }
    counted
}

/// Edges that mostly train alone, in rounds long enough that a hundredth of one tells something.
fn mostly_alone(seed: u64) -> Scenario {
    Scenario { cuts: Cuts::Planned, depth: LAYERS - 1..=LAYERS, steps: 150, rounds: 2, ..Scenario::new(seed) }
}

#[test]
fn edges_that_train_alone_are_probed_twice_a_round_each_way() {
    let mut found = BTreeMap::new();
    for seed in 0..10 {
        let report = mostly_alone(seed).run_exactly();
        let mut alone = Vec::new();
        for event in &report.events {
            if let EventKind::Planned { round, edges, .. } = &event.kind {
                let local = edges.iter().filter(|edge| edge.cut as usize == LAYERS);
                alone.extend(local.map(|edge| (*round, edge.edge.clone())));
            }
        }
        for ((round, edge, direction), count) in probes(&report) {
            assert!(alone.contains(&(round, edge.clone())), "seed {seed}: {edge} did not train alone");
            assert!(count <= 2, "seed {seed}: {edge} was probed {count} times");
            *found.entry(direction).or_insert(0) += count;
        }
    }
    assert!(found.len() == 2 && found.values().all(|count| *count >= 20), "{found:?}");
}

#[test]
fn nobody_is_probed_where_nothing_follows_from_it() {
    for seed in 0..5 {
        let fixed = Scenario { cuts: Cuts::Fixed(LAYERS), ..mostly_alone(seed) };
        let only = Scenario { depth: LAYERS..=LAYERS, ..mostly_alone(seed) };
        for scenario in [fixed, only] {
            assert_eq!(probes(&scenario.run_exactly()), BTreeMap::new());
        }
    }
}

#[test]
fn a_connection_lost_at_any_moment_changes_nothing() {
    for seed in 0..12 {
        let scenario = mostly_alone(seed);
        let trained_at = scenario.run().trained_at();
        let cut = Fault::Cut { edge: 1, unreachable: Duration::from_secs(2) };
        let report = Scenario { copies: 0.2, ..scenario }
            .fault(trained_at + Duration::from_millis(40 * seed), cut)
            .run_exactly();
        assert!(probes(&report).values().all(|count| *count <= 4), "a round was begun once again at most");
    }
}
