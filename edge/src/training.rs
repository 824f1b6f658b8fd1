//! What an edge trains: its layers, its batches, and the step that waits for the cloud.

use std::collections::BTreeMap;
use std::sync::Arc;

use partway_core::codec::Selection;
use partway_core::holdout::ShardSplit;
use partway_core::micro_batch::MicroBatch;
use partway_core::model::{ModelCost, ModelSpec};
use partway_core::standardize::Standardizer;
use partway_core::wire::{Assignment, RoundPlan};
use partway_datasets::{BatchOrder, Samples};
use partway_model::{Half, Pending, StepContext};

use crate::tapes::Reserved;

/// What there is once the model is known.
pub(crate) struct Training {
    pub(crate) session: u64,
    pub(crate) seed: u64,
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) assignment: Box<Assignment>,
    pub(crate) standardizer: Standardizer,
    /// Which samples are trained on, and which are evaluated on.
    pub(crate) split: ShardSplit,
    pub(crate) order: BatchOrder,
    /// Layers `[0, c)`.
    pub(crate) head: Option<Half>,
    /// Where the labels stay here: the last layers.
    pub(crate) tail: Option<Half>,
    /// The micro-batches of a step that wait for the cloud.
    pub(crate) waiting: BTreeMap<u32, Waiting>,
}

/// A forward pass that waits for its gradient.
pub(crate) struct Waiting {
    pub(crate) step: u32,
    /// None if there was no room for it: it is made again.
    pub(crate) pending: Option<(Pending, Option<Reserved>)>,
    pub(crate) labels: Vec<u32>,
    /// Which activations travelled, if not all.
    pub(crate) selection: Option<Selection>,
}

impl Training {
    pub(crate) fn context<'a>(
        &self,
        name: &'a str,
        plan: &RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
    ) -> StepContext<'a> {
        let steps_per_round = u64::from(self.assignment.steps_per_round);
        StepContext {
            seed: self.seed,
            edge: name,
            step: u64::from(plan.round) * steps_per_round + u64::from(step),
            optimizer_step: plan.optimizer_steps + u64::from(step) + 1,
            batch: self.assignment.batch_size as usize,
            micro_batch,
        }
    }

    /// A micro-batch's samples, standardized, and their labels.
    pub(crate) fn batch<'a>(
        &mut self,
        name: &'a str,
        shard: &Samples,
        plan: &RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
    ) -> Result<(Vec<f32>, Vec<u32>, StepContext<'a>), String> {
        let context = self.context(name, plan, step, micro_batch);
        let indices = self.order.indices(context.step, context.batch);
        let indices = indices[micro_batch.range(context.batch)].iter();
        let indices: Vec<usize> = indices.map(|index| self.split.training[*index]).collect();
        let (values, labels) =
            shard.standardized(&indices, &self.standardizer).map_err(|error| error.to_string())?;
        Ok((values, labels, context))
    }

    /// A micro-batch's forward pass up to the cut: what the way back needs, the activations, the labels.
    pub(crate) fn forward<'a>(
        &mut self,
        name: &'a str,
        shard: &Samples,
        plan: &RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
    ) -> Result<(Pending, Vec<f32>, Vec<u32>, StepContext<'a>), String> {
        let (values, labels, context) = self.batch(name, shard, plan, step, micro_batch)?;
        let head = self.head.as_ref().ok_or("a step began before its round")?;
        let (pending, activations) = head.forward(values, &context).map_err(|error| error.to_string())?;
        Ok((pending, activations, labels, context))
    }

    /// About what a forward pass of the first `cut` layers keeps: a sample's values before and behind each,
    /// for so many samples.
    pub(crate) fn tape_bytes(&self, cut: usize, samples: usize) -> u64 {
        let cost = ModelCost::of(&self.spec);
        let values: u64 =
            cost.layers.iter().take(cut).map(|layer| layer.input_elements + layer.output_elements).sum();
        4 * values * samples as u64
    }
}
