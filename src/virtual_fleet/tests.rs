//! Whole fleets, in small: what a step takes, that nothing depends on threads, and what faults do.

mod faults;
mod fixture;
mod same_everywhere;
mod stragglers;

use std::sync::atomic::AtomicBool;

use partway_core::event::EventKind;

use crate::run::supervise::End;
use fixture::{SMALL, run, run_with};

#[test]
fn a_step_takes_what_its_parts_take() {
    let ran = run(SMALL, &[], 1);
    assert_eq!(ran.end, Ok(End::Finished));
    // Activations: 16 x 128 values, 16 labels, header and frame; six packets around them. At a byte a
    // microsecond, then half a round trip, and half a millisecond at the ends.
    let up = f64::from(4 * 16 * 128 + 4 * 16 + 32 + 12 + 6 * 75) / 1e3 + 10.0 + 0.5;
    // The gradient has no labels, and twice the rate.
    let down = f64::from(4 * 16 * 128 + 32 + 12 + 6 * 75) / 2e3 + 10.0 + 0.5;
    // Two layers forward, of which the first, without weights, has nothing to do on the way back.
    let (edge, cloud) = (2.0 * 1.0 + 2.0, 4.0 * 3.0);
    let latencies = ran.latencies("camera");
    assert_eq!(latencies.len(), 15);
    for (round, latency) in latencies {
        assert!((latency - (edge + up + cloud + down)).abs() < 2e-5, "round {round}: {latency}");
    }
    let steps = ran.events().into_iter().filter_map(|event| match event.kind {
        EventKind::Step { terms_ms, .. } => Some(terms_ms),
        _ => None,
    });
    for terms in steps {
        assert!((terms.cloud - cloud).abs() < 1e-6 && (terms.edge_forward - 2.0).abs() < 1e-9, "{terms:?}");
    }
}

#[test]
fn edges_wait_for_a_worker_first_come_first_served() {
    let two = ["edge.camera.count=2"];
    let latencies = |sets: &[&str], name| {
        let ran = run(SMALL, &[&two[..], sets].concat(), 1);
        ran.latencies(name).iter().map(|(_, latency)| *latency).collect::<Vec<_>>()
    };
    let alone = run(SMALL, &[], 1).latencies("camera")[0].1;
    let first = latencies(&["cloud.workers=1"], "camera-0")[0];
    let second = latencies(&["cloud.workers=1"], "camera-1")[0];
    assert!((first - alone).abs() < 2e-5, "{first} {alone}");
    assert!((second - alone - 12.0).abs() < 2e-5, "it waits for the other's 12 ms: {second} {alone}");
    let unhindered = latencies(&["cloud.workers=2"], "camera-1")[0];
    assert!((unhindered - alone).abs() < 2e-5, "{unhindered} {alone}");
}

#[test]
fn the_summary_is_of_virtual_time() {
    let ran = run(SMALL, &[], 1);
    let summary = &ran.summary;
    assert_eq!(summary.clock, partway_core::config::Clock::Virtual);
    assert_eq!(summary.seconds_clock.to_bits(), summary.seconds_training.to_bits());
    let steps: f64 = ran.latencies("camera").iter().map(|(_, latency)| latency / 1e3).sum();
    assert!(summary.seconds_training > steps && summary.seconds_training < 3.0 * steps, "{summary:?}");
    assert!(summary.deadline_hit_rate.is_some_and(|rate| rate > 0.99), "{summary:?}");
    assert!(summary.prediction_median_error.is_some_and(|error| error < 0.05), "{summary:?}");
}

#[test]
fn an_interrupted_run_ends_and_says_so() {
    let ran = run_with(SMALL, &[], 1, &AtomicBool::new(true));
    assert_eq!(ran.end, Ok(End::Interrupted));
    assert_eq!(ran.summary.rounds, 0);
}
