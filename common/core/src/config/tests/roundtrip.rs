//! What is written out parses to the same, and no input panics.

use proptest::{prelude::*, sample::subsequence, strategy::Union};

use super::*;

/// `KEY=VALUE` with any allowed value.
fn set<T: std::fmt::Display>(
    key: &'static str,
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<String> {
    value.prop_map(move |value| format!("{key}={value}")).boxed()
}

/// `KEY=VALUE` with any of some texts.
fn one_of(key: &'static str, values: &'static [&'static str]) -> BoxedStrategy<String> {
    set(key, Union::new(values.iter().map(Just)))
}

/// A duration in any unit.
fn time(key: &'static str) -> BoxedStrategy<String> {
    let unit = Union::new(["ns", "us", "ms", "s", "m", "h"].map(Just));
    set(key, (0..100_000u32, unit).prop_map(|(number, unit)| format!("\"{number}{unit}\"")))
}

/// Every key with its allowed values; no two of them can contradict each other.
fn all_keys() -> Vec<BoxedStrategy<String>> {
    vec![
        set("name", "[a-z0-9_-]{1,64}".prop_map(|name| format!("\"{name}\""))),
        set("seed", 0..=i64::MAX),
        one_of("clock", &["wall", "virtual"]),
        set("model.input", (1..=4096usize, 1..=4096usize).prop_map(|(c, h)| format!("[{c}, {h}, 1]"))),
        set("model.classes", 2..=65_536usize),
        one_of("model.init", &["\"a/b c.safetensors\""]),
        set("model.freeze", 0..=4096usize),
        one_of("data.dataset", &["mnist", "fashion-mnist", "cifar10", "cifar100", "images", "npz"]),
        one_of("data.path", &["somewhere", "\"quoted \\\" path\\n\"", "\"\u{fc}\""]),
        set("data.train_limit", 1..=u32::MAX),
        set("data.test_limit", 1..=u32::MAX),
        set("data.pad", 0..=256usize),
        one_of(
            "data.partition",
            &["iid", "by-label", "{ kind = \"shards\", per_edge = 10000 }", "dirichlet"],
        ),
        set(
            "data.partition",
            (0.001..1e9f64).prop_map(|a| format!("{{ kind = \"dirichlet\", alpha = {a:?} }}")),
        ),
        set("data.min_samples", 1..=u32::MAX),
        one_of("data.standardize", &["zscore", "min-max", "log", "unit-norm", "none"]),
        one_of("data.allow_raw_data", &["true", "false"]),
        one_of("training.algorithm", &["splitfed-v1", "sequential", "fedavg"]),
        set("training.batch_size", 1..=65_536usize),
        set("training.steps_per_round", 1..=10_000usize),
        set("training.aggregate_every", 1..=u32::MAX),
        set("training.max_rounds", 1..=u32::MAX),
        set("training.target_accuracy", 1e-6..=1.0f64),
        set(
            "training.optimizer",
            (1e-12..10.0f64, 0.0..1.0f64, 0.0..1.0f64).prop_map(|(lr, m, w)| {
                format!("{{ kind = \"sgd\", lr = {lr:?}, momentum = {m:?}, weight_decay = {w:?} }}")
            }),
        ),
        set(
            "training.optimizer",
            (1e-12..10.0f64, 0.0..1.0f64, 1e-12..1.0f64).prop_map(|(lr, b, e)| {
                format!("{{ kind = \"adam\", lr = {lr:?}, beta1 = {b:?}, beta2 = {b:?}, epsilon = {e:?} }}")
            }),
        ),
        one_of("training.aggregate_moments", &["average", "reset"]),
        one_of("training.labels", &["cloud"]),
        set("fleet.min_edges", 1..=3usize),
        time("fleet.gather_timeout"),
        one_of("fleet.idle_timeout", &["1s", "24h", "1500ms"]),
        set("fleet.quorum", 1e-6..=1.0f64),
        time("fleet.rejoin_window"),
        set("fleet.keep", 1..=u32::MAX),
        one_of("plan.deadline", &["auto", "\"1.5s\"", "250ms", "1ns"]),
        one_of("plan.objective", &["deepest", "fastest"]),
        one_of("plan.replan", &["every-round", "on-change", "never"]),
        set("plan.min_depth", 1..=4usize),
        set("plan.max_depth", 5..=4096usize),
        one_of("plan.allow_local", &["true", "false"]),
        set("plan.margin", 0.0..=100.0f64),
        one_of("plan.on_straggler", &["wait"]),
        set("plan.straggler_factor", 1.0..1e6f64),
        one_of(
            "wire.activations",
            &["f32", "f16", "bf16", "int8", "{ kind = \"int4\", scale = \"tensor\" }"],
        ),
        set(
            "wire.activations",
            (1e-6..=1.0f64, 0.0..1.0f64).prop_map(|(fraction, alpha)| {
                format!(
                    "{{ kind = \"topk\", fraction = {fraction:?}, alpha = {alpha:?}, values = \"int8\" }}"
                )
            }),
        ),
        one_of("wire.gradients", &["f32", "f16", "bf16", "int4", "{ kind = \"int8\", scale = \"tensor\" }"]),
        one_of("wire.data_connection", &["true", "false"]),
        one_of("wire.congestion", &["cubic", "bbr"]),
        one_of("cloud.device", &["cpu", "wgpu"]),
        set("cloud.threads", 1..=1024usize),
        set("cloud.workers", 1..=1024usize),
        one_of("cloud.cpus", &["\"0\"", "\"0-3,7\""]),
        set("cloud.capacity_mbps", 0.001..1e6f64),
        set("edge.1.name", "[a-z]{7,20}".prop_map(|name| format!("\"{name}\""))),
        set("edge.0.count", 2..=9999usize),
        one_of("edge.1.device", &["cpu", "wgpu"]),
        set("edge.0.speed", 0.001..=64.0f64),
        set("edge.1.uplink_mbps", 0.001..1e6f64),
        set("edge.1.downlink_mbps", 0.001..1e6f64),
        one_of("edge.0.rtt", &["0s", "1m", "\"12.5ms\"", "1ns"]),
        one_of("edge.0.jitter", &["0s", "1m", "3us"]),
        set("edge.0.loss", 0.0..1.0f64),
        one_of("edge.1.trace", &["a.csv"]),
        one_of("edge.0.link", &["a.toml"]),
        one_of("edge.1.slow", &["[]", "[[\"0s\", \"1ms\", 10], [\"1ms\", \"2h\", 1.5]]"]),
        one_of("edge.0.down", &["[]", "[[\"0s\", \"1ms\"], [\"1ms\", \"2h\"]]"]),
        set("edge.0.memory", (1..1u64 << 40).prop_map(|bytes| format!("\"{bytes}B\""))),
        set("edge.1.threads", 1..=1024usize),
        one_of("edge.1.cpus", &["\"4095\""]),
    ]
}

/// Some of the keys, with what they need beside them.
fn some_keys() -> impl Strategy<Value = Vec<String>> {
    let keys = all_keys();
    let needed = ["cloud.profile=c.toml", "edge.0.profile=a.toml", "edge.1.profile=b.toml", "data.path=d"];
    let count = keys.len();
    subsequence(keys, 0..=count).prop_flat_map(|chosen| chosen).prop_map(move |mut sets| {
        sets.splice(0..0, needed.map(str::to_owned));
        sets
    })
}

fn reread(config: &Config) -> Config {
    Config::read(&config.to_toml(), "written.toml", &[]).expect("what was written is allowed")
}

#[test]
fn the_examples_survive_a_round_trip() {
    for text in [FULL, SMALL] {
        let config = parse(text, &[]).expect("an example");
        assert_eq!(reread(&config), config);
    }
    let synthetic =
        small(&["data.dataset=synthetic", "data.synthetic={ difficulty = 2 }", "plan.fixed_cut=random"]);
    assert_eq!(reread(&synthetic), synthetic);
    let csv =
        small(&["data.dataset=csv", "data.path=a.csv", "data.label=4", "data.class_names=[\"x\", \"y\"]"]);
    assert_eq!(reread(&csv), csv);
    assert_eq!(csv.data.test_share, Fraction::new(0.2), "the default is written out");
    let images = small(&["data.dataset=images", "data.path=a", "data.test_path=b", "data.resize=[8, 9]"]);
    assert_eq!(reread(&images), images);
    assert_eq!(images.data.test_share, None);
    for policy in ["plan.on_straggler=drop", "plan.on_straggler=defer"] {
        let hasty = small(&[policy, "fleet.quorum=0.5"]);
        assert_eq!(reread(&hasty), hasty);
    }
    let raw = small(&["plan.fixed_cut=0", "data.allow_raw_data=true"]);
    assert_eq!(reread(&raw), raw);
    let shared = small(&["training.algorithm=splitfed-v2"]);
    assert_eq!(reread(&shared), shared);
    let labels = small(&["training.labels=edge"]);
    assert_eq!(reread(&labels), labels);
    let evaluated = small(&["data.evaluate=edges", "data.standardize=unit-norm"]);
    assert_eq!(reread(&evaluated), evaluated);
    let file = Config::read(&SMALL.replace("arch", "file"), "x.toml", &[]).expect("either source");
    assert_eq!(reread(&file), file);
}

#[test]
fn the_written_text_has_every_default() {
    let text = small(&[]).to_toml();
    for line in [
        "seed = 42",
        "min_edges = 3",
        "batch_size = 64",
        "kind = \"dirichlet\"",
        "rtt = \"0s\"",
        "freeze = 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn wire_enums_need_no_self_describing_format() {
    let all = (Algorithm::FedAvg, StandardizeMethod::MinMax, AggregateMoments::Reset, Codec::F16);
    let coding = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(all, coding).expect("unit variants");
    assert_eq!(bytes, [3, 1, 1, 1], "each is the variant's index");
    let (back, used) = bincode::serde::decode_from_slice(&bytes, coding).expect("its own bytes");
    assert_eq!((all, bytes.len()), (back, used));
}

proptest! {
    #[test]
    fn any_configuration_survives_a_round_trip(sets in some_keys()) {
        let config = Config::read(SMALL, "x.toml", &sets).expect("every value is allowed");
        prop_assert_eq!(reread(&config), config);
    }

    #[test]
    fn no_text_and_no_override_panics(text in ".{0,60}", key in "[a-z_.0-9]{0,20}", value in ".{0,20}") {
        let _ = Config::parse(&text, "x.toml", &[]);
        let _ = Config::parse(FULL, "x.toml", &[format!("{key}={value}")]);
    }

    #[test]
    fn any_value_under_any_key_is_taken_or_explained(
        key in Union::new(all_keys()),
        value in prop_oneof![
            Just("-1"), Just("0"), Just("1e400"), Just("nan"), Just("[]"), Just("{}"), Just("\"\""),
            Just("9223372036854775807"), Just("1979-05-27"), Just("[[[1]]]"), Just("{ kind = 3 }"),
            Just("99999999999999999999h"), Just("0.0000000001s"), Just("GiB"), Just("-inf"), Just(".5.5s"),
        ],
    ) {
        let (key, _) = key.split_once('=').expect("KEY=VALUE");
        let set = format!("{key}={value}");
        if let Err(error) = parse(FULL, &[&set]) {
            prop_assert!(error.problems.iter().all(|problem| !problem.key.is_empty()), "{error}");
        }
    }
}
