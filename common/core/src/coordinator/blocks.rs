//! The layers that edges get from the cloud at the start of a round.

use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Coordinator;
use super::member::Slice;
use crate::event::EventKind;
use crate::model::LayerState;
use crate::wire::{RoundPlan, TensorMessage, encode_state};

/// The last block that was encoded, and of what.
#[derive(Debug)]
pub(super) struct LastBlock {
    state: Weak<LayerState>,
    layers: Range<usize>,
    tensor: TensorMessage,
}

impl Coordinator {
    /// Sends the layers that an edge gets at the start of its round, if there are any.
    pub(super) fn send_blocks(&mut self, now: Duration, edge: &str) {
        let Some(member) = self.fleet.get(edge).filter(|member| member.connection.is_some()) else { return };
        let Some(round) = member.round.as_ref() else { return };
        let plan = round.plan;
        for block in round.blocks.clone() {
            let tensor = self.encode_block(&plan, block);
            self.emit_state_moved(now, edge, tensor.header.round, tensor.wire_bytes(), "down");
            self.send_tensor(edge, tensor);
        }
    }

    pub(super) fn emit_state_moved(
        &mut self,
        now: Duration,
        edge: &str,
        round: u32,
        bytes: u64,
        direction: &str,
    ) {
        let (edge, direction) = (edge.to_owned(), direction.to_owned());
        self.emit(now, EventKind::StateMoved { round: round + 1, edge, direction, bytes });
    }

    /// A block as a tensor. After an aggregation many edges get the same layers: they share one body.
    fn encode_block(&mut self, plan: &RoundPlan, block: Slice) -> TensorMessage {
        let Slice { state, layers } = block;
        let is_same = |last: &LastBlock| {
            std::ptr::eq(last.state.as_ptr(), Arc::as_ptr(&state))
                && last.layers == layers
                && (last.tensor.header.round, last.tensor.header.attempt) == (plan.round, plan.attempt)
        };
        if let Some(last) = self.last_block.as_ref().filter(|last| is_same(last)) {
            return last.tensor.clone();
        }
        let values = state.slice(&self.settings.spec, layers.clone());
        let tensor = encode_state(plan.round, plan.attempt, 0, values);
        let state = Arc::downgrade(&state);
        self.last_block = Some(LastBlock { state, layers, tensor: tensor.clone() });
        tensor
    }
}
