//! What `partway report` and `partway compare` make of runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::experiment::{Experiment, Record, Running, SMALL, partway, the_error};

const SHORT: [&str; 2] = ["training.max_rounds=5", "edge.camera.count=1"];

/// A configuration with that name in a folder of its own.
fn named(name: &str) -> Experiment {
    Experiment::new(&SMALL.replace("name = \"small\"", &format!("name = \"{name}\"")))
}

/// The folder that comparisons are written to, beside an experiment's.
fn beside(experiment: &Experiment) -> PathBuf {
    experiment.out().with_file_name("comparison")
}

fn compare(what: &[&Path], out: &Path, sets: &[&str]) -> Command {
    let mut command = partway();
    command.arg("compare").args(what).arg("--out").arg(out);
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    command
}

/// Standard output and standard error of a command that succeeds.
fn said(mut command: Command) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().expect("partway runs");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{stderr}");
    (stdout, stderr)
}

/// The ids of a page's figures that have a plot, and all its text.
fn read_page(path: &Path) -> (Vec<String>, String) {
    let page = fs::read_to_string(path).expect("there is a page");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(&page, options).expect("it is well-formed");
    let has_plot = |figure: &roxmltree::Node<'_, '_>| {
        figure.descendants().any(|node| node.attribute("class") == Some("plot"))
    };
    let figures = document.descendants().filter(|node| node.tag_name().name() == "figure").filter(has_plot);
    let text = document.descendants().filter_map(|node| node.text()).collect::<Vec<_>>().join("\n");
    (figures.filter_map(|figure| figure.attribute("id")).map(str::to_owned).collect(), text)
}

#[test]
fn a_run_ends_with_a_report_that_can_be_written_again() {
    let experiment = named("reported");
    let record = experiment.run(&[SHORT[0], SHORT[1], "plan.fixed_cut=3"]);
    let report = experiment.out().join("report.html");
    let (figures, text) = read_page(&report);
    assert_eq!(
        figures,
        [
            "accuracy-over-rounds",
            "accuracy-over-time",
            "loss-over-rounds",
            "loss-over-time",
            "cuts",
            "step-times",
            "terms",
            "prediction",
            "prediction-error",
            "bytes-per-edge",
            "bytes-over-rounds"
        ]
    );
    let accuracy = format!("{:.4}", record.accuracy());
    for shown in ["reported", "camera", "gateway", "3 pool1", "max_rounds = 5", accuracy.as_str()] {
        assert!(text.contains(shown), "{shown} is in the report");
    }
    let written = fs::read(&report).expect("it is there");
    fs::remove_file(&report).expect("removed");
    let mut command = partway();
    command.arg("report").arg(experiment.out());
    let (stdout, stderr) = said(command);
    assert!(stdout.contains("report.html") && stderr.is_empty(), "{stdout}{stderr}");
    assert!(fs::read(&report).expect("it is there again") == written, "the same page");
}

#[test]
fn there_is_no_report_of_nothing() {
    let experiment = named("nothing");
    let output = partway().arg("report").arg(experiment.out()).output().expect("partway runs");
    assert!(the_error(&output, 2).contains("is no folder"));
}

#[test]
fn experiments_are_run_once_and_compared() {
    let (split, fedavg) = (named("split"), named("local"));
    let out = beside(&split);
    let text = fs::read_to_string(fedavg.config()).expect("it is there");
    let text = text.replace("[training]", "[training]\nalgorithm = \"fedavg\"");
    fs::write(fedavg.config(), text).expect("written");
    let what = [split.config(), fedavg.config()];
    let what: Vec<&Path> = what.iter().map(PathBuf::as_path).collect();

    let (stdout, _) = said(compare(&what, &out, &SHORT));
    let rows: Vec<Vec<&str>> = stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.contains(&"splitfed-v1") || words.contains(&"fedavg"))
        .filter(|words| matches!(words[0], "split" | "local"))
        .collect();
    assert_eq!(
        rows.iter().map(|row| &row[..3]).collect::<Vec<_>>(),
        [["split", "splitfed-v1", "5"], ["local", "fedavg", "5"]]
    );
    let table = fs::read_to_string(out.join("compare.csv")).expect("there is a table");
    assert_eq!(
        table.lines().map(|line| line.split(',').next()).collect::<Vec<_>>(),
        [Some("name"), Some("split"), Some("local")]
    );
    let object = fs::read_to_string(out.join("compare.json")).expect("there is an object");
    let object: Value = serde_json::from_str(&object).expect("it is JSON");
    let record = Record::read(&out.join("split"));
    assert_eq!(object["experiments"][0]["mean"]["final_accuracy"].as_f64(), Some(record.accuracy()));
    let (figures, text) = read_page(&out.join("compare.html"));
    assert_eq!(figures, ["over-time", "over-rounds", "over-bytes"]);
    assert!(text.contains("split") && text.contains("local"));
    assert!(out.join("local/report.html").is_file());

    // Nothing is run again: neither the experiments, nor the folders in their place.
    let (again, progress) = said(compare(&what, &out, &SHORT));
    assert_eq!(progress.matches("is finished, and taken as it is").count(), 2, "{progress}");
    assert!(!progress.contains("calibrating"), "{progress}");
    assert_eq!(
        again,
        stdout
            .lines()
            .skip_while(|line| !line.starts_with("name "))
            .fold("\n".to_owned(), |text, line| text + line + "\n")
    );
    let (folders, _) = said(compare(&[&out.join("split"), &out.join("local")], &out, &[]));
    assert_eq!(folders, again);
}

#[test]
fn seeds_are_runs_of_one_experiment() {
    let experiment = named("seeded");
    let out = beside(&experiment);
    let mut command = compare(&[&experiment.config()], &out, &SHORT);
    command.args(["--seeds", "1,2"]);
    let (stdout, _) = said(command);
    assert!(stdout.contains("means and standard deviations over the seeds"), "{stdout}");
    let seed = |folder: &str| Record::read(&out.join(folder)).number("seed");
    assert_eq!((seed("seeded-seed-1"), seed("seeded-seed-2")), (1, 2));
    let object = fs::read_to_string(out.join("compare.json")).expect("there is an object");
    let object: Value = serde_json::from_str(&object).expect("it is JSON");
    assert_eq!(object["experiments"].as_array().map(Vec::len), Some(1));
    assert_eq!(object["experiments"][0]["runs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_interrupted_comparison_goes_on() {
    let experiment = named("slow");
    let out = beside(&experiment);
    let folder = out.join("slow");
    let sets = ["edge.gateway.speed=0.02", "plan.fixed_cut=4"];
    let command = || compare(&[&experiment.config()], &out, &sets);
    let mut run = Running::start(command(), folder.clone());
    run.wait_for("aggregation after round 5");
    run.signal(Signal::INT);
    let ended = run.end();
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    assert!(ended.said.contains("0 of 1 runs are finished and kept"), "{}", ended.said);
    assert!(read_page(&folder.join("report.html")).1.contains("Not finished"), "as far as it came");

    let (stdout, progress) = said(command());
    assert!(progress.contains("goes on from its checkpoint"), "{progress}");
    assert!(stdout.lines().any(|line| line.starts_with("slow ")), "{stdout}");
    assert_eq!(Record::read(&folder).number("rounds"), 7);
    assert!(read_page(&folder.join("report.html")).1.contains("the coordinator was started again"));
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let (first, second) = (named("same"), named("same"));
    let out = beside(&first);
    let output = compare(&[&first.config(), &second.config()], &out, &[]).output().expect("partway runs");
    assert!(the_error(&output, 2).contains("both called `same`"));
    let output =
        compare(&[&first.config()], &out, &["training.batch_size=0"]).output().expect("partway runs");
    assert!(the_error(&output, 2).contains("training.batch_size"));
    assert!(!out.exists(), "nothing was begun");
}
