//! The virtual clock: the same weights as on the wall clock, the same log on any number of threads.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::experiment::{Experiment, Record, SMALL, partway};

/// Devices for everybody; the wall clock has no use for them.
const PROFILES: [&str; 3] = [
    "cloud.profile=configs/devices/server.toml",
    "edge.camera.profile=configs/devices/pi4.toml",
    "edge.gateway.profile=configs/devices/laptop.toml",
];

/// Links that take their time in virtual time only, but lose and vary.
const LINKS: [&str; 2] =
    ["edge.camera.link=configs/links/lte-poor.toml", "edge.gateway.link=configs/links/wifi5.toml"];

fn on_the_virtual_clock(experiment: &Experiment, sets: &[&str]) -> Record {
    experiment.run(&[&PROFILES[..], &["clock=virtual"], sets].concat())
}

#[test]
fn both_clocks_learn_the_same() {
    for sets in [
        &["plan.fixed_cut=random", "training.optimizer={ kind = \"adam\", lr = 0.002 }"][..],
        &["plan.fixed_cut=3", "training.algorithm=splitfed-v2"],
        &["plan.fixed_cut=3", "training.algorithm=sequential"],
        &["plan.fixed_cut=3", "training.labels=edge"],
    ] {
        let wall = Experiment::new(SMALL).run(&[&PROFILES[..], sets].concat());
        let virtual_run = on_the_virtual_clock(&Experiment::new(SMALL), sets);
        assert_eq!(virtual_run.summary["clock"], "virtual");
        assert_eq!(wall.weights(), virtual_run.weights(), "{sets:?}");
        assert_eq!(wall.summary["final_accuracy"], virtual_run.summary["final_accuracy"], "{sets:?}");
        for same in ["rounds", "aggregations", "samples_trained", "bytes_up", "bytes_down"] {
            assert_eq!(wall.summary[same], virtual_run.summary[same], "{same}: {sets:?}");
        }
    }
}

#[test]
fn a_run_leaves_the_same_files_behind_and_is_over_sooner_than_its_time() {
    let experiment = Experiment::new(SMALL);
    let record = on_the_virtual_clock(&experiment, &LINKS);
    for file in [
        "config.toml",
        "events.jsonl",
        "metrics.csv",
        "model.safetensors",
        "model.toml",
        "checkpoint",
        "report.html",
        "summary.json",
    ] {
        assert!(experiment.out().join(file).exists(), "{file}");
    }
    assert_eq!(record.summary["seconds_clock"], record.summary["seconds_training"]);
    let report = fs::read_to_string(experiment.out().join("report.html")).expect("it is there");
    assert!(report.contains("small"), "it is this run's");
}

/// `events.jsonl` of a run of its own process.
fn log(experiment: &Experiment, threads: &str, out: &Path) -> Vec<u8> {
    let mut command = partway();
    command.arg("run").arg(experiment.config()).arg("--out").arg(out).args(["--threads", threads]);
    for set in PROFILES.iter().chain(&LINKS).chain(&["clock=virtual"]) {
        command.args(["--set", set]);
    }
    let output = command.output().expect("partway runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(out.join("events.jsonl")).expect("there are events")
}

#[test]
fn the_log_is_the_same_on_any_number_of_threads() {
    let experiment = Experiment::new(SMALL);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let one = log(&experiment, "1", &folder.path().join("one"));
    assert!(one.len() > 10_000);
    assert!(one == log(&experiment, "2", &folder.path().join("two")), "the logs differ");
    assert!(one == log(&experiment, "2", &folder.path().join("again")), "the logs differ");
}

#[test]
fn an_interrupted_run_goes_on_from_its_checkpoint() {
    let experiment = Experiment::new(SMALL);
    let sets = [&PROFILES[..], &["clock=virtual", "training.max_rounds=40", "plan.fixed_cut=3"]].concat();
    let mut running = experiment.start(&sets);
    running.wait_for("aggregation after round 5");
    running.signal(Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    assert!(ended.said.contains("continue with `partway run"), "{}", ended.said);
    let resumed = experiment.resume(&sets).finish();
    assert_eq!(resumed.number("rounds"), 40);
    assert_eq!(resumed.weights(), Experiment::new(SMALL).run(&sets).weights());

    let ended = experiment.resume(&sets).end();
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains("is finished: leave out --resume"), "{}", ended.said);
    assert_eq!(Record::read(&experiment.out()).weights(), resumed.weights(), "it is left as it was");
}

#[test]
fn what_the_virtual_clock_lacks_is_said_before_anything_starts() {
    let refused = |sets: &[&str]| {
        let experiment = Experiment::new(SMALL);
        let error = experiment.refused(sets);
        assert!(!experiment.out().exists(), "nothing was started: {error}");
        error.replace(&experiment.config().display().to_string(), "x.toml")
    };
    let error = refused(&["clock=virtual", PROFILES[0], PROFILES[1]]);
    assert_eq!(
        error,
        "error: x.toml:21: `edge[1].profile` (edge `gateway`) is missing; allowed: a device profile, which \
         `clock = \"virtual\"` needs of the cloud and of every edge"
    );
    let absent = [&PROFILES[1..], &["clock=virtual", "cloud.profile=no/such.toml"]].concat();
    assert!(
        refused(&absent).starts_with(
            "error: --set cloud.profile=no/such.toml: `cloud.profile = \"no/such.toml\"` cannot be used: it cannot \
             be read: No such file"
        ),
        "{}",
        refused(&absent)
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("x.csv");
    fs::write(&trace, "0,10\n5,20\n4,30\n").expect("written");
    let error = refused(&[&format!("edge.gateway.trace={}", trace.display())]);
    assert!(error.ends_with("x.csv:3: 4 s is not after 5 s; allowed: times in ascending order"), "{error}");
    let error = refused(&["edge.gateway.link=configs/devices/pi4.toml"]);
    assert!(error.contains("configs/devices/pi4.toml: `uplink_mbps` is missing"), "{error}");
}

#[test]
fn all_devices_and_links_of_the_repository_can_be_used() {
    let names = |folder: &str| {
        let files = fs::read_dir(folder).expect("it is there").filter_map(Result::ok);
        let mut paths: Vec<String> = files.map(|file| file.path().display().to_string()).collect();
        paths.sort();
        paths
    };
    let (devices, links) = (names("configs/devices"), names("configs/links"));
    assert!(devices.len() >= 6 && links.len() >= 7);
    let edge = |(device, link): (&String, &String)| {
        let name = Path::new(link).file_stem().and_then(|stem| stem.to_str()).expect("it has a name");
        format!("[[edge]]\nname = \"{name}\"\nprofile = \"{device}\"\nlink = \"{link}\"\n")
    };
    let edges: String = devices.iter().cycle().zip(&links).map(edge).collect();
    let (head, _) = SMALL.split_once("[[edge]]").expect("it has edges");
    let config = format!("{head}{edges}");
    let record = Experiment::new(&config).run(&["clock=virtual", PROFILES[0], "training.max_rounds=1"]);
    assert_eq!(record.number("rounds"), 1);
    let steps = record.summary["edges"].as_array().expect("a list").iter().map(|edge| edge["steps"].as_u64());
    assert!(steps.into_iter().all(|steps| steps == Some(3)), "{}", record.summary["edges"]);
}
