//! Whole configurations: what is read, and the one message for everything that can be wrong.

mod contradictions;
mod evaluation;
mod files;
mod messages;
mod overrides;
mod roundtrip;

use std::time::Duration;

use super::*;
use crate::codec::{ActivationCodec, Codec, Scale, TopK};
use crate::optimizer::Optimizer;

/// The design's example, with what this version can do.
const FULL: &str = r#"
name = "quickstart"
seed = 42
clock = "wall"

[model]
arch = "lenet5"
input = [1, 28, 28]
classes = 10

[data]
dataset = "mnist"
path = "datasets/mnist"
train_limit = 12000
partition = { kind = "dirichlet", alpha = 0.5 }
min_samples = 64
standardize = "zscore"
evaluate = "cloud"
allow_raw_data = false

[training]
algorithm = "splitfed-v1"
batch_size = 64
steps_per_round = 10
aggregate_every = 5
max_rounds = 100
target_accuracy = 0.97
optimizer = { kind = "sgd", lr = 0.05, momentum = 0.9, weight_decay = 0.0 }
aggregate_moments = "average"
labels = "cloud"

[fleet]
min_edges = 2
gather_timeout = "60s"
quorum = 1.0
rejoin_window = "60s"
checkpoint_every = 5
keep = 3

[plan]
deadline = "auto"
objective = "deepest"
replan = "every-round"
fixed_cut = 3
min_depth = 1
max_depth = 11
allow_local = false
margin = 0.15
on_straggler = "wait"
straggler_factor = 3.0

[wire]
activations = "f32"
gradients = "f32"
in_flight = 1

[cloud]
device = "cpu"
threads = 1
workers = 1
capacity_mbps = 1000
profile = "configs/devices/server.toml"

[[edge]]
name = "camera"
count = 2
speed = 0.25
profile = "configs/devices/pi4.toml"
uplink_mbps = 20
downlink_mbps = 50
rtt = "20ms"
jitter = "2ms"
loss = 0.0
down = [["120s", "180s"]]
memory = "256MiB"
threads = 1
"#;

/// Every key that has no default.
const SMALL: &str = "name = \"small\"
[model]
arch = \"mlp\"
[data]
dataset = \"mnist\"
[[edge]]
name = \"camera\"
count = 2
[[edge]]
name = \"gateway\"
";

fn parse(text: &str, sets: &[&str]) -> Result<Config, ConfigError> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::parse(text, "x.toml", &sets)
}

fn small(sets: &[&str]) -> Config {
    parse(SMALL, sets).expect("the overrides are allowed")
}

/// The messages, one a line.
fn messages(text: &str, sets: &[&str]) -> String {
    parse(text, sets).expect_err("something is wrong").to_string()
}

#[test]
fn the_designs_example_is_read_as_written() {
    let config = parse(FULL, &[]).expect("the design's example");
    assert_eq!(config.name.as_str(), "quickstart");
    assert_eq!(config.model.source, ModelSource::Arch(Name::new("lenet5").expect("a name")));
    assert_eq!(config.model.input.map(SampleShape::get), Some([1, 28, 28]));
    assert_eq!(config.data.train_limit, AtLeastOne::new(12_000));
    assert_eq!(config.data.partition, Partition::default());
    assert_eq!(config.training.target_accuracy, Share::new(0.97));
    assert_eq!(config.training.optimizer, Optimizer::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 0.0 });
    assert_eq!(config.fleet.gather_timeout, Duration::from_mins(1));
    assert_eq!(config.plan.fixed_cut, Some(FixedCut::At(3)));
    assert_eq!(config.plan.max_depth, Depth::new(11));
    assert_eq!(config.cloud.capacity_mbps, Mbps::new(1000.0).expect("a rate"));
    let camera = &config.edge[0];
    assert_eq!(Some(camera.speed), Speed::new(0.25));
    assert_eq!(camera.uplink_mbps, Mbps::new(20.0));
    assert_eq!(camera.rtt.get(), Duration::from_millis(20));
    assert_eq!(camera.memory.map(ByteSize::bytes), Some(256 << 20));
    assert_eq!(
        camera.down,
        [Outage::new(Duration::from_mins(2), Duration::from_mins(3)).expect("an outage")]
    );
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = small(&[]);
    assert_eq!(config.seed, 42);
    assert_eq!(config.clock, Clock::Wall);
    assert_eq!(config.data.path, Some("datasets/mnist".into()));
    assert_eq!(config.data.pad.get(), 0);
    assert_eq!(config.training.algorithm, Algorithm::SplitFedV1);
    assert_eq!(config.training.batch_size.get(), 64);
    assert_eq!(config.training.max_rounds.get(), 100);
    assert_eq!(config.training.target_accuracy, None);
    assert_eq!(config.fleet.min_edges.get(), 3, "all edges");
    assert_eq!(config.plan.deadline, Deadline::Auto);
    assert_eq!(config.plan.max_depth, None);
    assert_eq!(config.wire.activations, Codec::F32.into());
    assert_eq!(Some(config.edge[1].speed), Speed::new(1.0));
    assert_eq!(config.edge[1].uplink_mbps, None);
}

#[test]
fn every_partition_and_optimizer_has_its_forms() {
    let alpha = PositiveF64::new(0.1).expect("above 0");
    for (text, partition) in [
        ("iid", Partition::Iid),
        ("{ kind = \"iid\" }", Partition::Iid),
        ("by-label", Partition::ByLabel),
        ("dirichlet", Partition::default()),
        ("{ kind = \"dirichlet\", alpha = 0.1 }", Partition::Dirichlet { alpha }),
        (
            "{ kind = \"shards\", per_edge = 3 }",
            Partition::Shards { per_edge: number::literal(Whole::new(3)) },
        ),
    ] {
        assert_eq!(small(&[&format!("data.partition={text}")]).data.partition, partition, "{text}");
    }
    let adam = Optimizer::Adam { lr: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let sgd = Optimizer::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };
    for (text, optimizer) in [("{ kind = \"adam\" }", adam), ("{ kind = \"sgd\", lr = 0.1 }", sgd)] {
        assert_eq!(small(&[&format!("training.optimizer={text}")]).training.optimizer, optimizer, "{text}");
    }
}

#[test]
fn a_synthetic_data_set_needs_no_path() {
    let shape = "data.synthetic={ shape = [1, 8, 8], classes = 4, train_samples = 100 }";
    let config = small(&["data.dataset=synthetic", shape]);
    let synthetic = config.data.synthetic.clone().expect("it was given");
    assert_eq!(config.data.path, None);
    assert_eq!(synthetic.shape.get(), [1, 8, 8]);
    assert_eq!((synthetic.train_samples.get(), synthetic.test_samples.get()), (100, 1024));
    let plain = small(&["data.dataset=synthetic"]).data.synthetic.expect("every key has a default");
    assert_eq!(plain.classes.get(), 10);
}

#[test]
fn edges_are_numbered_if_there_are_several_and_sorted_by_name() {
    let names = |config: &Config| -> Vec<String> {
        config.edges().iter().map(|edge| edge.name.to_string()).collect()
    };
    assert_eq!(names(&small(&[])), ["camera-0", "camera-1", "gateway"]);
    assert_eq!(names(&small(&["edge.camera.count=1", "edge.gateway.name=a"])), ["a", "camera"]);
    assert!(small(&[]).edges().iter().all(|edge| edge.count.get() == 1));
}

#[test]
fn checkpoints_follow_the_aggregations_unless_told() {
    assert_eq!(small(&["training.aggregate_every=2"]).fleet.checkpoint_every.get(), 2);
    let told = small(&["training.aggregate_every=2", "fleet.checkpoint_every=6"]);
    assert_eq!(told.fleet.checkpoint_every.get(), 6);
}

#[test]
fn a_daemon_without_described_edges_must_know_how_many_to_wait_for() {
    let text = "name = \"x\"\n[model]\narch = \"mlp\"\n[data]\ndataset = \"mnist\"\n";
    assert_eq!(
        messages(text, &[]),
        "x.toml: `fleet.min_edges` is missing; allowed: the number of edges to wait for, \
         as no `[[edge]]` is described"
    );
    assert_eq!(parse(text, &["fleet.min_edges=4"]).expect("complete").fleet.min_edges.get(), 4);
    // It may have nothing but a test set.
    let alone = ["fleet.min_edges=4", "data.dataset=csv", "data.test_path=test.csv"];
    assert_eq!(parse(text, &alone).expect("complete").data.path, None);
}
