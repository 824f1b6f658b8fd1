//! An edge's layers as states: those before the cut and, where the labels stay there, the last ones.

use partway_core::model::{LayerState, ModelSpec};
use partway_model::Half;

/// What an edge has of a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientModel {
    /// Layers `[0, c)`.
    pub(crate) head: LayerState,
    /// The last layers, which never move.
    pub(crate) tail: Option<LayerState>,
}

impl ClientModel {
    /// A copy of what is trained.
    pub(crate) fn of(head: &Half, tail: Option<&Half>) -> Self {
        Self { head: head.state(), tail: tail.map(Half::state) }
    }

    /// What the cloud has sent, in any order; without anything, a client-side model of no layers.
    pub(crate) fn received(blocks: Vec<LayerState>, moments: usize) -> Self {
        let (mut heads, mut tails): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|block| block.layers.start == 0);
        let none = LayerState { layers: 0..0, moments, values: Vec::new() };
        Self { head: heads.pop().unwrap_or(none), tail: tails.pop() }
    }

    /// Cuts it at `cut`: returns the layers that go to the cloud, or appends those that came from it.
    ///
    /// # Errors
    /// If these do not follow.
    pub(crate) fn recut(
        &mut self,
        spec: &ModelSpec,
        cut: usize,
        blocks: Vec<LayerState>,
    ) -> Result<Option<LayerState>, String> {
        if cut < self.head.layers.end {
            return Ok(Some(self.head.split_off(spec, cut)));
        }
        for block in blocks {
            let (end, layers) = (self.head.layers.end, &block.layers);
            if layers.start != end {
                return Err(format!("the cloud sent layers {layers:?} after {:?}", self.head.layers));
            }
            self.head.append(block);
        }
        Ok(None)
    }

    pub(crate) fn layers_in_words(&self) -> String {
        let head = format!("{:?}", self.head.layers);
        self.tail.as_ref().map_or(head.clone(), |tail| format!("{head} and {:?}", tail.layers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use partway_core::model::builtin::builtin;

    /// Layers of a model, numbered: each value is the layer that it belongs to.
    fn numbered(spec: &ModelSpec, layers: std::ops::Range<usize>) -> LayerState {
        let mut state = LayerState::initial(spec, layers.start..layers.start, 0, 1);
        for layer in layers {
            let mut next = LayerState::initial(spec, layer..layer + 1, 0, 1);
            next.values.fill(layer as f32);
            state.append(next);
        }
        state
    }

    #[test]
    fn layers_move_and_the_tail_stays() {
        let spec = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
        let tail = numbered(&spec, 11..12);
        let mut model = ClientModel::received(vec![tail.clone(), numbered(&spec, 0..8)], 0);
        let moved = model.recut(&spec, 3, Vec::new()).expect("they are there").expect("they go");
        assert_eq!(moved, numbered(&spec, 3..8));
        assert_eq!(model.recut(&spec, 8, vec![moved]), Ok(None));
        assert_eq!(model, ClientModel { head: numbered(&spec, 0..8), tail: Some(tail) });
        let error = model.recut(&spec, 10, vec![numbered(&spec, 9..10)]).expect_err("layer 8 is missing");
        assert!(error.contains("9..10 after 0..8"), "{error}");
    }

    #[test]
    fn without_a_block_there_is_a_model_without_layers() {
        let model = ClientModel::received(Vec::new(), 2);
        assert_eq!((model.head.layers, model.head.moments, model.tail), (0..0, 2, None));
    }
}
