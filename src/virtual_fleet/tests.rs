//! Whole fleets, in small: what a step takes, that nothing depends on threads, and what faults do.

mod faults;
mod same_everywhere;

use std::fs;
use std::sync::atomic::AtomicBool;

use partway_cloud::record::Summary;
use partway_core::event::{Event, EventKind, Recovery};

use crate::experiment::tests::load;
use crate::failure::Failure;
use crate::run::layout::Layout;
use crate::run::supervise::End;

/// A millisecond forward and two backward for every layer, everywhere.
const DEVICE: &str =
    "source = \"made up\"\n[other]\nforward = { fixed = 1e-3 }\nbackward = { fixed = 2e-3 }\n[kinds]\n";

/// A perceptron of six layers on generated samples, cut after its first linear layer.
const SMALL: &str = r#"
    name = "small"
    seed = 3
    clock = "virtual"
    [model]
    arch = "mlp"
    [data]
    dataset = "synthetic"
    synthetic = { shape = [1, 8, 8], classes = 4, train_samples = 200, test_samples = 20 }
    [training]
    batch_size = 16
    steps_per_round = 3
    aggregate_every = 2
    max_rounds = 5
    optimizer = { kind = "sgd", lr = 0.05, momentum = 0.9 }
    [plan]
    fixed_cut = 2
    [cloud]
    profile = "DEVICE"
    [[edge]]
    name = "camera"
    profile = "DEVICE"
    uplink_mbps = 8
    downlink_mbps = 16
    rtt = "20ms"
"#;

/// What a run left behind.
struct Ran {
    end: Result<End, Failure>,
    /// `events.jsonl`.
    log: Vec<u8>,
    summary: Summary,
}

impl Ran {
    fn events(&self) -> Vec<Event> {
        let lines = std::str::from_utf8(&self.log).expect("JSON is text").lines();
        lines.map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    fn weights(&self) -> &str {
        self.summary.weights_sha256.as_deref().expect("a finished run has weights")
    }

    /// Round and latency of each step of an edge, in milliseconds.
    fn latencies(&self, name: &str) -> Vec<(u32, f64)> {
        let step = |event: Event| match event.kind {
            EventKind::Step { edge, round, latency_ms, .. } if edge == name => Some((round, latency_ms)),
            _ => None,
        };
        self.events().into_iter().filter_map(step).collect()
    }

    /// The cuts that an edge had, by round.
    fn cuts(&self, name: &str) -> Vec<(u32, u32)> {
        let cut = |event: Event| match event.kind {
            EventKind::Planned { round, edges, .. } => {
                Some((round, edges.into_iter().find(|planned| planned.edge == name)?.cut))
            }
            _ => None,
        };
        self.events().into_iter().filter_map(cut).collect()
    }

    fn recoveries(&self) -> Vec<Recovery> {
        let how = |event: Event| match event.kind {
            EventKind::EdgeResumed { how, .. } => Some(how),
            _ => None,
        };
        self.events().into_iter().filter_map(how).collect()
    }

    fn has(&self, is_it: impl Fn(&EventKind) -> bool) -> bool {
        self.events().iter().any(|event| is_it(&event.kind))
    }
}

/// Runs what `text` describes on so many threads; `DEVICE` in it is the path of a device file.
fn run(text: &str, sets: &[&str], threads: usize) -> Ran {
    run_with(text, sets, threads, &AtomicBool::new(false))
}

fn run_with(text: &str, sets: &[&str], threads: usize, interrupted: &AtomicBool) -> Ran {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let device = folder.path().join("device.toml");
    fs::write(&device, DEVICE).expect("written");
    let text = text.replace("DEVICE", &device.display().to_string());
    let experiment = load(&text, sets).expect("the experiment is right");
    let out = folder.path().join("out");
    fs::create_dir(&out).expect("made");
    let end = super::run(experiment, None, &Layout::new(&out), false, threads, interrupted);
    let summary = fs::read_to_string(out.join("summary.json")).expect("there is a summary");
    let log = fs::read(out.join("events.jsonl")).expect("there are events");
    Ran { end, log, summary: serde_json::from_str(&summary).expect("a summary") }
}

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
