//! The steps of a round: activations in, turns, cut gradients out, and what edges report of them.
//!
//! Where the labels stay on the edge (a U-shaped split, Vepakomma et al. 2018, arXiv 1812.00564) a step
//! passes through the cloud twice: activations in, activations out; gradient in, cut gradient out.

use std::time::Duration;

use super::Coordinator;
use super::action::{Action, Job, Replica, StepJob, StepPart};
use super::member::{Arrived, Served};
use super::settings::Topology;
use crate::event::{EventKind, TermsMs};
use crate::wire::{StepReport, TensorHeader, TensorKind, TensorMessage};

impl Coordinator {
    /// The activations of a step, or the gradient of those before the edge's last layers.
    pub(super) fn handle_activations(&mut self, now: Duration, edge: &str, tensor: TensorMessage) {
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
        let (place, next) = ((header.step, part == StepPart::Backward), (round.next_step, round.passed));
        if place < next {
            // A replay after a lost connection: answered, not trained again. An older one is a late copy.
            let answer =
                if part == StepPart::Forward { TensorKind::TailActivations } else { TensorKind::CutGradient };
            if let Some(reply) = &round.reply
                && (reply.header.step, reply.header.kind) == (header.step, answer)
            {
                let reply = reply.clone();
                self.send_tensor(edge, reply);
            }
        } else if round.is_trained(end) || place > next {
            let reason = format!(
                "it sent step {} of round {}, where {} of {} steps were served at cut {}",
                u64::from(header.step) + 1,
                header.round + 1,
                round.next_step,
                round.plan.steps,
                round.cut(),
            );
            self.refuse_edge(now, edge, &reason);
        } else if !round.in_service {
            round.arrived = Some(Arrived { part, tensor, at: now });
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

    /// Hands the edge's waiting tensor to its replica, if it is its turn.
    pub(super) fn serve(&mut self, now: Duration, edge: &str) {
        let shared = self.settings.topology == Topology::Shared;
        if shared && self.turn().as_deref() != Some(edge) {
            return;
        }
        let active = || self.fleet.iter().filter(|(_, member)| !member.out);
        let (edges, rank) =
            (active().count() as u64, active().take_while(|(name, _)| *name != edge).count() as u64);
        let settings = &self.settings;
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if round.in_service || (round.start.is_none() && !shared) {
            return;
        }
        let Some(Arrived { part, tensor, at }) = round.arrived.take() else { return };
        let step = round.next_step;
        round.in_service = true;
        let served = &mut round.served[step as usize];
        if shared {
            served.turn_s = now.saturating_sub(at).as_secs_f64();
        }
        served.residence_s -= at.as_secs_f64() + served.turn_s;
        served.bytes_up += tensor.wire_bytes();
        let plan = round.plan;
        let job = StepJob {
            part,
            replica: if shared { Replica::Shared } else { Replica::Of(edge.to_owned()) },
            edge: edge.to_owned(),
            round: plan.round,
            attempt: plan.attempt,
            step,
            global_step: u64::from(plan.round) * u64::from(settings.steps_per_round) + u64::from(step),
            optimizer_step: if shared {
                self.model_steps + u64::from(step) * edges + rank + 1
            } else {
                plan.optimizer_steps + u64::from(step) + 1
            },
            tensor,
            activations: settings.activations,
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
        if step != round.next_step || !round.in_service {
            return;
        }
        round.in_service = false;
        round.next_step += 1;
        let served = &mut round.served[step as usize];
        *served = Served {
            loss,
            correct,
            residence_s: served.residence_s + now.as_secs_f64(),
            service_s: seconds,
            bytes_down: reply.wire_bytes(),
            ..*served
        };
        round.reply = Some(reply.clone());
        let (predicted, is_cold) = (round.prediction.cloud_service_s, round.is_cold(step));
        if !is_cold {
            self.forecast.observe_cloud(predicted, seconds);
        }
        self.send_tensor(edge, reply);
        if self.settings.topology == Topology::Shared
            && let Some(next) = self.turn()
        {
            self.serve(now, &next);
        }
        self.end_member_round(now, edge);
    }

    /// A step has gone forward or back through the layers between the edge's.
    pub(super) fn handle_passed(
        &mut self,
        now: Duration,
        edge: &str,
        step: u32,
        reply: TensorMessage,
        seconds: f64,
    ) {
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        let is_back = reply.header.kind == TensorKind::CutGradient;
        if (step, is_back) != (round.next_step, round.passed) || !round.in_service {
            return;
        }
        round.in_service = false;
        round.passed = !is_back;
        round.next_step += u32::from(is_back);
        let served = &mut round.served[step as usize];
        served.residence_s += now.as_secs_f64();
        served.service_s += seconds;
        served.bytes_down += reply.wire_bytes();
        round.reply = Some(reply.clone());
        let (predicted, service_s) = (round.prediction.cloud_service_s, served.service_s);
        let is_cold = round.is_cold(step);
        self.send_tensor(edge, reply);
        if is_back {
            if !is_cold {
                self.forecast.observe_cloud(predicted, service_s);
            }
            self.end_member_round(now, edge);
        }
    }

    /// A step's activations cannot be trained on.
    pub(super) fn handle_rejected(&mut self, now: Duration, edge: &str, reason: &str) {
        if let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) {
            round.in_service = false;
            // If it is served again, then as if for the first time.
            if let Some(served) = round.served.get_mut(round.next_step as usize) {
                *served = Served::default();
            }
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
        if let Some(transfer) = report.downlink {
            self.forecast.observe_downlink(edge, transfer);
        }
        let wait_s = served.residence_s - served.service_s;
        if !is_cold {
            self.forecast.observe_step(edge, &prediction, &report, latency_s, wait_s);
        }
        let predicted = prediction.terms_ms;
        let network_ms =
            (latency_s - report.forward_s - report.backward_s - served.residence_s).max(0.0) * 1e3;
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
                latency_ms: latency_s * 1e3,
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
}
