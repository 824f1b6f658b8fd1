use partway_core::event::TermsMs;
use partway_core::model::builtin::builtin;
use serde_json::{Value, json};

use super::*;

fn facts() -> RunFacts {
    RunFacts {
        name: "quickstart".into(),
        clock: Clock::Wall,
        seed: 42,
        batch_size: 64,
        topology: Topology::ReplicaPerEdge,
    }
}

fn event(at: f64, kind: EventKind) -> Event {
    Event { at, kind }
}

fn step(at: f64, round: u32) -> Event {
    event(
        at,
        EventKind::Step {
            round,
            attempt: 0,
            edge: "camera".into(),
            step: 1,
            cut: 3,
            latency_ms: 80.0,
            predicted_ms: 76.0,
            deadline_ms: 90.0,
            terms_ms: TermsMs::default(),
            loss: 0.25,
            correct: 60,
            bytes_up: 1000,
            bytes_down: 10,
        },
    )
}

fn listening(at: f64) -> Vec<Event> {
    vec![
        event(at, EventKind::Listening { address: "127.0.0.1:1".into(), data_address: None }),
        event(
            at,
            EventKind::EdgeJoined { edge: "camera".into(), samples: 3000, held_out: 0, labels: vec![3000] },
        ),
    ]
}

/// One round of one step that starts at `at`, with its aggregation and evaluation: 4 seconds.
fn round(at: f64, round: u32, accuracy: f64) -> Vec<Event> {
    vec![
        event(at, EventKind::Planned { round, deadline_ms: 90.0, optimality_gap: 0.0, edges: Vec::new() }),
        step(at + 1.0, round),
        event(at + 2.0, EventKind::RoundDone { round, seconds: 2.0 }),
        event(at + 3.0, EventKind::Aggregated { round, aggregation: round, weights: Vec::new() }),
        evaluated(at + 4.0, round, accuracy),
    ]
}

fn evaluated(at: f64, round: u32, accuracy: f64) -> Event {
    event(at, EventKind::Evaluated { round, accuracy, loss: 0.5, samples: 100 })
}

fn finished(at: f64, round: u32) -> Event {
    event(at, EventKind::Finished { round, reason: "max_rounds were done".into(), target_reached: false })
}

fn write_all(record: &mut RunRecord, events: impl IntoIterator<Item = Event>) {
    for event in events {
        record.write(&event).expect("the folder can be written to");
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn lines(dir: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(file)).expect("it was written");
    text.lines().map(str::to_owned).collect()
}

fn times(dir: &Path) -> Vec<f64> {
    let time = |line: &String| serde_json::from_str::<Event>(line).expect("each line is an event").at;
    lines(dir, EVENTS_FILE).iter().map(time).collect()
}

fn mlp() -> (ModelSpec, LayerState) {
    let spec = builtin("mlp", [1, 4, 4], 3).expect("it is built in");
    let state = LayerState::initial(&spec, 0..spec.len(), 1, 7);
    (spec, state)
}

#[test]
fn a_finished_run_leaves_all_its_files() {
    let dir = folder();
    let out = dir.path().join("runs/quickstart");
    let (spec, state) = mlp();
    let mut record = RunRecord::create(&out, facts()).expect("the folder can be made");
    let events: Vec<_> =
        listening(0.0).into_iter().chain(round(1.0, 1, 0.9)).chain([finished(6.0, 1)]).collect();
    write_all(&mut record, events.clone());
    let summary = record.finish(Some(&state), &spec, Some(210 << 20)).expect("it can be written");

    let read: Vec<Event> = lines(&out, EVENTS_FILE)
        .iter()
        .map(|line| serde_json::from_str(line).expect("each line is an event"))
        .collect();
    assert_eq!(read, events);
    assert_eq!(lines(&out, METRICS_FILE), [metrics::HEADER, "1,1,4,0.9,0.5,0.25,1000,10,1,64"]);
    assert_eq!(summary.weights_sha256, Some(model_file::weights_sha256(&spec, &state)));
    let loaded = model_file::load(&out.join(model_file::WEIGHTS_FILE), &spec).expect("it is the model");
    assert_eq!(Some(model_file::weights_sha256(&spec, &loaded)), summary.weights_sha256);
    let text = fs::read_to_string(out.join(SUMMARY_FILE)).expect("it was written");
    assert_eq!(serde_json::from_str::<Summary>(&text).expect("it is a summary"), summary);
}

#[test]
fn the_summary_has_the_documented_fields() {
    let dir = folder();
    let (spec, state) = mlp();
    let mut record = RunRecord::create(dir.path(), facts()).expect("the folder can be made");
    write_all(&mut record, listening(0.0).into_iter().chain(round(1.0, 1, 0.9)).chain([finished(7.0, 1)]));
    let summary = record.finish(Some(&state), &spec, Some(210 << 20)).expect("it can be written");
    let text = fs::read_to_string(dir.path().join(SUMMARY_FILE)).expect("it was written");
    let expected = json!({
        "name": "quickstart", "clock": "wall", "seed": 42, "rounds": 1, "aggregations": 1,
        "final_accuracy": 0.9, "best_accuracy": 0.9, "target_reached": false,
        "seconds_total": 7.0, "seconds_training": 6.0, "seconds_to_target": null, "seconds_clock": 6.0,
        "samples_trained": 64, "samples_per_second": 64.0 / 6.0,
        "bytes_up": 1000, "bytes_down": 10, "deadline_ms": 90.0, "deadline_hit_rate": 1.0,
        "prediction_median_error": 0.05, "repeatability_floor": null,
        "weights_sha256": summary.weights_sha256,
        "edges": [{"name": "camera", "cut_first": 3, "cut_last": 3, "recuts": 0, "steps": 1,
                   "samples": 3000, "step_ms_median": 80.0, "step_ms_predicted": 76.0,
                   "peak_rss_mib": null, "dropped": false, "deferred": 0}],
        "cloud": {"peak_rss_mib": 210.0}
    });
    assert_eq!(serde_json::from_str::<Value>(&text).expect("it is JSON"), expected);
}

#[test]
fn an_aborted_run_has_a_summary_and_no_model() {
    let dir = folder();
    let mut record = RunRecord::create(dir.path(), facts()).expect("the folder can be made");
    write_all(&mut record, listening(0.0));
    let aborted = EventKind::Aborted { reason: "nobody came".into() };
    write_all(&mut record, [event(60.0, aborted)]);
    let summary = record.finish(None, &mlp().0, None).expect("it can be written");
    assert_eq!((summary.rounds, summary.weights_sha256), (0, None));
    assert!(dir.path().join(SUMMARY_FILE).exists());
    assert!(!dir.path().join(model_file::WEIGHTS_FILE).exists());
}

#[test]
fn the_files_can_be_followed_while_the_run_lasts() {
    let dir = folder();
    let mut record = RunRecord::create(dir.path(), facts()).expect("the folder can be made");
    write_all(&mut record, round(1.0, 1, 0.9));
    assert_eq!(lines(dir.path(), EVENTS_FILE).len(), 5);
    assert_eq!(lines(dir.path(), METRICS_FILE).len(), 2);
}

#[test]
fn a_new_run_starts_empty() {
    let dir = folder();
    let mut record = RunRecord::create(dir.path(), facts()).expect("the folder can be made");
    write_all(&mut record, round(1.0, 1, 0.9));
    record.finish(None, &mlp().0, None).expect("it can be written");
    RunRecord::create(dir.path(), facts()).expect("the folder is there");
    assert_eq!(lines(dir.path(), EVENTS_FILE), Vec::<String>::new());
    assert_eq!(lines(dir.path(), METRICS_FILE), [metrics::HEADER]);
    assert!(!dir.path().join(SUMMARY_FILE).exists(), "it would be of another run");
}

#[test]
fn a_resumed_run_goes_on_in_the_same_files() {
    let dir = folder();
    let mut record = RunRecord::create(dir.path(), facts()).expect("the folder can be made");
    write_all(&mut record, listening(0.0));
    write_all(&mut record, round(1.0, 1, 0.5).into_iter().chain(round(6.0, 2, 0.6)));
    drop(record);
    // The coordinator was killed in the middle of a line; its last checkpoint is after round 1.
    let mut events =
        OpenOptions::new().append(true).open(dir.path().join(EVENTS_FILE)).expect("the events are there");
    events.write_all(b"what is this\n{\"at\":11.0,\"eve").expect("it can be written");

    let Resumed { mut record, unreadable } =
        RunRecord::resume(dir.path(), facts(), 1).expect("the folder can be read");
    assert_eq!(unreadable, 1);
    assert_eq!(lines(dir.path(), METRICS_FILE).len(), 2, "round 2 is trained again");
    write_all(&mut record, listening(0.0));
    // The checkpoint's model is evaluated again, which says nothing new.
    write_all(&mut record, [evaluated(0.5, 1, 0.5)]);
    write_all(&mut record, round(1.0, 2, 0.55).into_iter().chain([finished(6.0, 2)]));
    let summary = record.finish(None, &mlp().0, None).expect("it can be written");

    assert_eq!((summary.rounds, summary.samples_trained), (2, 128));
    assert_eq!(summary.final_accuracy, Some(0.55));
    assert_eq!((summary.seconds_total, summary.seconds_training), (16.0, 15.0));
    assert_eq!(
        lines(dir.path(), METRICS_FILE)[1..],
        ["1,1,4,0.5,0.5,0.25,1000,10,1,64", "2,2,14,0.55,0.5,0.25,3000,30,1,128"]
    );
    // The torn line is gone; the unreadable one stays, before the events of the second coordinator.
    let all = lines(dir.path(), EVENTS_FILE);
    assert_eq!(all.len(), 12 + 1 + 9);
    assert!(all[13].starts_with("{\"at\":10.0,\"event\":\"listening\""), "{}", all[13]);
}

#[test]
fn a_resumed_run_has_the_row_that_the_run_before_did_not_come_to() {
    let dir = folder();
    let mut record = RunRecord::create(dir.path(), facts()).expect("the folder can be made");
    write_all(&mut record, listening(0.0));
    write_all(&mut record, round(1.0, 1, 0.5).into_iter().take(4));
    drop(record);
    let resumed = RunRecord::resume(dir.path(), facts(), 1).expect("the folder can be read");
    let mut record = resumed.record;
    assert_eq!(lines(dir.path(), METRICS_FILE).len(), 1);
    write_all(&mut record, listening(0.0));
    write_all(&mut record, [evaluated(2.0, 1, 0.5)]);
    assert_eq!(lines(dir.path(), METRICS_FILE)[1..], ["1,1,5,0.5,0.5,0.25,1000,10,1,64"]);
    assert_eq!(record.finish(None, &mlp().0, None).expect("it can be written").final_accuracy, Some(0.5));
}

#[test]
fn a_run_resumed_without_events_starts_them() {
    let dir = folder();
    let Resumed { mut record, unreadable } =
        RunRecord::resume(dir.path(), facts(), 5).expect("the folder can be written to");
    write_all(&mut record, round(1.0, 6, 0.5));
    assert_eq!((unreadable, times(dir.path())), (0, vec![1.0, 2.0, 3.0, 4.0, 5.0]));
}

#[test]
fn an_unwritable_folder_is_an_error_with_its_path() {
    let dir = folder();
    let file = dir.path().join("file");
    fs::write(&file, b"").expect("it can be written");
    let error = RunRecord::create(&file.join("run"), facts()).expect_err("a file is no folder").to_string();
    assert!(error.contains("file/run"), "{error}");
}
