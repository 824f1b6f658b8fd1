//! `splitfed-v2` and `sequential`: one model for all edges, cut or handed on.

use partway_core::event::{EventKind, Recovery};

use crate::experiment::{Experiment, Record, SMALL};

const ADAM: &str = "training.optimizer={ kind = \"adam\", lr = 0.002 }";
const SPLITFED_V2: [&str; 3] = ["training.algorithm=splitfed-v2", "plan.fixed_cut=random", ADAM];
const SEQUENTIAL: [&str; 3] = ["training.algorithm=sequential", "plan.fixed_cut=random", ADAM];

/// Makes edges slow, so that what happens as soon as their part of a round has begun happens in the middle
/// of it.
const SLOW_CAMERAS: &str = "edge.camera.speed=0.02";
const SLOW_GATEWAY: &str = "edge.gateway.speed=0.02";

/// With one edge there is nothing to average, nobody to wait for and nobody to hand on to.
#[test]
fn with_one_edge_all_algorithms_learn_the_same() {
    let alone = SMALL.replace("count = 2\n    [[edge]]\n    name = \"gateway\"", "count = 1");
    assert_eq!(alone.matches("[[edge]]").count(), 1);
    let run = |sets: &[&str]| Experiment::new(&alone).run(&[&[ADAM], sets].concat()).weights();
    let unsplit = run(&["training.algorithm=fedavg"]);
    for (algorithm, more) in [
        ("splitfed-v1", "plan.fixed_cut=random"),
        ("splitfed-v2", "plan.fixed_cut=random"),
        ("sequential", "plan.fixed_cut=random"),
        ("centralized", "data.allow_raw_data=true"),
    ] {
        let algorithm = format!("training.algorithm={algorithm}");
        assert_eq!(run(&[&algorithm, more]), unsplit, "{algorithm}");
    }
}

#[test]
fn a_common_cut_is_planned_and_moves_at_aggregations() {
    let record =
        Experiment::new(SMALL).run(&["training.algorithm=splitfed-v2", "training.aggregate_every=2"]);
    assert_eq!(record.aggregated(), [2, 4, 6, 7]);
    let cuts = record.cuts("gateway");
    assert_eq!(cuts.len(), 7);
    for edge in ["camera-0", "camera-1"] {
        assert_eq!(record.cuts(edge), cuts, "one cut for all");
    }
    assert!(cuts.chunks(2).all(|period| period.iter().all(|cut| *cut == period[0])), "{cuts:?}");
    assert_eq!(record.number("samples_trained"), 7 * 3 * 3 * 16);
}

#[test]
fn the_model_is_handed_on_in_name_order() {
    let record = Experiment::new(SMALL).run(&["training.algorithm=sequential"]);
    assert_eq!(record.aggregated(), [5, 7]);
    assert_eq!(record.number("samples_trained"), 7 * 3 * 3 * 16);
    let turns: Vec<(u32, &str)> = record
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::HandedOn { round, edge, .. } => Some((*round, edge.as_str())),
            _ => None,
        })
        .collect();
    let order = (1..=7).flat_map(|round| ["camera-0", "camera-1", "gateway"].map(|edge| (round, edge)));
    assert_eq!(turns, order.collect::<Vec<_>>());
    let weights = record.events.iter().rev().find_map(|event| match &event.kind {
        EventKind::Aggregated { weights, .. } => Some(weights.clone()),
        _ => None,
    });
    let steps = ["camera-0", "camera-1", "gateway"].map(|edge| (edge.to_owned(), 6.0));
    assert_eq!(weights.as_deref(), Some(&steps[..]), "two rounds of three steps each");
}

#[test]
fn where_a_model_that_is_handed_on_is_cut_changes_nothing() {
    let run = |sets: &[&str]| Experiment::new(SMALL).run(&[&SEQUENTIAL, sets].concat()).weights();
    let anywhere = run(&[]);
    for cut in ["plan.fixed_cut=2", "plan.fixed_cut=8"] {
        assert_eq!(run(&[cut]), anywhere, "{cut}");
    }
}

/// Kills edges as soon as the rounds after these have begun.
fn killed(sets: &[&str], kills: &[(&str, &str)]) -> Record {
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(sets);
    for (round, edge) in kills {
        run.wait_for(round);
        run.kill_edge(edge);
        run.wait_for(&format!("edge {edge}: back"));
    }
    run.finish()
}

#[test]
fn an_edge_that_is_killed_behind_a_common_cut_costs_everybody_the_round_and_changes_nothing() {
    let undisturbed = Experiment::new(SMALL).run(&SPLITFED_V2).weights();
    let kills = [("round 1:", "gateway"), ("round 3:", "camera-0"), ("round 5:", "gateway")];
    let record = killed(&[&SPLITFED_V2[..], &[SLOW_GATEWAY]].concat(), &kills);
    assert!(
        record.recoveries("gateway").contains(&Recovery::RolledBack),
        "{:?}",
        record.recoveries("gateway")
    );
    assert_eq!(record.weights(), undisturbed);
}

#[test]
fn an_edge_that_is_killed_at_its_turn_repeats_it() {
    let undisturbed = Experiment::new(SMALL).run(&SEQUENTIAL).weights();
    // The first is at its turn, the last waits for it.
    let kills = [("round 1:", "camera-0"), ("round 3:", "gateway"), ("round 5:", "camera-0")];
    let record = killed(&[&SEQUENTIAL[..], &[SLOW_CAMERAS]].concat(), &kills);
    assert!(
        record.recoveries("camera-0").contains(&Recovery::RolledBack),
        "{:?}",
        record.recoveries("camera-0")
    );
    assert_eq!(record.weights(), undisturbed);
}

/// Adam's `t` is not lost: it counts every edge's steps.
#[test]
fn a_run_on_one_model_is_resumed() {
    for sets in [SPLITFED_V2, SEQUENTIAL] {
        let undisturbed = Experiment::new(SMALL).run(&sets).weights();
        let sets = [&sets[..], &[SLOW_GATEWAY]].concat();
        let experiment = Experiment::new(SMALL);
        let mut run = experiment.start(&sets);
        run.wait_for("aggregation after round 5");
        run.kill("cloud-process");
        assert_eq!(run.end().code, Some(1));
        let record = experiment.resume(&sets).finish();
        assert_eq!((record.number("rounds"), record.weights()), (7, undisturbed), "{}", sets[0]);
    }
}
