//! A user's own table: looked at, trained on, dealt out.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use partway_datasets::shard;

use crate::experiment::{Experiment, partway, the_error};

/// Three kinds of flowers that two measures tell apart, sorted by kind as tables often are.
fn flowers(folder: &Path) -> String {
    let mut table = "length;width;noise;species\n".to_owned();
    for (kind, (length, width)) in
        [("setosa", (5.0, 1.0)), ("versicolor", (6.0, 3.0)), ("virginica", (8.0, 3.5))]
    {
        for n in 0..60 {
            let (a, b) = (f64::from(n % 7) / 10.0, f64::from(n % 5) / 10.0);
            writeln!(table, "{};{};{};{kind}", length + a, width - b, 1000 + n % 11).expect("text grows");
        }
    }
    let path = folder.join("flowers.csv");
    fs::write(&path, table).expect("written");
    path.display().to_string()
}

const CONFIG: &str = r#"
    name = "flowers"
    [model]
    arch = "mlp"
    [data]
    dataset = "csv"
    partition = "iid"
    min_samples = 16
    [training]
    batch_size = 16
    steps_per_round = 10
    max_rounds = 10
    [[edge]]
    name = "garden"
    [[edge]]
    name = "meadow"
"#;

#[test]
fn a_table_is_trained_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = format!("data.path={}", flowers(folder.path()));
    let experiment = Experiment::new(CONFIG);
    let record = experiment.run(&[&path]);
    assert!(record.accuracy() > 0.9, "three kinds far apart: {}", record.accuracy());
    let names = fs::read_to_string(experiment.out().join("classes.txt")).expect("the classes have names");
    assert_eq!(names, "setosa\nversicolor\nvirginica\n");
    let test = shard::read(&experiment.out().join("cloud/test")).expect("the held-out share");
    assert_eq!((test.len(), test.label_counts()), (36, vec![12, 12, 12]));
}

#[test]
fn a_table_is_looked_at_and_dealt_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (table, out) = (flowers(folder.path()), folder.path().join("shards"));
    let output = partway().args(["data", "info", &table]).output().expect("partway runs");
    let told = String::from_utf8(output.stdout).expect("text");
    for part in
        ["samples   180, none", "shape     [3, 1, 1]", "label     column `species`", "1  versicolor       60"]
    {
        assert!(told.contains(part), "{told}");
    }

    let experiment = Experiment::new(CONFIG);
    let set = format!("data.path={table}");
    let mut command = partway();
    command.args(["data", "partition"]).arg(experiment.config()).args(["--set", &set]).arg("--out").arg(&out);
    let output = command.output().expect("partway runs");
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(told.starts_with("edge    samples"), "{told}");
    let shards = ["garden", "meadow"].map(|edge| shard::read(&out.join(edge)).expect("a shard"));
    assert_eq!(shards.map(|shard| (shard.len(), shard.classes())), [(72, 3), (72, 3)]);
    assert!(the_error(&command.output().expect("partway runs"), 2).contains("is not empty"));
}

#[test]
fn a_wrong_cell_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = folder.path().join("t.csv");
    fs::write(&table, "a,b,label\n1,2,x\n1,?,y\n").expect("written");
    let error = Experiment::new(CONFIG).refused(&[&format!("data.path={}", table.display())]);
    let expected = format!(
        "cannot load the data set `csv`: `{}`, line 3, column `b`: \"?\" is no number",
        table.display()
    );
    assert!(error.contains(&expected), "{error}");
}
