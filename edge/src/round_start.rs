//! What an edge's layers are when a round begins: as they are, as in the round before, as the cloud has them, or new;
//! and cut where the plan says.

use partway_core::micro_batch::MicroBatch;
use partway_core::model::LayerState;
use partway_core::wire::{RoundPlan, StartFrom, TensorMessage, decode_state, encode_state};
use partway_model::{Compute, Half};

use crate::client_model::ClientModel;
use crate::rounds::Rounds;
use crate::training::Training;

impl Training {
    /// Makes the layers that the plan asks for, with the `blocks` that the cloud sent. Gives those that go to the
    /// cloud, if it wants any. `rolled_back`: what is here is of a round that is over without having counted.
    ///
    /// # Errors
    /// If there are other layers than the plan's, or states of another model.
    pub(crate) fn begin(
        &mut self,
        rounds: &Rounds,
        compute: &Compute,
        plan: &RoundPlan,
        blocks: Vec<TensorMessage>,
        rolled_back: bool,
    ) -> Result<Option<TensorMessage>, String> {
        let cut = plan.cut as usize;
        self.waiting.clear();
        let is_cut_there = self.head.as_ref().is_some_and(|head| head.layers() == (0..cut));
        if !rolled_back && is_cut_there && matches!(plan.start, StartFrom::Own { .. }) {
            return Ok(None);
        }
        let optimizer = self.assignment.optimizer;
        let moments = optimizer.moments().len();
        let last = self.assignment.tail.map(|tail| tail as usize..self.spec.len());
        let kept = match (self.head.take(), self.tail.take()) {
            (Some(head), tail) if !rolled_back => {
                Some(ClientModel { head: head.into_state(), tail: tail.map(Half::into_state) })
            }
            _ => None,
        };
        let blocks = blocks
            .into_iter()
            .map(|block| decode_state(&self.spec, moments, block).map_err(|error| error.to_string()))
            .collect::<Result<Vec<_>, String>>()?;
        let mut moved = None;
        let model = match plan.start {
            StartFrom::Initial => {
                let initial = |layers| LayerState::initial(&self.spec, layers, moments, self.seed);
                ClientModel { head: initial(0..cut), tail: last.clone().map(initial) }
            }
            StartFrom::Cloud => ClientModel::received(blocks, moments),
            StartFrom::Own { upload_moved } => {
                let mut model = match kept {
                    Some(model) => model,
                    None => self.before(rounds, plan.round)?,
                };
                let rest = model.recut(&self.spec, cut, blocks)?;
                moved =
                    rest.filter(|_| upload_moved).map(|rest| encode_state(plan.round, plan.attempt, 0, rest));
                model
            }
        };
        if model.head.layers != (0..cut) || model.tail.as_ref().map(|tail| &tail.layers) != last.as_ref() {
            return Err(format!(
                "round {}: the state has layers {} where the cut is {cut}",
                plan.round + 1,
                model.layers_in_words()
            ));
        }
        let half = |state| {
            Half::from_state(&self.spec, optimizer, state, compute).map_err(|error| error.to_string())
        };
        self.head = Some(half(model.head)?);
        self.tail = model.tail.map(half).transpose()?;
        Ok(moved)
    }

    /// The end of the round before.
    fn before(&self, rounds: &Rounds, round: u32) -> Result<ClientModel, String> {
        let before = round.checked_sub(1).ok_or("there is no round before the first to go back to")?;
        rounds.load(self.session, before, self.assignment.optimizer.moments().len())
    }

    /// Takes the time of a process's first steps before there is a deadline.
    pub(crate) fn warm_up(&self, name: &str, plan: &RoundPlan) -> Result<(), String> {
        let first = self.context(name, plan, 0, MicroBatch { index: 0, of: plan.in_flight });
        let mut halves = self.head.iter().chain(&self.tail);
        halves.try_for_each(|half| half.warm_up(&first)).map_err(|error| error.to_string())
    }
}
