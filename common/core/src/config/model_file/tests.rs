use proptest::prelude::*;

use super::*;
use crate::model::builtin::{self, builtin};

const SMALL: &str = r#"
input = [1, 12, 12]
classes = 4

[[layer]]
kind = "conv2d"
out = 8
kernel = 3

[[layer]]
kind = "relu"

[[layer]]
kind = "max-pool2d"
kernel = 2

[[layer]]
kind = "flatten"

[[layer]]
kind = "linear"
out = "classes"
"#;

fn model(text: &str) -> ModelSpec {
    ModelSpec::from_toml(text, "models/small.toml", None).expect("it is a model")
}

#[track_caller]
fn refused(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    let text = SMALL.replacen(from, to, 1);
    ModelSpec::from_toml(&text, "small.toml", None).expect_err("it is wrong").to_string()
}

#[test]
fn sizes_follow_from_the_layers_before() {
    let small = model(SMALL);
    assert_eq!((small.name.as_str(), small.input, small.classes, small.frozen), ("small", [1, 12, 12], 4, 0));
    assert_eq!(small.layers[0].op, {
        let (kernel, stride, padding) = (3, 1, 0);
        LayerOp::Conv2d { in_channels: 1, out_channels: 8, kernel, stride, padding, groups: 1, bias: true }
    });
    assert_eq!(small.layers[2].op, LayerOp::MaxPool2d { kernel: 2, stride: 2, padding: 0 });
    assert_eq!(small.layers[4].op, LayerOp::Linear { inputs: 8 * 5 * 5, outputs: 4, bias: true });
    assert_eq!(small.clone().checked(), Ok(small));
    // A file's name that is none for a model would not be read back.
    let nameless = ModelSpec::from_toml(SMALL, "models/small (copy).toml", None).expect("it is a model");
    assert_eq!(nameless.name, "model");
}

#[test]
fn names_are_the_layers_own_or_numbered_by_kind() {
    let text = SMALL.replace("kind = \"relu\"", "kind = \"relu\"\nname = \"pool1\"");
    let names: Vec<_> = model(&text).layers.into_iter().map(|layer| layer.name).collect();
    assert_eq!(names, ["conv1", "pool1", "pool2", "flatten1", "fc1"]);
}

#[test]
fn every_kind_has_its_defaults() {
    let text = r#"
        name = "every"
        input = [4, 16, 16]
        classes = 3
        layer = [
            { kind = "conv2d", out = 8, kernel = 3 },
            { kind = "batch-norm2d" },
            { kind = "group-norm", groups = 2 },
            { kind = "local-response-norm" },
            { kind = "relu6" },
            { kind = "gelu" },
            { kind = "residual", out = 8 },
            { kind = "inverted-residual", out = 12 },
            { kind = "avg-pool2d", kernel = 3, stride = 2, padding = 1 },
            { kind = "global-avg-pool" },
            { kind = "flatten" },
            { kind = "dropout" },
            { kind = "linear", out = 3, bias = false },
        ]"#;
    let ops: Vec<_> = model(text).layers.into_iter().map(|layer| layer.op).collect();
    assert_eq!(ops[1], LayerOp::BatchNorm2d { channels: 8 });
    assert_eq!(ops[2], LayerOp::GroupNorm { channels: 8, groups: 2 });
    assert_eq!(ops[3], LayerOp::LocalResponseNorm { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 });
    assert_eq!(ops[6], LayerOp::Residual { in_channels: 8, out_channels: 8, stride: 1 });
    let (in_channels, out_channels) = (8, 12);
    assert_eq!(ops[7], LayerOp::InvertedResidual { in_channels, out_channels, stride: 1, expansion: 6 });
    assert_eq!(ops[8], LayerOp::AvgPool2d { kernel: 3, stride: 2, padding: 1 });
    assert_eq!(ops[11], LayerOp::Dropout { p: 0.5 });
    assert_eq!(ops[12], LayerOp::Linear { inputs: 12, outputs: 3, bias: false });
}

#[test]
fn a_wrong_key_is_named_with_its_layer() {
    for (from, to, message) in [
        (
            "kernel = 3",
            "kernal = 3",
            "small.toml:5: `layer[0].kernel` (layer `conv1`) is missing; allowed: an integer from 1 to 1024\n\
             small.toml:8: unknown key `layer[0].kernal` (layer `conv1`); did you mean `kernel`?",
        ),
        (
            "out = 8",
            "out = \"many\"",
            "small.toml:7: `layer[0].out = \"many\"` (layer `conv1`) is not allowed; \
             allowed: an integer from 1 to 16777216, or \"classes\"",
        ),
        (
            "kind = \"relu\"",
            "kind = \"relu\"\np = 0.5",
            "small.toml:12: unknown key `layer[1].p` (layer `relu1`); allowed there: name, kind",
        ),
        (
            "kind = \"relu\"",
            "kind = \"relu\"\nname = \"conv1\"\n[[layer]]\nkind = \"relu\"\nname = \"conv1\"",
            "small.toml:15: `layer[2].name = \"conv1\"` (layer `conv1`) is not allowed; \
             allowed: a name that no other layer has",
        ),
        (
            "[[layer]]\nkind = \"flatten\"",
            "",
            "small.toml:20: `layer[3].kind = \"linear\"` (layer `fc1`) is not allowed; \
             allowed: a kind that takes maps; `linear` takes a flat vector, which `flatten` makes of them",
        ),
        (
            "kernel = 3",
            "kernel = 13",
            "small.toml:6: `layer[0].kind = \"conv2d\"` (layer `conv1`) cannot be used: \
             it expects [1, height, width] of at least 13 with padding 0, but its input is [1, 12, 12]",
        ),
        (
            "kernel = 3",
            "kernel = 3\ngroups = 3",
            "small.toml:6: `layer[0].kind = \"conv2d\"` (layer `conv1`) cannot be used: \
             groups = 3 must divide in_channels = 1 and out_channels = 8",
        ),
        (
            "out = \"classes\"",
            "out = 5",
            "small.toml:21: `layer[4].kind = \"linear\"` (layer `fc1`) cannot be used: as the last layer it \
             must make one value per class, [4], not [5]; `linear` with `out = \"classes\"` does",
        ),
        ("classes = 4", "", "small.toml: `classes` is missing; allowed: an integer from 1 to 65536"),
    ] {
        assert_eq!(refused(from, to), message);
    }
    let unknown = refused("kind = \"relu\"", "kind = \"selu\"");
    assert!(
        unknown.starts_with(
            "small.toml:11: `layer[1].kind = \"selu\"` (layer `layer1`) is not allowed; allowed: \"conv2d\", "
        ),
        "{unknown}"
    );
}

#[test]
fn several_wrong_layers_are_found_at_once() {
    let text = SMALL.replace("kernel = 3", "kernel = 0").replace("kernel = 2", "kernel = 2\npad = 1");
    let error = ModelSpec::from_toml(&text, "small.toml", None).expect_err("two are wrong");
    let keys: Vec<_> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["layer[0].kernel", "layer[2].pad"]);
}

#[test]
fn a_file_without_layers_is_no_model() {
    for text in ["", "layer = []", "layer = 3", "layer = [3]", "[layer]\nkind = \"relu\""] {
        let text = format!("input = [1, 2, 2]\nclasses = 2\n{text}");
        let error = ModelSpec::from_toml(&text, "x.toml", None).expect_err("no layers").to_string();
        assert!(error.starts_with("x.toml") && error.contains("`layer"), "{error}");
    }
}

#[test]
fn the_data_decides_what_the_file_leaves_open() {
    let fit = ModelFit { input: [3, 20, 20], least_classes: 7, classes: None };
    let with = |text: &str, fit| ModelSpec::from_toml(text, "small.toml", Some(fit));
    let open = SMALL.replace("input = [1, 12, 12]\nclasses = 4\n", "");
    let spec = with(&open, fit).expect("it fits any data");
    assert_eq!((spec.input, spec.classes), ([3, 20, 20], 7));
    assert_eq!(with(&open, ModelFit { classes: Some(9), ..fit }).expect("more classes").classes, 9);

    let error = with(SMALL, fit).expect_err("it is for other data").to_string();
    assert_eq!(
        error,
        "small.toml:2: `input = [1, 12, 12]` is not allowed; \
         allowed: [3, 20, 20], the shape of the samples; without `input` it fits any\n\
         small.toml:3: `classes = 4` is not allowed; allowed: at least the 7 classes of the data"
    );
    let own = ModelFit { input: [1, 12, 12], least_classes: 3, classes: None };
    assert_eq!(with(SMALL, own).expect("one class to spare").classes, 4);
    let error = with(SMALL, ModelFit { classes: Some(3), ..own }).expect_err("two are asked for").to_string();
    assert!(error.ends_with("`classes = 4` is not allowed; allowed: `model.classes = 3`"), "{error}");
}

#[test]
fn built_in_models_are_written_and_read_back() {
    for name in builtin::NAMES {
        for input in [[3, 32, 32], [3, 96, 96]] {
            let spec = builtin(name, input, 10).expect("it is built in");
            let text = spec.to_toml();
            assert_eq!(ModelSpec::from_toml(&text, "x.toml", None).as_ref(), Ok(&spec), "{text}");
        }
    }
    let dropout = builtin("mobilenet-v2", [3, 32, 32], 10).expect("it is built in").to_toml();
    assert!(dropout.contains("p = 0.2\n"), "{dropout}");
}

/// One layer's line, often wrong.
fn line() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(LayerKind::ALL.to_vec());
    let keys = ["out", "kernel", "stride", "padding", "groups", "size", "p", "expansion", "name"];
    let key = (prop::sample::select(keys.to_vec()), -1..6i64);
    (kind, prop::collection::btree_map(prop::sample::select(keys.to_vec()), -1..6i64, 0..4), key).prop_map(
        |(kind, mut given, (key, value))| {
            given.insert(key, value);
            let given: Vec<_> = given.iter().map(|(key, value)| format!(", {key} = {value}")).collect();
            format!("{{ kind = \"{kind}\"{} }},", given.concat())
        },
    )
}

proptest! {
    #[test]
    fn any_file_is_a_model_that_fits_together_or_refused_in_words(
        lines in prop::collection::vec(line(), 0..4),
        has_tail in any::<bool>(),
    ) {
        let tail = if has_tail { "{ kind = \"flatten\" }, { kind = \"linear\", out = \"classes\" }" } else { "" };
        let text = format!("input = [2, 9, 8]\nclasses = 3\nlayer = [{}{tail}]", lines.concat());
        match ModelSpec::from_toml(&text, "x.toml", None) {
            Ok(spec) => {
                prop_assert!(spec.shapes().is_ok());
                prop_assert_eq!(ModelSpec::from_toml(&spec.to_toml(), "x.toml", None), Ok(spec));
            }
            Err(error) => prop_assert!(!error.problems.is_empty()),
        }
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,200}") {
        prop_assert!(ModelSpec::from_toml(&text, "x.toml", None).is_err());
    }
}
