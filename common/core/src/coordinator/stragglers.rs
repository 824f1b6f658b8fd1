//! Stragglers: edges that take a multiple of the planned time for a round (`plan.on_straggler`).
//!
//! An edge's time is `straggler_factor` times `steps_per_round` steps at the deadline, from when it got its plan,
//! without the time for which its connection was lost. When that is over it is late. A late edge is left out once
//! the others are enough for the quorum, so that no policy ends a run that waiting would not.

use std::time::Duration;

use super::member::MemberRound;
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
}

impl Coordinator {
    /// When the next edge that is at work will be late.
    pub(super) fn next_late(&self) -> Option<Duration> {
        let at_work = self
            .fleet
            .iter()
            .filter(|(name, member)| !member.out && member.connection.is_some() && self.is_at_turn(name));
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
        let Stragglers::Drop { factor } = self.settings.stragglers else { return None };
        let planned = f64::from(round.plan.steps) * round.plan.deadline_s;
        let allowed = Duration::try_from_secs_f64(factor * planned).unwrap_or(Duration::MAX);
        round.begun_at?.checked_add(allowed)
    }

    /// Notes which edges are late by now, and leaves them out if there are enough others.
    pub(super) fn handle_stragglers(&mut self, now: Duration) {
        let is_late = |round: &MemberRound| self.late_at(round).is_some_and(|at| now >= at);
        let late: Vec<String> = self
            .fleet
            .iter()
            .filter(|(_, member)| !member.out && member.connection.is_some())
            .filter(|(_, member)| member.round.as_ref().is_some_and(is_late))
            .map(|(name, _)| name.clone())
            .collect();
        for edge in late {
            if let Some(round) = self.fleet.get_mut(&edge).and_then(|member| member.round.as_mut()) {
                round.late = true;
            }
        }
        self.leave_out_the_late(now);
    }

    /// Leaves out the late edges that the round still waits for, once the others are a quorum.
    pub(super) fn leave_out_the_late(&mut self, now: Duration) {
        let Stragglers::Drop { factor } = self.settings.stragglers else { return };
        if !matches!(self.phase, Phase::Train { .. }) {
            return;
        }
        let active = || self.fleet.iter().filter(|(_, member)| !member.out);
        let complete = |round: &MemberRound| self.is_complete(round);
        let holds_up = |round: &MemberRound| round.late && !complete(round);
        let late: Vec<String> = active()
            .filter(|(name, member)| self.is_at_turn(name) && member.round.as_ref().is_some_and(holds_up))
            .map(|(name, _)| name.clone())
            .collect();
        let enough = match self.settings.topology {
            // The others have had their turns, or will.
            Topology::HandedOn => active().count() - late.len(),
            Topology::ReplicaPerEdge | Topology::Shared => {
                active().filter(|(_, member)| member.round.as_ref().is_some_and(complete)).count()
            }
        };
        if late.is_empty() || enough == 0 || (enough as f64) < self.settings.quorum * self.fleet.len() as f64
        {
            return;
        }
        let stories = late.into_iter().map(|edge| {
            let planned = self.fleet[&edge]
                .round
                .as_ref()
                .map_or(0.0, |round| f64::from(round.plan.steps) * round.plan.deadline_s);
            let reason = format!(
                "took more than {factor} times the planned {planned:.3} s of a round (plan.straggler_factor)"
            );
            (edge, reason)
        });
        let stories = stories.collect();
        self.leave_out(now, stories);
    }
}
