//! Models from files, from earlier runs, and partly frozen.

use std::fs;
use std::path::Path;

use partway_cloud::model_file;
use partway_core::model::builtin::{NAMES, builtin};
use partway_core::model::{LayerState, ModelCost, ModelSpec};
use serde_json::Value;

use crate::experiment::{Experiment, SMALL, partway};

/// The model of the repository's example, one layer after the other: convolution, group norm, relu, pool,
/// residual block, global pool, flatten, linear.
const FILE: &str = "model.file=configs/models/small-cnn.toml";

/// Everything up to and with the residual block, whose batch norms have running statistics.
const FREEZE: &str = "model.freeze=5";

/// The model that a run left in its folder.
fn left_in(folder: &Path) -> (ModelSpec, LayerState) {
    let text = fs::read_to_string(folder.join("model.toml")).expect("a finished run has layers");
    let spec = ModelSpec::from_toml(&text, "model.toml", None).expect("they are a model");
    let weights = model_file::load(&folder.join("model.safetensors"), &spec).expect("they are its weights");
    (spec, weights)
}

#[test]
fn a_run_goes_on_from_anothers_model_with_frozen_layers_and_any_cut() {
    let first = Experiment::new(SMALL);
    first.run(&[FILE, "training.max_rounds=2"]);
    let (spec, before) = left_in(&first.out());
    assert_eq!((spec.name.as_str(), spec.len()), ("small-cnn", 8));

    let init = format!("model.init={}", first.out().join("model.safetensors").display());
    let go_on = |sets: &[&str]| {
        let experiment = Experiment::new(SMALL);
        let sets: Vec<&str> = [FILE, FREEZE, init.as_str()].into_iter().chain(sets.iter().copied()).collect();
        let record = experiment.run(&sets);
        (record.weights(), left_in(&experiment.out()).1)
    };
    let (unsplit, after) = go_on(&["training.algorithm=fedavg"]);
    let frozen = |state: &LayerState| state.slice(&spec, 0..5).values;
    assert_eq!(frozen(&after), frozen(&before), "frozen layers keep weights and statistics");
    assert_ne!(after, before, "the last layer is trained");
    // Inside the frozen layers, behind them, and anywhere.
    for cut in ["plan.fixed_cut=2", "plan.fixed_cut=6", "plan.fixed_cut=random"] {
        assert_eq!(go_on(&[cut]).0, unsplit, "{cut}");
    }
}

#[test]
fn a_run_may_go_on_from_the_model_in_its_own_folder() {
    let experiment = Experiment::new(SMALL);
    let short = ["training.max_rounds=1", "training.optimizer={ kind = \"sgd\", lr = 1e-9 }"];
    experiment.run(&short[..1]);
    let (spec, before) = left_in(&experiment.out());
    let init = format!("model.init={}", experiment.out().join("model.safetensors").display());
    experiment.run(&[short[0], short[1], &init]);
    let (_, after) = left_in(&experiment.out());
    let furthest = before.values.iter().zip(&after.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < 1e-5, "{furthest}: it started from somewhere else");
    let random = LayerState::initial(&spec, 0..spec.len(), 0, 3);
    assert_ne!(before, random, "the first run has trained something");
}

#[test]
fn a_run_does_not_remove_what_it_is_made_from() {
    let experiment = Experiment::new(SMALL);
    experiment.run(&["training.max_rounds=1"]);
    let layers = experiment.out().join("model.toml");
    let file = format!("model.file={}", layers.display());
    let error = experiment.refused(&[&file]);
    assert!(error.starts_with(&format!("error: --set {file}: `model.file = ")), "{error}");
    assert!(error.contains("is an output of the run before in"), "{error}");
    assert!(layers.exists(), "nothing is removed");
    let copy = experiment.config().with_file_name("layers.toml");
    std::fs::copy(&layers, &copy).expect("copied");
    experiment.run(&[&format!("model.file={}", copy.display()), "training.max_rounds=1"]);
}

#[test]
fn weights_of_another_model_are_refused_before_anything_is_started() {
    let first = Experiment::new(SMALL);
    first.run(&["training.max_rounds=1"]);
    let init = format!("model.init={}", first.out().join("model.safetensors").display());
    let second = Experiment::new(SMALL);
    let error = second.refused(&[FILE, &init]);
    assert!(error.starts_with(&format!("error: --set {init}: `model.init = ")), "{error}");
    assert!(error.contains("tensor `layers.0.weight` is F32 of shape [6, 1, 5, 5]"), "{error}");
    assert!(!second.out().exists(), "nothing was started");
}

/// `partway plan --json` of a small synthetic task.
fn planned(sets: &[&str]) -> Value {
    let config = SMALL.replace(
        "dataset = \"mnist\"\n    train_limit = 600\n    test_limit = 200",
        "dataset = \"synthetic\"\n    synthetic = { shape = [3, 32, 32], train_samples = 200, test_samples = 10 }",
    );
    let experiment = Experiment::new(&config);
    let mut command = partway();
    command.arg("plan").arg(experiment.config()).args(["--json", "--set", "training.batch_size=2"]);
    let output = command.args(sets.iter().flat_map(|set| ["--set", set])).output().expect("partway runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn every_model_is_planned() {
    for name in NAMES {
        let plan = planned(&[&format!("model.arch={name}")]);
        let spec = builtin(name, [3, 32, 32], 10).expect("it is built in");
        assert_eq!(plan["total_macs"], ModelCost::of(&spec).total_macs(), "{name}");
        assert_eq!(plan["layers"].as_array().map(Vec::len), Some(spec.len()), "{name}");
    }
    let plan = planned(&[FILE, FREEZE]);
    let kinds: Vec<&str> = plan["layers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|layer| layer["kind"].as_str())
        .collect();
    assert_eq!(kinds[..5], ["conv2d", "group-norm", "relu", "max-pool2d", "residual"]);
    assert_eq!(plan["layers"][4]["flops_backward"], 0, "frozen layers have no backward pass");
}
