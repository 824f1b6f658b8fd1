//! Lost connections, crashed edges, edges that stay away.
//!
//! The start of a round is the consistency point. An edge holds the end of its last round durably
//! before it says so; the cloud keeps the replica as of the round's start, and what it sent with it.

use std::time::Duration;

use super::action::ConnectionId;
use super::member::{MemberRound, Slice};
use super::settings::{Topology, session_of};
use super::{Coordinator, Phase};
use crate::event::{EventKind, Recovery};
use crate::wire::{CloudMessage, ResumePoint, RoundPlan, StartFrom, TrainingRequest};

/// Of how many edges the end of a run says why they are missing; the events tell of all.
const MOST_STORIES: usize = 16;

impl Coordinator {
    pub(super) fn handle_lost(&mut self, now: Duration, edge: &str, connection: ConnectionId) {
        let Some(member) = self.fleet.get_mut(edge) else { return };
        if member.connection != Some(connection) {
            return;
        }
        member.connection = None;
        member.lost_at = Some(now);
        let out = member.out;
        self.expires_at(now + self.settings.rejoin_window);
        if matches!(self.phase, Phase::Gather) {
            self.fleet.remove(edge);
            self.forecast.forget(edge);
        }
        if !out {
            self.emit(now, EventKind::EdgeLost { round: self.round + 1, edge: edge.to_owned() });
        }
        self.end_edge_evaluation(now);
    }

    /// A known edge asks again: after a lost connection, or after a restart of its process.
    pub(super) fn handle_return(&mut self, now: Duration, from: ConnectionId, request: TrainingRequest) {
        let name = request.name.clone();
        let session = session_of(self.settings.session, &name);
        let ours = request.resume.filter(|resume| resume.session == session);
        let Some(member) = self.fleet.get_mut(&name) else { return };
        if member.connection.is_some() && ours.is_none() {
            // Either somebody else's name, or this edge's own connection that is not known to be lost.
            let reason =
                format!("an edge named `{name}` is connected already; every edge needs a name of its own");
            self.put_off_connection(now, from, &reason);
            return;
        }
        if (member.request.samples, &member.request.labels) != (request.samples, &request.labels) {
            let reason = format!(
                "edge `{name}` came back with {} samples instead of {}: it must keep its shard for the whole run",
                request.samples, member.request.samples
            );
            self.refuse_connection(now, from, &reason);
            return;
        }
        let prepared = ours.is_some_and(|resume| resume.prepared);
        self.forecast.limit_memory(&name, request.memory_limit);
        member.request = TrainingRequest { resume: ours, ..request };
        member.ready &= prepared;
        self.attach(now, &name, from);
        if matches!(self.phase, Phase::Gather) {
            return;
        }
        let ready = self.fleet.get(&name).is_some_and(|member| member.ready);
        if ready {
            self.take_back(now, &name);
        } else {
            self.send_assignment(&name);
        }
    }

    /// Goes on with an edge that is ready again.
    pub(super) fn take_back(&mut self, now: Duration, edge: &str) {
        self.ask_for_evaluation(now, edge);
        let Some(member) = self.fleet.get(edge) else { return };
        let resume = member.request.resume;
        if member.out {
            // It takes part again from the next aggregation on.
            return;
        }
        let (current, end, is_behind) = (self.round, self.settings.cloud_end(), member.is_behind());
        if member.deferral.is_some() && !is_behind {
            // Everybody else may have gone in the meantime.
            self.end_round_when_complete(now);
            return;
        }
        let of_now = |round: &&MemberRound| is_behind || round.plan.round == current;
        let Some(round) = member.round.as_ref().filter(of_now) else { return };
        let plan = round.plan;
        // Preparing ends whatever round the process was in.
        let live = resume.filter(|resume| resume.prepared).and_then(|resume| resume.live);
        let completed = resume.and_then(|resume| resume.completed);
        let is_there = live == Some((plan.round, plan.attempt));
        let has_ended = completed == Some((plan.round, plan.attempt)) && round.is_trained(end);
        // What is about to be aggregated needs nothing more of the edge, whatever it has lost.
        let is_over = plan.aggregate && self.is_complete(round);
        if matches!(self.phase, Phase::Train { .. }) && !self.is_at_turn(edge) {
            // It has handed its model on, or gets one when its turn comes.
            self.emit_resumed(now, edge, Recovery::Connection);
            return;
        }
        if is_there || has_ended || is_over {
            let may_lack_layers = !round.has_begun();
            self.send(edge, CloudMessage::Resumed);
            self.emit_resumed(now, edge, Recovery::Connection);
            if may_lack_layers {
                self.send_blocks(now, edge);
            }
            self.ask_for_model(edge);
            return;
        }
        if !matches!(self.phase, Phase::Train { .. }) && !is_behind {
            if let Some(member) = self.fleet.get_mut(edge) {
                member.came_back = true;
            }
            return;
        }
        let recovery = self.restart_round(edge, resume);
        if is_behind && recovery == Recovery::StateLost {
            self.give_up_behind(now, edge);
            return;
        }
        self.emit_resumed(now, edge, recovery);
        if self.settings.topology == Topology::Shared {
            self.restart_everyone(now);
        } else {
            self.begin_attempt(now, edge);
        }
    }

    pub(super) fn emit_resumed(&mut self, now: Duration, edge: &str, how: Recovery) {
        let behind = self.fleet.get(edge).filter(|member| member.is_behind());
        let own = behind.and_then(|member| member.round.as_ref()).map(|round| round.plan.round);
        let round = own.unwrap_or(self.round) + 1;
        self.emit(now, EventKind::EdgeResumed { round, edge: edge.to_owned(), how });
    }

    /// Sets the edge's round back to its start, or to the global model if the edge has lost its state.
    pub(super) fn restart_round(&mut self, edge: &str, resume: Option<ResumePoint>) -> Recovery {
        let end = self.settings.cloud_end();
        let global = self.global.clone();
        let first = self.global_rounds == 0 && self.is_seeded;
        let Some(member) = self.fleet.get_mut(edge) else { return Recovery::StateLost };
        let Some(before) = member.round.take() else { return Recovery::StateLost };
        let completed = resume.and_then(|resume| resume.completed);
        let mut again = before.again();
        let plan = again.plan;
        let recoverable = match plan.start {
            StartFrom::Initial | StartFrom::Cloud => true,
            StartFrom::Own { .. } => {
                // An edge that has ended this round in an earlier attempt still has the one before.
                completed
                    .is_some_and(|(round, _)| round == plan.round || round.checked_add(1) == Some(plan.round))
            }
        };
        if recoverable {
            if let StartFrom::Own { .. } = plan.start {
                let upload_moved = again.moved.is_some();
                again.plan = RoundPlan { start: StartFrom::Own { upload_moved }, ..plan };
            }
            member.round = Some(again);
            return Recovery::RolledBack;
        }
        let cut = again.cut();
        let start = if first { StartFrom::Initial } else { StartFrom::Cloud };
        let plan = RoundPlan { start, optimizer_steps: self.optimizer_steps, ..plan };
        let mut anew = MemberRound::new(plan, again.prediction);
        if start == StartFrom::Cloud {
            anew.blocks = self.settings.edge_blocks(&global, cut);
        }
        anew.start = Some(Slice { state: global, layers: cut..end });
        member.round = Some(anew);
        // What it did since the last aggregation is gone, and must not count.
        member.steps_done = 0;
        Recovery::StateLost
    }

    /// With one shared model a lost step is everyone's: the whole round starts again.
    fn restart_everyone(&mut self, now: Duration) {
        self.place_shared();
        self.forget_step_turn();
        let names: Vec<String> =
            self.fleet.iter().filter(|(_, member)| !member.out).map(|(name, _)| name.clone()).collect();
        for edge in names {
            if let Some(member) = self.fleet.get_mut(&edge) {
                member.round = member.round.take().map(MemberRound::again);
            }
            self.begin_attempt(now, &edge);
        }
    }

    /// Everybody who is here takes part from the global model on, and nothing of before counts. Who has been left out of
    /// this very round, if it starts again, has had its plan, and takes part after the next aggregation.
    pub(super) fn start_from_global(&mut self, now: Duration, is_again: bool) {
        self.model_steps = self.optimizer_steps;
        if is_again {
            return;
        }
        let mut back = Vec::new();
        for (name, member) in self.fleet.iter_mut().filter(|(_, member)| !member.is_behind()) {
            member.steps_done = 0;
            if member.out && member.is_here() {
                member.out = false;
                back.push(name.clone());
            }
        }
        for edge in back {
            self.emit_resumed(now, &edge, Recovery::Readmitted);
        }
    }

    /// Leaves out the edges whose rejoin window is over.
    pub(super) fn drop_the_lost(&mut self, now: Duration) {
        let window = self.settings.rejoin_window;
        let lost: Vec<String> = self
            .fleet
            .iter()
            .filter(|(_, member)| !member.out && member.lost_at.is_some_and(|at| now >= at + window))
            .map(|(name, _)| name.clone())
            .collect();
        if lost.is_empty() {
            return;
        }
        let stories = lost.into_iter().map(|edge| {
            let mut reason = format!("did not come back within {window:?} (fleet.rejoin_window)");
            if let Some(refused) = &self.fleet[&edge].refused {
                reason = format!("{reason} after it was turned away because {refused}");
            }
            (edge, reason)
        });
        let stories = stories.collect();
        self.leave_out(now, stories);
    }

    /// Leaves edges out until the next aggregation, for these reasons, and goes on without them.
    pub(super) fn leave_out(&mut self, now: Duration, edges: Vec<(String, String)>) {
        let mut stories = Vec::new();
        let mut names = Vec::new();
        for (edge, reason) in edges {
            let Some(member) = self.fleet.get_mut(&edge) else { continue };
            (member.out, member.round, member.came_back) = (true, None, false);
            member.deferral = None;
            stories.push(format!("edge `{edge}` {reason}"));
            let reason = format!("it {reason}");
            self.emit(now, EventKind::EdgeDropped { round: self.round + 1, edge: edge.clone(), reason });
            names.push(edge);
        }
        let (all, left) = (self.fleet.len(), self.fleet.values().filter(|member| !member.out).count());
        if !self.settings.is_quorum(left, all) {
            let others = stories.len().saturating_sub(MOST_STORIES);
            let and_others = if others > 0 { format!("; and {others} others") } else { String::new() };
            stories.truncate(MOST_STORIES);
            let reason = format!(
                "{}{and_others}: {left} of {all} edges are left, fleet.quorum = {} needs more. Continue with --resume once they are back, or lower fleet.quorum",
                stories.join("; "),
                self.settings.quorum
            );
            self.abort(now, reason);
            return;
        }
        match self.phase {
            Phase::Standardize => {
                self.fit_when_complete(now);
                self.train_when_ready(now);
            }
            Phase::Train { .. } => match self.settings.topology {
                Topology::ReplicaPerEdge => self.end_round_when_complete(now),
                Topology::Shared => self.restart_everyone(now),
                Topology::HandedOn => self.pass_over(now, &names),
            },
            _ => {}
        }
    }
}
