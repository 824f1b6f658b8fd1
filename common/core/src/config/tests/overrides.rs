//! `--set KEY=VALUE`.

use super::*;

#[test]
fn what_is_missing_beside_an_override_is_said_of_it() {
    assert_eq!(
        messages(SMALL, &["training.optimizer.lr=0.1"]),
        "--set training.optimizer.lr=0.1: `training.optimizer.kind` is missing; allowed: \"sgd\", \"adam\""
    );
    let given = format!("{SMALL}[training]\noptimizer = {{ lr = 1 }}\n");
    assert!(
        messages(&given, &["training.optimizer.lr=0.1"]).starts_with("x.toml:"),
        "the file says nothing of it"
    );
}

#[test]
fn a_value_is_toml_or_else_text() {
    let config = small(&[
        "training.algorithm=fedavg",
        "training.batch_size=32",
        "plan.deadline=250ms",
        "plan.margin = 0.5",
        "wire={ activations = \"f16\" }",
        "data.path=\"some where/x\"",
        "name=again",
    ]);
    assert_eq!(config.training.algorithm, Algorithm::FedAvg);
    assert_eq!(config.training.batch_size.get(), 32);
    assert_eq!(config.plan.deadline, Deadline::Fixed(Duration::from_millis(250)));
    assert_eq!(Some(config.plan.margin), Margin::new(0.5));
    assert_eq!((config.wire.activations, config.wire.gradients), (Codec::F16.into(), Codec::F32));
    assert_eq!(config.data.path, Some("some where/x".into()));
    assert_eq!(config.name.as_str(), "again");
    assert_eq!(small(&["plan.fixed_cut=random"]).plan.fixed_cut, Some(FixedCut::Random));
    assert_eq!(small(&["plan.fixed_cut=2"]).plan.fixed_cut, Some(FixedCut::At(2)));
}

#[test]
fn an_edge_goes_by_its_number_or_its_name() {
    let config = small(&["edge.0.speed=0.5", "edge.gateway.speed=2", "edge.gateway.down=[[\"1s\", \"2s\"]]"]);
    assert_eq!(config.edge.iter().map(|edge| edge.speed.get()).collect::<Vec<_>>(), [0.5, 2.0]);
    assert_eq!(config.edge[1].down.len(), 1);
}

#[test]
fn a_part_of_an_inline_table_can_be_set() {
    let config = parse(FULL, &["training.optimizer.lr=0.2", "data.partition.alpha=9"]).expect("both exist");
    assert_eq!(config.training.optimizer, Optimizer::Sgd { lr: 0.2, momentum: 0.9, weight_decay: 0.0 });
    let alpha = PositiveF64::new(9.0).expect("above 0");
    assert_eq!(config.data.partition, Partition::Dirichlet { alpha });
}

#[test]
fn a_codec_is_a_name_or_a_table() {
    let activations = |value: &str| small(&[&format!("wire.activations={value}")]).wire.activations;
    assert_eq!(activations("bf16"), Codec::Bf16.into());
    assert_eq!(activations("int4"), Codec::Int4(Scale::Channel).into());
    assert_eq!(activations("{kind=\"int8\"}"), Codec::Int8(Scale::Channel).into());
    assert_eq!(activations("{kind=\"int8\",scale=\"tensor\"}"), Codec::Int8(Scale::Tensor).into());
    let top_k = TopK { fraction: 0.25, alpha: 0.1 };
    let kept = ActivationCodec { values: Codec::F32, top_k: Some(top_k) };
    assert_eq!(activations("{kind=\"topk\",fraction=0.25}"), kept);
    let coded = "{kind=\"topk\",fraction=0.25,alpha=0,values={kind=\"int4\",scale=\"tensor\"}}";
    let expected =
        ActivationCodec { values: Codec::Int4(Scale::Tensor), top_k: Some(TopK { alpha: 0.0, ..top_k }) };
    assert_eq!(activations(coded), expected);
    let sets = [&format!("wire.activations={coded}")[..], "wire.activations.fraction=1"];
    assert_eq!(small(&sets).wire.activations.top_k, Some(TopK { fraction: 1.0, alpha: 0.0 }));
    assert_eq!(small(&["wire.gradients=int8"]).wire.gradients, Codec::Int8(Scale::Channel));
}

#[test]
fn the_last_override_of_a_key_wins_and_is_named() {
    assert_eq!(small(&["seed=1", "seed=2"]).seed, 2);
    assert_eq!(
        messages(FULL, &["training.batch_size=1", "training.batch_size=x"]),
        "--set training.batch_size=x: `training.batch_size = \"x\"` is not allowed; \
         allowed: an integer from 1 to 65536"
    );
    assert_eq!(
        messages(FULL, &["training.optimizer={ kind = \"adam\", lr = -1 }"]),
        "--set training.optimizer={ kind = \"adam\", lr = -1 }: `training.optimizer.lr = -1` is not allowed; \
         allowed: a number from 1.2e-38 to 3.4e38, as kernels compute in single precision"
    );
}

#[test]
fn a_misspelled_override_is_an_unknown_key() {
    assert_eq!(
        messages(FULL, &["trainin.batch_size=1"]),
        "--set trainin.batch_size=1: unknown key `trainin`; did you mean `training`?"
    );
}

#[test]
fn an_override_without_a_place_is_refused() {
    for (set, message) in [
        ("seed", "expected KEY=VALUE, such as training.batch_size=32"),
        ("=3", "`` is not a dotted key of at most 8 parts, such as training.batch_size"),
        ("a..b=3", "`a..b` is not a dotted key of at most 8 parts, such as training.batch_size"),
        ("a.a.a.a.a.a.a.a.a=3", "`a.a.a.a.a.a.a.a.a` is not a dotted key of at most 8 parts"),
        ("edge.2.speed=1", "`edge` has no `2`; it has 0 (camera), 1 (gateway)"),
        ("edge.tower.speed=1", "`edge` has no `tower`; it has 0 (camera), 1 (gateway)"),
        ("name.x=1", "`name` is a plain value, so it has no `x`"),
    ] {
        let found = messages(SMALL, &[set]);
        assert!(found.starts_with(&format!("--set {set}: {message}")), "{found}");
    }
}

#[test]
fn a_value_cannot_smuggle_in_another_key() {
    assert_eq!(
        messages(SMALL, &["seed=1\nname = \"other\""]).lines().next(),
        Some("--set seed=1"),
        "the text is one value, and not an integer"
    );
}

#[test]
fn a_model_that_is_set_takes_the_place_of_the_files() {
    let file = |path: &str| ModelSource::File(path.into());
    let arch = |name: &str| ModelSource::Arch(Name::new(name).expect("a name"));
    assert_eq!(small(&["model.file=m.toml"]).model.source, file("m.toml"));
    let from_file = SMALL.replace("arch = \"mlp\"", "file = \"m.toml\"");
    assert_eq!(parse(&from_file, &[]).expect("a file").model.source, file("m.toml"));
    assert_eq!(parse(&from_file, &["model.arch=vgg5"]).expect("a name").model.source, arch("vgg5"));
    assert_eq!(
        messages(SMALL, &["model.file=m.toml", "model.arch=vgg5"]),
        "--set model.file=m.toml: `model.file = \"m.toml\"` is not allowed; \
         allowed: exactly one of `model.arch` and `model.file`"
    );
}
