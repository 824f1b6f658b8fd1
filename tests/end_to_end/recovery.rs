//! Killed processes, cut connections and interruptions leave no trace in the weights.

use std::sync::OnceLock;
use std::time::Duration;

use partway_core::event::{Event, EventKind, Recovery};
use rustix::process::Signal;

use crate::experiment::{Experiment, Record, SMALL};

/// Makes one edge slow: its rounds take the better part of a second, nearly all of it waiting, so that
/// what happens as soon as a round has begun happens in the middle of it.
const SLOW: &str = "edge.gateway.speed=0.01";

/// The weights that all of these runs must end with.
fn undisturbed() -> String {
    static WEIGHTS: OnceLock<String> = OnceLock::new();
    WEIGHTS.get_or_init(|| Experiment::new(SMALL).run(&["plan.fixed_cut=4"]).weights()).clone()
}

#[test]
fn an_edge_that_is_killed_repeats_its_round() {
    let sets = [SLOW, "plan.fixed_cut=4"];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    // As soon as the round after it has begun, then some steps into it.
    for (round, steps_later) in [("round 1:", 0), ("round 3:", 300), ("round 5:", 0)] {
        run.wait_for(round);
        std::thread::sleep(Duration::from_millis(steps_later));
        run.kill_edge("gateway");
        run.wait_for("edge gateway: back");
    }
    let record = run.finish();
    let recoveries = record.recoveries("gateway");
    assert_eq!(recoveries.len(), 3);
    assert!(recoveries.contains(&Recovery::RolledBack), "{recoveries:?}");
    assert!(!recoveries.contains(&Recovery::StateLost), "{recoveries:?}");
    assert_eq!(record.weights(), undisturbed());
}

#[test]
fn a_run_that_cannot_begin_without_an_edge_that_is_gone_ends() {
    // The others wait for it, and it for its link.
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&["edge.gateway.down=[[\"0s\", \"10m\"]]", "fleet.gather_timeout=10m"]);
    run.wait_for_processes(4);
    for _ in 0..5 {
        run.kill_edge("gateway");
        run.wait_for("edge gateway: its process was killed by signal 9; starting it again");
        run.wait_for_processes(4);
    }
    run.kill_edge("gateway");
    let ended = run.end();
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    let expected =
        "error: 2 edges are left to begin with: fleet.min_edges = 3 and fleet.quorum = 1 need more";
    assert!(ended.said.contains(expected), "{}", ended.said);
}

#[test]
fn edges_that_are_killed_while_cuts_move_repeat_their_rounds() {
    let sets = [SLOW, "plan.fixed_cut=random"];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    run.wait_for("round 2:");
    run.kill_edge("gateway");
    run.kill_edge("camera-0");
    run.wait_for("edge gateway: back");
    run.wait_for("round 4:");
    run.kill_edge("camera-1");
    run.wait_for("edge camera-1: back");
    let record = run.finish();
    let recoveries: Vec<Recovery> =
        ["camera-0", "camera-1", "gateway"].into_iter().flat_map(|edge| record.recoveries(edge)).collect();
    assert_eq!(recoveries.len(), 3);
    assert!(record.recoveries("gateway").contains(&Recovery::RolledBack), "{recoveries:?}");
    assert_eq!(record.weights(), undisturbed());
}

#[test]
fn a_lost_connection_goes_on_where_it_was() {
    let down = "edge.gateway.down=[[\"1500ms\", \"4s\"]]";
    let sets = [SLOW, "plan.fixed_cut=4", "fleet.idle_timeout=1s", down];
    let record = Experiment::new(SMALL).run(&sets);
    let recoveries = record.recoveries("gateway");
    assert!(recoveries.contains(&Recovery::Connection), "{recoveries:?}");
    assert_eq!(record.weights(), undisturbed());
}

#[test]
fn compressed_steps_are_replayed_to_the_bit() {
    let codecs = [
        "plan.fixed_cut=4",
        "wire.activations={kind=\"topk\",fraction=0.2,values=\"int8\"}",
        "wire.gradients=int4",
    ];
    let undisturbed = Experiment::new(SMALL).run(&codecs).weights();
    let down = "edge.gateway.down=[[\"1500ms\", \"4s\"]]";
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&[&codecs[..], &[SLOW, "fleet.idle_timeout=1s", down]].concat());
    run.wait_for("edge gateway: back");
    run.kill_edge("gateway");
    run.wait_for("edge gateway: back");
    let record = run.finish();
    let recoveries = record.recoveries("gateway");
    assert!(recoveries.contains(&Recovery::Connection), "{recoveries:?}");
    assert_eq!(recoveries.len(), 2, "{recoveries:?}");
    assert_eq!(record.weights(), undisturbed);
}

fn resumed(experiment: &Experiment, sets: &[&str]) -> Record {
    let record = experiment.resume(sets).finish();
    assert_eq!(record.number("rounds"), 7);
    assert_eq!(record.weights(), undisturbed());
    record
}

#[test]
fn an_interrupted_run_is_resumed() {
    let sets = [SLOW, "plan.fixed_cut=4"];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    run.wait_for("aggregation after round 5");
    assert_eq!(experiment.processes(), 4, "a coordinator and three edges");
    run.signal(Signal::INT);
    let ended = run.end();
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    assert!(ended.said.contains("--resume"), "it says how to go on: {}", ended.said);
    assert_eq!(experiment.processes(), 0, "nobody is left");
    resumed(&experiment, &sets);
}

#[test]
fn a_run_whose_coordinator_is_killed_is_resumed() {
    let sets = [SLOW, "plan.fixed_cut=4"];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    run.wait_for("aggregation after round 5");
    run.kill("cloud-process");
    let ended = run.end();
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("the coordinator was killed by signal 9"), "{}", ended.said);
    assert!(ended.said.contains("--resume"), "it says how to go on: {}", ended.said);
    assert_eq!(experiment.processes(), 0, "nobody is left");
    resumed(&experiment, &sets);
}

#[test]
fn a_run_whose_runner_is_killed_is_resumed() {
    let sets = [SLOW, "plan.fixed_cut=4"];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    run.wait_for("aggregation after round 5");
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None, "it was killed");
    resumed(&experiment, &sets);
}

/// The edge stands still for longer than it may take, but not for so long that its connection is lost.
#[test]
fn an_edge_that_stands_still_is_left_out_until_the_next_aggregation() {
    let sets = [
        "plan.fixed_cut=4",
        "plan.on_straggler=drop",
        "plan.straggler_factor=25",
        "fleet.quorum=0.5",
        "training.max_rounds=20",
    ];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    run.wait_for("round 1:");
    run.signal_edge("gateway", Signal::STOP);
    let dropped = run.wait_for("edge gateway: dropped");
    run.signal_edge("gateway", Signal::CONT);
    assert!(dropped.contains("it took more than 25 times the planned "), "{dropped}");
    let record = run.finish();
    let weights: Vec<Vec<String>> = record
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Aggregated { weights, .. } => {
                Some(weights.iter().map(|(edge, _)| edge.clone()).collect())
            }
            _ => None,
        })
        .collect();
    assert_eq!(weights[0], ["camera-0", "camera-1"]);
    assert_eq!(weights.last().map(Vec::len), Some(3), "{weights:?}");
    assert_eq!(record.recoveries("gateway"), [Recovery::Readmitted]);
}

/// As above, but what it does is not lost.
#[test]
fn an_edge_that_stands_still_finishes_its_round_while_the_others_go_on() {
    let sets = [
        "plan.fixed_cut=4",
        "plan.on_straggler=defer",
        "plan.straggler_factor=25",
        "fleet.quorum=0.5",
        "training.max_rounds=20",
    ];
    let experiment = Experiment::new(SMALL);
    let mut run = experiment.start(&sets);
    run.wait_for("round 1:");
    run.signal_edge("gateway", Signal::STOP);
    let deferred = run.wait_for("edge gateway: deferred");
    run.wait_for("round 4:");
    run.signal_edge("gateway", Signal::CONT);
    assert!(deferred.contains("it took more than 25 times the planned "), "{deferred}");
    run.wait_for("edge gateway: has finished round");
    let record = run.finish();
    let caught_up = |event: &&Event| matches!(event.kind, EventKind::EdgeCaughtUp { .. });
    let at = record.events.iter().find(caught_up).expect("it has").at;
    let merged = record.events.iter().filter(|event| event.at > at).find_map(|event| match &event.kind {
        EventKind::Aggregated { weights, .. } => Some(weights.len()),
        _ => None,
    });
    assert_eq!(merged, Some(3), "in the next global model");
    assert_eq!(record.recoveries("gateway")[0], Recovery::Readmitted);
    let gateway = &record.summary["edges"][2];
    assert_eq!((&gateway["name"], &gateway["dropped"]), (&"gateway".into(), &false.into()));
    assert!(gateway["deferred"].as_u64() >= Some(1), "{gateway}");
}
