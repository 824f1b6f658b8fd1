//! Edges that evaluate the global model on what they hold out, and a cloud without any data.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use partway_cloud::{Ended, ServeOptions, record::Summary, serve};
use partway_core::config::{Config, Congestion, DeviceKind};
use partway_core::event::EventKind;
use partway_core::holdout::{ShardSplit, held_out};
use partway_core::participant::Outcome;
use partway_core::profile::DeviceProfile;
use partway_datasets::own::Reading;
use partway_datasets::{Samples, shard};
use partway_edge::JoinOptions;
use partway_net::Authority;
use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::experiment::{Experiment, Record, SMALL};

/// The share that edges hold out in these runs.
const SHARE: f64 = 0.2;

const EDGES: [&str; 2] = ["data.evaluate=edges", "data.holdout=0.2"];

/// [`SMALL`] without the test set's limit, which says nothing there.
fn small() -> String {
    SMALL.replace("test_limit = 200\n", "")
}

/// Round, accuracy and samples of each evaluation.
fn evaluations(record: &Record) -> Vec<(u32, f64, u64)> {
    let evaluated = record.events.iter().filter_map(|event| match event.kind {
        EventKind::Evaluated { round, accuracy, samples, .. } => Some((round, accuracy, samples)),
        _ => None,
    });
    let mut evaluated: Vec<_> = evaluated.collect();
    // A run that goes on evaluates the model of its checkpoint again, and finds the same.
    evaluated.dedup();
    evaluated
}

/// Every edge's part is in every evaluation, and what is held out is not trained on.
fn assert_complete(record: &Record, rounds: &[u32]) {
    let edges = record.summary["edges"].as_array().expect("a list");
    let sum = |key: &str| edges.iter().filter_map(|edge| edge[key].as_u64()).sum::<u64>();
    assert_eq!(sum("samples") + sum("held_out"), 600);
    for edge in edges {
        let [samples, apart] = ["samples", "held_out"].map(|key| edge[key].as_u64().expect("a number"));
        assert_eq!(apart, held_out(samples + apart, SHARE));
        assert!(edge["accuracy"].as_f64().is_some_and(|accuracy| (0.0..=1.0).contains(&accuracy)));
    }
    let evaluated = evaluations(record);
    assert_eq!(evaluated.iter().map(|(round, ..)| *round).collect::<Vec<_>>(), rounds);
    assert!(evaluated.iter().all(|(.., samples)| *samples == sum("held_out")), "{evaluated:?}");
}

#[test]
fn every_cut_learns_and_evaluates_the_same_wherever_the_labels_are() {
    let run = |sets: &[&str]| {
        let record = Experiment::new(&small()).run(&[&EDGES[..], sets].concat());
        assert_complete(&record, &[5, 7]);
        record
    };
    let unsplit = run(&["training.algorithm=fedavg"]);
    for labels in ["training.labels=cloud", "training.labels=edge"] {
        let split = run(&["plan.fixed_cut=random", labels]);
        assert_eq!(split.weights(), unsplit.weights(), "{labels}");
        assert_eq!(evaluations(&split), evaluations(&unsplit), "{labels}");
    }
}

/// Nothing but the training samples, which is all that such a run reads.
#[test]
fn published_data_needs_no_test_set() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/mnist").join(file);
        std::fs::copy(committed, folder.path().join(file)).expect("copied");
    }
    let path = format!("data.path={}", folder.path().display());
    let error = Experiment::new(&small()).refused(&[&path]);
    assert!(error.contains("t10k-images-idx3-ubyte"), "{error}");
    assert!(error.contains("`data.evaluate = \"edges\"`"), "{error}");
    let record = Experiment::new(&small()).run(&[&EDGES[..], &[&path, "training.max_rounds=1"]].concat());
    assert_complete(&record, &[1]);
}

#[test]
fn an_edge_that_is_killed_as_it_evaluates_and_a_killed_coordinator_leave_no_trace() {
    // It takes its time, so that it is at the evaluation when the round is over.
    let sets = [&EDGES[..], &["plan.fixed_cut=4", "edge.gateway.speed=0.02"]].concat();
    let undisturbed = Experiment::new(&small()).run(&[EDGES[0], EDGES[1], "plan.fixed_cut=4"]);
    let experiment = Experiment::new(&small());
    let mut run = experiment.start(&sets);
    run.wait_for("round 5:");
    run.kill_edge("gateway");
    let evaluated = run.wait_for("aggregation after round 5");
    assert!(evaluated.contains("held-out samples; camera-0 "), "{evaluated}");
    run.kill("cloud-process");
    assert_eq!(run.end().code, Some(1));
    assert!(!experiment.out().join("cloud/test").exists(), "the cloud has no samples");
    let record = experiment.resume(&sets).finish();
    assert_complete(&record, &[5, 7]);
    assert_eq!(record.weights(), undisturbed.weights());
    assert_eq!(evaluations(&record), evaluations(&undisturbed));
}

#[test]
fn an_interrupted_evaluation_ends_the_processes() {
    let experiment = Experiment::new(&small());
    let mut run = experiment.start(&[&EDGES[..], &["plan.fixed_cut=4", "edge.gateway.speed=0.02"]].concat());
    run.wait_for("round 5:");
    run.signal(Signal::INT);
    assert_eq!(run.end().code, Some(130));
    assert_eq!(experiment.processes(), 0, "nobody is left");
}

/// The accuracy on 600 held-out samples is near that on the test set's 10,000: two standard deviations of
/// the one are below 2 points, and a fifth less data to learn from costs some more.
#[test]
fn held_out_samples_tell_nearly_what_the_test_set_tells() {
    let training = [
        "data.train_limit=3000",
        "data.partition=iid",
        "training.max_rounds=15",
        "training.steps_per_round=30",
        "training.optimizer.lr=0.01",
        "plan.fixed_cut=3",
    ];
    let cloud = Experiment::new(&small()).run(&training).accuracy();
    let edges = Experiment::new(&small()).run(&[&EDGES[..], &training].concat()).accuracy();
    assert!(cloud > 0.9, "it has learned: {cloud}");
    assert!((edges - cloud).abs() < 0.04, "held out {edges}, test set {cloud}");
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_anything_starts() {
    let little = "edge.camera.memory=\"200KiB\"";
    let error = Experiment::new(&small()).refused(&[EDGES[0], little, "edge.gateway.memory=\"200KiB\""]);
    assert!(error.contains("`data.evaluate = \"edges\"` is not allowed; allowed: \"cloud\""), "{error}");
    assert!(error.contains("no edge has the "), "{error}");
    let error = Experiment::new(&small()).refused(&["data.holdout=0.2"]);
    assert!(error.contains("no holdout with `data.evaluate = \"cloud\"`"), "{error}");
}

const IN_PROCESS: &str = r#"
    name = "held-out"
    [model]
    arch = "mlp"
    input = [1, 8, 8]
    classes = 4
    [data]
    dataset = "synthetic"
    synthetic = { shape = [1, 8, 8], classes = 4, train_samples = 200, test_samples = 40 }
    standardize = "log"
    [training]
    batch_size = 8
    steps_per_round = 3
    aggregate_every = 1
    max_rounds = 3
    [plan]
    fixed_cut = 3
    [[edge]]
    name = "camera"
    count = 2
"#;

fn no_file(path: &Path) -> io::Result<String> {
    panic!("the model is a built-in one, not {}", path.display())
}

/// Trains with a coordinator and edges that have these shards, and nothing else.
async fn train(sets: &[&str], shards: &[(&str, Samples)], test: Option<Samples>) -> Summary {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let config = Config::parse(IN_PROCESS, "x.toml", &sets).expect("it is right");
    let authority = Authority::generate().expect("generated");
    authority.save(&folder.path().join("ca.pem")).expect("written");
    let options = ServeOptions {
        spec: config.model_spec_without_data(no_file).expect("input and classes are given"),
        init: None,
        config,
        test,
        profile: DeviceProfile::default(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        listen_data: None,
        identity: authority.issue(&["localhost".to_owned()]).expect("issued"),
        out: folder.path().join("out"),
        resume: false,
    };
    let (listening, address) = oneshot::channel();
    let mut listening = Some(listening);
    let serving = tokio::spawn(async move {
        let on_event = |event: &partway_core::event::Event| {
            if let EventKind::Listening { address, .. } = &event.kind
                && let Some(listening) = listening.take()
            {
                listening.send(address.clone()).expect("the test waits for it");
            }
        };
        serve(options, on_event, std::future::pending()).await.expect("it can start")
    });
    let address = address.await.expect("it listens").parse().expect("an address");
    let mut edges = Vec::new();
    for (name, samples) in shards {
        shard::write(&folder.path().join(name), samples).expect("written");
        let options = JoinOptions {
            address,
            data_address: None,
            server_name: "localhost".to_owned(),
            ca: folder.path().join("ca.pem"),
            data: folder.path().join(name),
            reading: Reading::default(),
            state: folder.path().join(format!("{name}-state")),
            name: (*name).to_owned(),
            device: DeviceKind::Cpu,
            threads: 1,
            profile: DeviceProfile::default(),
            memory: None,
            uplink_hint: None,
            allow_raw_data: false,
            keep_labels: false,
            patience: Duration::from_mins(1),
            idle_timeout: Duration::from_secs(15),
            congestion: Congestion::Cubic,
            emulation: None,
        };
        edges.push(tokio::spawn(
            async move { partway_edge::join(options, |_| {}, std::future::pending()).await },
        ));
    }
    for edge in edges {
        let outcome = edge.await.expect("no panic").expect("it can start");
        assert!(matches!(outcome, Some(Outcome::Finished { .. })), "{outcome:?}");
    }
    match serving.await.expect("no panic") {
        Ended::Finished(summary) => *summary,
        other => panic!("it did not finish: {other:?}"),
    }
}

/// The same samples to train on give the same weights, whoever evaluates: what is held out changes
/// neither the standardizer nor a batch nor a weight in the average.
#[test]
fn what_is_held_out_is_as_if_it_were_not_there() {
    let config = Config::parse(IN_PROCESS, "x.toml", &[]).expect("it is right");
    let dataset = partway_datasets::from_config(&config).expect("it is generated");
    // Parts of different sizes, so that weights matter.
    let shards: Vec<(&str, Samples)> = [("camera-0", 0..60), ("camera-1", 60..200)]
        .map(|(name, part)| (name, dataset.train.take(&part.collect::<Vec<_>>())))
        .into();
    let trained_on: Vec<(&str, Samples)> = shards
        .iter()
        .map(|(name, samples)| {
            let split = ShardSplit::of(config.seed, name, samples.len(), Some(SHARE));
            (*name, samples.take(&split.training))
        })
        .collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let (edges, cloud) = runtime.block_on(async {
        (train(&EDGES, &shards, None).await, train(&[], &trained_on, dataset.test).await)
    });
    assert!(edges.weights_sha256.is_some());
    assert_eq!(edges.weights_sha256, cloud.weights_sha256);
    let samples = |summary: &Summary| summary.edges.iter().map(|edge| edge.samples).collect::<Vec<_>>();
    assert_eq!((samples(&edges), samples(&cloud)), (vec![48, 112], vec![48, 112]));
    assert_eq!(edges.edges.iter().map(|edge| edge.held_out).collect::<Vec<_>>(), [Some(12), Some(28)]);
    let correct: f64 =
        [12.0, 28.0].iter().zip(&edges.edges).filter_map(|(n, edge)| Some(n * edge.accuracy?)).sum();
    assert!((edges.final_accuracy.expect("evaluated") - correct / 40.0).abs() < 1e-9);
    assert!(edges.bytes_down > cloud.bytes_down, "the models that are evaluated count");
}
