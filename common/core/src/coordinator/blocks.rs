//! The layers that edges get from the cloud at the start of a round.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Coordinator;
use super::member::Slice;
use crate::event::EventKind;
use crate::model::LayerState;
use crate::wire::{RoundPlan, TensorHeader, TensorMessage, WeakBody, encode_state};

/// The blocks of one state that are on their way: after an aggregation many edges get the same layers, and share
/// one body.
#[derive(Debug, Default)]
pub(super) struct SharedBlocks {
    state: Weak<LayerState>,
    /// By first layer and end.
    sent: BTreeMap<(usize, usize), (TensorHeader, WeakBody)>,
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

    /// A block as a tensor of the plan's round and attempt.
    fn encode_block(&mut self, plan: &RoundPlan, block: Slice) -> TensorMessage {
        let Slice { state, layers } = block;
        let shared = &mut self.shared_blocks;
        if !std::ptr::eq(shared.state.as_ptr(), Arc::as_ptr(&state)) {
            *shared = SharedBlocks { state: Arc::downgrade(&state), sent: BTreeMap::new() };
        }
        let of = (layers.start, layers.end);
        let on_its_way = shared.sent.get(&of).and_then(|(header, body)| Some((*header, body.upgrade()?)));
        if let Some((header, body)) = on_its_way {
            let RoundPlan { round, attempt, .. } = *plan;
            return TensorMessage { header: TensorHeader { round, attempt, ..header }, body };
        }
        let tensor = encode_state(plan.round, plan.attempt, 0, state.slice(&self.settings.spec, layers));
        shared.sent.insert(of, (tensor.header, tensor.body.downgrade()));
        tensor
    }
}
