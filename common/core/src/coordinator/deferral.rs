//! Stragglers that are not waited for (`plan.on_straggler = "defer"`).
//!
//! A deferred edge finishes its round while the others go on, and ends it with all of its model, as before an
//! aggregation. Half on the edge and half in the cloud, this late model is put together, and waits for the next
//! aggregation, as an update does in the buffer of `FedBuff` (Nguyen et al. 2022, arXiv 2106.06639). The edge takes
//! part again from the next round on, from the newest global model. So none of its steps is lost or counts twice,
//! and nobody waits for one that never comes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::member::Member;
use super::{Coordinator, Phase};
use crate::event::{EventKind, Recovery};
use crate::model::LayerState;
use crate::wire::CloudMessage;

/// An edge that is further behind, in aggregations, is dropped: its model would count less than an eighth of one that
/// is in time, and what is reserved for an edge that hangs is of use to the others.
const MOST_MISSED: u32 = 64;

/// How far a deferred edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deferral {
    /// It finishes a round that the others have left behind.
    Behind {
        /// Aggregations since its round began.
        missed: u32,
    },
    /// It is done with that, and takes part again from the next round on.
    CaughtUp,
}

/// The model of an edge that came after its round was over.
#[derive(Debug)]
pub(super) struct LateModel {
    /// Steps of the edge since the global model that it started from.
    pub(super) steps: u64,
    /// Optimizer steps behind its moments: Adam's `t`.
    pub(super) optimizer_steps: u64,
    /// Aggregations since that global model.
    missed: u32,
    /// Adjoining layers, in order: all of the model.
    pub(super) parts: Vec<LayerState>,
}

impl LateModel {
    /// What a step of it counts, where one of a model that started from the newest global model counts 1: the
    /// polynomial discount of staleness, `(1 + missed)^-1/2`, of `FedAsync` (Xie et al. 2019, arXiv 1903.03934).
    pub(super) fn discount(&self) -> f64 {
        1.0 / (1.0 + f64::from(self.missed)).sqrt()
    }
}

impl Coordinator {
    /// Goes on without these late edges, which finish their round.
    pub(super) fn defer(&mut self, now: Duration, edges: Vec<(String, String)>) {
        for (edge, reason) in edges {
            let Some(member) = self.fleet.get_mut(&edge) else { continue };
            member.deferral = Some(Deferral::Behind { missed: 0 });
            if let Some(round) = member.round.as_mut() {
                round.plan.aggregate = true;
            }
            self.ask_for_model(&edge);
            let reason = format!("it {reason}");
            self.emit(now, EventKind::EdgeDeferred { round: self.round + 1, edge, reason });
        }
        self.end_round_when_complete(now);
    }

    /// Tells a deferred edge to end its round with all of its model.
    pub(super) fn ask_for_model(&mut self, edge: &str) {
        let behind = self.fleet.get(edge).filter(|member| member.is_behind());
        if let Some(round) = behind.and_then(|member| member.round.as_ref()) {
            let (round, attempt) = (round.plan.round, round.plan.attempt);
            self.send(edge, CloudMessage::HandIn { round, attempt });
        }
    }

    /// Whether an edge's round goes on: in the barrier's, or behind it. What would come after the last barrier
    /// would be in no model.
    pub(super) fn is_open(&self, member: &Member) -> bool {
        match self.phase {
            Phase::Train { .. } => true,
            Phase::Aggregate { .. } | Phase::EdgeEvaluation => {
                member.is_behind() && self.round + 1 < self.settings.max_rounds
            }
            _ => false,
        }
    }

    /// Keeps the model of a deferred edge for the next aggregation, once all of it is here.
    pub(super) fn catch_up(&mut self, now: Duration, edge: &str) {
        let Some(member) = self.fleet.get(edge) else { return };
        let (Some(Deferral::Behind { missed }), Some(round)) = (member.deferral, &member.round) else {
            return;
        };
        if !self.is_complete(round) {
            return;
        }
        let Some(member) = self.fleet.get_mut(edge) else { return };
        let Some(round) = member.round.take() else { return };
        let done = u64::from(round.plan.steps);
        let steps = std::mem::take(&mut member.steps_done) + done;
        member.late_models.push(LateModel {
            steps,
            optimizer_steps: round.plan.optimizer_steps + done,
            missed,
            parts: [round.upload, round.exported, round.tail].into_iter().flatten().collect(),
        });
        member.deferral = Some(Deferral::CaughtUp);
        let lost_at = member.lost_at;
        if let Some(lost_at) = lost_at {
            // From now on an evaluation waits for it, too.
            self.expires_at(lost_at + self.settings.rejoin_window);
        }
        let (round, name) = (round.plan.round + 1, edge.to_owned());
        self.emit(now, EventKind::EdgeCaughtUp { round, edge: name, steps });
        self.ask_for_evaluation(now, edge);
    }

    /// A deferred edge has lost its state: there is nothing left to finish its round with.
    pub(super) fn give_up_behind(&mut self, now: Duration, edge: &str) {
        if let Some(member) = self.fleet.get_mut(edge) {
            (member.round, member.steps_done) = (None, 0);
            member.deferral = Some(Deferral::CaughtUp);
        }
        self.emit_resumed(now, edge, Recovery::StateLost);
        self.ask_for_evaluation(now, edge);
        self.end_round_when_complete(now);
    }

    /// A round begins: those that have caught up, and are there, take part in it.
    pub(super) fn rejoin(&mut self, now: Duration) {
        let mut back = Vec::new();
        for (name, member) in &mut self.fleet {
            let has_caught_up = member.deferral == Some(Deferral::CaughtUp);
            if has_caught_up && member.is_here() {
                member.deferral = None;
                back.push(name.clone());
            }
        }
        for edge in back {
            self.emit_resumed(now, &edge, Recovery::Readmitted);
        }
    }

    /// A new global model is there: what is still to come started from one before it.
    pub(super) fn age_late_models(&mut self) {
        for member in self.fleet.values_mut() {
            if let Some(Deferral::Behind { missed }) = &mut member.deferral {
                *missed += 1;
            }
            for late in &mut member.late_models {
                late.missed += 1;
            }
        }
    }

    /// Drops the edges that are too far behind, before a round from a new global model: those that are still connected
    /// take part in it.
    pub(super) fn drop_the_stale(&mut self, now: Duration) {
        let is_stale = |member: &Member| matches!(member.deferral, Some(Deferral::Behind { missed }) if missed > MOST_MISSED);
        let stale = self.fleet.iter().filter(|(_, member)| is_stale(member));
        let stories: Vec<(String, String)> = stale
            .map(|(name, _)| (name.clone(), format!("was behind by more than {MOST_MISSED} aggregations")))
            .collect();
        if !stories.is_empty() {
            self.leave_out(now, stories);
        }
    }

    /// Whether the edges that have done all that is asked of them are a quorum.
    pub(super) fn has_quorum(&self) -> bool {
        let has_done = |member: &&Member| {
            member.deferral == Some(Deferral::CaughtUp)
                || member.takes_part() && member.round.as_ref().is_some_and(|round| self.is_complete(round))
        };
        let done = self.fleet.values().filter(has_done).count();
        self.settings.is_quorum(done, self.fleet.len())
    }

    /// Everybody in the round has been left out: it starts again with those that have caught up, if any are there.
    pub(super) fn start_again_with_others(&mut self, now: Duration) {
        let could = |member: &Member| member.deferral == Some(Deferral::CaughtUp) && member.is_here();
        if self.fleet.values().any(could) {
            self.start_round(now, self.round);
        }
    }
}

/// What deferred edges, which no plan counts with, keep of the rates that were reserved for them, in bytes per second.
pub(super) fn reserved_behind(fleet: &BTreeMap<String, Member>) -> f64 {
    let behind = fleet.values().filter(|member| member.is_behind());
    behind.filter_map(|member| member.round.as_ref()).map(|round| round.prediction.reserved).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_less_the_older_the_model_is_that_it_started_from() {
        let discount =
            |missed| LateModel { steps: 1, optimizer_steps: 1, missed, parts: Vec::new() }.discount();
        assert_eq!(discount(0).to_bits(), 1.0f64.to_bits(), "as if it had been in time");
        assert!((discount(1) - 0.5f64.sqrt()).abs() < 1e-15);
        assert!((discount(3) - 0.5).abs() < 1e-15);
    }
}
