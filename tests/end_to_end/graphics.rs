//! A graphics processor in the cloud, on an edge, or on both. Needs an adapter; `scripts/test-wgpu` provides one in
//! software.

use partway_core::event::EventKind;

use crate::experiment::{Experiment, Record, partway, the_error};

/// `LeNet-5` on some of MNIST, with cuts that no measured time decides: every device takes the same steps.
const CONFIG: &str = r#"
    name = "graphics"
    seed = 3
    [model]
    arch = "lenet5"
    [data]
    dataset = "mnist"
    train_limit = 1200
    test_limit = 400
    partition = "iid"
    [training]
    batch_size = 16
    steps_per_round = 10
    aggregate_every = 2
    max_rounds = 6
    optimizer = { kind = "sgd", lr = 0.05, momentum = 0.9 }
    [plan]
    fixed_cut = 3
    [[edge]]
    name = "camera"
    [[edge]]
    name = "gateway"
"#;

/// The losses on the test set, aggregation after aggregation.
fn losses(record: &Record) -> Vec<f64> {
    let loss = |kind: &EventKind| match kind {
        EventKind::Evaluated { loss, .. } => Some(*loss),
        _ => None,
    };
    record.events.iter().filter_map(|event| loss(&event.kind)).collect()
}

#[test]
fn graphics_processors_and_cpus_train_together_as_cpus_do() {
    let on_cpus = Experiment::new(CONFIG).run(&[]);
    println!("on CPUs: accuracy {}, losses {:?}", on_cpus.accuracy(), losses(&on_cpus));
    assert!(on_cpus.accuracy() > 0.6, "it learns: {}", on_cpus.accuracy());
    let (cloud, edge) = ("cloud.device=wgpu", "edge.camera.device=wgpu");
    for sets in [&[cloud][..], &[edge], &[cloud, edge]] {
        let experiment = Experiment::new(CONFIG);
        let mixed = experiment.run(sets);
        println!("{sets:?}: accuracy {}, losses {:?}", mixed.accuracy(), losses(&mixed));
        assert!(
            experiment.out().join("calibration-wgpu.toml").exists(),
            "the graphics processor was measured"
        );
        assert_eq!((mixed.cuts("camera"), mixed.cuts("gateway")), (vec![3; 6], vec![3; 6]));
        // Rounding differs at every step, so that the weights drift apart, slowly; what was learned does not.
        assert!((mixed.accuracy() - on_cpus.accuracy()).abs() <= 0.02, "{}", mixed.accuracy());
        let mut pairs = losses(&mixed).into_iter().zip(losses(&on_cpus));
        assert!(pairs.all(|(a, b)| (a / b - 1.0).abs() < 0.01), "{:?}", losses(&mixed));
    }
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_says_what_to_do() {
    let experiment = Experiment::new(CONFIG);
    for (set, key) in
        [("cloud.device=wgpu", "cloud.device"), ("edge.camera.device=wgpu", "edge.camera.device")]
    {
        let mut command = partway();
        command.arg("run").arg(experiment.config()).args(["--set", set]).arg("--out").arg(experiment.out());
        command.env("CUBECL_WGPU_DEFAULT_DEVICE", "DiscreteGpu(4000)");
        let error = the_error(&command.output().expect("partway runs"), 2);
        let expected = format!("error: `{key} = \"wgpu\"`: no graphics processor can be used: ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(
            error.contains("install its driver") && error.ends_with("or use the device `cpu`"),
            "{error}"
        );
    }
}
