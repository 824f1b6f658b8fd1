//! Rounds: their start under a new plan, their steps, their end, and aggregations.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Checkpoint, Job, Replica, StepJob};
use super::member::{Arrived, MemberRound, Served, Slice};
use super::settings::Topology;
use super::{Coordinator, Phase};
use crate::codec::Codec;
use crate::event::{EventKind, TermsMs};
use crate::model::LayerState;
use crate::wire::{CloudMessage, RoundPlan, StartFrom, StepReport, TensorHeader, TensorKind, TensorMessage};

impl Coordinator {
    /// Plans round `round` and starts it for every edge that takes part.
    pub(super) fn start_round(&mut self, now: Duration, round: u32) {
        self.round = round;
        self.phase = Phase::Train { since: now };
        let fresh = round == self.global_rounds;
        if fresh {
            for member in self.fleet.values_mut() {
                member.steps_done = 0;
                member.out &= !(member.ready && member.connection.is_some());
            }
        }
        let layers = self.settings.spec.len();
        if self.settings.topology == Topology::Shared {
            let state = match self.shared_end.take() {
                Some(end) if !fresh => Arc::new(end),
                _ => self.global.clone(),
            };
            self.shared_start = Some(Slice { layers: state.layers.clone(), state });
            self.place_shared();
        }
        let names: Vec<String> =
            self.fleet.iter().filter(|(_, member)| !member.out).map(|(name, _)| name.clone()).collect();
        let planned = match self.forecast.plan(&self.settings, &self.fleet, round) {
            Ok(planned) => planned,
            Err(reason) => {
                self.abort(now, reason);
                return;
            }
        };
        self.emit(
            now,
            EventKind::Planned {
                round: round + 1,
                deadline_ms: planned.deadline_s * 1e3,
                optimality_gap: planned.optimality_gap,
                edges: planned.events,
            },
        );
        for (edge, prediction) in names.into_iter().zip(planned.predictions) {
            let Some(member) = self.fleet.get_mut(&edge) else { continue };
            let before = member.round.take();
            let cut = prediction.cut;
            let start = match &before {
                _ if fresh && round == 0 => StartFrom::Initial,
                Some(before) if !fresh => StartFrom::Own { upload_moved: cut < before.cut() },
                _ => StartFrom::Cloud,
            };
            let plan = RoundPlan {
                round,
                attempt: 0,
                cut: cut as u32,
                steps: self.settings.steps_per_round,
                optimizer_steps: self.settings.optimizer_steps(round),
                start,
                aggregate: self.settings.aggregates(round),
                activations: self.settings.activations,
                pace: prediction.pace_up,
                deadline_s: planned.deadline_s,
            };
            let mut next = MemberRound::new(plan, prediction);
            match (start, before.and_then(|before| Some((before.cut(), before.exported?)))) {
                (StartFrom::Own { .. }, Some((old, exported))) => {
                    let state = Arc::new(exported);
                    if cut < old {
                        next.moved = Some((cut..old, state));
                    } else {
                        next.block = (cut > old).then(|| Slice { state: state.clone(), layers: old..cut });
                        next.start = Some(Slice { state, layers: cut..layers });
                    }
                }
                _ => {
                    let state = self.global.clone();
                    next.block = (start == StartFrom::Cloud && cut > 0)
                        .then(|| Slice { state: state.clone(), layers: 0..cut });
                    next.start = Some(Slice { state, layers: cut..layers });
                }
            }
            member.round = Some(next);
            self.begin_attempt(now, &edge);
        }
    }

    /// Places the replica and sends the plan, with the layers that come with it.
    pub(super) fn begin_attempt(&mut self, now: Duration, edge: &str) {
        self.place(edge);
        let Some(round) = self.fleet.get(edge).and_then(|member| member.round.as_ref()) else { return };
        let plan = round.plan;
        let block = round.block.clone();
        self.send(edge, CloudMessage::Round(plan));
        if let Some(Slice { state, layers }) = block {
            let values = state.slice(&self.settings.spec, layers.clone()).values;
            let header = TensorHeader {
                round: plan.round,
                attempt: plan.attempt,
                first_layer: layers.start as u16,
                last_layer: layers.end as u16,
                ..TensorHeader::new(TensorKind::State, Codec::F32)
            };
            let tensor = TensorMessage::encode(header, values, &[]);
            self.emit_state_moved(now, edge, &tensor, "down");
            self.send_tensor(edge, tensor);
        }
    }

    fn emit_state_moved(&mut self, now: Duration, edge: &str, tensor: &TensorMessage, direction: &str) {
        let kind = EventKind::StateMoved {
            round: tensor.header.round + 1,
            edge: edge.to_owned(),
            direction: direction.to_owned(),
            bytes: tensor.wire_bytes(),
        };
        self.emit(now, kind);
    }

    /// Makes the edge's replica what it is at the start of the round, once that is known.
    fn place(&mut self, edge: &str) {
        if self.settings.topology == Topology::Shared {
            return;
        }
        let Some(round) = self.fleet.get(edge).and_then(|member| member.round.as_ref()) else { return };
        if let Some(Slice { state, layers }) = round.start.clone()
            && !layers.is_empty()
        {
            let replica = Replica::Of(edge.to_owned());
            self.push(Action::Compute(Job::Place { replica, state, from: layers.start }));
        }
    }

    pub(super) fn place_shared(&mut self) {
        if let Some(Slice { state, layers }) = self.shared_start.clone() {
            let job = Job::Place { replica: Replica::Shared, state, from: layers.start };
            self.push(Action::Compute(job));
        }
    }

    /// Whether a message is of the attempt that the edge is in.
    pub(super) fn is_current(&self, edge: &str, round: u32, attempt: u32) -> bool {
        matches!(self.phase, Phase::Train { .. })
            && self
                .fleet
                .get(edge)
                .filter(|member| !member.out)
                .and_then(|member| member.round.as_ref())
                .is_some_and(|at| at.plan.round == round && at.plan.attempt == attempt)
    }

    pub(super) fn handle_activations(&mut self, now: Duration, edge: &str, tensor: TensorMessage) {
        let header = tensor.header;
        if !self.is_current(edge, header.round, header.attempt) {
            return;
        }
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if header.step == round.next_step && header.step < round.plan.steps {
            if !round.in_service {
                round.arrived = Some(Arrived { tensor, at: now });
                self.serve(edge);
            }
        } else if header.step.checked_add(1) == Some(round.next_step) {
            // A replay after a lost connection: answered, not trained again.
            if let Some(reply) = round.reply.clone() {
                self.send_tensor(edge, reply);
            }
        } else {
            let reason = format!(
                "it sent step {} of round {}, where step {} was due",
                header.step.saturating_add(1),
                header.round + 1,
                round.next_step + 1
            );
            self.refuse_edge(now, edge, &reason);
        }
    }

    /// Hands the edge's waiting activations to its replica, if it is their turn.
    fn serve(&mut self, edge: &str) {
        let shared = self.settings.topology == Topology::Shared;
        if shared && self.turn().as_deref() != Some(edge) {
            return;
        }
        let settings = &self.settings;
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if round.in_service || (round.start.is_none() && !shared) {
            return;
        }
        let Some(Arrived { tensor, at }) = round.arrived.take() else { return };
        let step = round.next_step;
        round.in_service = true;
        let served = &mut round.served[step as usize];
        served.residence_s = at.as_secs_f64();
        served.bytes_up = tensor.wire_bytes();
        let plan = round.plan;
        let job = StepJob {
            replica: if shared { Replica::Shared } else { Replica::Of(edge.to_owned()) },
            edge: edge.to_owned(),
            round: plan.round,
            attempt: plan.attempt,
            step,
            global_step: u64::from(plan.round) * u64::from(settings.steps_per_round) + u64::from(step),
            optimizer_step: plan.optimizer_steps + u64::from(step) + 1,
            tensor,
            gradients: settings.gradients,
        };
        self.push(Action::Compute(Job::Step(job)));
    }

    /// Whose step the shared model takes next: steps in order, edges in name order within a step.
    fn turn(&self) -> Option<String> {
        let active = self.fleet.iter().filter(|(_, member)| !member.out);
        active
            .filter_map(|(name, member)| Some((member.round.as_ref()?.next_step, name)))
            .filter(|(step, _)| *step < self.settings.steps_per_round)
            .min()
            .map(|(_, name)| name.clone())
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of Computed::Stepped")]
    pub(super) fn handle_stepped(
        &mut self,
        now: Duration,
        edge: &str,
        step: u32,
        reply: TensorMessage,
        loss: f32,
        correct: u32,
        seconds: f64,
    ) {
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if step != round.next_step {
            return;
        }
        round.in_service = false;
        round.next_step += 1;
        let served = &mut round.served[step as usize];
        let arrived_s = served.residence_s;
        *served = Served {
            loss,
            correct,
            residence_s: now.as_secs_f64() - arrived_s,
            bytes_down: reply.wire_bytes(),
            ..*served
        };
        round.reply = Some(reply.clone());
        let predicted = round.prediction.cloud_service_s;
        self.forecast.observe_cloud(predicted, seconds);
        self.send_tensor(edge, reply);
        if self.settings.topology == Topology::Shared
            && let Some(next) = self.turn()
        {
            self.serve(&next);
        }
        self.end_member_round(now, edge);
    }

    /// A step's activations cannot be trained on.
    pub(super) fn handle_rejected(&mut self, now: Duration, edge: &str, reason: &str) {
        if let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) {
            round.in_service = false;
        }
        let reason = format!("round {}: {reason}", self.round + 1);
        self.refuse_edge(now, edge, &reason);
    }

    pub(super) fn handle_step_done(
        &mut self,
        now: Duration,
        edge: &str,
        round: u32,
        attempt: u32,
        report: StepReport,
    ) {
        if !self.is_current(edge, round, attempt) {
            return;
        }
        let Some(member) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        let step = report.step as usize;
        if step >= member.reported.len() || std::mem::replace(&mut member.reported[step], true) {
            return;
        }
        let mut served = member.served[step];
        if let Some((loss, correct)) = report.local {
            (served.loss, served.correct) = (loss, correct);
        }
        let prediction = member.prediction.clone();
        let plan = member.plan;
        if let Some(transfer) = report.downlink {
            self.forecast.observe_downlink(edge, transfer);
        }
        self.forecast.observe_step(edge, &prediction, &report, served.residence_s);
        let predicted = prediction.terms_ms;
        let network_ms =
            (report.latency_s - report.forward_s - report.backward_s - served.residence_s).max(0.0) * 1e3;
        let network_predicted = predicted.uplink + predicted.downlink;
        let up_share = if network_predicted > 0.0 { predicted.uplink / network_predicted } else { 0.0 };
        self.emit(
            now,
            EventKind::Step {
                round: round + 1,
                attempt,
                edge: edge.to_owned(),
                step: report.step + 1,
                cut: plan.cut,
                latency_ms: report.latency_s * 1e3,
                predicted_ms: prediction.step_ms,
                deadline_ms: plan.deadline_s * 1e3,
                terms_ms: TermsMs {
                    edge_forward: report.forward_s * 1e3,
                    uplink: network_ms * up_share,
                    cloud: served.residence_s * 1e3,
                    downlink: network_ms * (1.0 - up_share),
                    edge_backward: report.backward_s * 1e3,
                },
                loss: served.loss,
                correct: served.correct,
                bytes_up: served.bytes_up,
                bytes_down: served.bytes_down,
            },
        );
    }

    pub(super) fn handle_round_done(
        &mut self,
        now: Duration,
        edge: &str,
        round: u32,
        attempt: u32,
        peak_rss_bytes: u64,
    ) {
        if !self.is_current(edge, round, attempt) {
            return;
        }
        if peak_rss_bytes > 0 {
            self.emit(now, EventKind::EdgeMemory { edge: edge.to_owned(), peak_rss_bytes });
        }
        let layers = self.settings.spec.len();
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if round.cut() < layers && round.next_step < round.plan.steps {
            let reason =
                format!("it ended its round after {} of {} steps", round.next_step, round.plan.steps);
            self.refuse_edge(now, edge, &reason);
            return;
        }
        round.done = true;
        self.end_member_round(now, edge);
    }

    /// Layers came from an edge: those that a shallower cut moves, or all it has for an aggregation.
    pub(super) fn handle_state(&mut self, now: Duration, edge: &str, tensor: TensorMessage) {
        let header = tensor.header;
        if !self.is_current(edge, header.round, header.attempt) {
            return;
        }
        let decoded = tensor.clone().decode().map_err(|error| error.to_string()).and_then(|(values, _)| {
            if header.layers().end > self.settings.spec.len() {
                return Err(format!("it sent a state of layers {:?}", header.layers()));
            }
            LayerState::new(&self.settings.spec, header.layers(), self.settings.moments(), values)
                .map_err(|error| error.to_string())
        });
        let state = match decoded {
            Ok(state) if state.values.iter().all(|value| value.is_finite()) => state,
            Ok(_) => {
                let reason = format!(
                    "round {}: its weights are not finite; a lower training.optimizer.lr may help",
                    header.round + 1
                );
                self.refuse_edge(now, edge, &reason);
                return;
            }
            Err(reason) => {
                self.refuse_edge(now, edge, &reason);
                return;
            }
        };
        self.emit_state_moved(now, edge, &tensor, "up");
        let layers = self.settings.spec.len();
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if header.step == 0 {
            match round.moved.take() {
                Some((range, rest)) if range == state.layers => {
                    let mut whole = state;
                    whole.append(Arc::unwrap_or_clone(rest));
                    round.start = Some(Slice { state: Arc::new(whole), layers: range.start..layers });
                    self.place(edge);
                    self.serve(edge);
                }
                // Sent again after a lost connection.
                moved => round.moved = moved,
            }
        } else if state.layers == (0..round.cut()) {
            round.upload = Some(state);
            self.end_member_round(now, edge);
        } else {
            let reason =
                format!("it sent layers {:?} for the aggregation, its cut is {}", state.layers, round.cut());
            self.refuse_edge(now, edge, &reason);
        }
    }

    /// Asks for the replica's state once the edge has done the round, then sees whether all have.
    fn end_member_round(&mut self, now: Duration, edge: &str) {
        let shared = self.settings.topology == Topology::Shared;
        let layers = self.settings.spec.len();
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if !shared && !round.export_asked && round.next_step == round.plan.steps && round.cut() < layers {
            round.export_asked = true;
            let (number, attempt) = (round.plan.round, round.plan.attempt);
            let replica = Replica::Of(edge.to_owned());
            self.push(Action::Compute(Job::Export { replica, round: number, attempt }));
        }
        self.end_round_when_complete(now);
    }

    pub(super) fn handle_exported(
        &mut self,
        now: Duration,
        replica: &Replica,
        round: u32,
        attempt: u32,
        state: LayerState,
    ) {
        match replica {
            Replica::Of(edge) if self.is_current(edge, round, attempt) => {
                if let Some(at) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) {
                    at.exported = Some(state);
                }
                self.end_round_when_complete(now);
            }
            Replica::Shared if matches!(self.phase, Phase::Aggregate) && round == self.round => {
                self.shared_end = Some(state);
                self.close_round(now);
            }
            _ => {}
        }
    }

    /// Whether an edge has nothing left to do or to send in this round.
    fn is_complete(&self, round: &MemberRound) -> bool {
        let shared = self.settings.topology == Topology::Shared;
        let cut = round.cut();
        round.done
            && (shared || cut == self.settings.spec.len() || round.exported.is_some())
            && (!round.plan.aggregate || cut == 0 || round.upload.is_some())
    }

    /// The barrier: goes on once every edge that takes part is complete.
    pub(super) fn end_round_when_complete(&mut self, now: Duration) {
        let Phase::Train { since } = self.phase else { return };
        let complete = self
            .fleet
            .values()
            .filter(|member| !member.out)
            .all(|member| member.round.as_ref().is_some_and(|round| self.is_complete(round)));
        if !complete {
            return;
        }
        let seconds = now.saturating_sub(since).as_secs_f64();
        self.emit(now, EventKind::RoundDone { round: self.round + 1, seconds });
        for member in self.fleet.values_mut().filter(|member| !member.out) {
            member.steps_done += u64::from(self.settings.steps_per_round);
        }
        self.phase = Phase::Aggregate;
        if self.settings.topology == Topology::Shared {
            let job = Job::Export { replica: Replica::Shared, round: self.round, attempt: 0 };
            self.push(Action::Compute(job));
        } else {
            self.close_round(now);
        }
    }

    /// All states of the round's end are here: averages them, or goes on with each.
    fn close_round(&mut self, now: Duration) {
        if !self.settings.aggregates(self.round) {
            self.start_round(now, self.round + 1);
            return;
        }
        let layers = self.settings.spec.len();
        let mut weights = Vec::new();
        let mut parts = Vec::new();
        for (name, member) in self.fleet.iter_mut().filter(|(_, member)| !member.out) {
            let weight = member.request.samples as f64 * member.steps_done as f64;
            weights.push((name.clone(), weight));
            let Some(round) = member.round.as_mut() else { continue };
            if let Some(upload) = round.upload.take() {
                parts.push((weight, upload, round.exported.take()));
            } else if let Some(whole) = round.exported.take() {
                debug_assert_eq!(whole.layers, 0..layers);
                parts.push((weight, whole, None));
            }
        }
        if let Some(shared) = self.shared_end.take() {
            parts = vec![(1.0, shared, None)];
        }
        let aggregation = self.aggregations + 1;
        self.emit(now, EventKind::Aggregated { round: self.round + 1, aggregation, weights });
        let reset_moments = self.settings.reset_moments;
        self.push(Action::Compute(Job::Aggregate { round: self.round, parts, reset_moments }));
    }

    pub(super) fn handle_aggregated(&mut self, now: Duration, round: u32, state: LayerState) {
        if !matches!(self.phase, Phase::Aggregate) || round != self.round {
            return;
        }
        self.aggregations += 1;
        self.global = Arc::new(state);
        self.global_rounds = round + 1;
        let last = self.global_rounds >= self.settings.max_rounds;
        if let Some(standardizer) = self.standardizer.clone() {
            self.push(Action::Compute(Job::Evaluate { round, state: self.global.clone(), standardizer }));
        }
        if last || self.global_rounds.is_multiple_of(self.settings.checkpoint_every) {
            self.emit(now, EventKind::Checkpointed { round: self.global_rounds });
            self.push(Action::Checkpoint(Checkpoint {
                rounds: self.global_rounds,
                aggregations: self.aggregations,
                state: self.global.clone(),
                accuracy: None,
            }));
        }
        if last {
            self.phase = Phase::LastEvaluation;
        } else {
            self.start_round(now, round + 1);
        }
    }

    pub(super) fn handle_evaluated(
        &mut self,
        now: Duration,
        round: u32,
        accuracy: f64,
        loss: f64,
        samples: u64,
    ) {
        self.emit(now, EventKind::Evaluated { round: round + 1, accuracy, loss, samples });
        // A slow evaluation may end after the next aggregation: the target counts for its own model only.
        if round + 1 != self.global_rounds {
            return;
        }
        match self.settings.target_accuracy {
            Some(target) if accuracy >= target => {
                let reason = format!("the accuracy target was met: {accuracy:.4} >= {target}");
                self.finish(now, reason, true);
            }
            _ if matches!(self.phase, Phase::LastEvaluation) => {
                let reason = match self.settings.target_accuracy {
                    Some(target) => {
                        format!("max_rounds were done at accuracy {accuracy:.4}, target {target}")
                    }
                    None => format!("max_rounds were done at accuracy {accuracy:.4}"),
                };
                self.finish(now, reason, false);
            }
            _ => {}
        }
    }
}
