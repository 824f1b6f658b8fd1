//! An edge's jobs on real tensors, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use partway_core::codec::{BatchShape, TopK};
use partway_core::holdout::ShardSplit;
use partway_core::micro_batch::MicroBatch;
use partway_core::participant::{Completed, Computed, Job};
use partway_core::standardize::{Standardizer, Transform};
use partway_core::statistics::{self, ChannelStatistics};
use partway_core::wire::{
    Activations, Assignment, RoundPlan, StartFrom, TensorHeader, TensorKind, TensorMessage,
    decode_activations, decode_gradient, encode_activations, encode_gradient, encode_state,
};
use partway_datasets::{BatchOrder, Samples};
use partway_model::memory::peak_rss_bytes;
use partway_model::{Compute, Half, Outcome, Spent, StepContext, StepError};

use crate::client_model::ClientModel;
use crate::emulation::{Speed, stretched};
use crate::evaluation::HeldOut;
use crate::rounds::Rounds;
use crate::state_folder::StateFolder;
use crate::tapes::TapeBudget;
use crate::training::{Training, Waiting};

/// What an edge computes with.
pub struct Worker {
    name: String,
    shard: Arc<Samples>,
    rounds: Rounds,
    compute: Compute,
    /// Emulated speed, if any.
    speed: Option<Speed>,
    /// What bounds the forward passes that wait, if anything.
    tapes: Option<TapeBudget>,
    /// Whether the first steps of this process, which are slow, are behind it.
    is_warm: bool,
    training: Option<Training>,
}

impl Worker {
    pub(crate) fn new(
        name: String,
        shard: Arc<Samples>,
        folder: StateFolder,
        compute: Compute,
        speed: Option<Speed>,
    ) -> Self {
        let rounds = Rounds::Folder(folder);
        Self { name, shard, rounds, compute, speed, tapes: None, is_warm: false, training: None }
    }

    /// An edge that lives as long as this process, which it may share with others: it keeps its rounds in
    /// memory, and nothing is emulated.
    pub fn in_memory(name: String, shard: Arc<Samples>, compute: Compute, tapes: TapeBudget) -> Self {
        let rounds = Rounds::Memory(Box::default());
        Self { name, shard, rounds, compute, speed: None, tapes: Some(tapes), is_warm: true, training: None }
    }

    /// Computes on the workers of `compute` from now on, which must be of the same device.
    pub fn move_to(&mut self, compute: &Compute) {
        self.compute = compute.clone();
        if let Some(training) = &mut self.training {
            let halves = training.head.iter_mut().chain(&mut training.tail);
            halves.for_each(|half| half.move_to(compute));
        }
    }

    /// Does a job. What cannot be done is an answer too.
    pub fn handle(&mut self, job: Job) -> Computed {
        self.compute_job(job).unwrap_or_else(|reason| Computed::Failed { reason })
    }

    fn compute_job(&mut self, job: Job) -> Result<Computed, String> {
        match job {
            Job::Statistics { assignment, of } => self.statistics(&assignment, of),
            Job::Prepare { assignment, standardizer } => self.prepare(assignment, standardizer),
            Job::Begin { plan, blocks, rolled_back } => self.begin(plan, blocks, rolled_back),
            Job::Forward { plan, step, micro_batch } => self.forward(plan, step, micro_batch),
            Job::Tail { plan, step, micro_batch, activations } => {
                self.tail(plan, step, micro_batch, activations)
            }
            Job::Backward { plan, step, micro_batch, gradient } => {
                self.backward(plan, step, micro_batch, gradient)
            }
            Job::LocalStep { plan, step } => self.local_step(plan, step),
            Job::EndRound { plan } => self.end_round(plan),
            Job::Upload(completed) => self.upload(completed),
            Job::Evaluate { session, model } => self.evaluate(session, model),
        }
    }

    fn split(&self, assignment: &Assignment) -> ShardSplit {
        ShardSplit::of(assignment.seed, &self.name, self.shard.len(), assignment.holdout)
    }

    fn statistics(&self, assignment: &Assignment, of: Transform) -> Result<Computed, String> {
        let [count, height, width] = self.shard.shape();
        let mut channels = vec![ChannelStatistics::default(); count];
        let mut sample = Vec::new();
        for index in self.split(assignment).training {
            sample.clear();
            self.shard.values(index, &mut sample);
            of.apply(&mut sample, height * width).map_err(|error| error.to_string())?;
            statistics::push_sample(&mut channels, &sample).map_err(|error| error.to_string())?;
        }
        Ok(Computed::Statistics { of, channels })
    }

    fn prepare(
        &mut self,
        assignment: Box<Assignment>,
        standardizer: Standardizer,
    ) -> Result<Computed, String> {
        self.rounds.begin_session(assignment.session).map_err(|error| error.to_string())?;
        let split = self.split(&assignment);
        let order = BatchOrder::new(assignment.seed, &self.name, split.training.len())
            .map_err(|error| error.to_string())?;
        let classes = assignment.model.classes;
        if let Some(label) = self.shard.labels().iter().find(|label| **label as usize >= classes) {
            return Err(format!(
                "this edge has samples of label {label}, but model `{}` has {classes} classes",
                assignment.model.name
            ));
        }
        self.training = Some(Training {
            session: assignment.session,
            seed: assignment.seed,
            spec: Arc::new(assignment.model.clone()),
            assignment,
            standardizer,
            split,
            order,
            head: None,
            tail: None,
            waiting: BTreeMap::new(),
        });
        Ok(Computed::Prepared)
    }

    fn begin(
        &mut self,
        plan: RoundPlan,
        blocks: Vec<TensorMessage>,
        rolled_back: bool,
    ) -> Result<Computed, String> {
        let training = self.training.as_mut().ok_or("a round began before there was a model")?;
        let moved = training.begin(&self.rounds, &self.compute, &plan, blocks, rolled_back)?;
        self.rounds.begin_round(plan.round, matches!(plan.start, StartFrom::Own { .. }));
        if !self.is_warm {
            training.warm_up(&self.name, &plan)?;
            self.is_warm = true;
        }
        Ok(Computed::Begun { round: plan.round, attempt: plan.attempt, moved })
    }

    fn forward(&mut self, plan: RoundPlan, step: u32, micro_batch: MicroBatch) -> Result<Computed, String> {
        let tapes = self.tapes.clone();
        let (result, seconds) = self.emulated(|name, shard, training| {
            let (pending, activations, labels, context) =
                training.forward(name, shard, &plan, step, micro_batch)?;
            let pending = match tapes {
                None => Some((pending, None)),
                Some(tapes) => {
                    let reserved = tapes.reserve(training.tape_bytes(plan.cut as usize, context.samples()));
                    reserved.map(|reserved| (pending, Some(reserved)))
                }
            };
            let head = training.head.as_ref().ok_or("a step began before its round")?;
            let sent = if training.tail.is_some() { &[][..] } else { &labels };
            let header = TensorHeader {
                round: plan.round,
                attempt: plan.attempt,
                step,
                micro_batch: micro_batch.index as u16,
                ..TensorHeader::new(TensorKind::Activations, plan.activations.values)
            };
            let shape = BatchShape::of(context.samples(), head.output_shape());
            let draws = &mut TopK::draws(context.seed, name, context.step, micro_batch.index);
            let (tensor, selection) =
                encode_activations(header, plan.activations, activations, shape, sent, draws);
            let waiting = Waiting { step, pending, labels, selection };
            training.waiting.insert(micro_batch.index, waiting);
            Ok(tensor)
        })?;
        let RoundPlan { round, attempt, .. } = plan;
        Ok(Computed::Forwarded { round, attempt, step, micro_batch, activations: result, seconds })
    }

    /// All that the last layers do, with the labels that never left.
    fn tail(
        &mut self,
        plan: RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
        activations: TensorMessage,
    ) -> Result<Computed, String> {
        let RoundPlan { round, attempt, .. } = plan;
        let ((gradient, loss, correct), seconds) = self.emulated(|name, _, training| {
            let context = training.context(name, &plan, step, micro_batch);
            let labels = match training.waiting.get(&micro_batch.index) {
                Some(at) if at.step == step => &at.labels,
                _ => return Err(format!("the activations of step {} have no forward pass", step + 1)),
            };
            let tail = training.tail.as_mut().ok_or("activations came for layers that are not here")?;
            let shape = BatchShape::of(context.samples(), tail.input_shape());
            let Activations { values, selection, .. } =
                decode_activations(activations, shape).map_err(|error| error.to_string())?;
            let outcome = tail.finish_step(values, labels, &context).map_err(|error| error.to_string())?;
            let header = TensorHeader {
                round,
                attempt,
                step,
                micro_batch: micro_batch.index as u16,
                ..TensorHeader::new(TensorKind::TailGradient, plan.gradients)
            };
            let gradient = encode_gradient(header, outcome.gradient, shape, selection.as_ref());
            Ok((gradient, outcome.loss, outcome.correct as u32))
        })?;
        Ok(Computed::TailStepped { round, attempt, step, micro_batch, gradient, loss, correct, seconds })
    }

    fn backward(
        &mut self,
        plan: RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
        gradient: TensorMessage,
    ) -> Result<Computed, String> {
        let ((), seconds) = self.emulated(|name, shard, training| {
            let waiting = training.waiting.remove(&micro_batch.index).filter(|it| it.step == step);
            let Some(Waiting { pending, selection, .. }) = waiting else {
                return Err(format!("the gradient of step {} has no forward pass", step + 1));
            };
            let pending = match pending {
                Some((pending, _)) => pending,
                None => training.forward(name, shard, &plan, step, micro_batch)?.0,
            };
            let gradient =
                decode_gradient(gradient, selection.as_ref()).map_err(|error| error.to_string())?;
            let context = training.context(name, &plan, step, micro_batch);
            let head = training.head.as_mut().ok_or("a gradient came before its round")?;
            head.backward(pending, gradient, &context).map(drop).map_err(|error| error.to_string())
        })?;
        let RoundPlan { round, attempt, .. } = plan;
        Ok(Computed::Backwarded { round, attempt, step, micro_batch, seconds })
    }

    fn local_step(&mut self, plan: RoundPlan, step: u32) -> Result<Computed, String> {
        let (outcome, seconds) = self.emulated(|name, shard, training| {
            let (values, labels, context) = training.batch(name, shard, &plan, step, MicroBatch::WHOLE)?;
            let head = training.head.as_mut().ok_or("a step began before its round")?;
            match &mut training.tail {
                None => head.local_step(values, &labels, &context),
                Some(tail) => local_step_in_two(head, tail, values, &labels, &context),
            }
            .map_err(|error| error.to_string())
        })?;
        let RoundPlan { round, attempt, .. } = plan;
        Ok(Computed::LocalStepped {
            round,
            attempt,
            step,
            loss: outcome.loss,
            correct: outcome.correct as u32,
            seconds,
        })
    }

    fn end_round(&mut self, plan: RoundPlan) -> Result<Computed, String> {
        let training = self.training.as_mut().ok_or("a round ended before there was a model")?;
        let RoundPlan { round, attempt, cut, aggregate, steps, .. } = plan;
        let completed = Completed { round, attempt, cut, aggregate, steps };
        let head = training.head.as_ref().ok_or("a round ended before it began")?;
        let tail = training.tail.as_ref();
        let copied = self.rounds.save(training.session, completed, head, tail);
        let copied = copied.map_err(|error| error.to_string())?;
        let uploads = if aggregate {
            let model = copied.unwrap_or_else(|| ClientModel::of(head, tail));
            encoded(model, round, attempt, steps)
        } else {
            Vec::new()
        };
        Ok(Computed::RoundEnded { round, attempt, uploads, peak_rss_bytes: peak_rss_bytes().unwrap_or(0) })
    }

    fn upload(&mut self, completed: Completed) -> Result<Computed, String> {
        let training = self.training.as_ref().ok_or("an upload was asked for before there was a model")?;
        let Completed { round, attempt, aggregate, steps, .. } = completed;
        let uploads = if aggregate {
            let moments = training.assignment.optimizer.moments().len();
            encoded(self.rounds.load(training.session, round, moments)?, round, attempt, steps)
        } else {
            Vec::new()
        };
        Ok(Computed::RoundEnded { round, attempt, uploads, peak_rss_bytes: peak_rss_bytes().unwrap_or(0) })
    }

    /// The client-side model, whose end of the round is in the folder, makes room for the whole one.
    fn evaluate(&mut self, session: u64, model: TensorMessage) -> Result<Computed, String> {
        let compute = self.compute.clone();
        let round = model.header.round;
        let (result, _) = self.emulated(|_, shard, training| {
            (training.head, training.tail) = (None, None);
            training.waiting.clear();
            let held_out = HeldOut {
                shard,
                indices: &training.split.held_out,
                standardizer: &training.standardizer,
                batch: training.assignment.batch_size as usize,
            };
            Ok(held_out.evaluate(&training.spec, model, &compute))
        })?;
        Ok(Computed::Evaluated { session, round, result })
    }

    /// Runs work on the compute threads, then waits as long as the emulated device would still take.
    /// Returns what the work took, in seconds.
    fn emulated<R: Send>(
        &mut self,
        work: impl FnOnce(&str, &Samples, &mut Training) -> Result<R, String> + Send,
    ) -> Result<(R, f64), String> {
        let training = self.training.as_mut().ok_or("a step was asked for before there was a model")?;
        let (name, shard) = (self.name.as_str(), self.shard.as_ref());
        let speed = self.speed.as_ref().map(Speed::now);
        let (result, spent) = self.compute.timed(|| work(name, shard, training));
        let Spent { wall, .. } = spent;
        let takes = speed.map_or(wall, |speed| stretched(spent, speed));
        let rest = takes.saturating_sub(wall);
        if rest > Duration::ZERO {
            std::thread::sleep(rest);
        }
        Ok((result?, takes.as_secs_f64()))
    }
}

/// A step of layers that are all here, the last ones apart.
fn local_step_in_two(
    head: &mut Half,
    tail: &mut Half,
    values: Vec<f32>,
    labels: &[u32],
    context: &StepContext,
) -> Result<Outcome, StepError> {
    let (pending, activations) = head.forward(values, context)?;
    let outcome = tail.finish_step(activations, labels, context)?;
    head.backward(pending, outcome.gradient.clone(), context)?;
    Ok(outcome)
}

/// What is sent of an edge's layers for an aggregation.
fn encoded(model: ClientModel, round: u32, attempt: u32, steps: u32) -> Vec<TensorMessage> {
    let head = (!model.head.layers.is_empty()).then_some(model.head);
    let states = head.into_iter().chain(model.tail);
    states.map(|state| encode_state(round, attempt, steps, state)).collect()
}
