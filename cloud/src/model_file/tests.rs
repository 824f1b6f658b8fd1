use partway_core::model::LayerKind;
use partway_core::model::builtin::builtin;

use super::*;

/// A state whose every value, moments included, is another one.
fn counted(spec: &ModelSpec, moments: usize) -> LayerState {
    let len = state_len(spec, 0..spec.len(), moments);
    let values = (0..len).map(|at| at as f32 * 0.37 - 11.0).collect();
    LayerState { layers: 0..spec.len(), moments, values }
}

fn lenet5() -> ModelSpec {
    builtin("lenet5", [1, 28, 28], 10).expect("it is built in")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

#[test]
fn safetensors_reads_back_what_was_written_bit_for_bit() {
    let spec = builtin("resnet18", [3, 8, 8], 3).expect("it is built in");
    let mut state = counted(&spec, 2);
    // Values that a detour over text or another number type would change.
    state.values[..4].copy_from_slice(&[f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0, f32::NEG_INFINITY]);
    let folder = folder();
    write(folder.path(), &spec, &state, 40).expect("the folder can be written to");

    let bytes = fs::read(folder.path().join(WEIGHTS_FILE)).expect("it was written");
    let file = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let slots = slots(&spec, 0..spec.len(), 2);
    assert_eq!(file.len(), slots.len());
    for slot in slots {
        let found = file.tensor(&slot.tensor.name).expect("every tensor is there by its name");
        assert_eq!(found.shape(), slot.tensor.shape);
        assert_eq!(found.dtype(), Dtype::F32);
        let expected: Vec<u8> = state.values[slot.values].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(found.data(), expected, "{}", slot.tensor.name);
    }
    let conv = file.tensor("layers.0.weight").expect("the stem is the first layer");
    assert_eq!(conv.shape(), [64, 3, 3, 3]);
}

#[test]
fn the_metadata_names_model_and_rounds() {
    let (spec, folder) = (lenet5(), folder());
    write(folder.path(), &spec, &counted(&spec, 0), 40).expect("the folder can be written to");
    let bytes = fs::read(folder.path().join(WEIGHTS_FILE)).expect("it was written");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("it is a safetensors file");
    let facts = &header.metadata().as_ref().expect("there is metadata")[METADATA_KEY];
    let facts: serde_json::Value = serde_json::from_str(facts).expect("it is JSON");
    assert_eq!(facts, serde_json::json!({ "model": "lenet5", "rounds": 40 }));
}

#[test]
fn load_returns_weights_and_buffers_without_moments() {
    let (spec, folder) = (lenet5(), folder());
    let state = counted(&spec, 1);
    write(folder.path(), &spec, &state, 3).expect("the folder can be written to");
    let loaded = load(&folder.path().join(WEIGHTS_FILE), &spec).expect("it is of this model");
    assert_eq!((loaded.layers.clone(), loaded.moments), (0..spec.len(), 0));
    let with_moments = slots(&spec, 0..spec.len(), 1);
    let without = slots(&spec, 0..spec.len(), 0);
    for (old, new) in with_moments.into_iter().zip(without) {
        assert_eq!(loaded.values[new.values], state.values[old.values], "{}", new.tensor.name);
    }
    assert_eq!(weights_sha256(&spec, &loaded), weights_sha256(&spec, &state));
}

#[test]
fn the_layers_are_read_back_from_toml() {
    for name in partway_core::model::builtin::NAMES {
        let spec = builtin(name, [3, 32, 32], 10).expect("it is built in");
        let folder = folder();
        write(folder.path(), &spec, &counted(&spec, 0), 1).expect("the folder can be written to");
        let text = fs::read_to_string(folder.path().join(LAYERS_FILE)).expect("it was written");
        assert_eq!(ModelSpec::from_toml(&text, LAYERS_FILE, None).expect("it is a model"), spec);
    }
}

#[test]
fn the_script_for_pytorch_knows_every_layer() {
    let script = include_str!("../../../scripts/open_in_pytorch.py");
    for kind in LayerKind::ALL {
        assert!(script.contains(&format!("    \"{kind}\": ")), "scripts/open_in_pytorch.py lacks {kind}");
    }
}

#[test]
fn the_hash_is_of_weights_and_buffers_in_canonical_order() {
    // Two weights and a bias of one linear layer, each followed by a moment.
    let spec = ModelSpec::from_toml(
        "input = [2, 1, 1]\nclasses = 1\nlayer = [{ kind = \"flatten\" }, { kind = \"linear\", out = 1 }]",
        "line.toml",
        None,
    )
    .expect("it is a model");
    let state = LayerState { layers: 0..2, moments: 1, values: vec![1.0, 2.0, 9.0, 9.0, 3.0, 9.0] };
    // printf '\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40' | sha256sum
    let expected = "8e628779e6a74ee0b36991c10158f63cafec7d340ad4e075592502c8708524dd";
    assert_eq!(weights_sha256(&spec, &state), expected);
    let mut other = state.clone();
    other.values[3] = 8.0;
    assert_eq!(weights_sha256(&spec, &other), expected, "a moment is no part of it");
    other.values[4] = 8.0;
    assert_ne!(weights_sha256(&spec, &other), expected);
}

#[test]
fn a_part_of_a_model_is_not_written() {
    let (spec, folder) = (lenet5(), folder());
    let part = counted(&spec, 1).slice(&spec, 0..4);
    let error = write(folder.path(), &spec, &part, 1).expect_err("it lacks layers");
    assert!(error.to_string().contains("layers 0..4"), "{error}");
    assert!(!folder.path().join(WEIGHTS_FILE).exists());
}

#[test]
fn weights_of_another_model_are_refused_with_the_tensor() {
    let (spec, folder) = (lenet5(), folder());
    write(folder.path(), &spec, &counted(&spec, 0), 1).expect("the folder can be written to");
    let path = folder.path().join(WEIGHTS_FILE);
    let wider = builtin("lenet5", [1, 28, 28], 12).expect("it is built in");
    let error = load(&path, &wider).expect_err("its last layer is wider").to_string();
    assert!(error.contains("layers.11.weight") && error.contains("[10, 84]"), "{error}");
    let error =
        load(&path, &builtin("mlp", [1, 2, 2], 10).expect("it is built in")).expect_err("other layers");
    assert!(matches!(error, ModelFileError::OtherModel { .. }), "{error}");
}

#[test]
fn a_tensor_too_many_or_without_numbers_is_named() {
    let (spec, folder) = (lenet5(), folder());
    let path = folder.path().join("w.safetensors");
    let mut state = counted(&spec, 0);
    let first_bias = slots(&spec, 0..1, 0)[1].values.start;
    state.values[first_bias] = f32::NAN;
    write_weights(&path, &spec, &state, 1).expect("the folder can be written to");
    let error = load(&path, &spec).expect_err("nothing can be trained from it").to_string();
    assert!(error.ends_with("tensor `layers.0.bias` has values that are not finite"), "{error}");

    let mut longer = spec.clone();
    longer.layers.push(partway_core::model::LayerSpec {
        name: "more".into(),
        op: partway_core::model::LayerOp::Linear { inputs: 10, outputs: 10, bias: false },
    });
    write_weights(&path, &longer, &counted(&longer, 0), 1).expect("the folder can be written to");
    let error = load(&path, &spec).expect_err("a layer too many").to_string();
    assert!(error.ends_with("it has a tensor `layers.12.weight`, which the model does not have"), "{error}");
}

#[test]
fn a_damaged_or_missing_weights_file_is_an_error() {
    let (spec, folder) = (lenet5(), folder());
    let path = folder.path().join(WEIGHTS_FILE);
    assert!(matches!(load(&path, &spec), Err(ModelFileError::Io { .. })));
    write(folder.path(), &spec, &counted(&spec, 0), 1).expect("the folder can be written to");
    let bytes = fs::read(&path).expect("it was written");
    for kept in [0, 7, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..kept]).expect("it can be cut");
        assert!(matches!(load(&path, &spec), Err(ModelFileError::Format { .. })), "{kept} bytes");
    }
}
