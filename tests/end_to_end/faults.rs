//! An edge that slows tenfold, a link that halves, an edge that is gone for some rounds, at times and in places that a
//! seed draws: under both clocks it is planned for, nothing stalls, and the weights are those of a run without faults.

use std::fs;
use std::sync::OnceLock;

use partway_core::event::{Event, EventKind, PlannedEdge, Recovery};
use partway_core::random;

use crate::experiment::{Experiment, Record};

const ROUNDS: u64 = 30;

/// Three equal edges whose rounds take some 0.1 s.
const FLEET: &str = r#"
    name = "faults"
    seed = 3
    [model]
    arch = "lenet5"
    [data]
    dataset = "mnist"
    train_limit = 300
    test_limit = 50
    partition = { kind = "iid" }
    min_samples = 32
    [training]
    batch_size = 16
    steps_per_round = 5
    aggregate_every = 5
    max_rounds = 30
    optimizer = { kind = "sgd", lr = 0.02, momentum = 0.9 }
    [fleet]
    idle_timeout = "1s"
    [plan]
    max_depth = 6
    [cloud]
    profile = "configs/devices/server.toml"
    [[edge]]
    name = "camera"
    profile = "configs/devices/server.toml"
    speed = 0.05
    uplink_mbps = 40
    downlink_mbps = 40
    [[edge]]
    name = "gateway"
    profile = "configs/devices/server.toml"
    speed = 0.05
    uplink_mbps = 40
    downlink_mbps = 40
    [[edge]]
    name = "robot"
    profile = "configs/devices/server.toml"
    speed = 0.05
    uplink_mbps = 40
    downlink_mbps = 40
"#;

/// Which edge meets what, from which second of its process on.
struct Faults {
    slow: (&'static str, f64),
    halved: (&'static str, f64),
    gone: (&'static str, f64),
}

impl Faults {
    fn drawn(seed: u64) -> Self {
        let mut stream = random::stream(seed, &["faults"]);
        let mut edges = vec!["camera", "gateway", "robot"];
        let mut draw = || {
            let edge = edges.swap_remove(random::below(&mut stream, edges.len() as u64) as usize);
            (edge, 2.0 + 2.0 * random::unit_f64(&mut stream))
        };
        Self { slow: draw(), halved: draw(), gone: draw() }
    }

    fn run(&self, clock: &str) -> Record {
        let experiment = Experiment::new(FLEET);
        let (slow, halved, gone) = (self.slow, self.halved, self.gone);
        let trace = experiment.config().with_file_name("halves.csv");
        let rates = format!("seconds,up_mbps,down_mbps\n0,40,40\n{:.3},20,20\n", halved.1);
        fs::write(&trace, rates).expect("the trace is written");
        experiment.run(&[
            clock,
            &format!("edge.{}.slow=[[\"{:.0}ms\", \"1h\", 10]]", slow.0, 1e3 * slow.1),
            &format!("edge.{}.trace={:?}", halved.0, trace.display().to_string()),
            &format!(
                "edge.{}.down=[[\"{:.0}ms\", \"{:.0}ms\"]]",
                gone.0,
                1e3 * gone.1,
                1e3 * gone.1 + 2500.0
            ),
        ])
    }
}

/// The weights that all of these runs must end with.
fn undisturbed() -> String {
    static WEIGHTS: OnceLock<String> = OnceLock::new();
    WEIGHTS.get_or_init(|| Experiment::new(FLEET).run(&["clock=virtual"]).weights()).clone()
}

/// What was planned for an edge, with the time of the plan.
fn plans<'a>(record: &'a Record, name: &str) -> Vec<(f64, &'a PlannedEdge)> {
    let plan = |event: &'a Event| match &event.kind {
        EventKind::Planned { edges, .. } => Some((event.at, edges.iter().find(|edge| edge.edge == name)?)),
        _ => None,
    };
    record.events.iter().filter_map(plan).collect()
}

fn survives(clock: &str, seed: u64) {
    let faults = Faults::drawn(seed);
    let record = faults.run(clock);
    assert_eq!((record.number("rounds"), record.weights()), (ROUNDS, undisturbed()));

    let slow = plans(&record, faults.slow.0);
    let per_layer =
        |plan: &PlannedEdge| (plan.terms_ms.edge_forward + plan.terms_ms.edge_backward) / f64::from(plan.cut);
    let (before, after) = (slow.iter().rfind(|plan| plan.0 < faults.slow.1), slow.last());
    let (Some(before), Some(after)) = (before, after) else { panic!("it is planned for") };
    let is_known = after.1.cut < before.1.cut || per_layer(after.1) > 4.0 * per_layer(before.1);
    assert!(is_known, "it is ten times slower: {before:?} {after:?}");

    let halved = plans(&record, faults.halved.0);
    let known = halved.last().map(|(_, plan)| plan.estimated_up_mbps.max(plan.estimated_down_mbps));
    assert!(known.is_some_and(|mbps| mbps < 28.0), "of 20 Mbit/s: {known:?}");

    let recoveries = record.recoveries(faults.gone.0);
    assert!(!recoveries.is_empty() && !recoveries.contains(&Recovery::StateLost), "{recoveries:?}");
}

#[test]
fn faults_on_the_wall_clock_are_planned_for_and_change_no_weight() {
    survives("clock=wall", 1);
}

#[test]
fn faults_on_the_virtual_clock_are_planned_for_and_change_no_weight() {
    (0..8).for_each(|seed| survives("clock=virtual", seed));
}
