//! Work that was handed in after its round was over.

use super::*;

#[test]
fn late_work_counts_from_the_aggregation_on_that_takes_it_in() {
    let mut run = Run::with(&["a", "b"]);
    run.round(1, &["a", "b"]);
    run.plan(2);
    run.step("a", (2, 0), 3, 100.0);
    run.step("b", (2, 0), 3, 700.0);
    run.defer("b", 2);
    run.aggregate(2, 1);
    run.evaluate(2, 0.5);
    run.plan(3);
    run.step("b", (2, 0), 3, 700.0);
    run.catch_up("b", 2);
    run.step("a", (3, 0), 3, 100.0);
    run.round(4, &["a", "b"]);
    run.aggregate(4, 2);
    run.evaluate(4, 0.6);
    run.finish(4, false);
    let summary = run.summary();
    assert_eq!(steps(&summary), [4, 4]);
    assert_eq!(summary.edges.iter().map(|edge| edge.deferred).collect::<Vec<_>>(), [0, 1]);
    let trained: Vec<_> = run.rows.iter().map(|row| row.samples_trained).collect();
    assert_eq!(trained, [2 * 64, 8 * 64], "what b did before it was deferred is in the second model, too");
    assert!(
        close(run.rows[0].training_loss, 1.0) && close(run.rows[1].training_loss, (4.0 + 2.0 * 7.0) / 6.0)
    );
}

#[test]
fn late_work_that_no_aggregation_takes_in_does_not_count() {
    let late = |to_its_end: bool| {
        let mut run = Run::with(&["a", "b"]);
        run.plan(1);
        run.step("a", (1, 0), 3, 100.0);
        run.step("b", (1, 0), 3, 700.0);
        run.defer("b", 1);
        run.aggregate(1, 1);
        run.plan(2);
        run.step("a", (2, 0), 3, 100.0);
        if to_its_end {
            run.catch_up("b", 1);
        } else {
            run.drop("b", 2);
        }
        run
    };
    for to_its_end in [true, false] {
        // The target was met by the model after the first round.
        let mut run = late(to_its_end);
        run.finish(1, true);
        assert_eq!(steps(&run.summary()), [1, 0]);
    }
    // The coordinator that it was handed in to is gone.
    let mut run = late(true);
    run.gather(&["a", "b"]);
    run.round(2, &["a", "b"]);
    run.aggregate(2, 2);
    run.finish(2, false);
    assert_eq!(steps(&run.summary()), [2, 1]);
    // What was handed in stays, whatever becomes of the edge.
    let mut run = late(true);
    run.plan(3);
    run.drop("b", 3);
    run.aggregate(3, 2);
    run.finish(3, false);
    assert_eq!(steps(&run.summary()), [2, 1]);
}

#[test]
fn late_work_that_comes_while_a_model_is_made_is_part_of_the_next_one() {
    let mut run = Run::with(&["a", "b"]);
    run.plan(1);
    run.step("a", (1, 0), 3, 100.0);
    run.step("b", (1, 0), 3, 700.0);
    run.defer("b", 1);
    run.catch_up("b", 1);
    run.aggregate(1, 1);
    run.evaluate(1, 0.5);
    run.round(2, &["a", "b"]);
    run.aggregate(2, 2);
    run.evaluate(2, 0.6);
    let trained: Vec<_> = run.rows.iter().map(|row| row.samples_trained).collect();
    assert_eq!(trained, [64, 4 * 64]);
}
