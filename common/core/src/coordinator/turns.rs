//! Vanilla split learning (Gupta & Raskar 2018, arXiv 1810.06060): the edges take turns of a round's steps
//! in name order, and the model goes from one to the next through the cloud.
//!
//! A turn starts from a whole model, which the edge's cut splits, and ends when both halves are here
//! again. So every edge has a cut of its own, and the start of a turn is its consistency point: an edge
//! that crashes repeats its turn, one that stays away is passed over, and neither changes what the others
//! have trained.

use std::sync::Arc;
use std::time::Duration;

use super::Coordinator;
use super::action::{Action, Job, Replica};
use super::member::Slice;
use super::settings::Topology;
use crate::event::EventKind;
use crate::model::LayerState;
use crate::wire::{RoundPlan, StartFrom};

/// The model on its way through the fleet.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whose turn it is.
    at: Option<String>,
    since: Duration,
    /// The whole model as it was when the turn began; none before the first round.
    pub(super) model: Option<Arc<LayerState>>,
}

impl Coordinator {
    /// Whether an edge may train now: always, unless there are turns.
    pub(super) fn is_at_turn(&self, edge: &str) -> bool {
        self.settings.topology != Topology::HandedOn || self.turns.at.as_deref() == Some(edge)
    }

    /// Begins the turns of a round, from the global model or from where the last round ended.
    pub(super) fn begin_turns(&mut self, now: Duration, fresh: bool) {
        if fresh || self.turns.model.is_none() {
            self.turns.model = Some(self.global.clone());
        }
        self.turns.at = None;
        self.next_turn(now);
    }

    /// The turn of the next edge that takes part; after the last the round is over.
    pub(super) fn next_turn(&mut self, now: Duration) {
        let before = self.turns.at.take();
        let follows = |name: &String| before.as_ref().is_none_or(|before| name > before);
        let next = self.fleet.iter().find(|(name, member)| !member.out && follows(name));
        let Some((edge, model)) = next.map(|(name, _)| name.clone()).zip(self.turns.model.clone()) else {
            self.end_round(now);
            return;
        };
        (self.turns.at, self.turns.since) = (Some(edge.clone()), now);
        let is_first = self.round == 0 && self.model_steps == 0 && self.is_seeded;
        let Some(round) = self.fleet.get_mut(&edge).and_then(|member| member.round.as_mut()) else { return };
        let cut = round.cut();
        let start = if is_first { StartFrom::Initial } else { StartFrom::Cloud };
        round.plan = RoundPlan { start, optimizer_steps: self.model_steps, ..round.plan };
        round.blocks = match start {
            StartFrom::Cloud => self.settings.edge_blocks(&model, cut),
            _ => Vec::new(),
        };
        round.start = Some(Slice { layers: cut..model.layers.end, state: model });
        self.begin_attempt(now, &edge);
    }

    /// Ends the turn of an edge that is left out: what it did in it does not count.
    pub(super) fn pass_over(&mut self, now: Duration, left_out: &[String]) {
        if let Some(edge) = left_out.iter().find(|edge| self.is_at_turn(edge)) {
            self.push(Action::Compute(Job::Discard { replica: Replica::Of(edge.clone()) }));
            self.next_turn(now);
        }
    }

    /// The turn is over: what the edge and the cloud have trained becomes the model of the next.
    pub(super) fn hand_on(&mut self, now: Duration) {
        let Some(edge) = self.turns.at.clone() else { return };
        let Some(member) = self.fleet.get_mut(&edge) else { return };
        let Some(round) = member.round.as_mut() else { return };
        let halves = [round.upload.take(), round.exported.take()];
        let joined = halves.into_iter().flatten().reduce(|mut lower, upper| {
            lower.append(upper);
            lower
        });
        (round.start, round.blocks, round.handed_on) = (None, Vec::new(), true);
        let steps = u64::from(round.plan.steps);
        member.steps_done += steps;
        self.model_steps += steps;
        self.turns.model = joined.map(Arc::new);
        let seconds = now.saturating_sub(self.turns.since).as_secs_f64();
        self.emit(now, EventKind::HandedOn { round: self.round + 1, edge: edge.clone(), seconds });
        self.push(Action::Compute(Job::Discard { replica: Replica::Of(edge) }));
        self.next_turn(now);
    }
}
