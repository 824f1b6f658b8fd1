use super::*;
use crate::experiment::tests::SMALL;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn config(&self, file: &str, name: &str) -> PathBuf {
        let path = self.0.path().join(file);
        let text = SMALL.replace("name = \"small\"", &format!("name = \"{name}\""));
        std::fs::write(&path, text).expect("written");
        path
    }

    fn select(what: &[&PathBuf], seeds: &[u64]) -> Result<Vec<(String, u64, String)>, String> {
        let args = CompareArgs {
            what: what.iter().map(|path| (*path).clone()).collect(),
            sets: Vec::new(),
            seeds: seeds.to_vec(),
            out: "out".into(),
        };
        let entries = select(&args).map_err(|error| error.to_string())?;
        let shown = |entry: Entry| (entry.name, entry.seed, entry.folder.display().to_string());
        Ok(entries.into_iter().map(shown).collect())
    }
}

#[test]
fn every_experiment_runs_with_every_seed_in_a_folder_of_its_own() {
    let files = Files::new();
    let (a, b) = (files.config("1.toml", "a"), files.config("2.toml", "b"));
    let entry = |name: &str, seed, folder: &str| (name.to_owned(), seed, folder.to_owned());
    assert_eq!(Files::select(&[&b, &a], &[]), Ok(vec![entry("b", 42, "out/b"), entry("a", 42, "out/a")]));
    assert_eq!(
        Files::select(&[&a], &[1, 2]),
        Ok(vec![entry("a", 1, "out/a-seed-1"), entry("a", 2, "out/a-seed-2")])
    );
}

#[test]
fn runs_that_cannot_be_told_apart_are_refused() {
    let files = Files::new();
    let (first, second) = (files.config("1.toml", "a"), files.config("2.toml", "a"));
    let error = Files::select(&[&first, &second], &[]).expect_err("two of one name");
    assert!(
        error.contains("1.toml") && error.contains("2.toml") && error.contains("both called `a`"),
        "{error}"
    );
    assert!(Files::select(&[&first, &second], &[1, 2]).is_err());
    assert_eq!(Files::select(&[&first], &[3, 1, 3]), Err("--seeds has 3 twice".to_owned()));
    let reserved = files.config("3.toml", "compare.csv");
    assert!(Files::select(&[&reserved], &[]).expect_err("a file's name").contains("give it another"));
}

#[test]
fn what_is_no_run_is_not_written_over() {
    let files = Files::new();
    let config = files.config("1.toml", "a");
    std::fs::create_dir_all(files.0.path().join("a/mine")).expect("made");
    let args = |out: &str| CompareArgs {
        what: vec![config.clone()],
        sets: Vec::new(),
        seeds: Vec::new(),
        out: files.0.path().join(out),
    };
    let error = select(&args("")).expect_err("somebody's folder is there").to_string();
    assert!(error.contains("not a previous run's"), "{error}");
    assert!(select(&args("a")).is_ok(), "`a/a` is free");
}

/// A finished run of the experiment `quickstart`.
fn run(files: &Files, folder: &str, config: &str, seed: u64) -> PathBuf {
    let folder = files.0.path().join(folder);
    std::fs::create_dir(&folder).expect("made");
    let summary = serde_json::json!({
        "name": "quickstart", "clock": "wall", "seed": seed, "rounds": 5, "aggregations": 1,
        "final_accuracy": 0.9, "best_accuracy": 0.9, "target_reached": false,
        "seconds_total": 1.0, "seconds_training": 1.0, "seconds_to_target": null, "seconds_clock": 1.0,
        "samples_trained": 1, "samples_per_second": 1.0, "bytes_up": 1, "bytes_down": 1,
        "deadline_ms": null, "deadline_hit_rate": null, "prediction_median_error": null,
        "repeatability_floor": null, "weights_sha256": "0", "edges": [], "cloud": {"peak_rss_mib": null}
    });
    std::fs::write(folder.join("summary.json"), summary.to_string()).expect("written");
    std::fs::write(folder.join("config.toml"), format!("seed = {seed}\n{config}")).expect("written");
    folder
}

#[test]
fn runs_of_one_name_are_told_apart_by_their_folders_or_are_repeats() {
    let files = Files::new();
    let split = run(&files, "split", "algorithm = 1", 1);
    let fedavg = run(&files, "fedavg", "algorithm = 2", 1);
    let again = run(&files, "again", "algorithm = 1", 2);
    let names = |what: &[&PathBuf]| {
        let selected = Files::select(what, &[]).expect("they can be told apart");
        selected.into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[&split, &again]), ["quickstart", "quickstart"]);
    assert_eq!(names(&[&split, &fedavg]), ["split", "fedavg"]);
    assert!(Files::select(&[&split, &split], &[]).is_err(), "the same run twice");
}

#[test]
fn a_comparisons_folder_stands_for_its_finished_runs() {
    let files = Files::new();
    let (one, two) = (run(&files, "one", "algorithm = 1", 1), run(&files, "two", "algorithm = 2", 1));
    std::fs::create_dir(files.0.path().join("failed")).expect("made");
    let folder = files.0.path().to_owned();
    std::fs::write(folder.join("compare.json"), "{}").expect("written");
    let selected = Files::select(&[&folder], &[]).expect("two runs");
    assert_eq!(selected, Files::select(&[&one, &two], &[]).expect("the same two"));
    assert_eq!(selected.len(), 2);

    let empty = files.0.path().join("failed");
    std::fs::write(empty.join("compare.json"), "{}").expect("written");
    let error = Files::select(&[&empty], &[]).expect_err("no runs");
    assert!(error.contains("without any finished run"), "{error}");
}

#[test]
fn a_folder_must_have_a_finished_run() {
    let files = Files::new();
    let folder = files.0.path().to_owned();
    let error = Files::select(&[&folder], &[]).expect_err("it is somebody's");
    assert!(error.contains("is not the folder of a run's outputs"), "{error}");
    for marker in [".partway-run", ".partway-cloud"] {
        let begun = folder.join(format!("begun{marker}"));
        std::fs::create_dir(&begun).expect("made");
        std::fs::write(begun.join(marker), "").expect("written");
        let error = Files::select(&[&begun], &[]).expect_err("it has no summary");
        assert!(error.contains("did not finish"), "{error}");
    }
    let error = Files::select(&[&folder], &[1]).expect_err("nothing to run");
    assert!(error.starts_with("--seeds changes"), "{error}");
    let absent = files.0.path().join("no/such.toml");
    assert!(Files::select(&[&absent], &[]).expect_err("no file").contains("cannot read the configuration"));
}
