//! What commands print and runs leave behind is what was promised.

use std::fs;
use std::path::Path;

use partway_core::event::EventKind;
use serde_json::Value;

use crate::experiment::{Experiment, Record, SMALL, partway};

/// Seconds that no machine has: with them nothing is calibrated.
const PROFILE: &str = "source = \"made up\"\n\
                       [kinds.conv2d]\nforward = { per_flop = 1e-9 }\nbackward = { per_flop = 1e-9 }\n\
                       [kinds.linear]\nforward = { per_flop = 1e-9 }\nbackward = { per_flop = 1e-9 }\n";

/// What `partway plan --json` prints, and nothing else.
fn plan(sets: &[&str]) -> Value {
    let experiment = Experiment::new(SMALL);
    let profile = experiment.config().with_file_name("profile.toml");
    fs::write(&profile, PROFILE).expect("written");
    let profile = profile.display();
    let mut command = partway();
    command.arg("plan").arg(experiment.config()).arg("--json");
    for key in ["cloud", "edge.camera", "edge.gateway"] {
        command.arg("--set").arg(format!("{key}.profile={profile}"));
    }
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    let output = command.output().expect("partway runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    assert_eq!(text.lines().count(), 1, "one object: {text}");
    serde_json::from_str(&text).expect("nothing but JSON")
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn assert_has(value: &Value, promised: &[&str]) {
    let missing: Vec<&&str> = promised.iter().filter(|key| !keys(value).contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?} of {:?}", keys(value));
}

#[test]
fn a_plan_has_the_promised_fields() {
    let plan = plan(&["edge.camera.uplink_mbps=20"]);
    assert_has(&plan, &["deadline_ms", "edges", "layers", "total_macs", "total_params"]);
    assert!(plan["deadline_ms"].as_f64().is_some_and(|deadline| deadline > 0.0));
    assert_eq!((&plan["total_macs"], &plan["total_params"]), (&416_520.into(), &61_706.into()));

    let layers = plan["layers"].as_array().expect("a list");
    let names: Vec<&str> = layers.iter().filter_map(|layer| layer["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "flatten", "fc1", "relu3", "fc2", "relu4",
            "fc3"
        ]
    );
    for (index, layer) in layers.iter().enumerate() {
        assert_has(layer, &["index", "name", "kind", "output_shape", "output_bytes"]);
        assert_has(layer, &["macs", "flops_forward", "flops_backward", "params"]);
        assert_eq!(layer["index"], index);
    }
    let macs: Vec<u64> = layers.iter().filter_map(|layer| layer["macs"].as_u64()).collect();
    assert_eq!(macs, [117_600, 0, 0, 240_000, 0, 0, 0, 48_000, 0, 10_080, 0, 840]);
    assert_eq!(layers[2]["output_bytes"], 4704, "larger than the raw image");
    assert_eq!(layers[2]["output_shape"], serde_json::json!([6, 14, 14]));

    let edges = plan["edges"].as_array().expect("a list");
    let names: Vec<&str> = edges.iter().filter_map(|edge| edge["name"].as_str()).collect();
    assert_eq!(names, ["camera-0", "camera-1", "gateway"]);
    for edge in edges {
        let promised =
            ["cut", "feasible", "memory_bytes", "name", "reason", "reserved_down_mbps", "reserved_up_mbps"];
        assert_has(edge, &promised);
        assert_has(edge, &["slack_ms", "step_ms", "terms_ms"]);
        assert_eq!(keys(&edge["terms_ms"]), ["cloud", "downlink", "edge_backward", "edge_forward", "uplink"]);
        let terms: f64 =
            edge["terms_ms"].as_object().expect("an object").values().filter_map(Value::as_f64).sum();
        let step = edge["step_ms"].as_f64().expect("a number");
        assert!((terms - step).abs() <= 0.05 * step, "a step is its terms: {edge}");
    }
}

#[test]
fn other_models_have_their_published_multiply_adds() {
    for (arch, shape, macs) in
        [("vgg5", "[3, 32, 32]", 8_488_192_u64), ("resnet18", "[3, 32, 32]", 555_422_720)]
    {
        let arch = format!("model.arch={arch}");
        let synthetic =
            format!("data.synthetic={{ shape = {shape}, train_samples = 100, test_samples = 10 }}");
        let plan = plan(&[&arch, "data.dataset=synthetic", &synthetic]);
        assert_eq!(plan["total_macs"], macs, "{arch}");
        let layers = plan["layers"].as_array().expect("a list");
        assert_eq!(layers.iter().filter_map(|layer| layer["macs"].as_u64()).sum::<u64>(), macs, "{arch}");
    }
}

#[test]
fn a_run_leaves_everything_behind() {
    let experiment = Experiment::new(SMALL);
    let record = experiment.run(&["plan.fixed_cut=3", "training.max_rounds=10"]);
    assert_eq!(record.aggregated(), [5, 10], "an aggregation every five rounds");
    for file in ["config.toml", "metrics.csv", "model.safetensors", "model.toml", "report.html"] {
        assert!(experiment.out().join(file).is_file(), "{file}");
    }
    let metrics = fs::read_to_string(experiment.out().join("metrics.csv")).expect("a table");
    assert_eq!(metrics.lines().count(), 3, "a header and two aggregations");
    assert_eq!(
        keys(&record.summary),
        [
            "aggregations",
            "best_accuracy",
            "bytes_down",
            "bytes_up",
            "clock",
            "cloud",
            "deadline_hit_rate",
            "deadline_ms",
            "edges",
            "final_accuracy",
            "name",
            "prediction_median_error",
            "repeatability_floor",
            "rounds",
            "samples_per_second",
            "samples_trained",
            "seconds_clock",
            "seconds_to_target",
            "seconds_total",
            "seconds_training",
            "seed",
            "target_reached",
            "weights_sha256"
        ]
    );
    assert_eq!(record.number("samples_trained"), 10 * 3 * 16 * 3, "rounds x steps x batch x edges");
    let edges = record.summary["edges"].as_array().expect("a list");
    let samples: u64 = edges.iter().filter_map(|edge| edge["samples"].as_u64()).sum();
    assert_eq!((edges.len(), samples), (3, 600));
    assert!(edges.iter().all(|edge| edge["steps"] == 30 && edge["dropped"] == false));

    let again = Experiment::new(&resolved(&experiment.out()));
    assert_eq!(again.run(&[]).weights(), record.weights(), "the resolved configuration is the experiment");
}

fn resolved(out: &Path) -> String {
    fs::read_to_string(out.join("config.toml")).expect("the resolved configuration")
}

/// Bytes of all steps' activations and gradients.
fn step_bytes(record: &Record) -> (u64, u64) {
    record.events.iter().fold((0, 0), |(up, down), event| match event.kind {
        EventKind::Step { bytes_up, bytes_down, .. } => (up + bytes_up, down + bytes_down),
        _ => (up, down),
    })
}

#[test]
fn half_precision_halves_the_bytes_and_keeps_the_accuracy() {
    let sets = ["plan.fixed_cut=3", "training.steps_per_round=10", "training.optimizer.lr=0.02"];
    let full = Experiment::new(SMALL).run(&sets);
    let half =
        Experiment::new(SMALL).run(&[&sets[..], &["wire.activations=f16", "wire.gradients=f16"]].concat());
    // Per step: 16 samples x 6 x 14 x 14 values, headers of 32 bytes, 16 labels of 4 bytes on the way up.
    let steps = 7 * 10 * 3;
    assert_eq!(step_bytes(&full), (steps * (32 + 16 * 1176 * 4 + 64), steps * (32 + 16 * 1176 * 4)));
    assert_eq!(step_bytes(&half), (steps * (32 + 16 * 1176 * 2 + 64), steps * (32 + 16 * 1176 * 2)));
    assert_ne!(half.weights(), full.weights());
    assert!(full.accuracy() > 0.4, "it learns: {}", full.accuracy());
    assert!((half.accuracy() - full.accuracy()).abs() < 0.1, "{} {}", half.accuracy(), full.accuracy());
}

#[test]
fn fewer_bits_and_fewer_values_learn_too() {
    let sets = ["plan.fixed_cut=3", "training.steps_per_round=10", "training.optimizer.lr=0.02"];
    // Per step: 16 samples x 6 channels x 14 x 14 values, headers of 32 bytes, 16 labels of 4 bytes.
    let (steps, samples, values) = (7 * 10 * 3, 16, 16 * 1176);
    for (activations, gradients, up, down) in [
        // Two counts and a scale for each of 6 channels before the integers.
        ("int8", "int4", 8 + 24 + values, 8 + 24 + values / 2),
        // Three counts, a bitmap, and the 118 values of a sample that travel; the gradients of these.
        ("{kind=\"topk\",fraction=0.1}", "bf16", 12 + samples * (147 + 118 * 4), samples * 118 * 2),
    ] {
        let codecs = [&format!("wire.activations={activations}")[..], &format!("wire.gradients={gradients}")];
        let record = Experiment::new(SMALL).run(&[&sets[..], &codecs].concat());
        let expected = (steps * (32 + up + 64), steps * (32 + down));
        assert_eq!(step_bytes(&record), expected, "{activations}");
        assert!(record.accuracy() > 0.4, "it learns with {activations}: {}", record.accuracy());
    }
}

#[test]
fn centralized_training_needs_permission_and_runs_at_cut_0() {
    let sets = ["training.algorithm=centralized", "data.allow_raw_data=true"];
    let record = Experiment::new(SMALL).run(&sets);
    assert_eq!(record.aggregated(), [5, 7]);
    assert!(["camera-0", "gateway"].iter().all(|edge| record.cuts(edge).iter().all(|cut| *cut == 0)));
    assert_eq!(record.weights(), Experiment::new(SMALL).run(&sets).weights(), "the same every time");
}
