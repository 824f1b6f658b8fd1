//! What one replica computes: its layers, made, trained and copied.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use partway_core::codec::{ActivationCodec, BatchShape, Selection, TopK};
use partway_core::coordinator::{Computed, Job, StepJob, StepPart};
use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::optimizer::Optimizer;
use partway_core::wire::{
    Activations, TensorHeader, TensorKind, TensorMessage, decode_activations, decode_gradient,
    encode_activations, encode_gradient,
};
use partway_model::{Compute, Half, Pending, StepContext};

/// What every replica is made from.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// The model.
    pub spec: Arc<ModelSpec>,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The run's seed: names the dropout masks.
    pub seed: u64,
    /// Samples per step.
    pub batch_size: usize,
}

/// A replica's layers.
#[derive(Debug)]
pub struct Placed {
    half: Half,
    /// The micro-batches of a step that are on their way through these layers to the edge's last ones, and back.
    passed: BTreeMap<u32, Passed>,
}

#[derive(Debug)]
struct Passed {
    step: u32,
    pending: Pending,
    /// Which activations travelled at each end of these layers, if not all.
    at_cut: Option<Selection>,
    at_tail: Option<Selection>,
}

/// Does one job on a replica: returns its layers, if it has any afterwards, and the answer to the
/// coordinator, if the job has one. Jobs on the global model are not a replica's, and leave it as it is.
pub fn train(
    blueprint: &Blueprint,
    compute: &Compute,
    placed: Option<Placed>,
    job: Job,
) -> (Option<Placed>, Option<Computed>) {
    match job {
        Job::Place { state, layers, .. } => place(blueprint, compute, &state, layers),
        Job::Step(step) => {
            let Some(mut placed) = placed else { return (None, Some(unplaced("a step"))) };
            placed.half.move_to(compute);
            let computed = placed.step(blueprint, compute, step);
            (Some(placed), Some(computed))
        }
        Job::Export { replica, round, attempt } => match placed {
            Some(mut placed) => {
                placed.half.move_to(compute);
                let state = placed.half.state();
                (Some(placed), Some(Computed::Exported { replica, round, attempt, state }))
            }
            None => (None, Some(unplaced("an export"))),
        },
        Job::Discard { .. } => (None, None),
        Job::Aggregate { .. } | Job::Evaluate { .. } => (placed, None),
    }
}

/// Makes a new worker as fast as it will be, before there is work for it.
pub(crate) fn warm_up(blueprint: &Blueprint, compute: &Compute) {
    let &Blueprint { ref spec, optimizer, seed, batch_size: batch } = blueprint;
    let state = LayerState::initial(spec, 0..spec.len(), optimizer.moments().len(), seed);
    let step = StepContext {
        seed,
        edge: "warm-up",
        step: 0,
        optimizer_step: 1,
        batch,
        micro_batch: MicroBatch::WHOLE,
    };
    let warmed = Half::from_state(spec, optimizer, state, compute).map(|half| half.warm_up(&step));
    // What is wrong with the model or the device is said by the first job that meets it.
    drop(warmed);
}

fn unplaced(what: &str) -> Computed {
    Computed::Failed { reason: format!("{what} was asked of a replica that was never placed") }
}

fn place(
    blueprint: &Blueprint,
    compute: &Compute,
    state: &LayerState,
    layers: Range<usize>,
) -> (Option<Placed>, Option<Computed>) {
    let own = state.slice(&blueprint.spec, layers);
    match Half::from_state(&blueprint.spec, blueprint.optimizer, own, compute) {
        Ok(half) => (Some(Placed { half, passed: BTreeMap::new() }), None),
        Err(error) => (None, Some(Computed::Failed { reason: error.to_string() })),
    }
}

/// What a step's part came to.
struct Answer {
    reply: TensorMessage,
    /// Mean loss and correct predictions, where the labels are here.
    scored: Option<(f32, u32)>,
}

impl Placed {
    /// Another replica of the same layers, with no step on its way. The tensors are shared until either is
    /// trained.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self { half: self.half.clone(), passed: BTreeMap::new() }
    }

    fn step(&mut self, blueprint: &Blueprint, compute: &Compute, job: StepJob) -> Computed {
        let StepJob {
            part,
            edge,
            round,
            attempt,
            step,
            micro_batch,
            global_step,
            optimizer_step,
            tensor,
            ..
        } = job;
        let context = StepContext {
            seed: blueprint.seed,
            edge: &edge,
            step: global_step,
            optimizer_step,
            batch: blueprint.batch_size,
            micro_batch,
        };
        let index = micro_batch.index as u16;
        let header = |kind, codec| TensorHeader {
            round,
            attempt,
            step,
            micro_batch: index,
            ..TensorHeader::new(kind, codec)
        };
        let cut_gradient = header(TensorKind::CutGradient, job.gradients);
        let (result, spent) = compute.timed(|| match part {
            StepPart::Whole => self.finish(tensor, cut_gradient, &context),
            StepPart::Forward => {
                let answer = header(TensorKind::TailActivations, job.activations.values);
                self.pass_on(tensor, answer, job.activations, &context)
            }
            StepPart::Backward => self.pass_back(tensor, cut_gradient, &context),
        });
        let seconds = spent.wall.as_secs_f64();
        match result {
            Ok(Answer { reply, scored: Some((loss, correct)) }) => {
                Computed::Stepped { edge, round, attempt, step, micro_batch, reply, loss, correct, seconds }
            }
            Ok(Answer { reply, scored: None }) => {
                Computed::Passed { edge, round, attempt, step, micro_batch, reply, seconds }
            }
            Err(reason) => Computed::Rejected { edge, round, attempt, reason },
        }
    }

    fn finish(
        &mut self,
        tensor: TensorMessage,
        answer: TensorHeader,
        context: &StepContext,
    ) -> Result<Answer, String> {
        let shape = BatchShape::of(context.samples(), self.half.input_shape());
        let Activations { values, labels, selection } =
            decode_activations(tensor, shape).map_err(|error| error.to_string())?;
        let outcome = self.half.finish_step(values, &labels, context).map_err(|error| error.to_string())?;
        let reply = encode_gradient(answer, outcome.gradient, shape, selection.as_ref());
        Ok(Answer { reply, scored: Some((outcome.loss, outcome.correct as u32)) })
    }

    fn pass_on(
        &mut self,
        tensor: TensorMessage,
        answer: TensorHeader,
        codec: ActivationCodec,
        context: &StepContext,
    ) -> Result<Answer, String> {
        let samples = context.samples();
        let shape = BatchShape::of(samples, self.half.input_shape());
        let Activations { values, selection: at_cut, .. } =
            decode_activations(tensor, shape).map_err(|error| error.to_string())?;
        let (pending, values) = self.half.forward(values, context).map_err(|error| error.to_string())?;
        let shape = BatchShape::of(samples, self.half.output_shape());
        let part = context.micro_batch.index;
        let draws = &mut TopK::tail_draws(context.seed, context.edge, context.step, part);
        let (reply, at_tail) = encode_activations(answer, codec, values, shape, &[], draws);
        self.passed.insert(part, Passed { step: answer.step, pending, at_cut, at_tail });
        Ok(Answer { reply, scored: None })
    }

    fn pass_back(
        &mut self,
        tensor: TensorMessage,
        answer: TensorHeader,
        context: &StepContext,
    ) -> Result<Answer, String> {
        let Passed { pending, at_cut, at_tail, .. } = self
            .passed
            .remove(&context.micro_batch.index)
            .filter(|passed| passed.step == answer.step)
            .ok_or_else(|| {
                format!("the gradient of step {} has no forward pass in the cloud", answer.step + 1)
            })?;
        let gradient = decode_gradient(tensor, at_tail.as_ref()).map_err(|error| error.to_string())?;
        let values = self.half.backward(pending, gradient, context).map_err(|error| error.to_string())?;
        let shape = BatchShape::of(context.samples(), self.half.input_shape());
        let reply = encode_gradient(answer, values, shape, at_cut.as_ref());
        Ok(Answer { reply, scored: None })
    }
}
