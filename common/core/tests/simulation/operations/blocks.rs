//! What many edges get alike at the start of a round is there once, however long it waits to be sent.

use std::collections::{BTreeMap, BTreeSet};

use partway_core::event::EventKind;

use super::bench::{Bench, Operation};
use crate::fake_model::FakeModel;
use crate::scenario::{LAYERS, Scenario};

const EDGES: [usize; 3] = [0, 1, 2];

/// Three edges at the beginning of the second round, after an aggregation; the first one's layers they made themselves.
fn after_an_aggregation(scenario: Scenario) -> Bench {
    let scenario = Scenario { aggregate_every: 1, steps: 1, ..scenario.in_one_part() };
    let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
    for _ in EDGES {
        bench.operate(Operation::Connect);
    }
    let begins = |kind: &EventKind| matches!(kind, EventKind::Planned { round: 2, .. });
    for edge in EDGES.repeat(10) {
        bench.operate(Operation::Proceed(edge));
        bench.finish_all();
        if bench.events.iter().any(begins) {
            return bench;
        }
    }
    panic!("the second round never begins");
}

/// Of each range of layers that was sent, how often, and in how many bodies.
fn sent(bench: &Bench) -> BTreeMap<(u16, u16), (usize, usize)> {
    let mut bodies = BTreeMap::<_, (usize, BTreeSet<_>)>::new();
    for block in &bench.blocks {
        let (count, of) = bodies.entry((block.header.first_layer, block.header.last_layer)).or_default();
        *count += 1;
        of.insert(block.body.as_ref().as_ptr());
    }
    bodies.into_iter().map(|(layers, (count, of))| (layers, (count, of.len()))).collect()
}

#[test]
fn edges_with_the_same_cut_share_a_body() {
    let bench = after_an_aggregation(Scenario::new(1).cut_at(3));
    assert_eq!(sent(&bench), BTreeMap::from([((0, 3), (3, 1))]));
}

#[test]
fn edges_that_keep_their_labels_share_the_last_layers_too() {
    let scenario = Scenario::new(2).cut_at(3).labels_on_the_edge();
    let last = (scenario.tail.expect("they have some") as u16, LAYERS as u16);
    let bench = after_an_aggregation(scenario);
    assert_eq!(sent(&bench), BTreeMap::from([((0, 3), (3, 1)), (last, (3, 1))]));
}
