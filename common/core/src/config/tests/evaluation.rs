//! Edges that evaluate: what they hold out, and what a cloud without samples must be told.

use std::io;
use std::path::Path;

use super::*;
use crate::coordinator::{Evaluation, Settings};
use crate::model::ModelCost;
use crate::profile::DeviceProfile;

const EDGES: &str = "data.evaluate=edges";

fn no_file(path: &Path) -> io::Result<String> {
    panic!("the model is a built-in one, not {}", path.display())
}

#[test]
fn a_tenth_is_held_out_unless_told() {
    assert_eq!(small(&[]).data.holdout, None);
    assert_eq!(small(&[EDGES]).data.holdout.map(Fraction::get), Some(0.1));
    assert_eq!(small(&[EDGES, "data.holdout=0.25"]).data.holdout.map(Fraction::get), Some(0.25));
    let message = messages(SMALL, &[EDGES, "data.holdout=1.0"]);
    assert!(message.contains("allowed: a number above 0 and below 1"), "{message}");
}

#[test]
fn a_cloud_without_samples_must_be_told_what_they_are() {
    let missing = |sets: &[&str]| {
        let sets = [&[EDGES], sets].concat();
        small(&sets).model_spec_without_data(no_file).expect_err("nobody can know").to_string()
    };
    let both = missing(&[]);
    assert_eq!(
        both.lines().next(),
        Some(
            "x.toml:2: `model.input` is missing; allowed: the shape of the edges' samples, such as [1, 28, 28], \
             as with `data.evaluate = \"edges\"` the cloud has no samples that could tell"
        )
    );
    assert!(both.contains("`model.classes` is missing"), "{both}");
    assert!(!missing(&["model.input=[1, 8, 8]"]).contains("model.input"));
    let told = small(&[EDGES, "model.input=[1, 8, 8]", "model.classes=4"]);
    let spec = told.model_spec_without_data(no_file).expect("both are there");
    assert_eq!((spec.input, spec.classes), ([1, 8, 8], 4));
}

#[test]
fn at_least_one_edge_must_hold_the_whole_model() {
    let told = |sets: &[&str]| {
        let common = [EDGES, "model.input=[1, 8, 8]", "model.classes=4"];
        let config = small(&[&common[..], sets].concat());
        let spec = config.model_spec_without_data(no_file).expect("both are there");
        Settings::from_config(&config, spec, 1, DeviceProfile::default())
    };
    let spec = small(&[]).model_spec([1, 8, 8], 4, no_file).expect("a built-in model");
    let needed = ModelCost::of(&spec).inference_memory_bytes(64);
    let memory = |edge: &str, bytes: u64| format!("edge.{edge}.memory=\"{bytes}B\"");
    let (camera, gateway) = (memory("camera", needed - 1), memory("gateway", needed));
    let settings = told(&[&camera, &gateway]).expect("one is enough");
    assert_eq!(settings.evaluation, Evaluation::Edges { holdout: 0.1 });
    assert_eq!((settings.held_out(30), settings.held_out(2)), (3, 1));
    let error = told(&[&camera, &memory("gateway", 1)]).expect_err("nobody can evaluate").to_string();
    assert!(
        error.starts_with(
            "--set data.evaluate=edges: `data.evaluate = \"edges\"` is not allowed; allowed: \"cloud\", as no edge has the "
        ),
        "{error}"
    );
}
