//! What one step of the model asks of devices and links, as the planner takes it.

use std::collections::BTreeMap;

use super::Outlook;
use crate::coordinator::settings::{Settings, Topology};
use crate::model::ModelCost;
use crate::plan::{
    self, CloudInput, DeviceInput, EdgeInput, LEAST_RATE, MOST_FACTOR, MOST_RATE, MOST_SECONDS, Plan,
    PlanError, PlanInput,
};
use crate::profile::{Corrected, Correction, DeviceProfile, LayerWork, Pass};
use crate::workload;

/// An edge stays at its cut unless moving improves its part of the objective by this share.
const HYSTERESIS: f64 = 0.05;

/// Streams, framing and thread switches of the two transfers of a round trip, in seconds.
const TRANSFER_OVERHEAD_S: f64 = 1e-3;

/// What a call may plausibly cost beside its layers, as a share of what the whole model takes.
const CALL_SHARE: f64 = 0.1;

/// What the planner needs of model and batch; the same in every round.
#[derive(Debug)]
pub(super) struct Workload {
    /// Of each layer that can be cut.
    works: Vec<LayerWork>,
    /// Of each that stays on the edge behind them, with the labels.
    tail: Vec<LayerWork>,
    /// Likewise of a whole batch, which a step that does not cross the wire is trained with in one piece.
    whole: Vec<LayerWork>,
    whole_tail: Vec<LayerWork>,
    /// Micro-batches of a step; works are of one of them, all else of a whole step.
    parts: u32,
    /// Round trips of a step.
    exchanges: f64,
    flops: Vec<f64>,
    bytes_up: Vec<u64>,
    bytes_down: Vec<u64>,
    state_bytes: Vec<u64>,
    memory_by_cut: Vec<u64>,
}

impl Workload {
    pub(super) fn of(settings: &Settings) -> Self {
        let (spec, moments, parts) = (&settings.spec, settings.moments(), settings.in_flight);
        let (whole, batch) = (settings.batch_size, settings.batch_size / parts);
        let cost = ModelCost::of(spec);
        let mut works = workload::layer_works(spec, &cost, batch, moments);
        let mut whole_works = workload::layer_works(spec, &cost, whole, moments);
        let whole_tail = whole_works.split_off(settings.cloud_end());
        let tail = works.split_off(settings.cloud_end());
        // The sum of the gradients so far beside those of a part.
        let copies = moments as u64 + u64::from(parts > 1);
        let memory = |cut| cost.edge_memory_bytes(cut, settings.tail, whole.into(), copies);
        let (activations, gradients) = (settings.activations, settings.gradients);
        let (bytes_up, bytes_down) = match settings.tail {
            None => (
                workload::cut_bytes_up(spec, batch, activations),
                workload::cut_bytes_down(spec, batch, activations, gradients),
            ),
            Some(tail) => workload::passed_bytes(spec, batch, tail, activations, gradients),
        };
        Self {
            flops: works
                .iter()
                .map(|work| f64::from(parts) * (work.forward_flops + work.backward_flops))
                .collect(),
            exchanges: if settings.tail.is_some() { 2.0 } else { 1.0 },
            bytes_up: bytes_up.into_iter().map(|bytes| u64::from(parts) * bytes).collect(),
            bytes_down: bytes_down.into_iter().map(|bytes| u64::from(parts) * bytes).collect(),
            state_bytes: workload::edge_state_bytes(spec, settings.tail, moments),
            memory_by_cut: (0..=works.len()).map(memory).collect(),
            works,
            whole: whole_works,
            tail,
            whole_tail,
            parts,
        }
    }

    /// The last cut: nothing crosses the wire.
    pub(super) fn local_cut(&self) -> usize {
        self.works.len()
    }

    /// Forward and backward passes of an edge's step at a cut, by its profile.
    pub(super) fn on_edge(&self, profile: &DeviceProfile, cut: usize) -> (Pass, Pass) {
        let (calls, works, tail) = if cut == self.local_cut() {
            (1.0, &self.whole, &self.whole_tail)
        } else {
            (f64::from(self.parts), &self.works, &self.tail)
        };
        let (forward_s, backward_s) = seconds(profile, &works[..cut]);
        let (tail_forward_s, tail_backward_s) = seconds(profile, tail);
        let pass = |seconds: f64| Pass { cut, calls, seconds: calls * seconds };
        (pass(forward_s), pass(backward_s + tail_forward_s + tail_backward_s))
    }

    /// The passes for which a step at a cut keeps the cloud busy, by its profile.
    pub(super) fn in_cloud(&self, profile: &DeviceProfile, cut: usize) -> Pass {
        let (forward_s, backward_s) = seconds(profile, &self.works[cut..]);
        let calls = f64::from(self.parts);
        Pass { cut, calls, seconds: calls * (forward_s + backward_s) }
    }

    /// For how long a step keeps the cloud busy at each cut, by its profile and the steps that were measured.
    pub(super) fn service_s(&self, profile: &DeviceProfile, cloud: &Correction) -> Vec<f64> {
        let passes: Vec<Pass> = (0..=self.local_cut()).map(|cut| self.in_cloud(profile, cut)).collect();
        let fit = cloud.fit(CALL_SHARE * passes[0].seconds);
        let seconds = cloud.falling_seconds(&passes, &fit);
        seconds.into_iter().map(|seconds| seconds.min(MOST_SECONDS)).collect()
    }

    /// Seconds at each cut on a device. Profiles come from edges: what they claim beyond all bounds is taken for the
    /// bound, so that no claim stops everyone's plan.
    fn device(&self, profile: &DeviceProfile) -> DeviceInput {
        let bounded = |(forward, backward): (Pass, Pass)| {
            (forward.seconds.min(MOST_SECONDS), backward.seconds.min(MOST_SECONDS))
        };
        let cuts = (0..=self.local_cut()).map(|cut| bounded(self.on_edge(profile, cut)));
        let (forward_s, backward_s) = cuts.unzip();
        DeviceInput { forward_s, backward_s }
    }

    /// Plans all edges. `moves`: whether a new cut moves layers, which it does not where every edge gets
    /// a global model. `service_s`: how long a step keeps the cloud busy at each cut. `capacity`: what the cloud's
    /// network carries for them, in bytes per second.
    pub(super) fn plan(
        &self,
        settings: &Settings,
        outlooks: &[Outlook],
        service_s: Vec<f64>,
        moves: bool,
        capacity: Option<f64>,
    ) -> Result<Plan, PlanError> {
        let mut devices = Devices::default();
        let edges = outlooks.iter().map(|outlook| {
            let corrections = &outlook.corrections;
            let device = devices.index(&outlook.profile, |profile| self.device(profile));
            let fit = |correction: &Correction, table_s: &[f64]| {
                let most = table_s.last().copied().unwrap_or(0.0);
                let Corrected { factor, missing_s } = correction.fit_latest(CALL_SHARE * most);
                (factor.min(MOST_FACTOR), missing_s.min(MOST_SECONDS))
            };
            let table = &devices.inputs[device];
            let (forward_factor, forward_call_s) = fit(&corrections.edge_forward, &table.forward_s);
            let (backward_factor, backward_call_s) = fit(&corrections.edge_backward, &table.backward_s);
            EdgeInput {
                name: outlook.name.clone(),
                device,
                forward_factor,
                backward_factor,
                forward_call_s,
                backward_call_s,
                margin: outlook.margin,
                up_bytes_per_s: outlook.up.clamp(LEAST_RATE, MOST_RATE),
                down_bytes_per_s: outlook.down.clamp(LEAST_RATE, MOST_RATE),
                rtt_s: self.exchanges * outlook.rtt_s,
                latency_overhead_s: self.exchanges * TRANSFER_OVERHEAD_S,
                memory_limit: outlook.memory_limit,
                current_cut: outlook.current_cut,
                fixed_cut: outlook.fixed_cut,
            }
        });
        let edges = edges.collect();
        let input = PlanInput {
            devices: devices.inputs,
            edges,
            cloud: CloudInput {
                service_s,
                flops: self.flops.clone(),
                workers: settings.workers,
                capacity_bytes_per_s: capacity.map(|rate| rate.max(LEAST_RATE)),
            },
            cut_bytes_up: self.bytes_up.clone(),
            cut_bytes_down: self.bytes_down.clone(),
            state_bytes: self.state_bytes.clone(),
            memory_by_cut: self.memory_by_cut.clone(),
            steps_between_aggregations: u64::from(settings.aggregate_every)
                * u64::from(settings.steps_per_round),
            steps_between_moves: moves.then_some(settings.steps_per_round.into()),
            micro_batches: self.parts,
            depth: settings.depth.clone(),
            deadline: settings.deadline,
            objective: settings.objective,
            hysteresis: HYSTERESIS,
        };
        match settings.topology {
            Topology::ReplicaPerEdge => plan::plan(&input),
            Topology::Shared => plan::plan_common_cut(input),
            Topology::HandedOn => plan::plan_turns(&input),
        }
    }
}

/// The kinds of devices in a fleet: edges with the same profile are of one.
#[derive(Default)]
struct Devices {
    indices: BTreeMap<Vec<u64>, usize>,
    inputs: Vec<DeviceInput>,
}

impl Devices {
    fn index(&mut self, profile: &DeviceProfile, input: impl FnOnce(&DeviceProfile) -> DeviceInput) -> usize {
        let mut key = Vec::with_capacity(7 * (profile.kinds.len() + 1));
        let kinds = profile.kinds.iter().map(|(kind, model)| (Some(*kind), model));
        for (kind, model) in kinds.chain(profile.other.iter().map(|model| (None, model))) {
            key.push(kind.map_or(u64::MAX, |kind| kind as u64));
            for line in [model.forward, model.backward] {
                key.extend([line.per_flop, line.per_byte, line.fixed].map(f64::to_bits));
            }
        }
        *self.indices.entry(key).or_insert_with(|| {
            self.inputs.push(input(profile));
            self.inputs.len() - 1
        })
    }
}

/// Seconds of a forward and of a backward pass of some layers.
fn seconds(profile: &DeviceProfile, works: &[LayerWork]) -> (f64, f64) {
    let forward_s: f64 = works.iter().map(|work| profile.seconds_forward(work)).sum();
    let backward_s: f64 = works.iter().map(|work| profile.seconds_backward(work)).sum();
    // A sum over nothing is -0.
    (forward_s + 0.0, backward_s + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::builtin::builtin;
    use crate::profile::{KindModel, Line, StepCorrections};

    /// Every layer takes a second each way.
    fn device() -> DeviceProfile {
        let line = Line { per_flop: 0.0, per_byte: 0.0, fixed: 1.0 };
        DeviceProfile { other: Some(KindModel { forward: line, backward: line }), ..DeviceProfile::default() }
    }

    fn planned(labels: &str) -> (Settings, Plan) {
        planned_with(&[&format!("training.labels={labels}"), "plan.fixed_cut=3"], 3)
    }

    fn planned_with(sets: &[&str], cut: usize) -> (Settings, Plan) {
        let text =
            "name = \"x\"\n[model]\narch = \"lenet5\"\n[data]\ndataset = \"mnist\"\n[[edge]]\nname = \"a\"";
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = Config::parse(text, "x.toml", &sets).expect("the overrides are allowed");
        let spec = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
        let settings = Settings::from_config(&config, spec, 1, device()).expect("it fits");
        let outlook = Outlook {
            name: "a".into(),
            profile: device(),
            corrections: StepCorrections::default(),
            up: 1e6,
            down: 1e6,
            rtt_s: 0.5,
            margin: settings.margin,
            memory_limit: None,
            current_cut: None,
            fixed_cut: Some(cut),
        };
        let workload = Workload::of(&settings);
        let service_s = workload.service_s(&settings.cloud_profile, &Correction::default());
        let plan = workload.plan(&settings, &[outlook], service_s, false, settings.capacity);
        (settings, plan.expect("it can be planned"))
    }

    #[test]
    fn labels_on_the_edge_cost_a_second_round_trip_and_the_time_of_the_last_layers() {
        let (cloud, edge) = (planned("cloud").1.edges.remove(0), planned("edge").1.edges.remove(0));
        let close = |left: f64, right: f64| assert!((left - right).abs() < 1e-9, "{left} is not {right}");
        close(edge.terms.edge_forward, cloud.terms.edge_forward);
        close(edge.terms.edge_backward, cloud.terms.edge_backward + 2.0);
        // LeNet-5's last layer is its classifier, of 84 inputs; four bytes a label are spared.
        close(edge.terms.cloud, cloud.terms.cloud - 2.0);
        let tail = 0.5 * (0.5 + 1e-3) + f64::from(32 + 64 * 84 * 4) / 1e6;
        close(edge.terms.uplink, cloud.terms.uplink + tail - f64::from(64 * 4) / 1e6);
        close(edge.terms.downlink, cloud.terms.downlink + tail);
        assert!(edge.memory_bytes > cloud.memory_bytes && edge.weights_s > cloud.weights_s);
    }

    #[test]
    fn micro_batches_pay_for_their_calls_where_there_are_any() {
        let terms = |parts: u32, cut: usize| {
            let sets = [&format!("wire.in_flight={parts}"), "plan.allow_local=true", "plan.max_depth=12"];
            planned_with(&sets, cut).1.edges.remove(0).terms
        };
        let close = |left: f64, right: f64| assert!((left - right).abs() < 1e-9, "{left} is not {right}");
        for (parts, calls) in [(1, 1.0), (4, 4.0)] {
            let (split, local) = (terms(parts, 3), terms(parts, 12));
            close(split.edge_forward, calls * 3.0);
            close(split.edge_backward, calls * 3.0);
            close(split.cloud, calls * 18.0);
            // Nothing crosses the wire: the batch is trained with in one piece.
            close(local.edge_forward, 12.0);
            close(local.edge_backward, 12.0);
            close(local.cloud, 0.0);
            // Where the labels stay, the last layer goes with them, both ways.
            let sets = [&format!("wire.in_flight={parts}"), "training.labels=edge"];
            let kept = planned_with(&sets, 3).1.edges.remove(0).terms;
            close(kept.edge_forward, calls * 3.0);
            close(kept.edge_backward, calls * 5.0);
            close(kept.cloud, calls * 16.0);
        }
    }

    #[test]
    fn the_cuts_of_a_plan_end_before_the_last_layers() {
        let (settings, _) = planned("edge");
        let workload = Workload::of(&settings);
        assert_eq!((workload.works.len(), workload.tail.len()), (11, 1));
        assert_eq!(
            (workload.bytes_up.len(), workload.state_bytes.len(), workload.memory_by_cut.len()),
            (12, 12, 12)
        );
    }
}
