//! Small fleets to run, and what their runs leave behind.

use std::fs;
use std::sync::atomic::AtomicBool;

use partway_cloud::record::Summary;
use partway_core::event::{Event, EventKind, Recovery};

use crate::experiment::tests::load;
use crate::failure::Failure;
use crate::run::layout::Layout;
use crate::run::supervise::End;
use crate::virtual_fleet;

/// A millisecond forward and two backward for every layer, everywhere.
const DEVICE: &str =
    "source = \"made up\"\n[other]\nforward = { fixed = 1e-3 }\nbackward = { fixed = 2e-3 }\n[kinds]\n";

/// A perceptron of six layers on generated samples, cut after its first linear layer.
pub(super) const SMALL: &str = r#"
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

/// Two edges with room for a plan: VGG-5 on a slow and a less slow device, by the repository's profiles.
pub(super) const PLANNED: &str = r#"
    name = "planned"
    seed = 5
    clock = "virtual"
    [model]
    arch = "vgg5"
    [data]
    dataset = "synthetic"
    synthetic = { shape = [3, 32, 32], classes = 4, train_samples = 64, test_samples = 8 }
    min_samples = 8
    [training]
    batch_size = 8
    steps_per_round = 10
    aggregate_every = 7
    max_rounds = 7
    [plan]
    objective = "fastest"
    [cloud]
    workers = 2
    profile = "configs/devices/server.toml"
    [[edge]]
    name = "camera"
    profile = "configs/devices/pi3.toml"
    speed = 0.25
    uplink_mbps = 30
    downlink_mbps = 30
    rtt = "4ms"
    [[edge]]
    name = "gateway"
    profile = "configs/devices/pi4.toml"
    speed = 0.25
    uplink_mbps = 100
    downlink_mbps = 100
    rtt = "4ms"
"#;

/// What a run left behind.
pub(super) struct Ran {
    pub(super) end: Result<End, Failure>,
    /// `events.jsonl`.
    pub(super) log: Vec<u8>,
    pub(super) summary: Summary,
}

impl Ran {
    pub(super) fn events(&self) -> Vec<Event> {
        let lines = std::str::from_utf8(&self.log).expect("JSON is text").lines();
        lines.map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    pub(super) fn weights(&self) -> &str {
        self.summary.weights_sha256.as_deref().expect("a finished run has weights")
    }

    /// Round and latency of each step of an edge, in milliseconds.
    pub(super) fn latencies(&self, name: &str) -> Vec<(u32, f64)> {
        let step = |event: Event| match event.kind {
            EventKind::Step { edge, round, latency_ms, .. } if edge == name => Some((round, latency_ms)),
            _ => None,
        };
        self.events().into_iter().filter_map(step).collect()
    }

    /// The cuts that an edge had, by round.
    pub(super) fn cuts(&self, name: &str) -> Vec<(u32, u32)> {
        let cut = |event: Event| match event.kind {
            EventKind::Planned { round, edges, .. } => {
                Some((round, edges.into_iter().find(|planned| planned.edge == name)?.cut))
            }
            _ => None,
        };
        self.events().into_iter().filter_map(cut).collect()
    }

    pub(super) fn recoveries(&self) -> Vec<Recovery> {
        let how = |event: Event| match event.kind {
            EventKind::EdgeResumed { how, .. } => Some(how),
            _ => None,
        };
        self.events().into_iter().filter_map(how).collect()
    }

    pub(super) fn has(&self, is_it: impl Fn(&EventKind) -> bool) -> bool {
        self.events().iter().any(|event| is_it(&event.kind))
    }
}

/// Runs what `text` describes on so many threads; `DEVICE` in it is the path of a device file.
pub(super) fn run(text: &str, sets: &[&str], threads: usize) -> Ran {
    run_with(text, sets, threads, &AtomicBool::new(false))
}

pub(super) fn run_with(text: &str, sets: &[&str], threads: usize, interrupted: &AtomicBool) -> Ran {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let device = folder.path().join("device.toml");
    fs::write(&device, DEVICE).expect("written");
    let text = text.replace("DEVICE", &device.display().to_string());
    let experiment = load(&text, sets).expect("the experiment is right");
    let out = folder.path().join("out");
    fs::create_dir(&out).expect("made");
    let end = virtual_fleet::run(experiment, None, &Layout::new(&out), false, threads, interrupted);
    let summary = fs::read_to_string(out.join("summary.json")).expect("there is a summary");
    let log = fs::read(out.join("events.jsonl")).expect("there are events");
    Ran { end, log, summary: serde_json::from_str(&summary).expect("a summary") }
}
