//! What split training is for: nearly the accuracy of training on all the data in one place.

use crate::experiment::{Experiment, Record};

/// `LeNet-5` on all of MNIST over five equal edges, with rounds long enough for it to settle.
const FIVE_EDGES: &str = r#"
    name = "five-edges"
    [model]
    arch = "lenet5"
    [data]
    dataset = "mnist"
    partition = "iid"
    [training]
    batch_size = 16
    steps_per_round = 60
    aggregate_every = 5
    max_rounds = 30
    optimizer = { kind = "sgd", lr = 0.01, momentum = 0.9 }
    [[edge]]
    name = "edge"
    count = 5
"#;

fn run(sets: &[&str]) -> Record {
    let record = Experiment::new(FIVE_EDGES).run(sets);
    assert_eq!(record.aggregated(), [5, 10, 15, 20, 25, 30]);
    record
}

#[test]
fn thirty_rounds_on_five_edges_come_within_half_a_point_of_centralized_training() {
    let split = run(&["plan.fixed_cut=3"]).accuracy();
    // Batches of 16 without averaging leave its accuracy to chance in any one round: its best one counts.
    let centralized = run(&["training.algorithm=centralized", "data.allow_raw_data=true"]).best_accuracy();
    assert!(centralized > 0.975, "the reference has learned: {centralized}");
    assert!(split >= centralized - 0.005, "split {split}, centralized {centralized}");
}
