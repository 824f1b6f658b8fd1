//! One wrong key each: file, line, key, value, and what is allowed.

use super::*;

/// `SMALL` with one more line under the tables that it has.
fn with(table: &str, line: &str) -> String {
    if SMALL.contains(&format!("[{table}]")) {
        SMALL.replacen(&format!("[{table}]\n"), &format!("[{table}]\n{line}\n"), 1)
    } else {
        format!("{SMALL}[{table}]\n{line}\n")
    }
}

/// Table, line in it, message.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "training",
        "batch_size = 0",
        "x.toml:12: `training.batch_size = 0` is not allowed; allowed: an integer from 1 to 65536",
    ),
    (
        "training",
        "batch_size = \"many\"",
        "x.toml:12: `training.batch_size = \"many\"` is not allowed; allowed: an integer from 1 to 65536",
    ),
    (
        "training",
        "batch_size = -3",
        "x.toml:12: `training.batch_size = -3` is not allowed; allowed: an integer from 1 to 65536",
    ),
    (
        "training",
        "aggregate_every = 0",
        "x.toml:12: `training.aggregate_every = 0` is not allowed; allowed: an integer from 1 to 4294967295",
    ),
    (
        "training",
        "algorithm = \"fedprox\"",
        "x.toml:12: `training.algorithm = \"fedprox\"` is not allowed; allowed: \"splitfed-v1\", \
             \"splitfed-v2\", \"sequential\", \"fedavg\", \"centralized\"",
    ),
    (
        "training",
        "optimizer = { kind = \"sgd\", lr = 0 }",
        "x.toml:12: `training.optimizer.lr = 0` is not allowed; \
             allowed: a number from 1.2e-38 to 3.4e38, as kernels compute in single precision",
    ),
    (
        "training",
        "optimizer = { kind = \"adam\", beta2 = 1.0 }",
        "x.toml:12: `training.optimizer.beta2 = 1.0` is not allowed; \
             allowed: a number of at least 0 and below 1",
    ),
    (
        "training",
        "optimizer = { kind = \"sgd\" }",
        "x.toml:12: `training.optimizer.lr` is missing; \
             allowed: a number from 1.2e-38 to 3.4e38, as kernels compute in single precision",
    ),
    (
        "training",
        "optimizer = { lr = 0.1 }",
        "x.toml:12: `training.optimizer.kind` is missing; allowed: \"sgd\", \"adam\"",
    ),
    (
        "training",
        "optimizer = { kind = \"lion\" }",
        "x.toml:12: `training.optimizer.kind = \"lion\"` is not allowed; allowed: \"sgd\", \"adam\"",
    ),
    (
        "fleet",
        "quorum = 0.0",
        "x.toml:12: `fleet.quorum = 0.0` is not allowed; allowed: a number above 0 and at most 1",
    ),
    (
        "fleet",
        "gather_timeout = 60",
        "x.toml:12: `fleet.gather_timeout = 60` is not allowed; \
             allowed: a time with its unit in quotes, such as \"250ms\", \"1.5s\", \"2m\"",
    ),
    (
        "plan",
        "deadline = \"0s\"",
        "x.toml:12: `plan.deadline = \"0s\"` is not allowed; \
             allowed: \"auto\", or a time above 0 and at most 100000h with its unit in quotes, such as \"250ms\"",
    ),
    (
        "plan",
        "deadline = \"5000000h\"",
        "x.toml:12: `plan.deadline = \"5000000h\"` is not allowed; \
             allowed: \"auto\", or a time above 0 and at most 100000h with its unit in quotes, such as \"250ms\"",
    ),
    (
        "plan",
        "margin = 101",
        "x.toml:12: `plan.margin = 101` is not allowed; allowed: a number of at least 0 and at most 100",
    ),
    (
        "fleet",
        "idle_timeout = \"1ms\"",
        "x.toml:12: `fleet.idle_timeout = \"1ms\"` is not allowed; \
             allowed: a time from 1s to 24h with its unit in quotes, such as \"1.5s\"",
    ),
    (
        "plan",
        "margin = nan",
        "x.toml:12: `plan.margin = nan` is not allowed; allowed: a number of at least 0 and at most 100",
    ),
    (
        "plan",
        "fixed_cut = \"any\"",
        "x.toml:12: `plan.fixed_cut = \"any\"` is not allowed; \
             allowed: \"random\", or an integer from 0 to 4096",
    ),
    (
        "wire",
        "gradients = \"f64\"",
        "x.toml:12: `wire.gradients = \"f64\"` is not allowed; allowed: \"f32\", \"f16\", \"bf16\", \"int8\", \
             \"int4\", { kind = \"int8\", scale = \"tensor\" }",
    ),
    (
        "wire",
        "gradients = { kind = \"topk\", fraction = 0.1 }",
        "x.toml:12: `wire.gradients = { kind = \"topk\", fraction = 0.1 }` is not allowed; allowed: \"f32\", \
             \"f16\", \"bf16\", \"int8\", \"int4\"; top-k is for activations, and their gradients follow by themselves",
    ),
    (
        "wire",
        "activations = { kind = \"int8\", scale = \"row\" }",
        "x.toml:12: `wire.activations.scale = \"row\"` is not allowed; allowed: \"channel\", \"tensor\"",
    ),
    (
        "wire",
        "activations = { kind = \"int2\" }",
        "x.toml:12: `wire.activations.kind = \"int2\"` is not allowed; \
             allowed: \"f32\", \"f16\", \"bf16\", \"int8\", \"int4\", \"topk\"",
    ),
    (
        "wire",
        "activations = { kind = \"f16\", scale = \"tensor\" }",
        "x.toml:12: unknown key `wire.activations.scale`; allowed there: kind",
    ),
    (
        "wire",
        "activations = \"topk\"",
        "x.toml:12: `wire.activations.fraction` is missing; allowed: a number above 0 and at most 1",
    ),
    (
        "wire",
        "activations = { kind = \"topk\", fraction = 0.1, alpha = 1 }",
        "x.toml:12: `wire.activations.alpha = 1` is not allowed; allowed: a number of at least 0 and below 1",
    ),
    (
        "data",
        "partition = { kind = \"dirichlet\", alpha = 0 }",
        "x.toml:5: `data.partition.alpha = 0` is not allowed; allowed: a number above 0",
    ),
    (
        "data",
        "test_share = 1.0",
        "x.toml:5: `data.test_share = 1.0` is not allowed; allowed: a number above 0 and below 1",
    ),
    (
        "data",
        "label = -1",
        "x.toml:5: `data.label = -1` is not allowed; allowed: a column's name in quotes, or its number from 0",
    ),
    (
        "data",
        "class_names = [\"a\", \"a\"]",
        "x.toml:5: `data.class_names = [\"a\", \"a\"]` is not allowed; \
             allowed: a list of 2 to 65536 different names, without spaces around them",
    ),
    (
        "data",
        "resize = [32]",
        "x.toml:5: `data.resize = [32]` is not allowed; \
             allowed: [height, width], each an integer from 1 to 4096",
    ),
    (
        "data",
        "allow_raw_data = 1",
        "x.toml:5: `data.allow_raw_data = 1` is not allowed; allowed: true or false",
    ),
    (
        "model",
        "input = [1, 28]",
        "x.toml:3: `model.input = [1, 28]` is not allowed; \
             allowed: [channels, height, width], each an integer from 1 to 4096",
    ),
    (
        "[edge]",
        "speed = 0",
        "x.toml:7: `edge[0].speed = 0` (edge `camera`) is not allowed; \
             allowed: a number above 0 and at most 64",
    ),
    (
        "[edge]",
        "loss = 1.0",
        "x.toml:7: `edge[0].loss = 1.0` (edge `camera`) is not allowed; \
             allowed: a number of at least 0 and below 1",
    ),
    (
        "[edge]",
        "rtt = \"61s\"",
        "x.toml:7: `edge[0].rtt = \"61s\"` (edge `camera`) is not allowed; \
             allowed: a time from 0s to 1m with its unit in quotes, such as \"1.5s\"",
    ),
    (
        "[edge]",
        "uplink_mbps = 0",
        "x.toml:7: `edge[0].uplink_mbps = 0` (edge `camera`) is not allowed; \
             allowed: Mbit/s: a number of at least 0.001 and at most 1000000",
    ),
    (
        "[edge]",
        "memory = 256",
        "x.toml:7: `edge[0].memory = 256` (edge `camera`) is not allowed; \
             allowed: a size above 0 with its unit in quotes, such as \"256MiB\", \"2GB\", \"1.5KiB\"",
    ),
    (
        "[edge]",
        "down = [[\"3s\", \"4s\"], [\"9s\", \"8s\"]]",
        "x.toml:7: `edge[0].down[1] = [\"9s\", \"8s\"]` (edge `camera`) is not allowed; allowed: \
             [from, until], two times with units in quotes, the first the earlier, such as \
             [\"120s\", \"180s\"]",
    ),
];

#[test]
fn each_wrong_value_names_file_line_key_value_and_what_is_allowed() {
    for (table, line, message) in WRONG {
        assert_eq!(messages(&with(table, line), &[]), *message);
    }
}

#[test]
fn numbers_that_single_precision_does_not_have_are_refused() {
    for optimizer in ["{ kind = \"adam\", lr = 1e300 }", "{ kind = \"adam\", epsilon = 1e-300 }"] {
        let message = messages(&with("training", &format!("optimizer = {optimizer}")), &[]);
        assert!(
            message.ends_with("a number from 1.2e-38 to 3.4e38, as kernels compute in single precision"),
            "{message}"
        );
    }
    let decay = "optimizer = { kind = \"sgd\", lr = 0.1, weight_decay = 1e39 }";
    let message = messages(&with("training", decay), &[]);
    assert!(message.contains("`training.optimizer.weight_decay = "), "{message}");
}

#[test]
fn an_unknown_data_set_names_all() {
    assert_eq!(
        messages(SMALL, &["data.dataset=imagenet"]),
        "--set data.dataset=imagenet: `data.dataset = \"imagenet\"` is not allowed; allowed: \"mnist\", \
         \"fashion-mnist\", \"cifar10\", \"cifar100\", \"csv\", \"images\", \"npz\", \"synthetic\""
    );
}

#[test]
fn an_unknown_key_names_the_nearest_or_all() {
    assert_eq!(
        messages(&with("training", "batchsize = 3"), &[]),
        "x.toml:12: unknown key `training.batchsize`; did you mean `batch_size`?"
    );
    assert_eq!(
        messages(&with("wire", "colour = 3"), &[]),
        "x.toml:12: unknown key `wire.colour`; allowed there: activations, gradients, in_flight, data_connection, congestion"
    );
    assert_eq!(
        messages(&with("[edge]", "sped = 3"), &[]),
        "x.toml:7: unknown key `edge[0].sped` (edge `camera`); did you mean `speed`?"
    );
    assert_eq!(
        messages(&with("trainig", "batch_size = 3"), &[]),
        "x.toml:11: unknown key `trainig`; did you mean `training`?"
    );
    assert_eq!(
        messages(&with("training", "optimizer = { kind = \"adam\", momentum = 0.9 }"), &[]),
        "x.toml:12: unknown key `training.optimizer.momentum`; \
         allowed there: kind, weight_decay, lr, beta1, beta2, epsilon"
    );
}

#[test]
fn text_that_is_not_toml_names_its_line() {
    let text = "name = \"x\"\nseed = = 3\n";
    let message = messages(text, &[]);
    assert!(message.starts_with("x.toml:2: this is not TOML: "), "{message}");
    assert!(messages("a = 1\na = 2\n", &[]).starts_with("x.toml:2: this is not TOML: duplicate key"));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "seed = -1\n[model]\n[data]\n[plan]\nmargin = -1\ndepth = 3\n[[edge]]\ncount = 0\n";
    let error = parse(text, &[]).expect_err("much is wrong");
    let keys: Vec<_> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "name",
            "seed",
            "model.arch",
            "data.dataset",
            "plan.margin",
            "plan.depth",
            "edge[0].name",
            "edge[0].count"
        ]
    );
    assert_eq!(error.to_string().lines().count(), keys.len());
}

#[test]
fn a_section_that_is_no_table_is_refused() {
    assert_eq!(
        messages("name = \"x\"\nmodel = 3\nedge = 4\n[data]\ndataset = \"mnist\"\n", &[]),
        "x.toml:2: `model = 3` is not allowed; allowed: a table\n\
         x.toml:3: `edge = 4` is not allowed; allowed: a list"
    );
}

#[test]
fn names_are_safe_as_folders() {
    for name in ["", ".", "..", "a/b", "a b", "\u{fc}", &"x".repeat(65)] {
        assert_eq!(Name::new(name), None, "{name:?}");
    }
    assert!(Name::new("lte-4G_v1.2").is_some());
}

#[test]
fn what_is_not_built_yet_is_refused() {
    let both = ["cloud.profile=a.toml", "edge.0.profile=a.toml", "edge.1.profile=a.toml"];
    for (set, message) in [
        ("cloud.cpus=\"0-1\"", "`cloud.cpus = \"0,1\"` is not available in this version"),
        ("wire.data_connection=true", "`wire.data_connection = true` is not available in this version"),
        ("cloud.threads=2", "`cloud.threads = 2` is not available in this version"),
        ("edge.0.threads=4", "`edge[0].threads = 4` (edge `camera`) is not available in this version"),
        ("wire.congestion=\"bbr\"", "`wire.congestion = \"bbr\"` is not available in this version"),
        ("edge.1.cpus=\"1\"", "`edge[1].cpus = \"1\"` (edge `gateway`) is not available in this version"),
    ] {
        // Processes can be pinned, and have connections; virtual devices are none, and have none.
        let sets: Vec<&str> = both.into_iter().chain(["clock=virtual", set]).collect();
        let found = messages(SMALL, &sets);
        assert!(found.starts_with(&format!("--set {set}: {message}")), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}
