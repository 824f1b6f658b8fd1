//! Contradictions: values that are allowed one by one and not together.

use std::collections::BTreeMap;

use toml::Value;

use super::{
    Clock, Config,
    data::{Dataset, EvaluateAt},
    error::Fault,
    plan::{FixedCut, OnStraggler, PlanConfig},
    setting::{Faults, Name, Setting, shown},
    training::{Algorithm, LabelsAt},
};

/// The most edges, after `count`: more than one machine can run.
const MOST_EDGES: usize = 10_000;

/// What the cloud's process is called, beside the edges.
const COORDINATOR: &str = "coordinator";

/// `key` has a value that does not go with another; `allowed` says which does.
fn contradiction<T: Setting>(
    key: impl Into<String>,
    value: &T,
    allowed: impl Into<String>,
) -> (String, Fault) {
    let value = value.write().as_ref().map(shown).unwrap_or_default();
    (key.into(), Fault::NotAllowed { value, allowed: allowed.into() })
}

/// Every contradiction that can be seen without the model.
pub(super) fn contradictions(config: &Config) -> Faults {
    let mut faults = Faults::new();
    check_data(config, &mut faults);
    check_rounds(config, &mut faults);
    check_labels(config, &mut faults);
    check_stragglers(config, &mut faults);
    check_cuts(config, &mut faults);
    check_edges(config, &mut faults);
    check_clock(config, &mut faults);
    faults
}

fn check_data(config: &Config, faults: &mut Faults) {
    let data = &config.data;
    // A coordinator alone needs no more than what it tests on.
    let is_tested = data.evaluate == EvaluateAt::Cloud;
    let needs_path =
        data.dataset.is_own() && (!config.edge.is_empty() || is_tested && data.test_path.is_none());
    if data.dataset == Dataset::Synthetic && data.path.is_some() {
        let allowed = "no path with `data.dataset = \"synthetic\"`, which is generated";
        faults.push(contradiction("data.path", &data.path, allowed));
    }
    if needs_path && data.path.is_none() {
        let alone = if config.edge.is_empty() {
            "; or `data.test_path` alone, if the edges bring data of their own; or `data.evaluate = \"edges\"`, \
             which needs neither"
        } else {
            ""
        };
        let allowed = format!("the path of the {} data, which has no default{alone}", data.dataset);
        faults.push(("data.path".into(), Fault::Missing { allowed }));
    }
    if data.dataset != Dataset::Synthetic && data.synthetic.is_some() {
        let allowed = format!(
            "`data.synthetic` with `data.dataset = \"synthetic\"` only, not {:?}",
            data.dataset.name()
        );
        faults.push(contradiction("data.synthetic", &data.synthetic, allowed));
    }
    check_own_data(config, faults);
    let of_the_test_set = [
        ("test_path", data.test_path.write()),
        ("test_share", data.test_share.write()),
        ("test_limit", data.test_limit.write()),
    ];
    for (key, value) in of_the_test_set {
        if let (false, Some(value)) = (is_tested, value) {
            let allowed = format!(
                "no {key} with `data.evaluate = \"edges\"`: it is about the cloud's test set, which is not used then"
            );
            faults.push((format!("data.{key}"), Fault::NotAllowed { value: shown(&value), allowed }));
        }
    }
    if data.evaluate == EvaluateAt::Edges && data.min_samples.get() < 2 {
        let allowed =
            "at least 2 with `data.evaluate = \"edges\"`: one sample to train on and one to evaluate on";
        faults.push(contradiction("data.min_samples", &data.min_samples, allowed));
    }
    if data.evaluate == EvaluateAt::Cloud && data.holdout.is_some() {
        let allowed = "no holdout with `data.evaluate = \"cloud\"`, where the edges evaluate nothing";
        faults.push(contradiction("data.holdout", &data.holdout, allowed));
    }
}

/// Keys that only some of a user's own formats have a use for.
fn check_own_data(config: &Config, faults: &mut Faults) {
    let data = &config.data;
    let (csv, images) = (Dataset::Csv, Dataset::Images);
    let mut only_with = |key: &str, value: Option<Value>, formats: &[Dataset]| {
        if let Some(value) = value
            && !formats.contains(&data.dataset)
        {
            let names: Vec<String> = formats.iter().map(|format| format!("{:?}", format.name())).collect();
            let allowed = format!("`data.{key}` with `data.dataset` = {} only", names.join(" or "));
            faults.push((format!("data.{key}"), Fault::NotAllowed { value: shown(&value), allowed }));
        }
    };
    only_with("test_path", data.test_path.write(), &[csv, images, Dataset::Npz]);
    only_with("test_share", data.test_share.write(), &[csv, images, Dataset::Npz]);
    only_with("label", data.label.write(), &[csv]);
    only_with("class_names", data.class_names.write(), &[csv, images]);
    only_with("resize", data.resize.write(), &[images]);
    if data.test_path.is_some() && data.test_share.is_some() {
        let allowed = "one of `data.test_share` and `data.test_path`, not both";
        faults.push(contradiction("data.test_share", &data.test_share, allowed));
    }
    if data.dataset == csv && data.pad.get() > 0 {
        let allowed = "0 with `data.dataset = \"csv\"`: rows have no sides to add pixels to";
        faults.push(contradiction("data.pad", &data.pad, allowed));
    }
}

fn check_rounds(config: &Config, faults: &mut Faults) {
    let Config { training, fleet, wire, .. } = config;
    let aggregate = training.aggregate_every;
    if fleet.checkpoint_every.get() % aggregate.get() != 0 {
        let allowed = format!(
            "a multiple of `training.aggregate_every = {aggregate}`: checkpoints are taken at aggregations"
        );
        faults.push(contradiction("fleet.checkpoint_every", &fleet.checkpoint_every, allowed));
    }
    if training.batch_size.get() % wire.in_flight.get() != 0 {
        let allowed = format!(
            "a divisor of `training.batch_size = {}`: micro-batches are equal parts of a batch",
            training.batch_size
        );
        faults.push(contradiction("wire.in_flight", &wire.in_flight, allowed));
    }
}

fn check_stragglers(config: &Config, faults: &mut Faults) {
    let Config { training, plan, fleet, .. } = config;
    if plan.on_straggler == OnStraggler::Wait {
        return;
    }
    let algorithm = training.algorithm;
    let fault = |allowed: String| contradiction("plan.on_straggler", &plan.on_straggler, allowed);
    if matches!(algorithm, Algorithm::SplitFedV2 | Algorithm::Centralized) {
        faults.push(fault(format!(
            "\"wait\" with `training.algorithm = \"{algorithm}\"`, where every step waits for the edges before it"
        )));
    } else if algorithm == Algorithm::Sequential && plan.on_straggler == OnStraggler::Defer {
        faults.push(fault(format!(
            "\"wait\" or \"drop\" with `training.algorithm = \"{algorithm}\"`, whose one model the next edge goes on with"
        )));
    } else if fleet.quorum.get() >= 1.0 {
        faults.push(fault(
            "\"wait\" with `fleet.quorum = 1.0`, with which a round needs every edge; or a smaller quorum"
                .into(),
        ));
    }
}

fn check_labels(config: &Config, faults: &mut Faults) {
    let training = &config.training;
    let one_per_edge = matches!(training.algorithm, Algorithm::SplitFedV1 | Algorithm::FedAvg);
    if training.labels == LabelsAt::Edge && !one_per_edge {
        let allowed = format!(
            "\"cloud\" with `training.algorithm = \"{}\"`, whose one model is with the labels in the cloud; \"edge\" with \"splitfed-v1\" and \"fedavg\"",
            training.algorithm
        );
        faults.push(contradiction("training.labels", &training.labels, allowed));
    }
}

fn check_cuts(config: &Config, faults: &mut Faults) {
    let Config { training, plan, data, .. } = config;
    let (min, max) = (plan.min_depth, plan.max_depth);
    if max.is_some_and(|max| max < min) {
        let allowed = format!("at least `plan.min_depth = {min}`");
        faults.push(contradiction("plan.max_depth", &max, allowed));
    }
    if let Some(FixedCut::At(cut)) = plan.fixed_cut
        && (cut < min.get() || max.is_some_and(|max| cut > max.get()))
    {
        let max = max.map_or("L - 1".to_owned(), |max| max.to_string());
        let allowed = format!("`plan.min_depth = {min}` to `plan.max_depth = {max}`");
        faults.push(contradiction("plan.fixed_cut", &plan.fixed_cut, allowed));
    }
    let raw = "with `data.allow_raw_data = true` only: cut 0 sends raw samples to the cloud";
    if !data.allow_raw_data {
        if plan.fixed_cut == Some(FixedCut::At(0)) {
            faults.push(contradiction("plan.fixed_cut", &plan.fixed_cut, format!("at least 1; 0 {raw}")));
        } else if min.get() == 0 {
            faults.push(contradiction("plan.min_depth", &min, format!("at least 1; 0 {raw}")));
        }
        if training.algorithm == Algorithm::Centralized {
            let allowed = format!("\"centralized\" {raw}");
            faults.push(contradiction("training.algorithm", &training.algorithm, allowed));
        }
    }
    if training.algorithm == Algorithm::SplitFedV2 {
        check_common_cut(plan, faults);
    }
    if plan.fixed_cut.is_some() && matches!(training.algorithm, Algorithm::FedAvg | Algorithm::Centralized) {
        let algorithm = training.algorithm;
        let allowed = format!("no fixed cut with `training.algorithm = \"{algorithm}\"`, which has its own");
        faults.push(contradiction("plan.fixed_cut", &plan.fixed_cut, allowed));
    }
}

/// `splitfed-v2` has layers on both sides: a model that is all on one side is another algorithm's.
fn check_common_cut(plan: &PlanConfig, faults: &mut Faults) {
    let algorithm = Algorithm::SplitFedV2;
    let only = format!("with `training.algorithm = \"{algorithm}\"`, whose edges have layers of their own");
    let all_in_the_cloud = "training the whole model in the cloud is `\"centralized\"`";
    if plan.fixed_cut == Some(FixedCut::At(0)) {
        let allowed = format!("at least 1 {only}; {all_in_the_cloud}");
        faults.push(contradiction("plan.fixed_cut", &plan.fixed_cut, allowed));
    } else if plan.min_depth.get() == 0 {
        let allowed = format!("at least 1 {only}; {all_in_the_cloud}");
        faults.push(contradiction("plan.min_depth", &plan.min_depth, allowed));
    }
    if plan.allow_local {
        let allowed = format!(
            "false with `training.algorithm = \"{algorithm}\"`, whose edges share a server-side model; training the whole model on the edges is `\"fedavg\"`"
        );
        faults.push(contradiction("plan.allow_local", &plan.allow_local, allowed));
    }
}

fn check_edges(config: &Config, faults: &mut Faults) {
    let edges = config.edge_count();
    if edges > MOST_EDGES {
        let allowed = format!("at most {MOST_EDGES} edges in all, not {edges}");
        if let Some((last, edge)) = config.edge.iter().enumerate().next_back() {
            faults.push(contradiction(format!("edge[{last}].count"), &edge.count, allowed));
        }
        return;
    }
    let min = config.fleet.min_edges;
    if edges > 0 && min.get() > edges {
        let allowed = format!("at most {edges}, the number of edges");
        faults.push(contradiction("fleet.min_edges", &min, allowed));
    }
    let mut seen = BTreeMap::new();
    for (index, edge) in config.edge.iter().enumerate() {
        let twice = edge.expanded().find_map(|one| Some((one.name.clone(), *seen.get(&one.name)?)));
        if let Some((name, first)) = twice {
            let allowed = format!("a name of its own; `edge[{first}]` is already called `{name}`");
            faults.push(contradiction(format!("edge[{index}].name"), &edge.name, allowed));
        }
        seen.extend(edge.expanded().map(|one| (one.name, index)));
        if edge.expanded().any(|one| one.name.as_str() == COORDINATOR) {
            let allowed =
                format!("another name than `{COORDINATOR}`, which is the cloud's in the folder of logs");
            faults.push(contradiction(format!("edge[{index}].name"), &edge.name, allowed));
        }
        // The last has the longest number.
        if let Some(last) = edge.expanded().last().filter(|last| Name::new(last.name.as_str()).is_none()) {
            let most = edge.name.as_str().len() + Name::LONGEST - last.name.as_str().len();
            let allowed = format!(
                "at most {most} characters with `count = {}`, as the last of these edges is called `{}`",
                edge.count, last.name
            );
            faults.push(contradiction(format!("edge[{index}].name"), &edge.name, allowed));
        }
        let overlaps = edge.down.windows(2).any(|pair| pair[1].from() < pair[0].until());
        if overlaps {
            let allowed = "times in order, each after the end of the one before";
            faults.push(contradiction(format!("edge[{index}].down"), &edge.down, allowed));
        }
        if edge.slow.windows(2).any(|pair| pair[1].from() < pair[0].until()) {
            let allowed = "times in order, each after the end of the one before";
            faults.push(contradiction(format!("edge[{index}].slow"), &edge.slow, allowed));
        }
    }
}

fn check_clock(config: &Config, faults: &mut Faults) {
    if config.clock == Clock::Wall {
        return;
    }
    let missing = |key: String| {
        let allowed = "a device profile, which `clock = \"virtual\"` needs of the cloud and of every edge";
        (key, Fault::Missing { allowed: allowed.into() })
    };
    if config.cloud.profile.is_none() {
        faults.push(missing("cloud.profile".into()));
    }
    for (index, _) in config.edge.iter().enumerate().filter(|(_, edge)| edge.profile.is_none()) {
        faults.push(missing(format!("edge[{index}].profile")));
    }
}

/// The cuts that `config` permits for a model of `layers` layers, from least to largest; those from `tail`
/// on stay on the edge.
pub(super) fn depths(
    config: &Config,
    layers: usize,
    tail: Option<usize>,
) -> Result<(usize, usize), (String, Fault)> {
    let plan = &config.plan;
    match config.training.algorithm {
        Algorithm::FedAvg => return Ok((layers, layers)),
        Algorithm::Centralized => return Ok((0, 0)),
        Algorithm::SplitFedV1 | Algorithm::SplitFedV2 | Algorithm::Sequential => {}
    }
    let end = tail.unwrap_or(layers);
    let last = end.saturating_sub(1);
    let most = if plan.allow_local { end } else { last };
    let at_most = |cut: usize| {
        let local = if plan.allow_local {
            String::new()
        } else {
            format!("; {end}, the whole model on the edge, with `plan.allow_local = true` only")
        };
        let stay = tail.map_or(String::new(), |tail| {
            format!(", those from {tail} on on the edge with `training.labels = \"edge\"`")
        });
        format!("at most {cut}, as the model has {layers} layers{stay}{local}")
    };
    if let Some(FixedCut::At(cut)) = plan.fixed_cut {
        let fits = cut <= most;
        return fits
            .then_some((cut, cut))
            .ok_or_else(|| contradiction("plan.fixed_cut", &plan.fixed_cut, at_most(most)));
    }
    let min = plan.min_depth.get();
    let max = plan.max_depth.map_or(last, super::plan::Depth::get);
    if max > most {
        return Err(contradiction("plan.max_depth", &plan.max_depth, at_most(most)));
    }
    if min > max {
        let unset =
            if plan.allow_local { format!(" unless `plan.max_depth = {end}`") } else { String::new() };
        return Err(contradiction("plan.min_depth", &plan.min_depth, at_most(max) + &unset));
    }
    Ok((min, max))
}
