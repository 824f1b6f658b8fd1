//! The steps of a round: activations in, turns, cut gradients out, and what edges report of them.
//!
//! Where the labels stay on the edge (a U-shaped split, Vepakomma et al. 2018, arXiv 1812.00564) a step
//! passes through the cloud twice: activations in, activations out; gradient in, cut gradient out.

use std::time::Duration;

use super::action::{Action, Job, Replica, StepJob, StepPart};
use super::member::{Arrived, InService, MemberRound};
use super::settings::Topology;
use super::{Coordinator, Received};
use crate::event::{EventKind, TermsMs};
use crate::micro_batch::MicroBatch;
use crate::wire::{StepReport, TensorHeader, TensorKind, TensorMessage};

impl Coordinator {
    /// The activations of a step, or the gradient of those before the edge's last layers.
    pub(super) fn handle_activations(
        &mut self,
        now: Duration,
        edge: &str,
        tensor: TensorMessage,
        received: Received,
    ) {
        let header = tensor.header;
        let end = self.settings.cloud_end();
        if !self.is_current(edge, header.round, header.attempt) {
            return;
        }
        let Some(part) = self.part_of(&header) else {
            let reason = match header.kind {
                TensorKind::Activations => "it sent labels, which stay on the edges in this run",
                _ => "it sent a gradient where the cloud has the labels",
            };
            self.refuse_edge(now, edge, reason);
            return;
        };
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        let micro_batch = u32::from(header.micro_batch);
        let place = (header.step, part == StepPart::Backward, micro_batch);
        let next = (round.next_step, round.passed, round.next_micro_batch);
        if place < next {
            // A replay after a lost connection: answered, not trained again. An older one is a late copy.
            let answer =
                if part == StepPart::Forward { TensorKind::TailActivations } else { TensorKind::CutGradient };
            let answers = |reply: &&TensorMessage| {
                let of = reply.header;
                (of.step, of.kind, of.micro_batch) == (header.step, answer, header.micro_batch)
            };
            if let Some(reply) = round.replies.iter().find(answers).cloned() {
                self.send_tensor(edge, reply);
            }
        } else if round.is_trained(end)
            || header.step > round.next_step
            || (part == StepPart::Backward && !round.has_passed(micro_batch))
            || micro_batch >= round.plan.in_flight
        {
            let reason = format!(
                "it sent step {} of round {}, where {} of {} steps were served at cut {}",
                u64::from(header.step) + 1,
                header.round + 1,
                round.next_step,
                round.plan.steps,
                round.cut(),
            );
            self.refuse_edge(now, edge, &reason);
        } else if place > next || round.in_service.is_none() {
            // A copy of one that waits does not take its place.
            let place = (place.1, micro_batch);
            round.arrived.entry(place).or_insert(Arrived { part, tensor, at: now, received });
            self.serve(now, edge);
        }
    }

    /// What the cloud does with a tensor of a step; `None` if it is of another kind of training.
    fn part_of(&self, header: &TensorHeader) -> Option<StepPart> {
        let labels_stay = self.settings.tail.is_some();
        match header.kind {
            TensorKind::Activations if !labels_stay => Some(StepPart::Whole),
            TensorKind::Activations if header.labels == 0 => Some(StepPart::Forward),
            TensorKind::TailGradient if labels_stay => Some(StepPart::Backward),
            _ => None,
        }
    }

    /// Hands the edge's next tensor to its replica, if it is there and it is its turn.
    pub(super) fn serve(&mut self, now: Duration, edge: &str) {
        let shared = self.settings.topology == Topology::Shared;
        let turn = if shared { self.step_turn().filter(|turn| turn.edge == edge).cloned() } else { None };
        if shared && turn.is_none() {
            return;
        }
        let settings = &self.settings;
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if round.in_service.is_some() || (round.start.is_none() && !shared) {
            return;
        }
        let (step, index) = (round.next_step, round.next_micro_batch);
        let arrived = round.arrived.remove(&(round.passed, index));
        let Some(Arrived { part, tensor, at, received }) = arrived else { return };
        let micro_batch = MicroBatch { index, of: round.plan.in_flight };
        // What waits behind the edge's own micro-batches waits for neither a turn nor a worker.
        let is_first = index == 0 && !round.passed;
        let free_at = if is_first { at } else { at.max(round.replied_at) };
        let turn_s = if shared { now.saturating_sub(free_at).as_secs_f64() } else { 0.0 };
        let since = if shared { now } else { free_at };
        round.in_service = Some(InService { since, turn_s, received, bytes_up: tensor.wire_bytes() });
        let plan = round.plan;
        let job = StepJob {
            part,
            replica: if shared { Replica::Shared } else { Replica::Of(edge.to_owned()) },
            edge: edge.to_owned(),
            round: plan.round,
            attempt: plan.attempt,
            step,
            micro_batch,
            global_step: u64::from(plan.round) * u64::from(settings.steps_per_round) + u64::from(step),
            optimizer_step: match turn {
                Some(turn) => self.model_steps + u64::from(step) * turn.edges + turn.rank + 1,
                None => plan.optimizer_steps + u64::from(step) + 1,
            },
            tensor,
            activations: settings.activations,
            gradients: settings.gradients,
        };
        self.push(Action::Compute(Job::Step(job)));
    }

    /// A micro-batch of a step has gone forward and back through the layers up to the last.
    pub(super) fn handle_stepped(
        &mut self,
        now: Duration,
        edge: &str,
        (step, micro_batch): (u32, MicroBatch),
        reply: TensorMessage,
        (loss, correct): (f32, u32),
        seconds: f64,
    ) {
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        let at = (round.next_step, MicroBatch { index: round.next_micro_batch, of: round.plan.in_flight });
        if (step, micro_batch) != at || !served(round, now, &reply, seconds) {
            return;
        }
        // The means of equal parts.
        let served = &mut round.served[step as usize];
        served.loss += loss / micro_batch.of as f32;
        served.correct += correct;
        let is_done = micro_batch.is_last();
        round.next_micro_batch = if is_done { 0 } else { micro_batch.index + 1 };
        round.next_step += u32::from(is_done);
        let (predicted, service_s) = (round.prediction.cloud, served.service_s);
        let is_cold = round.is_cold(step);
        if is_done && !is_cold {
            self.forecast.observe_cloud(predicted, service_s);
        }
        self.send_tensor(edge, reply);
        match self.settings.topology {
            Topology::Shared => {
                if is_done {
                    self.pass_step_turn();
                }
                if let Some(next) = self.step_turn().map(|turn| turn.edge.clone()) {
                    self.serve(now, &next);
                }
            }
            Topology::ReplicaPerEdge | Topology::HandedOn => self.serve(now, edge),
        }
        self.end_member_round(now, edge);
    }

    /// A micro-batch of a step has gone forward or back through the layers between the edge's.
    pub(super) fn handle_passed(
        &mut self,
        now: Duration,
        edge: &str,
        (step, micro_batch): (u32, MicroBatch),
        reply: TensorMessage,
        seconds: f64,
    ) {
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        let is_back = reply.header.kind == TensorKind::CutGradient;
        let place = (round.next_step, round.passed, round.next_micro_batch);
        if (step, is_back, micro_batch.index) != place || !served(round, now, &reply, seconds) {
            return;
        }
        let is_done = is_back && micro_batch.is_last();
        // All go forward before the first goes back, as the edge sends them.
        round.passed = (is_back || micro_batch.is_last()) && !is_done;
        round.next_micro_batch = if micro_batch.is_last() { 0 } else { micro_batch.index + 1 };
        round.next_step += u32::from(is_done);
        let (predicted, service_s) = (round.prediction.cloud, round.served[step as usize].service_s);
        let is_cold = round.is_cold(step);
        self.send_tensor(edge, reply);
        if is_done && !is_cold {
            self.forecast.observe_cloud(predicted, service_s);
        }
        self.serve(now, edge);
        self.end_member_round(now, edge);
    }

    /// A step's activations cannot be trained on.
    pub(super) fn handle_rejected(&mut self, now: Duration, edge: &str, reason: &str) {
        if let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) {
            round.in_service = None;
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
        if !report.is_sound() {
            self.refuse_edge(now, edge, "it reported times or a loss that are negative or not finite");
            return;
        }
        if self.settings.tail.is_some() && report.local.is_none() {
            self.refuse_edge(now, edge, "it reported no loss, which it alone knows where the labels stay");
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
        let (plan, is_cold) = (member.plan, member.is_cold(report.step));
        // Waiting for the turn is the algorithm's, not the device's, the link's or the cloud's.
        let latency_s = (report.latency_s - served.turn_s).max(0.0);
        let is_local = plan.cut as usize == self.settings.cloud_end();
        if let Some(transfer) = report.downlink {
            if is_local {
                self.forecast.observe_downlink_probe(edge, transfer);
            } else {
                self.forecast.observe_downlink(edge, transfer);
            }
        }
        if is_local {
            self.probe_downlink(now, edge, report.step);
        }
        let wait_s = served.residence_s - served.service_s;
        if !is_cold {
            self.forecast.observe_step(edge, &prediction, &report, latency_s, wait_s);
        }
        let predicted = prediction.terms_ms;
        let (uplink, downlink) = if plan.in_flight > 1 && !is_local {
            // They overlap everything else: no rest of the latency is theirs.
            let down_s = report.downlink.map_or(0.0, |transfer| transfer.seconds);
            let round_trips = if self.settings.tail.is_some() { 2.0 } else { 1.0 };
            let way_s = round_trips * served.rtt_s / 2.0;
            ((served.uplink_s + way_s) * 1e3, (down_s + way_s) * 1e3)
        } else {
            let network_ms =
                (latency_s - report.forward_s - report.backward_s - served.residence_s).max(0.0) * 1e3;
            let network_predicted = predicted.uplink + predicted.downlink;
            let up_share = if network_predicted > 0.0 { predicted.uplink / network_predicted } else { 0.0 };
            (network_ms * up_share, network_ms * (1.0 - up_share))
        };
        self.emit(
            now,
            EventKind::Step {
                round: round + 1,
                attempt,
                edge: edge.to_owned(),
                step: report.step + 1,
                cut: plan.cut,
                latency_ms: latency_s * 1e3,
                predicted_ms: prediction.step_ms,
                deadline_ms: plan.deadline_s * 1e3,
                terms_ms: TermsMs {
                    edge_forward: report.forward_s * 1e3,
                    uplink,
                    cloud: served.residence_s * 1e3,
                    downlink,
                    edge_backward: report.backward_s * 1e3,
                },
                loss: served.loss,
                correct: served.correct,
                bytes_up: served.bytes_up,
                bytes_down: served.bytes_down,
            },
        );
    }
}

/// Takes a tensor that was served into account; false if none was in service.
fn served(round: &mut MemberRound, now: Duration, reply: &TensorMessage, seconds: f64) -> bool {
    let Some(InService { since, turn_s, received, bytes_up }) = round.in_service.take() else { return false };
    let served = &mut round.served[round.next_step as usize];
    served.turn_s += turn_s;
    served.residence_s += now.saturating_sub(since).as_secs_f64();
    served.service_s += seconds;
    served.uplink_s += received.seconds;
    served.rtt_s = received.rtt_s;
    served.bytes_up += bytes_up;
    served.bytes_down += reply.wire_bytes();
    round.keep_reply(now, reply.clone());
    true
}
