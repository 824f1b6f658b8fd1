//! What the coordinator expects of every device and link, and the plan that follows from it.

mod pace;
mod state;
mod workload;

use std::collections::BTreeMap;

use super::deferral::reserved_behind;
use super::member::Member;
use super::settings::{Cuts, Replan, Settings, Topology};
use crate::event::{PlannedEdge, TermsMs};
use crate::link::{LinkEstimator, RttFilter, Transfer};
use crate::plan::{EdgePlan, Plan, PlanError};
use crate::probe;
use crate::profile::{Correction, DeviceProfile, Pass, Recent, Residuals, StepCorrections};
use crate::random;
use crate::wire::{StepReport, TrainingRequest};
use pace::pace;
use state::State;
use workload::Workload;

/// Round-trip time assumed before the first sample, in seconds.
const ASSUMED_RTT_S: f64 = 0.01;

/// What a device and its link are taken to be.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The edge's name.
    pub name: String,
    /// Seconds per layer kind, as the device calibrated itself.
    pub profile: DeviceProfile,
    /// What its measured steps say about the profile.
    pub corrections: StepCorrections,
    /// Uplink rate, in bytes per second.
    pub up: f64,
    /// Downlink rate, in bytes per second.
    pub down: f64,
    /// Round-trip time, in seconds.
    pub rtt_s: f64,
    /// Relative reserve on its predicted latency.
    pub margin: f64,
    /// Memory for training, in bytes.
    pub memory_limit: Option<u64>,
    /// Its cut so far.
    pub current_cut: Option<usize>,
    /// The cut that it must have.
    pub fixed_cut: Option<usize>,
}

/// Plans for edges that have not been met yet, from an outlook on each: `partway plan`.
///
/// # Errors
/// If a number cannot be planned with.
pub fn forecast_edges(settings: &Settings, outlooks: &[Outlook]) -> Result<Plan, PlanError> {
    let workload = Workload::of(settings);
    let service_s = workload.service_s(&settings.cloud_profile, &Correction::default());
    workload.plan(settings, outlooks, service_s, false, settings.capacity)
}

/// What is predicted of one edge's steps in a round.
#[derive(Clone, Debug)]
pub(super) struct Prediction {
    pub(super) cut: usize,
    pub(super) terms_ms: TermsMs,
    pub(super) step_ms: f64,
    /// What the plan's guarantee is a multiple of, in seconds: with the share's wait instead of the mean one.
    pub(super) planned_s: f64,
    /// Whether the device's profile had been corrected by steps.
    pub(super) is_corrected: bool,
    pub(super) pace_up: Option<f64>,
    /// The larger of the two rates that are reserved, in bytes per second.
    pub(super) reserved: f64,
    /// Bytes of the probes up and down; 0 for none.
    pub(super) probe_bytes: (u32, u32),
    /// By the profiles alone, before any correction.
    edge_forward: Pass,
    edge_backward: Pass,
    pub(super) cloud: Pass,
}

/// A round's plan with what the events tell of it.
pub(super) struct Planned {
    pub(super) deadline_s: f64,
    pub(super) optimality_gap: f64,
    pub(super) predictions: Vec<Prediction>,
    pub(super) events: Vec<PlannedEdge>,
}

/// What is known of one edge's device and link.
#[derive(Debug)]
struct EdgeOutlook {
    profile: DeviceProfile,
    corrections: StepCorrections,
    /// By how much steps miss what was planned.
    residuals: Residuals,
    /// How often it and its links had been found in another state when the plan was made.
    changes: u32,
    /// How long a step waits for a worker, in seconds: mostly less than its share allows for.
    wait_s: Recent,
    up: LinkEstimator,
    down: LinkEstimator,
    rtt: RttFilter,
    pace_down: Option<f64>,
    memory_limit: Option<u64>,
}

/// Profiles, corrections and link estimates of the fleet.
#[derive(Debug)]
pub(super) struct Forecast {
    workload: Workload,
    edges: BTreeMap<String, EdgeOutlook>,
    cloud: Correction,
    last: Option<Last>,
}

/// The plan in force, and what it was made for.
#[derive(Debug)]
struct Last {
    names: Vec<String>,
    states: Vec<State>,
    plan: Plan,
}

impl Forecast {
    pub(super) fn new(settings: &Settings) -> Self {
        let workload = Workload::of(settings);
        Self { workload, edges: BTreeMap::new(), cloud: Correction::default(), last: None }
    }

    pub(super) fn admit(&mut self, request: &TrainingRequest) {
        let outlook = EdgeOutlook {
            profile: request.profile.clone(),
            corrections: StepCorrections::default(),
            residuals: Residuals::default(),
            changes: 0,
            wait_s: Recent::default(),
            up: LinkEstimator::new(request.uplink_hint),
            down: LinkEstimator::new(None),
            rtt: RttFilter::default(),
            pace_down: None,
            memory_limit: request.memory_limit,
        };
        self.edges.insert(request.name.clone(), outlook);
    }

    /// An edge that is back has this memory now. Its profile stays: its steps have corrected that since.
    pub(super) fn limit_memory(&mut self, edge: &str, memory_limit: Option<u64>) {
        if let Some(outlook) = self.edges.get_mut(edge) {
            outlook.memory_limit = memory_limit;
        }
    }

    pub(super) fn forget(&mut self, edge: &str) {
        self.edges.remove(edge);
    }

    pub(super) fn pace_down(&self, edge: &str) -> Option<f64> {
        self.edges.get(edge)?.pace_down
    }

    pub(super) fn observe_probe_up(&mut self, edge: &str, transfer: Transfer, rtt_s: f64) {
        if let Some(outlook) = self.edges.get_mut(edge) {
            outlook.up.probe(transfer);
            outlook.rtt.observe(rtt_s);
        }
    }

    pub(super) fn observe_probe_down(&mut self, edge: &str, transfer: Transfer) {
        if let Some(outlook) = self.edges.get_mut(edge) {
            outlook.down.probe(transfer);
        }
    }

    pub(super) fn observe_uplink(&mut self, edge: &str, transfer: Transfer, rtt_s: f64) {
        if let Some(outlook) = self.edges.get_mut(edge) {
            outlook.rtt.observe(rtt_s);
            outlook.up.observe(transfer.over(outlook.rtt.rtt_s()));
        }
    }

    pub(super) fn observe_downlink(&mut self, edge: &str, transfer: Transfer) {
        if let Some(outlook) = self.edges.get_mut(edge) {
            let paced_at = outlook.pace_down;
            outlook.down.observe(Transfer { paced_at, ..transfer }.over(outlook.rtt.rtt_s()));
        }
    }

    /// Takes in what came down while the edge trained alone, at no pace.
    pub(super) fn observe_downlink_probe(&mut self, edge: &str, transfer: Transfer) {
        if let Some(outlook) = self.edges.get_mut(edge) {
            outlook.down.observe(Transfer { paced_at: None, ..transfer }.over(outlook.rtt.rtt_s()));
        }
    }

    pub(super) fn observe_cloud(&mut self, predicted: Pass, measured_s: f64) {
        self.cloud.observe(predicted, measured_s);
    }

    /// Takes in one step: the edge's times, how long it took without the wait for a turn, and how long it
    /// waited for a worker.
    pub(super) fn observe_step(
        &mut self,
        edge: &str,
        prediction: &Prediction,
        report: &StepReport,
        latency_s: f64,
        wait_s: f64,
    ) {
        if let Some(outlook) = self.edges.get_mut(edge) {
            // A profile's own bias is no residual: the corrections take it away.
            if prediction.is_corrected {
                outlook.residuals.observe(prediction.planned_s, latency_s);
            }
            let corrections = &mut outlook.corrections;
            if prediction.cut == self.workload.local_cut() {
                // One pass: each has the same part of what was measured as of what was predicted.
                let (forward, backward) = (prediction.edge_forward, prediction.edge_backward);
                let off = report.backward_s / (forward.seconds + backward.seconds);
                corrections.edge_forward.observe(forward, off * forward.seconds);
                corrections.edge_backward.observe(backward, off * backward.seconds);
                return;
            }
            corrections.edge_forward.observe(prediction.edge_forward, report.forward_s);
            corrections.edge_backward.observe(prediction.edge_backward, report.backward_s);
            outlook.wait_s.observe(wait_s);
        }
    }

    /// Plans a round for the edges that are not left out, in name order; `held_cut` is one that all must
    /// keep. `fresh`: whether every edge starts from a global model, so that a new cut moves nothing.
    ///
    /// # Errors
    /// In words, if a number cannot be planned with.
    pub(super) fn plan(
        &mut self,
        settings: &Settings,
        fleet: &BTreeMap<String, Member>,
        round: u32,
        held_cut: Option<usize>,
        fresh: bool,
    ) -> Result<Planned, String> {
        for outlook in self.edges.values_mut() {
            let changes = state::changes(outlook);
            outlook.residuals.begin_plan(changes != outlook.changes);
            outlook.changes = changes;
            outlook.corrections.edge_forward.begin_round();
            outlook.corrections.edge_backward.begin_round();
        }
        self.cloud.begin_round();
        let names: Vec<String> =
            fleet.iter().filter(|(_, member)| member.takes_part()).map(|(name, _)| name.clone()).collect();
        let outlooks: Vec<Outlook> = names
            .iter()
            .filter_map(|name| {
                let edge = self.edges.get(name)?;
                let member = fleet.get(name)?;
                let current_cut = member.round.as_ref().map(super::member::MemberRound::cut);
                Some(Outlook {
                    name: name.clone(),
                    profile: edge.profile.clone(),
                    corrections: edge.corrections.clone(),
                    up: edge.up.rate(),
                    down: edge.down.rate(),
                    rtt_s: edge.rtt.rtt_s().unwrap_or(ASSUMED_RTT_S),
                    margin: edge.residuals.margin(settings.margin),
                    memory_limit: edge.memory_limit,
                    current_cut,
                    fixed_cut: held_cut.or_else(|| Self::fixed_cut(settings, name, round)),
                })
            })
            .collect();
        let states: Vec<State> =
            names.iter().filter_map(|name| self.edges.get(name)).map(State::of).collect();
        let service_s = self.workload.service_s(&settings.cloud_profile, &self.cloud);
        let keep = |before: &[State]| match settings.replan {
            Replan::EveryRound => false,
            Replan::OnChange => {
                settings.cuts != Cuts::Random
                    && before.iter().zip(&states).all(|(before, now)| before.is_like(now))
            }
            Replan::Never => settings.cuts != Cuts::Random,
        };
        let plan = match self.last.take() {
            Some(Last { names: planned_for, states: before, plan })
                if planned_for == names && keep(&before) =>
            {
                // What little has changed since adds up.
                self.last = Some(Last { names: names.clone(), states: before, plan: plan.clone() });
                plan
            }
            _ => {
                let moves = !fresh && settings.topology != Topology::HandedOn;
                let capacity = settings.capacity.map(|all| all - reserved_behind(fleet));
                let plan = self.workload.plan(settings, &outlooks, service_s.clone(), moves, capacity);
                plan.map_err(|error| error.to_string())?
            }
        };
        let planned = Planned {
            deadline_s: plan.deadline_s,
            optimality_gap: plan.optimality_gap,
            predictions: plan.edges.iter().map(|edge| self.predict(settings, &service_s, edge)).collect(),
            events: Vec::new(),
        };
        let events = plan
            .edges
            .iter()
            .zip(&outlooks)
            .zip(&planned.predictions)
            .map(|((edge, outlook), prediction)| PlannedEdge {
                edge: edge.name.clone(),
                cut: edge.cut as u32,
                feasible: edge.feasible,
                reason: edge.reason.clone(),
                terms_ms: prediction.terms_ms,
                step_ms: prediction.step_ms,
                reserved_up_mbps: mbps(edge.reserved_up),
                reserved_down_mbps: mbps(edge.reserved_down),
                estimated_up_mbps: mbps(outlook.up),
                estimated_down_mbps: mbps(outlook.down),
            })
            .collect();
        for edge in &plan.edges {
            if let Some(outlook) = self.edges.get_mut(&edge.name) {
                outlook.pace_down = pace(edge.reserved_down, &outlook.down);
            }
        }
        if self.last.is_none() {
            self.last = Some(Last { names, states, plan });
        }
        Ok(Planned { events, ..planned })
    }

    fn fixed_cut(settings: &Settings, edge: &str, round: u32) -> Option<usize> {
        match settings.cuts {
            Cuts::Planned => None,
            Cuts::Fixed(cut) => Some(cut),
            Cuts::Random => {
                let round = round.to_string();
                let parts: &[&str] = match settings.topology {
                    Topology::Shared => &["common cut", &round],
                    Topology::ReplicaPerEdge | Topology::HandedOn => &["cut", edge, &round],
                };
                let mut stream = random::stream(settings.seed, parts);
                let (least, most) = (*settings.depth.start(), *settings.depth.end());
                Some(least + random::below(&mut stream, (most - least + 1) as u64) as usize)
            }
        }
    }

    fn predict(&self, settings: &Settings, service_s: &[f64], edge: &EdgePlan) -> Prediction {
        let cut = edge.cut;
        let outlook = self.edges.get(&edge.name);
        let nothing = Pass { cut, calls: 1.0, seconds: 0.0 };
        let (edge_forward, edge_backward) =
            outlook.map_or((nothing, nothing), |outlook| self.workload.on_edge(&outlook.profile, cut));
        let in_cloud = self.workload.in_cloud(&settings.cloud_profile, cut);
        // Before the first step what the share promises is the best that is known.
        let cloud_s = match outlook.and_then(|outlook| outlook.wait_s.level()) {
            Some(wait_s) if service_s[cut] > 0.0 => service_s[cut] + wait_s,
            _ => edge.terms.cloud,
        };
        let terms_ms = TermsMs {
            edge_forward: edge.terms.edge_forward * 1e3,
            uplink: edge.terms.uplink * 1e3,
            cloud: cloud_s * 1e3,
            downlink: edge.terms.downlink * 1e3,
            edge_backward: edge.terms.edge_backward * 1e3,
        };
        let round_s = edge.step_s * f64::from(settings.steps_per_round);
        let probes = outlook.filter(|_| cut == self.workload.local_cut() && settings.probes_links());
        let probe_bytes = probes.map_or((0, 0), |outlook| {
            (probe::bytes(&outlook.up, round_s), probe::bytes(&outlook.down, round_s))
        });
        Prediction {
            cut,
            probe_bytes,
            terms_ms,
            step_ms: edge.step_with_cloud(cloud_s) * 1e3,
            planned_s: edge.step_s,
            is_corrected: outlook.is_some_and(|outlook| outlook.corrections.edge_backward.observations() > 0),
            pace_up: outlook.and_then(|outlook| pace(edge.reserved_up, &outlook.up)),
            reserved: edge.reserved_up.max(edge.reserved_down),
            edge_forward,
            edge_backward,
            cloud: in_cloud,
        }
    }
}

fn mbps(bytes_per_s: f64) -> f64 {
    bytes_per_s * 8.0 / 1e6
}
