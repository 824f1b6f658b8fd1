//! A plan as the object that `partway plan --json` prints.

use partway_core::event::TermsMs;
use partway_core::plan::{EdgePlan, Plan, StepTerms};
use serde_json::{Value, json};

use crate::experiment::Experiment;

/// Macs and bytes per sample; milliseconds per step of a batch.
pub(super) fn object(experiment: &Experiment, plan: &Plan) -> Value {
    let Experiment { spec, cost, .. } = experiment;
    let shapes = spec.shapes().unwrap_or_default();
    let layers = spec.layers.iter().zip(&cost.layers).zip(shapes.iter().skip(1)).enumerate().map(
        |(index, ((layer, cost), shape))| {
            json!({
                "index": index,
                "name": layer.name,
                "kind": layer.op.kind(),
                "output_shape": shape,
                "macs": cost.macs,
                "flops_forward": cost.flops_forward,
                "flops_backward": cost.flops_backward,
                "params": cost.params,
                "output_bytes": cost.output_bytes,
            })
        },
    );
    json!({
        "layers": layers.collect::<Vec<_>>(),
        "total_macs": cost.total_macs(),
        "total_params": cost.total_params(),
        "deadline_ms": 1e3 * plan.deadline_s,
        "edges": plan.edges.iter().map(edge).collect::<Vec<_>>(),
    })
}

fn edge(edge: &EdgePlan) -> Value {
    json!({
        "name": edge.name,
        "cut": edge.cut,
        "feasible": edge.feasible,
        "reason": edge.reason,
        "terms_ms": terms_ms(&edge.terms),
        "step_ms": 1e3 * edge.step_s,
        "slack_ms": 1e3 * edge.slack_s,
        "memory_bytes": edge.memory_bytes,
        "reserved_up_mbps": mbps(edge.reserved_up),
        "reserved_down_mbps": mbps(edge.reserved_down),
    })
}

/// Milliseconds, as the events have them.
pub(super) fn terms_ms(terms: &StepTerms) -> TermsMs {
    TermsMs {
        edge_forward: 1e3 * terms.edge_forward,
        uplink: 1e3 * terms.uplink,
        cloud: 1e3 * terms.cloud,
        downlink: 1e3 * terms.downlink,
        edge_backward: 1e3 * terms.edge_backward,
    }
}

/// Mbit/s from bytes per second.
pub(super) fn mbps(bytes_per_s: f64) -> f64 {
    bytes_per_s * 8.0 / 1e6
}
