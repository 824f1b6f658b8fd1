//! The daemon of a training that the edges evaluate: it needs no samples.

use std::process::Command;

const CONFIG: &str = r#"
    name = "no-data"
    [model]
    arch = "mlp"
    [data]
    dataset = "mnist"
    path = "no/such/folder"
    evaluate = "edges"
    [fleet]
    min_edges = 1
    gather_timeout = "1s"
"#;

/// Runs the daemon with these overrides until nobody has come; returns its exit code and its error.
fn serve(sets: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("x.toml");
    std::fs::write(&config, CONFIG).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_partway-cloud"));
    command.arg("serve").args(["--listen", "127.0.0.1:0"]).arg("--config").arg(config);
    command.arg("--state").arg(folder.path().join("state"));
    let output = command.args(sets.iter().flat_map(|set| ["--set", set])).output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stderr).expect("messages are text"))
}

#[test]
fn it_must_be_told_what_the_samples_are_and_opens_none() {
    let (code, error) = serve(&[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("`model.input` is missing") && error.contains("`model.classes` is missing"),
        "{error}"
    );
    let (code, error) = serve(&["model.input=[1, 28, 28]", "model.classes=10"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("0 of 1 edges asked to take part"), "{error}");
    let (code, error) = serve(&["data.evaluate=cloud"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("no/such/folder"), "{error}");
}
