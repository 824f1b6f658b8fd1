//! The compute thread: the participant's jobs on real tensors, one after the other.

use std::sync::Arc;
use std::time::Duration;

use partway_core::codec::{BatchShape, Selection, TopK};
use partway_core::holdout::ShardSplit;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::participant::{Completed, Computed, Job};
use partway_core::standardize::{Standardizer, Transform};
use partway_core::statistics::{self, ChannelStatistics};
use partway_core::wire::{
    Assignment, RoundPlan, StartFrom, TensorHeader, TensorKind, TensorMessage, decode_gradient, decode_state,
    encode_activations, encode_state,
};
use partway_datasets::{BatchOrder, Samples};
use partway_model::memory::peak_rss_bytes;
use partway_model::{Compute, Half, Pending, Spent, StepContext};

use crate::emulation::stretched;
use crate::evaluation::HeldOut;
use crate::state_folder::StateFolder;

/// What an edge computes with.
pub(crate) struct Worker {
    name: String,
    shard: Arc<Samples>,
    folder: StateFolder,
    compute: Compute,
    /// Emulated speed, if any.
    speed: Option<f64>,
    training: Option<Training>,
}

/// What there is once the model is known.
struct Training {
    session: u64,
    seed: u64,
    spec: Arc<ModelSpec>,
    assignment: Box<Assignment>,
    standardizer: Standardizer,
    /// Which samples are trained on, and which are evaluated on.
    split: ShardSplit,
    order: BatchOrder,
    half: Option<Half>,
    waiting: Option<Waiting>,
}

/// A forward pass that waits for its gradient.
struct Waiting {
    step: u32,
    pending: Pending,
    /// Which activations travelled, if not all.
    selection: Option<Selection>,
}

impl Worker {
    pub(crate) fn new(
        name: String,
        shard: Arc<Samples>,
        folder: StateFolder,
        compute: Compute,
        speed: Option<f64>,
    ) -> Self {
        Self { name, shard, folder, compute, speed, training: None }
    }

    /// Does a job. What cannot be done is an answer too.
    pub(crate) fn handle(&mut self, job: Job) -> Computed {
        self.compute_job(job).unwrap_or_else(|reason| Computed::Failed { reason })
    }

    fn compute_job(&mut self, job: Job) -> Result<Computed, String> {
        match job {
            Job::Statistics { assignment, of } => self.statistics(&assignment, of),
            Job::Prepare { assignment, standardizer } => self.prepare(assignment, standardizer),
            Job::Begin { plan, block, rolled_back } => self.begin(plan, block, rolled_back),
            Job::Forward { plan, step } => self.forward(plan, step),
            Job::Backward { plan, step, gradient } => self.backward(plan, step, gradient),
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
        self.folder.begin_session(assignment.session).map_err(|error| error.to_string())?;
        let split = self.split(&assignment);
        let order = BatchOrder::new(assignment.seed, &self.name, split.training.len())
            .map_err(|error| error.to_string())?;
        self.training = Some(Training {
            session: assignment.session,
            seed: assignment.seed,
            spec: Arc::new(assignment.model.clone()),
            assignment,
            standardizer,
            split,
            order,
            half: None,
            waiting: None,
        });
        Ok(Computed::Prepared)
    }

    fn begin(
        &mut self,
        plan: RoundPlan,
        block: Option<TensorMessage>,
        rolled_back: bool,
    ) -> Result<Computed, String> {
        let training = self.training.as_mut().ok_or("a round began before there was a model")?;
        let optimizer = training.assignment.optimizer;
        let moments = optimizer.moments().len();
        let cut = plan.cut as usize;
        training.waiting = None;
        let mut moved = None;
        let unchanged = !rolled_back && training.half.as_ref().is_some_and(|half| half.layers() == (0..cut));
        let state = match plan.start {
            StartFrom::Own { .. } if unchanged => None,
            StartFrom::Initial => Some(LayerState::initial(&training.spec, 0..cut, moments, training.seed)),
            StartFrom::Cloud => Some(match block {
                Some(block) => {
                    decode_state(&training.spec, moments, block).map_err(|error| error.to_string())?
                }
                None => LayerState { layers: 0..0, moments, values: Vec::new() },
            }),
            StartFrom::Own { upload_moved } => {
                let mut state = match training.half.take() {
                    Some(half) if !rolled_back => half.into_state(),
                    _ => {
                        let before = plan
                            .round
                            .checked_sub(1)
                            .ok_or("there is no round before the first to go back to")?;
                        self.folder
                            .load_round(training.session, before, moments)
                            .map_err(|error| error.to_string())?
                    }
                };
                if cut < state.layers.end {
                    let rest = state.split_off(&training.spec, cut);
                    moved = upload_moved.then(|| encode_state(plan.round, plan.attempt, 0, rest));
                } else if let Some(block) = block {
                    let block =
                        decode_state(&training.spec, moments, block).map_err(|error| error.to_string())?;
                    if block.layers.start != state.layers.end {
                        return Err(format!(
                            "the cloud sent layers {:?} after {:?}",
                            block.layers, state.layers
                        ));
                    }
                    state.append(block);
                }
                Some(state)
            }
        };
        if let Some(state) = state {
            if state.layers != (0..cut) {
                return Err(format!(
                    "round {}: the state has layers {:?} where the cut is {cut}",
                    plan.round + 1,
                    state.layers
                ));
            }
            let half = Half::from_state(&training.spec, optimizer, state, &self.compute);
            training.half = Some(half.map_err(|error| error.to_string())?);
        }
        Ok(Computed::Begun { round: plan.round, attempt: plan.attempt, moved })
    }

    fn forward(&mut self, plan: RoundPlan, step: u32) -> Result<Computed, String> {
        let (result, seconds) = self.emulated(|name, shard, training| {
            let (values, labels, context) = training.batch(name, shard, &plan, step)?;
            let half = training.half.as_ref().ok_or("a step began before its round")?;
            let (pending, activations) = half.forward(values, &context).map_err(|error| error.to_string())?;
            let header = TensorHeader {
                round: plan.round,
                attempt: plan.attempt,
                step,
                ..TensorHeader::new(TensorKind::Activations, plan.activations.values)
            };
            let shape = BatchShape::of(context.batch, half.output_shape());
            let draws = &mut TopK::draws(context.seed, name, context.step);
            let (tensor, selection) =
                encode_activations(header, plan.activations, activations, shape, &labels, draws);
            training.waiting = Some(Waiting { step, pending, selection });
            Ok(tensor)
        })?;
        let RoundPlan { round, attempt, .. } = plan;
        Ok(Computed::Forwarded { round, attempt, step, activations: result, seconds })
    }

    fn backward(&mut self, plan: RoundPlan, step: u32, gradient: TensorMessage) -> Result<Computed, String> {
        let ((), seconds) = self.emulated(|name, _, training| {
            let Some(Waiting { pending, selection, .. }) = training.waiting.take_if(|it| it.step == step)
            else {
                return Err(format!("the gradient of step {} has no forward pass", step + 1));
            };
            let gradient =
                decode_gradient(gradient, selection.as_ref()).map_err(|error| error.to_string())?;
            let context = training.context(name, &plan, step);
            let half = training.half.as_mut().ok_or("a gradient came before its round")?;
            half.backward(pending, gradient, &context).map_err(|error| error.to_string())
        })?;
        let RoundPlan { round, attempt, .. } = plan;
        Ok(Computed::Backwarded { round, attempt, step, seconds })
    }

    fn local_step(&mut self, plan: RoundPlan, step: u32) -> Result<Computed, String> {
        let (outcome, seconds) = self.emulated(|name, shard, training| {
            let (values, labels, context) = training.batch(name, shard, &plan, step)?;
            let half = training.half.as_mut().ok_or("a step began before its round")?;
            half.local_step(values, &labels, &context).map_err(|error| error.to_string())
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
        let state = training.half.as_ref().ok_or("a round ended before it began")?.state();
        self.folder.save_round(training.session, completed, &state).map_err(|error| error.to_string())?;
        let upload = (aggregate && cut > 0).then(|| encode_state(round, attempt, steps, state));
        Ok(Computed::RoundEnded { round, attempt, upload, peak_rss_bytes: peak_rss_bytes().unwrap_or(0) })
    }

    fn upload(&mut self, completed: Completed) -> Result<Computed, String> {
        let training = self.training.as_ref().ok_or("an upload was asked for before there was a model")?;
        let Completed { round, attempt, cut, aggregate, steps } = completed;
        let upload = if aggregate && cut > 0 {
            let moments = training.assignment.optimizer.moments().len();
            let state = self.folder.load_round(training.session, round, moments);
            Some(encode_state(round, attempt, steps, state.map_err(|error| error.to_string())?))
        } else {
            None
        };
        Ok(Computed::RoundEnded { round, attempt, upload, peak_rss_bytes: peak_rss_bytes().unwrap_or(0) })
    }

    /// The client-side model, whose end of the round is in the folder, makes room for the whole one.
    fn evaluate(&mut self, session: u64, model: TensorMessage) -> Result<Computed, String> {
        let compute = self.compute.clone();
        let round = model.header.round;
        let (result, _) = self.emulated(|_, shard, training| {
            (training.half, training.waiting) = (None, None);
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
        let (result, spent) = self.compute.timed(|| work(name, shard, training));
        let Spent { wall, .. } = spent;
        let takes = self.speed.map_or(wall, |speed| stretched(spent, speed));
        let rest = takes.saturating_sub(wall);
        if rest > Duration::ZERO {
            std::thread::sleep(rest);
        }
        Ok((result?, takes.as_secs_f64()))
    }
}

impl Training {
    fn context<'a>(&self, name: &'a str, plan: &RoundPlan, step: u32) -> StepContext<'a> {
        let steps_per_round = u64::from(self.assignment.steps_per_round);
        StepContext {
            seed: self.seed,
            edge: name,
            step: u64::from(plan.round) * steps_per_round + u64::from(step),
            optimizer_step: plan.optimizer_steps + u64::from(step) + 1,
            batch: self.assignment.batch_size as usize,
        }
    }

    /// The step's samples, standardized, and their labels.
    fn batch<'a>(
        &mut self,
        name: &'a str,
        shard: &Samples,
        plan: &RoundPlan,
        step: u32,
    ) -> Result<(Vec<f32>, Vec<u32>, StepContext<'a>), String> {
        let context = self.context(name, plan, step);
        let indices = self.order.indices(context.step, context.batch);
        let indices: Vec<usize> = indices.into_iter().map(|index| self.split.training[index]).collect();
        let (values, labels) =
            shard.standardized(&indices, &self.standardizer).map_err(|error| error.to_string())?;
        Ok((values, labels, context))
    }
}
