//! A round: its start under a new plan, the layers that move, its end.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Job, Replica};
use super::member::{Member, MemberRound, Slice};
use super::settings::Topology;
use super::{Coordinator, Phase};
use crate::event::EventKind;
use crate::model::LayerState;
use crate::wire::{CloudMessage, RoundPlan, StartFrom, TensorMessage, decode_state};

impl Coordinator {
    /// Plans round `round` and starts it for every edge that takes part.
    pub(super) fn start_round(&mut self, now: Duration, round: u32) {
        let is_again = matches!(self.phase, Phase::Train { .. });
        let fresh = round == self.global_rounds;
        if fresh && !is_again {
            // Not before: whoever is behind owes no evaluation.
            self.drop_the_stale(now);
            if matches!(self.phase, Phase::Ended) {
                return;
            }
        }
        self.round = round;
        self.phase = Phase::Train { since: now };
        self.forget_step_turn();
        if fresh {
            self.start_from_global(now, is_again);
        }
        self.rejoin(now);
        let end = self.settings.cloud_end();
        let shared_end = self.shared_end.take().filter(|_| !fresh);
        // Between aggregations the client-side models differ: none of their layers fits the shared model.
        let held_cut = shared_end.as_ref().map(|end| end.layers.start);
        let names = self.those_who_take_part();
        let planned = match self.forecast.plan(&self.settings, &self.fleet, round, held_cut, fresh) {
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
        if self.settings.topology == Topology::Shared {
            let common_cut = planned.predictions.first().map_or(0, |prediction| prediction.cut);
            let state = shared_end.map_or_else(|| self.global.clone(), Arc::new);
            self.shared_start = Some(Slice { state, layers: common_cut..end });
            self.place_shared();
        }
        let turns = self.settings.topology == Topology::HandedOn;
        for (edge, prediction) in names.into_iter().zip(planned.predictions) {
            let Some(member) = self.fleet.get_mut(&edge) else { continue };
            let optimizer_steps = self.optimizer_steps + member.steps_done;
            let before = member.round.take();
            let cut = prediction.cut;
            let start = match &before {
                None if self.global_rounds == 0 && self.is_seeded => StartFrom::Initial,
                // Without layers of its own an edge has nothing to go on from, and nothing to lose.
                Some(before) if !fresh && !turns && (before.cut() > 0 || self.settings.tail.is_some()) => {
                    StartFrom::Own { upload_moved: cut < before.cut() }
                }
                _ => StartFrom::Cloud,
            };
            let plan = RoundPlan {
                round,
                attempt: 0,
                cut: cut as u32,
                steps: self.settings.steps_per_round,
                optimizer_steps,
                start,
                // A model that is handed on goes through the cloud.
                aggregate: turns || self.settings.aggregates(round),
                activations: self.settings.activations,
                gradients: self.settings.gradients,
                in_flight: self.settings.in_flight,
                pace: prediction.pace_up,
                deadline_s: planned.deadline_s,
                probe_bytes: prediction.probe_bytes.0,
            };
            let mut next = MemberRound::new(plan, prediction);
            if turns {
                member.round = Some(next);
                continue;
            }
            let ended = before.filter(|_| !fresh).and_then(|before| Some((before.cut(), before.exported?)));
            next.lay_out(&self.settings, &self.global, ended);
            member.round = Some(next);
            if std::mem::take(&mut member.came_back) {
                let resume = member.request.resume;
                let recovery = self.restart_round(&edge, resume);
                self.emit_resumed(now, &edge, recovery);
            }
            self.begin_attempt(now, &edge);
        }
        if turns {
            self.begin_turns(now, fresh);
        }
    }

    fn those_who_take_part(&self) -> Vec<String> {
        let part = self.fleet.iter().filter(|(_, member)| member.takes_part());
        part.map(|(name, _)| name.clone()).collect()
    }

    /// Optimizer steps behind the moments of what an edge trains alone, before its first of a round, if it was in
    /// all rounds since the last aggregation.
    pub(super) fn replica_steps(&self, round: u32) -> u64 {
        let rounds = round.saturating_sub(self.global_rounds);
        self.optimizer_steps + u64::from(rounds) * u64::from(self.settings.steps_per_round)
    }

    /// Places the replica and sends the plan, with the layers that come with it. An edge that is not
    /// ready gets them, as another attempt, once it says that it is.
    pub(super) fn begin_attempt(&mut self, now: Duration, edge: &str) {
        self.place(edge);
        let Some(member) = self.fleet.get_mut(edge) else { return };
        let Some(round) = member.round.as_mut() else { return };
        // Whoever is not ready in time is late, too.
        round.begun_at = Some(now);
        let (plan, is_ready) = (round.plan, member.ready);
        self.expect_in_time(edge);
        if !is_ready {
            return;
        }
        self.send(edge, CloudMessage::Round(plan));
        self.send_blocks(now, edge);
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
            self.push(Action::Compute(Job::Place { replica, state, layers }));
        }
    }

    pub(super) fn place_shared(&mut self) {
        if let Some(Slice { state, layers }) = self.shared_start.clone() {
            let job = Job::Place { replica: Replica::Shared, state, layers };
            self.push(Action::Compute(job));
        }
    }

    /// Whether a message is of the attempt that the edge is in.
    pub(super) fn is_current(&self, edge: &str, round: u32, attempt: u32) -> bool {
        self.is_at_turn(edge)
            && self
                .fleet
                .get(edge)
                .filter(|member| !member.out && self.is_open(member))
                .and_then(|member| member.round.as_ref())
                .is_some_and(|at| at.plan.round == round && at.plan.attempt == attempt)
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
        let (end, moments) = (self.settings.cloud_end(), self.settings.moments());
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if !round.is_trained(end) {
            let reason =
                format!("it ended its round after {} of {} steps", round.next_step, round.plan.steps);
            self.refuse_edge(now, edge, &reason);
            return;
        }
        round.done = true;
        if round.cut() == end {
            // Local training: the cloud's half is without layers, but a shallower cut appends to it.
            round.exported = Some(LayerState { layers: end..end, moments, values: Vec::new() });
        }
        self.end_member_round(now, edge);
    }

    /// Layers came from an edge: those that a shallower cut moves, or all it has for an aggregation.
    pub(super) fn handle_state(&mut self, now: Duration, edge: &str, tensor: TensorMessage) {
        let header = tensor.header;
        if !self.is_current(edge, header.round, header.attempt) {
            return;
        }
        let bytes = tensor.wire_bytes();
        let state = match decode_state(&self.settings.spec, self.settings.moments(), tensor) {
            Ok(state) if !state.is_finite() => {
                self.refuse_edge(now, edge, &diverged(header.round));
                return;
            }
            Ok(state) if !state.keeps_frozen(&self.settings.spec, &self.global) => {
                let reason = format!(
                    "its layers {:?} are not those that it was given, of which the first {} are frozen",
                    state.layers, self.settings.spec.frozen
                );
                self.refuse_edge(now, edge, &reason);
                return;
            }
            Ok(state) => state,
            Err(error) => {
                self.refuse_edge(now, edge, &error.to_string());
                return;
            }
        };
        self.emit_state_moved(now, edge, header.round, bytes, "up");
        let (layers, end, tail) = (self.settings.spec.len(), self.settings.cloud_end(), self.settings.tail);
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if header.step == 0 {
            match round.moved.take() {
                Some((range, rest)) if range == state.layers => {
                    let mut whole = state;
                    whole.append(Arc::unwrap_or_clone(rest));
                    round.start = Some(Slice { state: Arc::new(whole), layers: range.start..end });
                    self.place(edge);
                    self.serve(now, edge);
                }
                // Sent again after a lost connection.
                None => {}
                Some((range, rest)) => {
                    let reason = format!("it sent layers {:?} where {range:?} were due", state.layers);
                    round.moved = Some((range, rest));
                    self.refuse_edge(now, edge, &reason);
                }
            }
        } else if round.plan.aggregate && state.layers == (0..round.cut()) {
            round.upload = Some(state);
            self.end_member_round(now, edge);
        } else if round.plan.aggregate && tail.is_some_and(|tail| state.layers == (tail..layers)) {
            round.tail = Some(state);
            self.end_member_round(now, edge);
        } else {
            let reason = format!(
                "it sent layers {:?} after step {} of round {}, its cut is {}",
                state.layers,
                header.step,
                header.round + 1,
                round.cut()
            );
            self.refuse_edge(now, edge, &reason);
        }
    }

    /// Asks for the replica's state once the edge has done the round, then sees whether all have.
    pub(super) fn end_member_round(&mut self, now: Duration, edge: &str) {
        let shared = self.settings.topology == Topology::Shared;
        let end = self.settings.cloud_end();
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        if !shared && !round.export_asked && round.next_step == round.plan.steps && round.cut() < end {
            round.export_asked = true;
            let (number, attempt) = (round.plan.round, round.plan.attempt);
            let replica = Replica::Of(edge.to_owned());
            self.push(Action::Compute(Job::Export { replica, round: number, attempt }));
        }
        self.catch_up(now, edge);
        let round = self.fleet.get(edge).and_then(|member| member.round.as_ref());
        if round.is_none_or(|round| self.is_complete(round)) {
            self.end_round_when_complete(now);
        }
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
                let is_finite = state.is_finite();
                if let Some(at) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) {
                    // If the edge comes back with the end of its round, it is told again.
                    at.export_asked = is_finite;
                    at.exported = Some(state).filter(|_| is_finite);
                }
                if !is_finite {
                    self.refuse_edge(now, edge, &diverged(round));
                    return;
                }
                self.catch_up(now, edge);
                self.end_round_when_complete(now);
            }
            // A second one would average models that the first has already taken.
            Replica::Shared
                if matches!(self.phase, Phase::Aggregate { .. })
                    && round == self.round
                    && self.shared_end.is_none() =>
            {
                if !state.is_finite() {
                    self.abort(now, format!("the edges' shared model has diverged: {}", diverged(round)));
                    return;
                }
                self.shared_end = Some(state);
                self.close_round(now);
            }
            _ => {}
        }
    }

    /// Whether an edge has nothing left to do or to send in this round.
    pub(super) fn is_complete(&self, round: &MemberRound) -> bool {
        let shared = self.settings.topology == Topology::Shared;
        round.handed_on
            || round.done
                && (shared || round.exported.is_some())
                && (!round.plan.aggregate
                    || ((round.cut() == 0 || round.upload.is_some())
                        && (self.settings.tail.is_none() || round.tail.is_some())))
    }

    /// The barrier: goes on once every edge that takes part is complete.
    pub(super) fn end_round_when_complete(&mut self, now: Duration) {
        self.go_on_without_the_late(now);
        if !matches!(self.phase, Phase::Train { .. }) {
            return;
        }
        let complete = |round: &MemberRound| self.is_complete(round);
        let awaited = self.find_awaited(|name, member| {
            member.takes_part() && self.is_at_turn(name) && !member.round.as_ref().is_some_and(complete)
        });
        if self.waits_for(awaited) {
            return;
        }
        if self.settings.topology == Topology::HandedOn {
            self.hand_on(now);
        } else if !self.fleet.values().any(Member::takes_part) {
            self.start_again_with_others(now);
        } else if self.has_quorum() {
            self.end_round(now);
        }
    }

    /// Every edge has done its part of the round.
    pub(super) fn end_round(&mut self, now: Duration) {
        let Phase::Train { since } = self.phase else { return };
        let seconds = now.saturating_sub(since).as_secs_f64();
        self.emit(now, EventKind::RoundDone { round: self.round + 1, seconds });
        let (topology, steps) = (self.settings.topology, u64::from(self.settings.steps_per_round));
        // Those of a turn were counted at its end.
        if topology != Topology::HandedOn {
            for member in self.fleet.values_mut().filter(|member| member.takes_part()) {
                member.steps_done += steps;
            }
        }
        self.phase = Phase::Aggregate { weights: Vec::new() };
        if topology == Topology::Shared {
            self.model_steps += steps * self.fleet.values().filter(|member| !member.out).count() as u64;
            let job = Job::Export { replica: Replica::Shared, round: self.round, attempt: 0 };
            self.push(Action::Compute(job));
        } else {
            self.close_round(now);
        }
    }
}

/// What to tell an edge whose model is of no use any more.
fn diverged(round: u32) -> String {
    format!("round {}: its weights are not finite; a lower training.optimizer.lr may help", round + 1)
}
