//! Where a model is cut changes nothing in what it learns, bit for bit.

use partway_core::event::EventKind;

use crate::experiment::{Experiment, Record, SMALL};

fn every_cut_learns_the_same(optimizer: &str) {
    let optimizer = format!("training.optimizer={optimizer}");
    let run = |sets: &[&str]| {
        let sets: Vec<&str> = [optimizer.as_str()].into_iter().chain(sets.iter().copied()).collect();
        let record = Experiment::new(SMALL).run(&sets);
        assert_eq!(record.aggregated(), [5, 7], "the run ends with an aggregation");
        assert_eq!((record.number("rounds"), record.number("aggregations")), (7, 2));
        record
    };
    let unsplit = run(&["training.algorithm=fedavg"]).weights();
    for cut in ["plan.fixed_cut=2", "plan.fixed_cut=8"] {
        assert_eq!(run(&[cut]).weights(), unsplit, "{optimizer} {cut}");
    }

    let moving = run(&["plan.fixed_cut=random"]);
    let cuts = moving.cuts("camera-0");
    let both_ways = [|pair: &[u32]| pair[0] < pair[1], |pair: &[u32]| pair[0] > pair[1]];
    assert!(both_ways.iter().all(|way| cuts.windows(2).any(way)), "cuts move both ways: {cuts:?}");
    let is_moved = |event| matches!(event, &EventKind::StateMoved { round: 2..=5, .. });
    assert!(moving.events.iter().any(|event| is_moved(&event.kind)), "layers move between aggregations");
    assert_eq!(moving.weights(), unsplit, "{optimizer}, cut at random every round");
}

#[test]
fn every_cut_learns_the_same_with_momentum() {
    every_cut_learns_the_same("{ kind = \"sgd\", lr = 0.05, momentum = 0.9, weight_decay = 0.001 }");
}

#[test]
fn every_cut_learns_the_same_with_adam() {
    every_cut_learns_the_same("{ kind = \"adam\", lr = 0.002 }");
}

#[test]
fn tensors_on_a_connection_of_their_own_change_nothing() {
    let run = |sets: &[&str]| Experiment::new(SMALL).run(&[&["plan.fixed_cut=random"], sets].concat());
    let one = run(&[]);
    // An emulated link carries both connections.
    let two = run(&["wire.data_connection=true", "edge.gateway.rtt=4ms", "edge.gateway.uplink_mbps=100"]);
    assert_eq!(two.weights(), one.weights());
    let addresses = |record: &Record| match &record.events[0].kind {
        EventKind::Listening { address, data_address } => (address.clone(), data_address.clone()),
        other => panic!("the coordinator does not listen: {other:?}"),
    };
    assert_eq!(addresses(&one).1, None);
    let (control, data) = addresses(&two);
    assert!(data.is_some_and(|data| data != control));
    assert!(two.number("bytes_up") > 0 && two.number("bytes_up") == one.number("bytes_up"));
}
