//! A plan as tables for people.

use std::fmt::Write;

use partway_core::config::Deadline;
use partway_core::coordinator::{Cuts, Topology};
use partway_core::plan::{EdgePlan, Objective};

use super::Planned;
use super::json::{mbps, terms_ms};
use crate::experiment::Experiment;
use crate::table::{Align, table};

/// What each layer costs per sample.
pub(super) fn layers(experiment: &Experiment) -> String {
    let Experiment { spec, cost, .. } = experiment;
    let columns = [
        ("layer", Align::Right),
        ("name", Align::Left),
        ("kind", Align::Left),
        ("output", Align::Left),
        ("MACs", Align::Right),
        ("FLOPs fwd", Align::Right),
        ("FLOPs bwd", Align::Right),
        ("parameters", Align::Right),
        ("output bytes", Align::Right),
        ("MACs so far", Align::Right),
    ];
    let shapes = spec.shapes().unwrap_or_default();
    let total = cost.total_macs().max(1) as f64;
    let all = 0..spec.len();
    let mut rows: Vec<Vec<String>> = Vec::with_capacity(spec.len() + 1);
    for ((index, layer), (cost_of, shape)) in
        spec.layers.iter().enumerate().zip(cost.layers.iter().zip(shapes.iter().skip(1)))
    {
        rows.push(vec![
            index.to_string(),
            layer.name.clone(),
            layer.op.kind().to_string(),
            shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
            cost_of.macs.to_string(),
            cost_of.flops_forward.to_string(),
            cost_of.flops_backward.to_string(),
            cost_of.params.to_string(),
            cost_of.output_bytes.to_string(),
            format!("{:.1} %", 100.0 * cost.macs(0..index + 1) as f64 / total),
        ]);
    }
    rows.push(vec![
        String::new(),
        "total".to_owned(),
        String::new(),
        String::new(),
        cost.total_macs().to_string(),
        cost.flops_forward(all.clone()).to_string(),
        cost.flops_backward(all).to_string(),
        cost.total_params().to_string(),
    ]);
    let frozen = match spec.frozen {
        0 => String::new(),
        1 => "; layer 0 is frozen".to_owned(),
        frozen => format!("; layers 0 to {} are frozen", frozen - 1),
    };
    format!(
        "{}, per sample; a cut c leaves layers 0 to c - 1 on the edge{frozen}\n{}",
        spec.name,
        table(&columns, &rows)
    )
}

/// How each edge would be cut, and why.
pub(super) fn edges(experiment: &Experiment, planned: &Planned) -> String {
    let columns = [
        ("edge", Align::Left),
        ("cut", Align::Right),
        ("edge fwd", Align::Right),
        ("uplink", Align::Right),
        ("cloud", Align::Right),
        ("downlink", Align::Right),
        ("edge bwd", Align::Right),
        ("step", Align::Right),
        ("slack", Align::Right),
        ("weights", Align::Right),
        ("share", Align::Right),
        ("reserved up", Align::Right),
        ("reserved down", Align::Right),
        ("memory", Align::Right),
        ("feasible", Align::Left),
    ];
    let plan = &planned.plan;
    let how = match experiment.config.plan.deadline {
        Deadline::Auto => "the least that all can meet",
        Deadline::Fixed(_) => "as configured",
    };
    let mut text = format!(
        "deadline {:.1} ms, {how}; milliseconds per step of {} samples, rates in Mbit/s\n",
        1e3 * plan.deadline_s,
        experiment.batch(),
    );
    text += &table(&columns, &plan.edges.iter().map(edge_row).collect::<Vec<_>>());
    text.push('\n');
    let parts = planned.settings.in_flight;
    if parts > 1 {
        let _ = writeln!(
            text,
            "{parts} micro-batches of a step overlap: the times of its parts add up to more than the step's, which is one micro-batch's way and, for each of the others, the slowest part"
        );
    }
    if let Some(tail) = planned.settings.tail {
        let last = experiment.spec.len() - 1;
        let _ = writeln!(
            text,
            "the labels stay on the edges, and layers {tail} to {last} with them: the backward time, the memory and the transfers of both are theirs too"
        );
    }
    match planned.settings.topology {
        Topology::ReplicaPerEdge => {}
        Topology::Shared => {
            text += "all edges train one server-side model, step by step in turn; a step's time is without the wait for its turn\n";
        }
        Topology::HandedOn => {
            text +=
                "the edges take turns of a whole round's steps, each with the cloud and its link to itself\n";
        }
    }
    if planned.settings.cuts == Cuts::Random {
        text += "the cuts of a run are drawn at random (plan.fixed_cut); these are what the planner would choose\n";
    }
    for edge in &plan.edges {
        let _ = writeln!(text, "{}: {}", edge.name, edge.reason);
    }
    if let Some(seconds) = plan.common_deadline_s {
        let late = plan.edges.iter().filter(|edge| !edge.feasible).count();
        let _ = writeln!(
            text,
            "{late} of {} edges miss the deadline; the least that all with enough memory could meet is {:.1} ms",
            plan.edges.len(),
            1e3 * seconds,
        );
    }
    let (unit, scale) = match planned.settings.objective {
        Objective::Deepest => ("MFLOP in the cloud per step of all edges", 1e-6),
        Objective::Fastest => ("ms of all edges' steps together, with their margins", 1e3),
    };
    let _ = writeln!(
        text,
        "objective: {:.2} {unit}, and no plan under this deadline has less than {:.2}; the gap to the optimum, deadline \
         included, is {:.2} % at most",
        scale * plan.objective,
        scale * plan.dual_bound,
        100.0 * plan.optimality_gap,
    );
    text += "\nseconds per layer from\n";
    for source in &planned.sources {
        let _ = writeln!(text, "  {source}");
    }
    text
}

fn edge_row(edge: &EdgePlan) -> Vec<String> {
    let terms = terms_ms(&edge.terms);
    let decimal = |value: f64| format!("{value:.1}");
    vec![
        edge.name.clone(),
        edge.cut.to_string(),
        decimal(terms.edge_forward),
        decimal(terms.uplink),
        decimal(terms.cloud),
        decimal(terms.downlink),
        decimal(terms.edge_backward),
        decimal(1e3 * edge.step_s),
        decimal(1e3 * edge.slack_s),
        decimal(1e3 * (edge.weights_s + edge.moving_s)),
        format!("{:.2}", edge.share),
        decimal(mbps(edge.reserved_up)),
        decimal(mbps(edge.reserved_down)),
        format!("{:.1} MiB", edge.memory_bytes as f64 / f64::from(1 << 20)),
        if edge.feasible { "yes" } else { "no" }.to_owned(),
    ]
}
