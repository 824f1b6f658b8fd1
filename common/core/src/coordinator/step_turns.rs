//! The order in which a shared model takes the edges' steps: steps in order, edges in name order within a step.

use std::ops::Bound;

use super::Coordinator;

/// Whose step is next.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StepTurn {
    pub(super) edge: String,
    /// How many edges take the step before it.
    pub(super) rank: u64,
    /// How many take it in all.
    pub(super) edges: u64,
}

impl Coordinator {
    /// Whose step the shared model takes next; nobody's at the round's end.
    pub(super) fn step_turn(&mut self) -> Option<&StepTurn> {
        if self.step_turn.is_none() {
            self.step_turn = self.find_step_turn();
        }
        debug_assert_eq!(self.step_turn, self.find_step_turn());
        self.step_turn.as_ref()
    }

    /// Who takes part, or how far the steps are, is to be looked at anew.
    pub(super) fn forget_step_turn(&mut self) {
        self.step_turn = None;
    }

    /// The step is taken: the next is that of the edge behind, and after the last edge everybody is looked at.
    pub(super) fn pass_step_turn(&mut self) {
        let Some(StepTurn { edge, rank, edges }) = self.step_turn.take() else { return };
        let mut behind = self.fleet.range::<str, _>((Bound::Excluded(edge.as_str()), Bound::Unbounded));
        let next = behind.find(|(_, member)| !member.out).map(|(name, _)| name.clone());
        self.step_turn = next.map(|edge| StepTurn { edge, rank: rank + 1, edges });
    }

    fn find_step_turn(&self) -> Option<StepTurn> {
        let active = || self.fleet.iter().filter(|(_, member)| !member.out);
        let (_, edge) = active()
            .filter_map(|(name, member)| Some((member.round.as_ref()?.next_step, name)))
            .filter(|(step, _)| *step < self.settings.steps_per_round)
            .min()?;
        let rank = active().take_while(|(name, _)| *name != edge).count() as u64;
        Some(StepTurn { edge: edge.clone(), rank, edges: active().count() as u64 })
    }
}
