//! The one timer: when something expires next.
//!
//! Looking at every edge after every event would make a round quadratic in edges. So the timer may come too early,
//! never too late: what begins to wait brings it forward, what stops waiting leaves it alone, and only when it comes, or
//! in another phase, is everybody looked at. A call that finds nothing expired changes nothing.

use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use super::action::Action;
use super::{Coordinator, Phase};

/// When the coordinator is to be called.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// No later than whatever expires first; none if nothing does.
    next: Option<Duration>,
    /// What the driver was asked for.
    asked: Option<Duration>,
    /// The phase in which everybody was last looked at; none if that is due.
    looked_in: Option<Discriminant<Phase>>,
}

impl Coordinator {
    /// Something has begun to wait, until `at`.
    pub(super) fn expires_at(&mut self, at: Duration) {
        self.deadlines.next = Some(self.deadlines.next.map_or(at, |next| next.min(at)));
    }

    /// The driver's timer is used up, even if it came too early for anything to expire.
    pub(super) fn timer_came(&mut self) {
        self.deadlines = Deadlines::default();
    }

    /// Asks for a call at the next time at which something may expire.
    pub(super) fn set_timer(&mut self) {
        let phase = discriminant(&self.phase);
        if self.deadlines.looked_in != Some(phase) {
            self.deadlines.looked_in = Some(phase);
            self.deadlines.next = self.next_expiry();
        }
        let next = self.deadlines.next;
        debug_assert!(
            self.next_expiry().is_none_or(|expiry| next.is_some_and(|next| next <= expiry)),
            "the timer {next:?} comes too late for {:?}",
            self.next_expiry()
        );
        if next != self.deadlines.asked {
            self.deadlines.asked = next;
            self.push(Action::SetTimer(next));
        }
    }

    /// What expires next of everything that waits.
    fn next_expiry(&self) -> Option<Duration> {
        let next = match self.phase {
            // Whoever is away while a model is made or evaluated has done its part.
            Phase::Ended | Phase::Aggregate { .. } | Phase::LastEvaluation => None,
            Phase::Gather => Some(self.started_at + self.settings.gather_timeout),
            Phase::EdgeEvaluation => self.next_given_up(),
            _ => self
                .fleet
                .values()
                .filter(|member| !member.out)
                .filter_map(|member| member.lost_at)
                .map(|lost_at| lost_at + self.settings.rejoin_window)
                .chain(self.next_late())
                .min(),
        };
        self.next_silent().into_iter().chain(self.next_without_a_word()).chain(next).min()
    }
}
