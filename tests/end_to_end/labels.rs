//! Labels that never leave the edge change nothing in what is learned.

use std::sync::OnceLock;

use partway_core::event::{EventKind, Recovery};

use crate::experiment::{Experiment, Record, SMALL};

const STAY: &str = "training.labels=edge";

/// The weights of training without a cut, which all of these runs must end with.
fn unsplit() -> String {
    static WEIGHTS: OnceLock<String> = OnceLock::new();
    let run = || Experiment::new(SMALL).run(&["training.algorithm=fedavg"]);
    WEIGHTS.get_or_init(|| run().weights()).clone()
}

/// Nothing that the coordinator was told says anything of a label.
fn assert_nothing_is_known_of_labels(record: &Record) {
    for event in &record.events {
        match &event.kind {
            EventKind::EdgeJoined { labels, .. } => assert!(labels.is_empty(), "{labels:?}"),
            // A tensor with labels would have been.
            EventKind::EdgeRefused { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
}

#[test]
fn every_cut_learns_the_same_with_the_labels_on_the_edge() {
    for cut in ["plan.fixed_cut=1", "plan.fixed_cut=10", "plan.fixed_cut=random"] {
        let record = Experiment::new(SMALL).run(&[STAY, cut]);
        assert_nothing_is_known_of_labels(&record);
        assert_eq!(record.weights(), unsplit(), "{cut}");
        let steps = record.events.iter().filter_map(|event| match &event.kind {
            EventKind::Step { loss, bytes_up, bytes_down, .. } => Some((*loss, *bytes_up, *bytes_down)),
            _ => None,
        });
        let mut count = 0;
        for (loss, bytes_up, bytes_down) in steps {
            count += 1;
            assert!(loss > 0.0, "the edge says how its batches went");
            // Of the classifier's 84 inputs per sample: their gradient up, their values down.
            assert!(bytes_up.min(bytes_down) > 16 * 84 * 4, "two tensors each way");
        }
        assert_eq!(count, 3 * 7 * 3, "every step of every edge");
    }
}

#[test]
fn the_whole_model_on_the_edge_learns_the_same_with_its_classifier_apart() {
    let sets =
        [STAY, "plan.allow_local=true", "plan.fixed_cut=random", "plan.max_depth=11", "plan.min_depth=9"];
    let record = Experiment::new(SMALL).run(&sets);
    let cuts: Vec<u32> =
        ["camera-0", "camera-1", "gateway"].iter().flat_map(|edge| record.cuts(edge)).collect();
    assert!(cuts.contains(&11) && cuts.contains(&9), "{cuts:?}");
    assert_eq!(record.weights(), unsplit());
}

#[test]
fn adam_and_moving_cuts_learn_the_same_with_the_labels_on_the_edge() {
    let adam = "training.optimizer={ kind = \"adam\", lr = 0.002 }";
    let unsplit = Experiment::new(SMALL).run(&[adam, "training.algorithm=fedavg", STAY]);
    assert_nothing_is_known_of_labels(&unsplit);
    let moving = Experiment::new(SMALL).run(&[adam, "plan.fixed_cut=random", STAY]);
    assert_eq!(moving.weights(), unsplit.weights());
}

#[test]
fn an_edge_that_is_killed_repeats_its_round_with_the_labels_on_the_edge() {
    let sets = [STAY, "edge.gateway.speed=0.02", "plan.fixed_cut=random"];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    for round in ["round 1:", "round 3:", "round 5:"] {
        run.wait_for(round);
        run.kill_edge("gateway");
        run.wait_for("edge gateway: back");
    }
    let record = run.finish();
    let recoveries = record.recoveries("gateway");
    assert!(recoveries.contains(&Recovery::RolledBack), "{recoveries:?}");
    assert!(!recoveries.contains(&Recovery::StateLost), "{recoveries:?}");
    assert_eq!(record.weights(), unsplit());
}

/// Lossy codecs in all four tensors of a step: a step that is repeated selects and rounds the same.
#[test]
fn an_edge_that_is_killed_selects_the_same_values_again_with_the_labels_on_the_edge() {
    let sets = |speed: &'static str| {
        let codec = "wire.activations={ kind = \"topk\", fraction = 0.2, values = \"f16\" }";
        [STAY, codec, "wire.gradients=int8", "plan.fixed_cut=random", speed]
    };
    let undisturbed = Experiment::new(SMALL).run(&sets("edge.gateway.speed=1.0"));
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets("edge.gateway.speed=0.02"));
    for round in ["round 2:", "round 4:"] {
        run.wait_for(round);
        run.kill_edge("gateway");
        run.wait_for("edge gateway: back");
    }
    let record = run.finish();
    assert_nothing_is_known_of_labels(&record);
    assert_eq!(record.weights(), undisturbed.weights());
    assert_ne!(record.weights(), unsplit(), "the codecs are at work");
    let bytes = |record: &Record| record.number("bytes_up");
    let plain = Experiment::new(SMALL).run(&[STAY, "plan.fixed_cut=random"]);
    assert!(bytes(&undisturbed) < bytes(&plain) / 2, "{} of {}", bytes(&undisturbed), bytes(&plain));
}

/// Micro-batches add up in their order on every layer, so that it is the same numbers again wherever the labels are.
#[test]
fn micro_batches_learn_the_same_with_the_labels_on_the_edge() {
    let parts = "wire.in_flight=4";
    let in_the_cloud = Experiment::new(SMALL).run(&[parts, "plan.fixed_cut=3"]).weights();
    for cut in ["plan.fixed_cut=1", "plan.fixed_cut=10", "plan.fixed_cut=random"] {
        let record = Experiment::new(SMALL).run(&[STAY, parts, cut]);
        assert_nothing_is_known_of_labels(&record);
        assert_eq!(record.weights(), in_the_cloud, "{cut}");
    }
    assert_ne!(in_the_cloud, unsplit(), "parts are summed otherwise than whole batches");
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&[STAY, parts, "edge.gateway.speed=0.02", "plan.fixed_cut=random"]);
    for round in ["round 2:", "round 4:"] {
        run.wait_for(round);
        run.kill_edge("gateway");
        run.wait_for("edge gateway: back");
    }
    let record = run.finish();
    assert!(record.recoveries("gateway").contains(&Recovery::RolledBack));
    assert_eq!(record.weights(), in_the_cloud);
}
