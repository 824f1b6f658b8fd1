//! Links that are gone, links that slow down, devices that slow down: nothing stalls, and the plan follows.

use partway_core::event::{EventKind, Recovery};

use super::fixture::{PLANNED, Ran, SMALL, run};
use crate::run::supervise::End;

/// What is lost comes back within the patience of everybody.
const FLEET: [&str; 3] = ["fleet.idle_timeout=2s", "fleet.rejoin_window=30s", "edge.camera.count=2"];

fn lost(ran: &Ran) -> usize {
    ran.events().iter().filter(|event| matches!(event.kind, EventKind::EdgeLost { .. })).count()
}

#[test]
fn a_short_outage_delays_and_a_long_one_costs_the_connection_and_neither_changes_the_weights() {
    let fleet = |sets: &[&str]| run(SMALL, &[&FLEET[..], sets].concat(), 2);
    let undisturbed = fleet(&[]);
    let longest = |ran: &Ran| ran.latencies("camera-0").iter().map(|step| step.1).fold(0.0, f64::max);
    assert!(longest(&undisturbed) < 100.0);
    // In the middle of a step.
    let steps = undisturbed.events().into_iter().filter(|event| matches!(event.kind, EventKind::Step { .. }));
    let at = steps.map(|event| (event.at * 1e3) as u64 - 30).nth(8).expect("there are more steps");
    let down = |millis: u64| format!("edge.camera.down=[[\"{at}ms\", \"{}ms\"]]", at + millis);
    let short = fleet(&[&down(1000)]);
    assert_eq!((lost(&short), short.end.clone()), (0, Ok(End::Finished)));
    assert!(longest(&short) > 1000.0, "{}", longest(&short));
    let long = fleet(&[&down(6000)]);
    assert_eq!((lost(&long), long.end.clone()), (2, Ok(End::Finished)));
    assert_eq!(long.recoveries(), [Recovery::Connection; 2]);
    assert!(long.summary.seconds_total > 6.0);
    for disturbed in [&short, &long] {
        assert_eq!(disturbed.weights(), undisturbed.weights());
    }
}

#[test]
fn every_algorithm_survives_an_outage() {
    for algorithm in ["splitfed-v2", "sequential"] {
        let set = format!("training.algorithm={algorithm}");
        let fleet = |sets: &[&str]| run(SMALL, &[&FLEET[..], &[set.as_str()], sets].concat(), 2);
        let long = fleet(&["edge.camera.down=[[\"500ms\", \"4s\"]]"]);
        assert_eq!((lost(&long) > 0, long.end.clone()), (true, Ok(End::Finished)), "{algorithm}");
        assert_eq!(long.weights(), fleet(&[]).weights(), "{algorithm}");
    }
}

#[test]
fn an_edge_that_vanishes_is_left_out_and_comes_back_at_the_next_aggregation() {
    let text =
        format!("{SMALL}\n[[edge]]\nname = \"robot\"\nprofile = \"DEVICE\"\ndown = [[\"400ms\", \"9s\"]]\n");
    let sets =
        ["fleet.idle_timeout=1s", "fleet.rejoin_window=2s", "fleet.quorum=0.5", "training.max_rounds=60"];
    let ran = run(&text, &sets, 2);
    assert_eq!(ran.end, Ok(End::Finished));
    assert!(ran.has(|kind| matches!(kind, EventKind::EdgeDropped { edge, .. } if edge == "robot")));
    let rounds: Vec<u32> = ran.cuts("robot").iter().map(|(round, _)| *round).collect();
    let gap = rounds.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(gap.is_some_and(|gap| gap > 2), "it misses rounds: {rounds:?}");
    assert_eq!(rounds.last(), Some(&60), "and takes part again");
    assert_eq!(ran.summary.rounds, 60);
    assert!(ran.summary.edges.iter().any(|edge| edge.name == "robot" && edge.dropped));
}

#[test]
fn an_edge_that_stays_away_ends_a_run_that_needs_it() {
    let ran = run(
        SMALL,
        &["fleet.idle_timeout=1s", "fleet.rejoin_window=2s", "edge.camera.down=[[\"400ms\", \"1h\"]]"],
        1,
    );
    let failure = ran.end.expect_err("nobody is left").to_string();
    assert!(failure.contains("did not come back within 2s"), "{failure}");
}

#[test]
fn a_link_that_loses_nearly_everything_costs_connections_and_no_more() {
    let loss = |share: f64| run(SMALL, &[&FLEET[..], &[&format!("edge.camera.loss={share}")]].concat(), 2);
    let lossy = loss(0.5);
    assert!(lost(&lossy) > 0, "packets are lost for longer than 2 s");
    assert_eq!(lossy.end, Ok(End::Finished));
    assert_eq!(lossy.weights(), loss(0.0).weights());
    let failure = loss(0.99).end.expect_err("no connection is made").to_string();
    assert!(failure.contains("fleet.gather_timeout"), "{failure}");
}

/// The cut of the round that begins first after `at` seconds, and of the round after it.
fn cuts_after(ran: &Ran, at: f64) -> (u32, u32) {
    let planned = |event: &partway_core::event::Event| match &event.kind {
        EventKind::Planned { edges, .. } => {
            Some((event.at, edges.iter().find(|edge| edge.edge == "camera")?.cut))
        }
        _ => None,
    };
    let mut later =
        ran.events().iter().filter_map(planned).filter(|plan| plan.0 > at).collect::<Vec<_>>().into_iter();
    let mut next = || later.next().expect("the change comes early in the run").1;
    (next(), next())
}

#[test]
fn a_link_that_halves_is_planned_for_after_a_round_of_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("halves.csv");
    std::fs::write(&trace, "seconds,up_mbps,down_mbps\n0,30,30\n7,15,15\n").expect("written");
    let set = format!("edge.camera.trace={}", trace.display());
    let (steady, halved) = (run(PLANNED, &[], 2), run(PLANNED, &[&set], 2));
    assert_eq!(halved.end, Ok(End::Finished));
    // More leaves the cloud's side when fewer bytes can cross.
    assert_eq!(cuts_after(&steady, 7.0), (3, 3));
    assert!(cuts_after(&halved, 7.0).1 > 3, "{:?}", halved.cuts("camera"));
}

#[test]
fn a_device_that_slows_down_tenfold_gives_layers_away() {
    let slow = [
        "edge.camera.uplink_mbps=10",
        "edge.camera.downlink_mbps=10",
        "edge.camera.slow=[[\"6s\", \"1h\", 10]]",
    ];
    let ran = run(PLANNED, &slow, 2);
    assert_eq!(ran.end, Ok(End::Finished));
    let cuts = ran.cuts("camera");
    let (first, last) = (cuts[0].1, cuts[cuts.len() - 1].1);
    assert!(first > 3 && last <= 3, "{cuts:?}");
    let latencies = ran.latencies("camera");
    assert!(latencies.iter().any(|step| step.1 > 1000.0), "it is ten times as slow: {latencies:?}");
}
