//! A plan as the object that `partway plan --json` prints.

use partway_core::event::TermsMs;
use partway_core::plan::{EdgePlan, Fixes, Neighbour, Plan, StepTerms};
use serde_json::{Value, json};

use crate::experiment::Experiment;

/// Macs and bytes per sample; milliseconds per step of a batch.
pub(super) fn object(experiment: &Experiment, plan: &Plan) -> Value {
    let Experiment { spec, cost, .. } = experiment;
    let shapes = spec.shapes().unwrap_or_default();
    let total_macs = cost.total_macs().max(1) as f64;
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
                "macs_share_so_far": experiment.cost.macs(0..index + 1) as f64 / total_macs,
            })
        },
    );
    json!({
        "layers": layers.collect::<Vec<_>>(),
        "total_macs": cost.total_macs(),
        "total_params": cost.total_params(),
        "deadline_ms": 1e3 * plan.deadline_s,
        "edges": plan.edges.iter().map(edge).collect::<Vec<_>>(),
        "optimality_gap": plan.optimality_gap,
        "objective_value": plan.objective,
        "dual_bound": plan.dual_bound,
        "deadline_bound_ms": 1e3 * plan.deadline_bound_s,
        "feasible_deadline_ms": plan.common_deadline_s.map(|seconds| 1e3 * seconds),
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
        "weights_ms": 1e3 * edge.weights_s,
        "moving_ms": 1e3 * edge.moving_s,
        "margin": edge.margin,
        "cloud_share": edge.share,
        "neighbours": edge.neighbours.iter().map(neighbour).collect::<Vec<_>>(),
        "fixes": edge.fixes.map(|fixes| fixes_object(&fixes)),
    })
}

fn neighbour(neighbour: &Neighbour) -> Value {
    json!({
        "cut": neighbour.cut,
        "breaks": neighbour.obstacle,
        "terms_ms": terms_ms(&neighbour.terms),
        "step_ms": 1e3 * neighbour.step_s,
        "charged_ms": 1e3 * neighbour.charged_s,
        "cloud_flops_more": neighbour.cloud_flops_more,
        "memory_bytes": neighbour.memory_bytes,
    })
}

fn fixes_object(fixes: &Fixes) -> Value {
    json!({
        "uplink_mbps": fixes.up_bytes_per_s.map(mbps),
        "downlink_mbps": fixes.down_bytes_per_s.map(mbps),
        "compute_speed": fixes.compute_speed,
        "memory_bytes": fixes.memory_bytes,
        "cloud_workers": fixes.cloud_workers,
        "deadline_ms": fixes.deadline_s.map(|seconds| 1e3 * seconds),
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

#[cfg(test)]
mod tests {
    use partway_core::plan::Obstacle;

    use super::*;
    use crate::experiment::tests::{SMALL, load};

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    /// One edge, too late, with one neighbour and one fix.
    fn late() -> Plan {
        let planned = EdgePlan {
            name: "camera-0".into(),
            cut: 2,
            feasible: true,
            reason: "because".into(),
            neighbours: vec![Neighbour {
                cut: 3,
                obstacle: Some(Obstacle::Memory),
                terms: StepTerms { edge_forward: 0.002, ..StepTerms::default() },
                step_s: 0.002,
                charged_s: 0.003,
                cloud_flops_more: -5.0,
                memory_bytes: 8192,
            }],
            fixes: Some(Fixes { up_bytes_per_s: Some(5e6), ..Fixes::default() }),
            terms: StepTerms {
                edge_forward: 0.001,
                uplink: 0.002,
                cloud: 0.003,
                downlink: 0.004,
                edge_backward: 0.005,
            },
            step_s: 0.015,
            latency_s: 0.0,
            micro_batches: 1,
            weights_s: 0.0,
            moving_s: 0.0,
            margin: 0.1,
            slack_s: -0.005,
            share: 0.5,
            reserved_up: 2.5e6,
            reserved_down: 1.25e6,
            memory_bytes: 4096,
        };
        Plan {
            deadline_s: 0.01,
            edges: vec![planned],
            optimality_gap: 0.02,
            objective: 1e6,
            dual_bound: 0.98e6,
            deadline_bound_s: 0.0,
            common_deadline_s: Some(0.0165),
        }
    }

    #[test]
    fn the_object_has_the_keys_that_are_promised_and_what_explains_them() {
        let experiment = load(SMALL, &[]).expect("it is right");
        let object = object(&experiment, &late());
        let expected = [
            "deadline_bound_ms",
            "deadline_ms",
            "dual_bound",
            "edges",
            "feasible_deadline_ms",
            "layers",
            "objective_value",
            "optimality_gap",
            "total_macs",
            "total_params",
        ];
        assert_eq!(keys(&object), expected);
        assert_eq!(
            (&object["feasible_deadline_ms"], &object["optimality_gap"]),
            (&json!(16.5), &json!(0.02))
        );
        assert_eq!(object["total_macs"], experiment.cost.total_macs());
        assert_eq!(object["deadline_ms"], 10.0);

        let layers = object["layers"].as_array().expect("a list");
        assert_eq!(layers.len(), experiment.spec.len());
        let layer_keys = [
            "flops_backward",
            "flops_forward",
            "index",
            "kind",
            "macs",
            "macs_share_so_far",
            "name",
            "output_bytes",
            "output_shape",
            "params",
        ];
        assert!(layers.iter().all(|layer| keys(layer) == layer_keys));
        let macs: u64 = layers.iter().filter_map(|layer| layer["macs"].as_u64()).sum();
        assert_eq!(macs, experiment.cost.total_macs());
        let last = &layers[layers.len() - 1];
        assert_eq!((&last["output_shape"], &last["output_bytes"]), (&json!([4]), &json!(16)));
        assert!(layers.iter().any(|layer| layer["kind"] == "linear"));

        let edge = &object["edges"][0];
        let edge_keys = [
            "cloud_share",
            "cut",
            "feasible",
            "fixes",
            "margin",
            "memory_bytes",
            "moving_ms",
            "name",
            "neighbours",
            "reason",
            "reserved_down_mbps",
            "reserved_up_mbps",
            "slack_ms",
            "step_ms",
            "terms_ms",
            "weights_ms",
        ];
        assert_eq!(keys(edge), edge_keys);
        let terms = json!({
            "edge_forward": 1.0, "uplink": 2.0, "cloud": 3.0, "downlink": 4.0, "edge_backward": 5.0
        });
        assert_eq!(edge["terms_ms"], terms);
        assert_eq!((&edge["slack_ms"], &edge["reserved_up_mbps"]), (&json!(-5.0), &json!(20.0)));
        let next = &edge["neighbours"][0];
        assert_eq!(
            (&next["cut"], &next["breaks"], &next["step_ms"]),
            (&json!(3), &json!("memory"), &json!(2.0))
        );
        assert_eq!(
            (&edge["fixes"]["uplink_mbps"], &edge["fixes"]["memory_bytes"]),
            (&json!(40.0), &Value::Null)
        );
        assert_eq!(layers[layers.len() - 1]["macs_share_so_far"], 1.0);
    }
}
