mod late;
mod script;

use partway_core::config::Clock;
use partway_core::coordinator::Topology;
use partway_core::event::Recovery;

use self::script::Run;
use super::*;

/// Steps that count of each edge, in name order.
fn steps(summary: &Summary) -> Vec<u64> {
    summary.edges.iter().map(|edge| edge.steps).collect()
}

fn close(actual: Option<f64>, expected: f64) -> bool {
    actual.is_some_and(|actual| (actual - expected).abs() < 1e-12)
}

#[test]
fn a_plain_run_adds_up() {
    let mut run = Run::with(&["a", "b"]); // 4 s
    run.plan(1); // 5 s
    for latency in [80.0, 100.0, 90.0] {
        run.step("a", (1, 0), 3, latency);
    }
    run.step("b", (1, 0), 4, 120.0); // 9 s
    run.aggregate(1, 1); // 10 s
    run.evaluate(1, 0.9); // 11 s
    run.finish(1, false); // 12 s
    let summary = run.summary();
    assert_eq!((summary.name.as_str(), summary.seed, summary.clock), ("quickstart", 42, Clock::Wall));
    assert_eq!((summary.rounds, summary.aggregations), (1, 1));
    assert_eq!((summary.final_accuracy, summary.best_accuracy), (Some(0.9), Some(0.9)));
    assert_eq!((summary.target_reached, summary.seconds_to_target), (false, None));
    assert_eq!((summary.seconds_total, summary.seconds_training, summary.seconds_clock), (12.0, 7.0, 7.0));
    assert_eq!(summary.samples_trained, 4 * 64);
    assert!(close(Some(summary.samples_per_second), 256.0 / 7.0));
    assert_eq!((summary.bytes_up, summary.bytes_down), (4000, 40));
    assert_eq!((summary.deadline_ms, summary.deadline_hit_rate), (Some(101.0), Some(0.75)));
    // |80-90|/80, |100-90|/100, 0, |120-90|/120: the median of 0, 0.1, 0.125, 0.25.
    assert!(close(summary.prediction_median_error, 0.1125));
    // Only `a` did several steps: |80-90|/80, 0.1, 0.
    assert!(close(summary.repeatability_floor, 0.1));
    let a = &summary.edges[0];
    assert_eq!((a.name.as_str(), a.samples, a.steps, a.dropped), ("a", 3000, 3, false));
    assert_eq!((a.step_ms_median, a.step_ms_predicted), (Some(90.0), Some(90.0)));
    assert_eq!((a.cut_first, a.cut_last, a.recuts), (Some(3), Some(3), 0));
    assert_eq!(summary.edges[1].cut_first, Some(4));
}

#[test]
fn what_an_edge_found_of_the_last_model_that_counts_is_its_accuracy() {
    let mut run = Run::with(&["a"]);
    run.then(EventKind::EdgeJoined { edge: "b".into(), samples: 90, held_out: 10, labels: vec![100] });
    let found = |round, accuracy| EventKind::EdgeEvaluated {
        round,
        edge: "b".into(),
        accuracy,
        loss: 0.5,
        samples: 10,
    };
    for (round, accuracy) in [(1, 0.5), (2, 0.25)] {
        run.round(round, &["a", "b"]);
        run.aggregate(round, round);
        run.then(found(round, accuracy));
    }
    // The coordinator has gone back to the model after the first round.
    run.plan(2);
    run.finish(1, false);
    let edges = run.summary().edges;
    assert_eq!((edges[0].held_out, edges[0].accuracy), (None, None));
    assert_eq!((edges[1].samples, edges[1].held_out, edges[1].accuracy), (90, Some(10), Some(0.5)));
    let json = serde_json::to_string(&edges[0]).expect("plain data");
    assert!(!json.contains("held_out") && !json.contains("accuracy"), "{json}");
}

#[test]
fn a_later_attempt_replaces_the_earlier_one() {
    let mut run = Run::with(&["a"]);
    run.plan(1);
    run.step("a", (1, 0), 3, 300.0);
    run.step("a", (1, 0), 3, 300.0);
    run.back("a", 1, Recovery::RolledBack);
    run.step("a", (1, 1), 3, 80.0);
    run.step("a", (1, 0), 3, 300.0); // late, of the attempt that was given up
    run.step("a", (1, 1), 3, 80.0);
    run.aggregate(1, 1);
    run.finish(1, false);
    let summary = run.summary();
    assert_eq!(summary.samples_trained, 2 * 64);
    assert_eq!(summary.deadline_hit_rate, Some(1.0));
    assert_eq!(summary.edges[0].step_ms_median, Some(80.0));
    assert_eq!(summary.bytes_up, 5 * 1000, "bytes crossed the wire whatever became of them");
}

#[test]
fn an_attempt_that_was_given_up_and_not_repeated_does_not_count() {
    let mut run = Run::with(&["a", "b"]);
    run.round(1, &["a", "b"]);
    run.aggregate(1, 1);
    run.plan(2);
    run.step("a", (2, 0), 3, 100.0);
    run.step("b", (2, 0), 3, 100.0);
    run.back("a", 2, Recovery::RolledBack);
    run.aggregate(2, 2);
    run.finish(2, false);
    assert_eq!(steps(&run.summary()), [1, 2]);
}

#[test]
fn a_lost_connection_alone_loses_no_step() {
    let mut run = Run::with(&["a"]);
    run.plan(1);
    run.step("a", (1, 0), 3, 100.0);
    run.back("a", 1, Recovery::Connection);
    run.step("a", (1, 0), 3, 100.0);
    run.aggregate(1, 1);
    run.finish(1, false);
    assert_eq!(steps(&run.summary()), [2]);
}

#[test]
fn the_round_that_the_end_cuts_off_does_not_count() {
    let mut run = Run::with(&["a"]); // 3 s
    run.round(1, &["a"]); // plan 4 s, step 5 s, done 6 s
    run.aggregate(1, 1);
    run.plan(2);
    run.step("a", (2, 0), 7, 900.0); // 9 s
    run.evaluate(1, 0.98); // 10 s
    run.finish(1, true);
    let summary = run.summary();
    assert_eq!((summary.rounds, summary.samples_trained), (1, 64));
    assert_eq!((summary.deadline_ms, summary.deadline_hit_rate), (Some(101.0), Some(1.0)));
    assert_eq!((summary.edges[0].steps, summary.edges[0].cut_last), (1, Some(3)));
    assert_eq!((summary.target_reached, summary.seconds_to_target), (true, Some(6.0)));
    assert_eq!((summary.seconds_total, summary.seconds_training), (11.0, 7.0));
    assert_eq!(summary.bytes_up, 2000);
}

#[test]
fn the_last_accuracy_is_not_always_the_best() {
    let mut run = Run::with(&["a"]);
    for (round, accuracy) in [(1, 0.5), (2, 0.95), (3, 0.9)] {
        run.round(round, &["a"]);
        run.aggregate(round, round);
        run.evaluate(round, accuracy);
    }
    run.finish(3, false);
    let summary = run.summary();
    assert_eq!((summary.final_accuracy, summary.best_accuracy), (Some(0.9), Some(0.95)));
    assert_eq!((summary.rounds, summary.aggregations), (3, 3));
}

#[test]
fn cuts_are_compared_from_round_to_round() {
    let mut run = Run::with(&["a"]);
    for (round, cut) in [(1, 3), (2, 5), (3, 5), (4, 3)] {
        run.plan(round);
        run.step("a", (round, 0), cut, 100.0);
        run.step("a", (round, 0), cut, 100.0);
    }
    run.aggregate(4, 1);
    run.finish(4, false);
    let edge = &run.summary().edges[0];
    assert_eq!((edge.cut_first, edge.cut_last, edge.recuts), (Some(3), Some(3), 2));
}

#[test]
fn weights_on_the_wire_are_bytes_too() {
    let mut run = Run::with(&["a"]);
    for (direction, bytes) in [("up", 7), ("down", 5), ("down", 5)] {
        run.then(EventKind::StateMoved { round: 1, edge: "a".into(), direction: direction.into(), bytes });
    }
    run.then(EventKind::Probed { round: 1, edge: "a".into(), direction: "up".into(), bytes: 3 });
    let summary = run.summary();
    assert_eq!((summary.bytes_up, summary.bytes_down), (10, 10));
}

#[test]
fn memory_is_the_largest_that_was_reported() {
    let mut run = Run::with(&["a", "b"]);
    for mebibytes in [40, 48, 44] {
        run.then(EventKind::EdgeMemory { edge: "a".into(), peak_rss_bytes: mebibytes << 20 });
    }
    let summary = run.summary();
    assert_eq!(summary.edges[0].peak_rss_mib, Some(48.0));
    assert_eq!(summary.edges[1].peak_rss_mib, None);
}

#[test]
fn a_dropped_edges_work_since_the_aggregation_is_lost() {
    let mut run = Run::with(&["a", "b"]);
    run.round(1, &["a", "b"]);
    run.round(2, &["a", "b"]);
    run.aggregate(2, 1);
    run.round(3, &["a", "b"]);
    run.plan(4);
    run.step("a", (4, 0), 3, 100.0);
    run.step("b", (4, 0), 3, 100.0);
    run.drop("b", 4);
    run.aggregate(4, 2);
    run.finish(4, false);
    let summary = run.summary();
    assert_eq!(steps(&summary), [4, 2]);
    assert_eq!(summary.edges.iter().map(|edge| edge.dropped).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn an_edge_dropped_while_the_models_are_averaged_is_part_of_the_average() {
    let mut run = Run::with(&["a", "b"]);
    run.round(1, &["a", "b"]);
    run.aggregate(1, 1);
    run.drop("b", 1);
    run.finish(1, false);
    assert_eq!(steps(&run.summary()), [1, 1]);
}

#[test]
fn a_shared_model_keeps_the_rounds_that_a_dropped_edge_ended() {
    let mut run = Run::of(Topology::Shared, &["a", "b"]);
    run.round(1, &["a", "b"]);
    run.plan(2);
    run.step("a", (2, 0), 0, 100.0);
    run.step("b", (2, 0), 0, 100.0);
    run.drop("b", 2);
    run.step("a", (2, 1), 0, 100.0);
    run.aggregate(2, 1);
    run.finish(2, false);
    assert_eq!(steps(&run.summary()), [2, 1]);
}

#[test]
fn a_model_that_is_handed_on_keeps_the_turns_that_a_dropped_edge_ended() {
    let mut run = Run::of(Topology::HandedOn, &["a", "b", "c"]);
    let turn = |run: &mut Run, edge: &str, round: u32| {
        run.step(edge, (round, 0), 3, 100.0);
        run.then(EventKind::HandedOn { round, edge: edge.into(), seconds: 1.0 });
    };
    run.plan(1);
    turn(&mut run, "a", 1);
    run.step("b", (1, 0), 3, 100.0);
    run.drop("b", 1);
    turn(&mut run, "c", 1);
    run.drop("a", 1);
    run.aggregate(1, 1);
    run.finish(1, false);
    assert_eq!(steps(&run.summary()), [1, 0, 1], "b left in the middle of its turn, a after it");
}

#[test]
fn an_edge_that_lost_its_state_has_lost_its_rounds_since_the_aggregation() {
    let mut run = Run::with(&["a"]);
    run.round(1, &["a"]);
    run.aggregate(1, 1);
    run.round(2, &["a"]);
    run.plan(3);
    run.step("a", (3, 0), 3, 100.0);
    run.back("a", 3, Recovery::StateLost);
    run.step("a", (3, 1), 3, 100.0);
    run.aggregate(3, 2);
    run.finish(3, false);
    assert_eq!(steps(&run.summary()), [2], "rounds 1 and 3");
}

#[test]
fn an_edge_that_leaves_while_the_fleet_gathers_is_none_of_it() {
    let mut run = Run::new(Topology::ReplicaPerEdge);
    run.join("a");
    run.join("b");
    run.then(EventKind::EdgeLost { round: 1, edge: "a".into() });
    run.then(EventKind::ModelDetermined { model: "mlp".into(), layers: 6, parameters: 1, macs: 1 });
    run.then(EventKind::EdgeLost { round: 1, edge: "b".into() });
    let names: Vec<_> = run.summary().edges.into_iter().map(|edge| edge.name).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn an_unfinished_run_counts_up_to_its_last_aggregation() {
    let mut run = Run::with(&["a"]); // 3 s
    run.round(1, &["a"]);
    run.aggregate(1, 1);
    run.evaluate(1, 0.4); // 8 s
    run.round(2, &["a"]);
    run.then(EventKind::Aborted { reason: "all edges are gone".into() }); // 12 s
    let summary = run.summary();
    assert_eq!((summary.rounds, summary.samples_trained), (1, 64));
    assert_eq!((summary.seconds_total, summary.seconds_training), (12.0, 8.0));
    assert_eq!(summary.final_accuracy, Some(0.4));
}

#[test]
fn a_run_that_never_trained_has_nulls_and_no_nan() {
    let summary = Run::with(&["a"]).summary();
    assert_eq!((summary.rounds, summary.seconds_training, summary.samples_per_second), (0, 0.0, 0.0));
    assert_eq!((summary.deadline_ms, summary.deadline_hit_rate), (None, None));
    assert_eq!((summary.prediction_median_error, summary.repeatability_floor), (None, None));
    assert_eq!((summary.final_accuracy, summary.edges[0].cut_first), (None, None));
}

#[test]
fn rounds_after_the_checkpoint_of_a_restarted_coordinator_count_once() {
    let mut run = Run::with(&["a"]);
    for round in 1..=2 {
        run.round(round, &["a"]);
        run.aggregate(round, round);
        run.evaluate(round, 0.5);
    }
    run.round(3, &["a"]);
    // The checkpoint is the one after round 1.
    run.gather(&["a"]);
    for (round, accuracy) in [(2, 0.4), (3, 0.45)] {
        run.round(round, &["a"]);
        run.aggregate(round, round);
        run.evaluate(round, accuracy);
    }
    run.finish(3, false);
    let summary = run.summary();
    assert_eq!((summary.rounds, summary.aggregations, summary.samples_trained), (3, 3, 3 * 64));
    assert_eq!((summary.final_accuracy, summary.best_accuracy), (Some(0.45), Some(0.5)));
    let samples: Vec<_> = run.rows.iter().map(|row| (row.round, row.samples_trained)).collect();
    assert_eq!(samples, [(1, 64), (2, 128), (2, 128), (3, 192)]);
}

#[test]
fn a_row_is_the_run_up_to_its_aggregation() {
    let mut run = Run::with(&["a"]); // 3 s
    run.plan(1); // 4 s
    run.step("a", (1, 0), 3, 100.0);
    run.aggregate(1, 1);
    run.evaluate(1, 0.5); // 7 s
    run.plan(2);
    run.step("a", (2, 0), 3, 200.0);
    run.step("a", (2, 0), 3, 400.0);
    run.aggregate(2, 2);
    run.plan(3);
    run.step("a", (3, 0), 3, 700.0); // overlaps the evaluation
    run.evaluate(2, 0.6); // 14 s
    let expected = MetricsRow {
        round: 2,
        aggregation: 2,
        seconds: 10.0,
        accuracy: 0.6,
        loss: 0.5,
        training_loss: Some(3.0),
        bytes_up: 3000,
        bytes_down: 30,
        deadline_hit_rate: Some(1.0 / 3.0),
        samples_trained: 192,
    };
    assert_eq!(run.rows.len(), 2);
    assert_eq!((run.rows[0].training_loss, run.rows[0].seconds), (Some(1.0), 3.0));
    assert_eq!(run.rows[1], expected);
}
