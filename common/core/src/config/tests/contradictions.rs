//! Values that are allowed one by one and not together.

use super::*;

#[test]
fn a_model_has_exactly_one_source() {
    let both = SMALL.replace("arch = \"mlp\"", "arch = \"mlp\"\nfile = \"m.toml\"");
    assert_eq!(
        messages(&both, &[]),
        "x.toml:4: `model.file = \"m.toml\"` is not allowed; \
         allowed: exactly one of `model.arch` and `model.file`"
    );
    assert!(
        messages(&SMALL.replace("arch = \"mlp\"", ""), &[]).starts_with("x.toml:2: `model.arch` is missing")
    );
}

/// Each of the overrides has one line of errors, with this in it.
fn assert_contradictions(cases: &[(&[&str], &str)]) {
    for (sets, message) in cases {
        let found = messages(SMALL, sets);
        assert!(found.contains(message), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn a_contradiction_about_data_names_the_other_key() {
    assert_contradictions(&[
        (
            &["data.dataset=synthetic", "data.path=x"][..],
            "--set data.path=x: `data.path = \"x\"` is not allowed; \
             allowed: no path with `data.dataset = \"synthetic\"`, which is generated",
        ),
        (
            &["data.synthetic={ classes = 3 }"],
            "`data.synthetic` with `data.dataset = \"synthetic\"` only, not \"mnist\"",
        ),
        (&["data.dataset=csv"], "`data.path` is missing; allowed: the path of the csv data"),
        (
            &["data.label=species"],
            "--set data.label=species: `data.label = \"species\"` is not allowed; \
             allowed: `data.label` with `data.dataset` = \"csv\" only",
        ),
        (
            &["data.dataset=npz", "data.path=x", "data.class_names=[\"a\", \"b\"]"],
            "allowed: `data.class_names` with `data.dataset` = \"csv\" or \"images\" only",
        ),
        (
            &["data.dataset=csv", "data.path=x", "data.resize=[8, 8]"],
            "allowed: `data.resize` with `data.dataset` = \"images\" only",
        ),
        (
            &["data.test_share=0.5"],
            "allowed: `data.test_share` with `data.dataset` = \"csv\" or \"images\" or",
        ),
        (
            &["data.dataset=csv", "data.path=x", "data.test_path=y", "data.test_share=0.5"],
            "--set data.test_share=0.5: `data.test_share = 0.5` is not allowed; \
             allowed: one of `data.test_share` and `data.test_path`, not both",
        ),
        (
            &["plan.on_straggler=drop"],
            "--set plan.on_straggler=drop: `plan.on_straggler = \"drop\"` is not allowed; \
             allowed: \"wait\" with `fleet.quorum = 1.0`",
        ),
        (
            &["plan.on_straggler=drop", "fleet.quorum=0.5", "training.algorithm=splitfed-v2"],
            "allowed: \"wait\" with `training.algorithm = \"splitfed-v2\"`, where every step waits",
        ),
        (
            &["plan.on_straggler=defer"],
            "--set plan.on_straggler=defer: `plan.on_straggler = \"defer\"` is not allowed; \
             allowed: \"wait\" with `fleet.quorum = 1.0`",
        ),
        (
            &["plan.on_straggler=defer", "training.algorithm=splitfed-v2"],
            "allowed: \"wait\" with `training.algorithm = \"splitfed-v2\"`, where every step waits",
        ),
        (
            &["plan.on_straggler=defer", "fleet.quorum=0.5", "training.algorithm=sequential"],
            "allowed: \"wait\" or \"drop\" with `training.algorithm = \"sequential\"`, whose one model",
        ),
        (
            &["data.dataset=csv", "data.path=x", "data.pad=2"],
            "--set data.pad=2: `data.pad = 2` is not allowed; allowed: 0 with `data.dataset = \"csv\"`",
        ),
        (
            &["data.dataset=csv", "data.test_path=y"],
            "`data.path` is missing; allowed: the path of the csv data",
        ),
        (
            &["data.dataset=csv", "data.path=x", "data.test_share=0.5", "data.evaluate=edges"],
            "--set data.test_share=0.5: `data.test_share = 0.5` is not allowed; \
             allowed: no test_share with `data.evaluate = \"edges\"`",
        ),
        (
            &["data.dataset=npz", "data.path=x", "data.test_path=y", "data.evaluate=edges"],
            "--set data.test_path=y: `data.test_path = \"y\"` is not allowed; \
             allowed: no test_path with `data.evaluate = \"edges\"`",
        ),
        (
            &["data.evaluate=edges", "data.test_limit=5"],
            "--set data.test_limit=5: `data.test_limit = 5` is not allowed; \
             allowed: no test_limit with `data.evaluate = \"edges\"`",
        ),
        (
            &["data.evaluate=edges", "data.min_samples=1"],
            "--set data.min_samples=1: `data.min_samples = 1` is not allowed; \
             allowed: at least 2 with `data.evaluate = \"edges\"`",
        ),
        (
            &["data.holdout=0.2"],
            "--set data.holdout=0.2: `data.holdout = 0.2` is not allowed; \
             allowed: no holdout with `data.evaluate = \"cloud\"`",
        ),
    ]);
}

#[test]
fn a_contradiction_about_training_names_the_other_key() {
    assert_contradictions(&[
        (
            &["fleet.checkpoint_every=7"],
            "--set fleet.checkpoint_every=7: `fleet.checkpoint_every = 7` is not allowed; \
             allowed: a multiple of `training.aggregate_every = 5`",
        ),
        (
            &["wire.in_flight=3"],
            "--set wire.in_flight=3: `wire.in_flight = 3` is not allowed; \
             allowed: a divisor of `training.batch_size = 64`",
        ),
        (
            &["plan.min_depth=3", "plan.max_depth=2"],
            "--set plan.max_depth=2: `plan.max_depth = 2` is not allowed; \
             allowed: at least `plan.min_depth = 3`",
        ),
        (
            &["plan.fixed_cut=5", "plan.max_depth=4"],
            "--set plan.fixed_cut=5: `plan.fixed_cut = 5` is not allowed; \
             allowed: `plan.min_depth = 1` to `plan.max_depth = 4`",
        ),
        (
            &["plan.fixed_cut=1", "plan.min_depth=2"],
            "allowed: `plan.min_depth = 2` to `plan.max_depth = L - 1`",
        ),
        (
            &["plan.fixed_cut=0"],
            "--set plan.fixed_cut=0: `plan.fixed_cut = 0` is not allowed; \
             allowed: at least 1; 0 with `data.allow_raw_data = true` only",
        ),
        (
            &["plan.min_depth=0"],
            "--set plan.min_depth=0: `plan.min_depth = 0` is not allowed; \
             allowed: at least 1; 0 with `data.allow_raw_data = true` only",
        ),
        (
            &["training.algorithm=centralized"],
            "`training.algorithm = \"centralized\"` is not allowed; \
             allowed: \"centralized\" with `data.allow_raw_data = true` only",
        ),
        (
            &["training.algorithm=fedavg", "plan.fixed_cut=2"],
            "--set plan.fixed_cut=2: `plan.fixed_cut = 2` is not allowed; \
             allowed: no fixed cut with `training.algorithm = \"fedavg\"`",
        ),
        (
            &["fleet.min_edges=4"],
            "--set fleet.min_edges=4: `fleet.min_edges = 4` is not allowed; \
             allowed: at most 3, the number of edges",
        ),
        (
            &["edge.1.name=camera-1"],
            "--set edge.1.name=camera-1: `edge[1].name = \"camera-1\"` (edge `camera-1`) is not allowed; \
             allowed: a name of its own; `edge[0]` is already called `camera-1`",
        ),
        (
            &["edge.1.name=coordinator"],
            "--set edge.1.name=coordinator: `edge[1].name = \"coordinator\"` (edge `coordinator`) is not allowed; \
             allowed: another name than `coordinator`",
        ),
        (
            &[
                "edge.0.name=abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-abcdefghi",
                "edge.0.count=11",
            ],
            "allowed: at most 61 characters with `count = 11`, as the last of these edges is called `abc",
        ),
        (
            &["edge.0.count=10000"],
            "`edge[1].count = 1` (edge `gateway`) is not allowed; \
             allowed: at most 10000 edges in all, not 10001",
        ),
        (
            &["edge.0.down=[[\"5s\", \"9s\"], [\"8s\", \"10s\"]]"],
            "(edge `camera`) is not allowed; allowed: times in order, each after the end of the one before",
        ),
    ]);
}

#[test]
fn a_common_cut_has_layers_on_both_sides() {
    for (sets, message) in [
        (
            &["training.algorithm=splitfed-v2", "plan.fixed_cut=0", "data.allow_raw_data=true"][..],
            "--set plan.fixed_cut=0: `plan.fixed_cut = 0` is not allowed; allowed: at least 1 with \
             `training.algorithm = \"splitfed-v2\"`, whose edges have layers of their own; training the whole \
             model in the cloud is `\"centralized\"`",
        ),
        (
            &["training.algorithm=splitfed-v2", "plan.min_depth=0", "data.allow_raw_data=true"],
            "--set plan.min_depth=0: `plan.min_depth = 0` is not allowed; allowed: at least 1 with \
             `training.algorithm = \"splitfed-v2\"`",
        ),
        (
            &["training.algorithm=splitfed-v2", "plan.allow_local=true"],
            "--set plan.allow_local=true: `plan.allow_local = true` is not allowed; allowed: false with \
             `training.algorithm = \"splitfed-v2\"`, whose edges share a server-side model; training the whole \
             model on the edges is `\"fedavg\"`",
        ),
    ] {
        let found = messages(SMALL, sets);
        assert!(found.contains(message), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn the_virtual_clock_needs_every_profile() {
    let found = messages(SMALL, &["clock=virtual", "edge.camera.profile=pi.toml"]);
    assert_eq!(
        found,
        "x.toml: `cloud.profile` is missing; allowed: a device profile, \
         which `clock = \"virtual\"` needs of the cloud and of every edge\n\
         x.toml:9: `edge[1].profile` (edge `gateway`) is missing; allowed: a device profile, \
         which `clock = \"virtual\"` needs of the cloud and of every edge"
    );
}

#[test]
fn permitted_ends_are_no_contradiction() {
    let raw = small(&["plan.fixed_cut=0", "data.allow_raw_data=true"]);
    assert_eq!(raw.check_depth(5, None), Ok((0, 0)));
    let local = small(&["plan.fixed_cut=5", "plan.allow_local=true"]);
    assert_eq!(local.check_depth(5, None), Ok((5, 5)));
    let anywhere =
        ["plan.min_depth=0", "data.allow_raw_data=true", "plan.max_depth=5", "plan.allow_local=true"];
    let sets = [&["training.algorithm=sequential"][..], &anywhere].concat();
    assert_eq!(small(&sets).check_depth(5, None), Ok((0, 5)));
    assert_eq!(
        small(&["training.algorithm=splitfed-v2", "plan.fixed_cut=2"]).check_depth(5, None),
        Ok((2, 2))
    );
}

#[test]
fn the_labels_stay_where_every_edge_has_its_own_model() {
    for sets in [
        &["training.algorithm=splitfed-v2"][..],
        &["training.algorithm=sequential"],
        &["training.algorithm=centralized", "data.allow_raw_data=true"],
    ] {
        let message = messages(SMALL, &[sets, &["training.labels=edge"]].concat());
        let expected = "--set training.labels=edge: `training.labels = \"edge\"` is not allowed; allowed: \"cloud\" with";
        assert!(message.contains(expected), "{message}");
    }
    for algorithm in ["splitfed-v1", "fedavg"] {
        small(&[&format!("training.algorithm={algorithm}"), "training.labels=edge"]);
    }
}

#[test]
fn cuts_end_before_the_layers_that_stay_with_the_labels() {
    let depth = |sets: &[&str]| small(sets).check_depth(12, Some(11)).map_err(|error| error.to_string());
    assert_eq!(depth(&[]), Ok((1, 10)));
    assert_eq!(depth(&["plan.fixed_cut=random"]), Ok((1, 10)));
    assert_eq!(depth(&["plan.max_depth=11", "plan.allow_local=true"]), Ok((1, 11)));
    assert_eq!(depth(&["training.algorithm=fedavg"]), Ok((12, 12)));
    assert_eq!(
        depth(&["plan.fixed_cut=11"]),
        Err("--set plan.fixed_cut=11: `plan.fixed_cut = 11` is not allowed; allowed: at most 10, as the model has \
             12 layers, those from 11 on on the edge with `training.labels = \"edge\"`; 11, the whole model on \
             the edge, with `plan.allow_local = true` only"
            .to_owned())
    );
}

#[test]
fn depths_are_checked_when_the_model_is_known() {
    let depth =
        |sets: &[&str], layers| small(sets).check_depth(layers, None).map_err(|error| error.to_string());
    assert_eq!(depth(&[], 12), Ok((1, 11)));
    assert_eq!(depth(&["plan.min_depth=2", "plan.max_depth=5"], 12), Ok((2, 5)));
    assert_eq!(depth(&["plan.fixed_cut=random"], 12), Ok((1, 11)));
    assert_eq!(depth(&["plan.fixed_cut=4"], 12), Ok((4, 4)));
    assert_eq!(depth(&["plan.max_depth=12", "plan.allow_local=true"], 12), Ok((1, 12)));
    assert_eq!(depth(&["training.algorithm=fedavg"], 12), Ok((12, 12)));
    assert_eq!(depth(&["training.algorithm=centralized", "data.allow_raw_data=true"], 12), Ok((0, 0)));
    for (sets, layers, message) in [
        (
            &["plan.max_depth=12"][..],
            12,
            "--set plan.max_depth=12: `plan.max_depth = 12` is not allowed; allowed: at most 11, as the model \
             has 12 layers; 12, the whole model on the edge, with `plan.allow_local = true` only",
        ),
        (
            &["plan.max_depth=13", "plan.allow_local=true"],
            12,
            "--set plan.max_depth=13: `plan.max_depth = 13` is not allowed; \
             allowed: at most 12, as the model has 12 layers",
        ),
        (
            &["plan.fixed_cut=12"],
            12,
            "--set plan.fixed_cut=12: `plan.fixed_cut = 12` is not allowed; allowed: at most 11, as the model \
             has 12 layers; 12, the whole model on the edge, with `plan.allow_local = true` only",
        ),
        (
            &["plan.min_depth=4"],
            3,
            "--set plan.min_depth=4: `plan.min_depth = 4` is not allowed; allowed: at most 2, as the model \
             has 3 layers; 3, the whole model on the edge, with `plan.allow_local = true` only",
        ),
        (
            &["plan.min_depth=3", "plan.allow_local=true"],
            3,
            "--set plan.min_depth=3: `plan.min_depth = 3` is not allowed; \
             allowed: at most 2, as the model has 3 layers unless `plan.max_depth = 3`",
        ),
    ] {
        assert_eq!(depth(sets, layers), Err(message.to_owned()));
    }
}
