//! The course of a run is a function of its configuration.

use super::fixture::{Ran, SMALL, run};

/// Everything that is drawn at random, and edges that differ.
const RANDOM: [&str; 6] = [
    "edge.camera.count=3",
    "edge.camera.jitter=3ms",
    "edge.camera.loss=0.02",
    "cloud.workers=2",
    "data.partition=dirichlet",
    "data.min_samples=20",
];

fn with(sets: &[&str], threads: usize) -> Ran {
    run(SMALL, &[&RANDOM[..], sets].concat(), threads)
}

#[test]
fn every_algorithm_runs_the_same_on_any_number_of_threads() {
    for sets in [
        &["plan.fixed_cut=random", "plan.min_depth=2"][..],
        &["training.algorithm=splitfed-v2"],
        &["training.algorithm=sequential"],
        &["training.labels=edge"],
        &["data.evaluate=edges"],
        &["wire.activations={ kind = \"topk\", fraction = 0.2 }", "wire.gradients=int8"],
    ] {
        let (one, two) = (with(sets, 1), with(sets, 2));
        assert_eq!(one.end, Ok(crate::run::supervise::End::Finished), "{sets:?}");
        assert!(one.log == two.log, "{sets:?}: the logs differ");
        assert_eq!(one.weights(), two.weights(), "{sets:?}");
        assert!(one.log.len() > 5_000, "{sets:?}: something happened");
    }
    assert!(with(&[], 1).log != with(&["seed=4"], 1).log, "another seed, another course");
}

/// Those that choose their own cut.
#[test]
fn unsplit_training_is_the_same_as_split() {
    let planned = SMALL.replace("fixed_cut = 2", "");
    let unsplit = |sets: &[&str]| run(&planned, &[&RANDOM[..], sets].concat(), 2);
    let local = unsplit(&["training.algorithm=fedavg"]);
    assert_eq!(local.weights(), with(&[], 2).weights(), "the same at any cut");
    assert_eq!(
        local.weights(),
        with(&["plan.fixed_cut=random", "plan.min_depth=2"], 2).weights(),
        "however it moves"
    );
    let central = unsplit(&["training.algorithm=centralized", "data.allow_raw_data=true"]);
    assert_eq!(central.summary.rounds, 5);
}
