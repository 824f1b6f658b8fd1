//! Stragglers: edges that take a multiple of the planned time for a round (`plan.on_straggler`).
//!
//! An edge's time is `straggler_factor` times `steps_per_round` steps at the deadline, from when it got its plan,
//! without the time for which its connection was lost. When that is over it is late. A late edge is left out, or
//! deferred, once the others are enough for the quorum, so that no policy ends a run that waiting would not.
//!
//! Nothing is planned of what edges do before the first round, and when they evaluate. There they may take as long as
//! they like, until nobody has said a word for `rejoin_window`: whoever still owes one then is taken for an edge that hangs
//! behind a live connection, and the others go on without it. With "wait" they do not.

use std::time::Duration;

use super::member::{Member, MemberRound};
use super::settings::Topology;
use super::{Coordinator, Phase};

/// What happens to an edge that is late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stragglers {
    /// The round waits for it.
    Wait,
    /// It is left out until the next aggregation, and then gets the global model.
    Drop {
        /// How many times the planned duration of a round is too long.
        factor: f64,
    },
    /// The others go on; it finishes its round, and its model counts at the next aggregation. Only where every
    /// edge has a replica: elsewhere the others cannot go on without it, and the round waits.
    Defer {
        /// How many times the planned duration of a round is too long.
        factor: f64,
    },
}

impl Coordinator {
    /// How many times the planned duration of a round is too long, if that is of consequence.
    fn straggler_factor(&self) -> Option<f64> {
        match self.settings.stragglers {
            Stragglers::Drop { factor } => Some(factor),
            Stragglers::Defer { factor } if self.settings.topology == Topology::ReplicaPerEdge => {
                Some(factor)
            }
            Stragglers::Defer { .. } | Stragglers::Wait => None,
        }
    }

    /// When the next edge that is at work will be late.
    pub(super) fn next_late(&self) -> Option<Duration> {
        let at_work = self.fleet.iter().filter(|(name, member)| {
            member.takes_part() && member.connection.is_some() && self.is_at_turn(name)
        });
        at_work
            .filter_map(|(_, member)| member.round.as_ref())
            .filter(|round| !round.late && !self.is_complete(round))
            .filter_map(|round| self.late_at(round))
            .min()
    }

    /// An edge that is at work will be late at its time.
    pub(super) fn expect_in_time(&mut self, edge: &str) {
        let round = self.fleet.get(edge).and_then(|member| member.round.as_ref());
        if let Some(at) = round.and_then(|round| self.late_at(round)) {
            self.expires_at(at);
        }
    }

    fn late_at(&self, round: &MemberRound) -> Option<Duration> {
        let factor = self.straggler_factor()?;
        if self.is_expected_late(round, factor) {
            return round.begun_at;
        }
        let planned = f64::from(round.plan.steps) * round.plan.deadline_s;
        let allowed = Duration::try_from_secs_f64(factor * planned).unwrap_or(Duration::MAX);
        round.begun_at?.checked_add(allowed)
    }

    /// Whether there is no use in waiting for an edge that is only deferred: by the plan itself its steps take too
    /// long. If it ends its round before the others, it is in time all the same.
    fn is_expected_late(&self, round: &MemberRound, factor: f64) -> bool {
        let defers = matches!(self.settings.stragglers, Stragglers::Defer { .. });
        defers && round.prediction.step_ms > 1e3 * factor * round.plan.deadline_s
    }

    /// Notes which edges are late by now, and goes on without them if there are enough others.
    pub(super) fn handle_stragglers(&mut self, now: Duration) {
        let is_late = |round: &MemberRound| self.late_at(round).is_some_and(|at| now >= at);
        let late: Vec<String> = self
            .fleet
            .iter()
            .filter(|(_, member)| member.takes_part() && member.connection.is_some())
            .filter(|(_, member)| member.round.as_ref().is_some_and(is_late))
            .map(|(name, _)| name.clone())
            .collect();
        for edge in late {
            if let Some(round) = self.fleet.get_mut(&edge).and_then(|member| member.round.as_mut()) {
                round.late = true;
            }
        }
        self.go_on_without_the_late(now);
    }

    /// Goes on without the late edges that the round still waits for, once the others are a quorum.
    pub(super) fn go_on_without_the_late(&mut self, now: Duration) {
        let Some(factor) = self.straggler_factor().filter(|_| matches!(self.phase, Phase::Train { .. }))
        else {
            return;
        };
        let active = || self.fleet.iter().filter(|(_, member)| member.takes_part());
        let complete = |round: &MemberRound| self.is_complete(round);
        let holds_up = |round: &MemberRound| round.late && !complete(round);
        let late: Vec<String> = active()
            .filter(|(name, member)| self.is_at_turn(name) && member.round.as_ref().is_some_and(holds_up))
            .map(|(name, _)| name.clone())
            .collect();
        let done = active().filter(|(_, member)| member.round.as_ref().is_some_and(complete)).count();
        let is_enough = |edges: usize| self.settings.is_quorum(edges, self.fleet.len());
        let defers = matches!(self.settings.stragglers, Stragglers::Defer { .. });
        let goes_on = match self.settings.topology {
            // Whoever else is waited for may be in time, and a late edge with it.
            _ if defers => done > 0 && done + late.len() == active().count() && self.has_quorum(),
            // The others have had their turns, or will.
            Topology::HandedOn => is_enough(active().count() - late.len()),
            Topology::ReplicaPerEdge | Topology::Shared => is_enough(done),
        };
        if late.is_empty() || !goes_on {
            return;
        }
        let stories = late.into_iter().map(|edge| {
            let round = self.fleet[&edge].round.as_ref();
            let planned = round.map_or(0.0, |round| f64::from(round.plan.steps) * round.plan.deadline_s);
            let takes = match round {
                Some(round) if self.is_expected_late(round, factor) => "is expected to take",
                _ => "took",
            };
            let reason = format!(
                "{takes} more than {factor} times the planned {planned:.3} s of a round (plan.straggler_factor)"
            );
            (edge, reason)
        });
        let stories = stories.collect();
        if defers {
            self.defer(now, stories);
        } else {
            self.leave_out(now, stories);
        }
    }

    /// An edge says something, or is back.
    pub(super) fn note_word(&mut self, now: Duration) {
        self.last_word = Some(now);
        if let Some(at) = self.next_without_a_word() {
            self.expires_at(at);
        }
    }

    /// Until when those who owe an answer are waited for, if nobody says a word.
    pub(super) fn next_without_a_word(&self) -> Option<Duration> {
        self.straggler_factor()?;
        matches!(self.phase, Phase::Standardize | Phase::EdgeEvaluation)
            .then_some(self.last_word? + self.settings.rejoin_window)
    }

    /// Goes on without the edges that owe an answer and hang, if there are enough others.
    pub(super) fn go_on_without_the_silent(&mut self, now: Duration) {
        if self.next_without_a_word().is_none_or(|at| now < at) {
            return;
        }
        // Where the others are too few, more than time must come before they are looked at again.
        self.last_word = None;
        let reason = format!("did not answer within {:?} (fleet.rejoin_window)", self.settings.rejoin_window);
        if matches!(self.phase, Phase::EdgeEvaluation) {
            self.give_up_the_silent(now, &format!("it {reason}"));
            return;
        }
        let owes = |member: &Member| match self.standardizer {
            Some(_) => !member.ready,
            None => member.statistics.is_none(),
        };
        let active = || self.fleet.iter().filter(|(_, member)| !member.out);
        let done = active().filter(|(_, member)| !owes(member)).count();
        let silent = active().filter(|(_, member)| owes(member) && member.connection.is_some());
        let silent: Vec<(String, String)> = silent.map(|(edge, _)| (edge.clone(), reason.clone())).collect();
        if !silent.is_empty() && self.settings.is_quorum(done, self.fleet.len()) {
            self.leave_out(now, silent);
        }
    }
}
