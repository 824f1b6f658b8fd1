//! What is wrong is said once, where it is wrong, before anything is started.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::experiment::{Experiment, SMALL, partway, the_error};

/// An experiment whose folder stays empty when it is refused.
fn refused(config: &str, sets: &[&str]) -> String {
    let experiment = Experiment::new(config);
    let error = experiment.refused(sets);
    assert!(!experiment.out().exists(), "nothing was started: {error}");
    error.replace(&experiment.config().display().to_string(), "x.toml")
}

#[test]
fn a_wrong_key_is_named_with_its_line() {
    let config = SMALL.replace("batch_size = 16", "batch_sise = 16");
    let error = "error: x.toml:13: unknown key `training.batch_sise`; did you mean `batch_size`?";
    assert_eq!(refused(&config, &[]), error);
}

#[test]
fn a_wrong_type_and_a_wrong_value_are_named_with_what_is_allowed() {
    let config = SMALL.replace("batch_size = 16", "batch_size = \"many\"");
    assert_eq!(
        refused(&config, &[]),
        "error: x.toml:13: `training.batch_size = \"many\"` is not allowed; allowed: an integer from 1 to 65536"
    );
    let config = SMALL.replace("count = 2", "speed = 0");
    assert_eq!(
        refused(&config, &[]),
        "error: x.toml:20: `edge[0].speed = 0` (edge `camera`) is not allowed; allowed: a number above 0 and at most 64"
    );
}

#[test]
fn a_file_that_is_no_configuration_is_named() {
    assert!(refused("name = \"x", &[]).starts_with("error: x.toml:1: this is not TOML: "));
    let output = partway().args(["run", "no/such.toml"]).output().expect("partway runs");
    assert!(
        the_error(&output, 2)
            .starts_with("error: cannot read the configuration `no/such.toml`: No such file")
    );
}

#[test]
fn a_wrong_override_is_named_as_it_was_given() {
    for (set, error) in [
        ("nonsense", "expected KEY=VALUE, such as training.batch_size=32"),
        ("training.batch_sise=3", "unknown key `training.batch_sise`; did you mean `batch_size`?"),
        (
            "training.batch_size=0",
            "`training.batch_size = 0` is not allowed; allowed: an integer from 1 to 65536",
        ),
        ("edge.nobody.speed=1", "`edge` has no `nobody`; it has 0 (camera), 1 (gateway)"),
    ] {
        assert_eq!(refused(SMALL, &[set]), format!("error: --set {set}: {error}"));
    }
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_device_that_was_not_built_in_is_named_with_the_build_that_has_it() {
    for (set, key) in [("cloud.device=wgpu", "cloud.device"), ("edge.0.device=wgpu", "edge.camera.device")] {
        let error = refused(SMALL, &[set]);
        assert!(error.starts_with(&format!("error: `{key} = \"wgpu\"`: this program was built")), "{error}");
        assert!(error.contains("--features wgpu"), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn processors_that_are_not_there_are_named() {
    for (set, key) in [("cloud.cpus=\"4095\"", "cloud.cpus"), ("edge.1.cpus=\"0-4095\"", "edge[1].cpus")] {
        let error = refused(SMALL, &[set]);
        assert!(error.starts_with(&format!("error: --set {set}: `{key} = ")), "{error}");
        assert!(error.contains("cannot be used: there is no processor "), "{error}");
        assert!(error.contains("for this process: it may use "), "{error}");
    }
}

#[test]
fn memory_that_holds_no_part_of_the_model_is_refused_unless_the_others_are_a_quorum() {
    let error = refused(SMALL, &["edge.camera.memory=1B", "fleet.quorum=0.5"]);
    let expected = "error: --set edge.camera.memory=1B: `edge[0].memory = \"1B\"` (edge `camera`) is not allowed; \
                    allowed: at least ";
    assert!(error.starts_with(expected), "{error}");
    let record =
        Experiment::new(SMALL).run(&["edge.gateway.memory=1B", "fleet.quorum=0.5", "fleet.rejoin_window=1s"]);
    assert_eq!(record.number("rounds"), 7);
}

#[test]
fn images_that_do_not_fit_the_model_are_refused() {
    assert_eq!(
        refused(SMALL, &["model.input=[3, 32, 32]"]),
        "error: --set model.input=[3, 32, 32]: `model.input = [3, 32, 32]` is not allowed; allowed: [1, 28, 28], \
         which the samples have; `data.pad` adds pixels on each side"
    );
    let small_images = ["data.dataset=synthetic", "data.synthetic={ shape = [1, 8, 8] }"];
    assert_eq!(
        refused(SMALL, &small_images),
        "error: x.toml:5: `model.arch = \"lenet5\"` cannot be used: model `lenet5`, layer 3 (conv2d `conv2`): \
         expects [6, height, width] of at least 5 with padding 0, but its input is [6, 4, 4]"
    );
    assert!(refused(SMALL, &["plan.fixed_cut=12"]).contains("at most 11, as the model has 12 layers"));
}

/// A folder with MNIST's files, but for one.
fn mnist_without(folder: &Path, absent: &str) {
    for file in fs::read_dir("datasets/mnist").expect("it is committed").filter_map(Result::ok) {
        if file.file_name() != absent {
            fs::copy(file.path(), folder.join(file.file_name())).expect("it is copied");
        }
    }
}

#[test]
fn a_missing_data_file_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    mnist_without(folder.path(), "t10k-labels-idx1-ubyte.gz");
    let path = folder.path().display();
    assert_eq!(
        refused(SMALL, &[&format!("data.path={path}")]),
        format!(
            "error: x.toml: cannot load the data set `mnist`: `{path}` holds neither \
             `t10k-labels-idx1-ubyte.gz` nor `t10k-labels-idx1-ubyte`: put one there or name another folder, \
             or download it with `partway data fetch mnist`; or let the edges evaluate on what they hold out, \
             which needs no test set: `data.evaluate = \"edges\"`"
        )
    );
}

#[test]
fn a_data_file_that_is_cut_off_is_named_compressed_or_not() {
    let name = "t10k-images-idx3-ubyte.gz";
    let whole = fs::read(Path::new("datasets/mnist").join(name)).expect("it is committed");
    let folder = tempfile::tempdir().expect("a temporary folder");
    mnist_without(folder.path(), name);
    let set = format!("data.path={}", folder.path().display());

    let compressed = folder.path().join(name);
    fs::write(&compressed, &whole[..whole.len() / 2]).expect("written");
    let error = refused(SMALL, &[&set]);
    let expected = format!("`{}` is cut off: expected 7840016 bytes", compressed.display());
    assert!(error.contains(&expected), "{error}");

    fs::remove_file(&compressed).expect("removed");
    let plain = folder.path().join("t10k-images-idx3-ubyte");
    let header = [[0, 0, 8, 3], 10_000_u32.to_be_bytes(), 28_u32.to_be_bytes(), 28_u32.to_be_bytes()];
    let mut file = File::create(&plain).expect("created");
    file.write_all(&header.concat()).and_then(|()| file.write_all(&[0; 4984])).expect("written");
    let error = refused(SMALL, &[&set]);
    let expected =
        format!("`{}` is cut off: expected 7840016 bytes uncompressed, it ends after 5000", plain.display());
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn there_must_be_a_run_to_resume_and_a_folder_for_outputs() {
    let experiment = Experiment::new(SMALL);
    let ended = experiment.resume(&[]).end();
    assert_eq!(ended.code, Some(2));
    assert!(ended.said.contains("has no previous run, so that there is nothing to resume"), "{}", ended.said);

    fs::create_dir(experiment.out()).expect("created");
    fs::write(experiment.out().join("thesis.txt"), "years of work").expect("written");
    assert!(experiment.refused(&[]).contains("is not empty, and not a previous run's"));
    assert_eq!(fs::read_dir(experiment.out()).expect("a folder").count(), 1, "nothing was touched");
}
