//! An edge device: processes that come and go, jobs one after the other, a folder that stays.
//!
//! Follows the contract of the real driver: `edge/src/{session,worker,state_folder}.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use partway_core::micro_batch::MicroBatch;
use partway_core::model::LayerState;
use partway_core::participant::{Completed, Computed, Job, Outcome, Participant, Restored};
use partway_core::statistics::ChannelStatistics;
use partway_core::wire::{
    Assignment, RoundPlan, Score, StartFrom, TensorHeader, TensorKind, TensorMessage, decode_state,
    encode_state,
};

use crate::fake_model::{Accumulated, Context, FakeModel, MOMENTS, Tape, batch, from_values, to_values};
use crate::ledger::Ledger;
use crate::scenario::{Scenario, bits};

/// What survives a crash: the last two rounds, the even and the odd one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    session: Option<u64>,
    rounds: [Option<(u64, Completed, ClientModel)>; 2],
}

/// An edge's layers: those before the cut and, where the labels stay there, the last ones.
#[derive(Clone, Debug)]
struct ClientModel {
    head: LayerState,
    tail: Option<LayerState>,
}

impl Folder {
    pub(crate) fn restore(&self) -> Option<Restored> {
        let session = self.session?;
        let ours = self.rounds.iter().flatten().filter(|(of, _, _)| *of == session);
        let completed = ours.map(|(_, completed, _)| *completed).max_by_key(|completed| completed.round);
        Some(Restored { session, completed })
    }

    fn begin_session(&mut self, session: u64) {
        if self.session != Some(session) {
            self.rounds = [None, None];
            self.session = Some(session);
        }
    }

    fn save_round(&mut self, session: u64, completed: Completed, model: ClientModel) {
        self.rounds[completed.round as usize % 2] = Some((session, completed, model));
    }

    fn load_round(&self, session: u64, round: u32) -> Result<ClientModel, String> {
        match &self.rounds[round as usize % 2] {
            Some((of, found, model)) if *of == session && found.round == round => Ok(model.clone()),
            _ => Err(format!("the folder has no round {round} of {session}: {:?}", self.restore())),
        }
    }
}

impl ClientModel {
    /// What is sent of it for an aggregation.
    fn encoded(self, round: u32, attempt: u32, steps: u32, cut: u32) -> Vec<TensorMessage> {
        let head = (cut > 0).then_some(self.head);
        let states = head.into_iter().chain(self.tail);
        states.map(|state| encode_state(round, attempt, steps, state)).collect()
    }
}

/// One edge and what became of it.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) name: String,
    pub(crate) samples: u64,
    pub(crate) memory_limit: Option<u64>,
    /// A step of the run whose activations are not finite, once or always.
    pub(crate) poison: Option<Poison>,
    pub(crate) folder: Folder,
    pub(crate) process: Option<Process>,
    /// Processes so far: tells the results of a crashed one apart.
    pub(crate) processes: u32,
    pub(crate) outcome: Option<Outcome>,
}

/// A step that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poison {
    pub(crate) step: u64,
    pub(crate) once: bool,
}

/// A running process: the state machine, its compute thread, its timer.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) participant: Participant,
    pub(crate) worker: Worker,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) connection: Option<u64>,
    /// Counts the timers: only the last one set counts.
    pub(crate) timers: u64,
}

/// The compute thread's memory.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    training: Option<Training>,
}

#[derive(Debug)]
struct Training {
    assignment: Box<Assignment>,
    model: Option<ClientModel>,
    /// The micro-batches of a step that wait for the cloud, and what has come back of them.
    pending: BTreeMap<u32, (u32, Tape)>,
    accumulated: Accumulated,
    /// Of the last layers, where the labels stay here.
    tail_accumulated: Accumulated,
}

/// What a job may touch beside the worker's own memory.
pub(crate) struct Surroundings<'a> {
    pub(crate) name: &'a str,
    pub(crate) samples: u64,
    pub(crate) folder: &'a mut Folder,
    pub(crate) poison: &'a mut Option<Poison>,
    pub(crate) model: &'a Arc<FakeModel>,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) scenario: &'a Scenario,
    /// The global models, by the round after which they were made.
    pub(crate) globals: &'a BTreeMap<u32, LayerState>,
}

/// The values of an edge's samples: one channel, of another range on each.
pub(crate) fn data(name: &str) -> Vec<f32> {
    let size = name.len() as f32;
    (0..8u8).map(|at| f32::from(at) * size - f32::from(name.as_bytes()[0] % 7)).collect()
}

impl Worker {
    /// Does a job. What cannot be done is an answer too.
    pub(crate) fn handle(&mut self, around: &mut Surroundings<'_>, job: Job) -> Computed {
        self.compute(around, job).unwrap_or_else(|reason| Computed::Failed { reason })
    }

    fn compute(&mut self, around: &mut Surroundings<'_>, job: Job) -> Result<Computed, String> {
        match job {
            Job::Statistics { of, .. } => {
                let mut values = data(around.name);
                let plane = values.len();
                of.apply(&mut values, plane).map_err(|error| error.to_string())?;
                let mut channel = ChannelStatistics::default();
                channel.push_all(&values);
                Ok(Computed::Statistics { of, channels: vec![channel] })
            }
            Job::Prepare { assignment, .. } => {
                around.folder.begin_session(assignment.session);
                self.training = Some(Training {
                    assignment,
                    model: None,
                    pending: BTreeMap::new(),
                    accumulated: Accumulated::default(),
                    tail_accumulated: Accumulated::default(),
                });
                Ok(Computed::Prepared)
            }
            Job::Evaluate { session, model } => self.evaluate(around, session, model),
            Job::Begin { plan, blocks, rolled_back } => self.begin(around, plan, blocks, rolled_back),
            Job::Forward { plan, step, micro_batch } => self.forward(around, plan, step, micro_batch),
            Job::Tail { plan, step, micro_batch, activations } => {
                self.tail(around, plan, step, micro_batch, activations)
            }
            Job::Backward { plan, step, micro_batch, gradient } => {
                self.backward(around, plan, step, micro_batch, gradient)
            }
            Job::LocalStep { plan, step } => {
                let training = self.training()?;
                let context = training.context(around.name, &plan, step, MicroBatch::WHOLE);
                let ClientModel { head, tail } =
                    training.model.as_mut().ok_or("a local step began before its round")?;
                around.model.step(head, tail.as_mut(), &context, plan.in_flight, around.ledger);
                let RoundPlan { round, attempt, .. } = plan;
                Ok(Computed::LocalStepped { round, attempt, step, loss: 1.0, correct: 1, seconds: 0.01 })
            }
            Job::EndRound { plan } => self.end_round(around, plan),
            Job::Upload(completed) => {
                let Completed { round, attempt, cut, aggregate, steps } = completed;
                let session = self.training()?.assignment.session;
                let uploads = if aggregate {
                    around.folder.load_round(session, round)?.encoded(round, attempt, steps, cut)
                } else {
                    Vec::new()
                };
                Ok(Computed::RoundEnded { round, attempt, uploads, peak_rss_bytes: 1 })
            }
        }
    }

    fn training(&mut self) -> Result<&mut Training, String> {
        self.training.as_mut().ok_or_else(|| "a job came before there was a model".into())
    }

    /// The global model makes the other one go, as on a device without memory for both.
    fn evaluate(
        &mut self,
        around: &Surroundings<'_>,
        session: u64,
        model: TensorMessage,
    ) -> Result<Computed, String> {
        let training = self.training()?;
        training.model = None;
        training.pending.clear();
        let round = model.header.round;
        let state = decode_state(&around.model.spec, 0, model).map_err(|error| error.to_string())?;
        let global = around.globals.get(&round).expect("a model is evaluated after it was made");
        assert!(bits(&state) == bits(&global.without_moments(&around.model.spec)), "not the global model");
        let samples = around.samples - around.scenario.trained_on(around.samples);
        let correct = around.scenario.correct(round, samples);
        Ok(Computed::Evaluated {
            session,
            round,
            result: Ok(Score { correct, loss_sum: samples as f64, samples }),
        })
    }

    fn begin(
        &mut self,
        around: &Surroundings<'_>,
        plan: RoundPlan,
        blocks: Vec<TensorMessage>,
        rolled_back: bool,
    ) -> Result<Computed, String> {
        let training = self.training()?;
        let spec = &around.model.spec;
        let (cut, last) = (plan.cut as usize, training.assignment.tail.map(|tail| tail as usize..spec.len()));
        let mut blocks: Vec<LayerState> = blocks
            .into_iter()
            .map(|block| decode_state(spec, MOMENTS, block).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        let from_cloud = |at: usize| blocks.iter().position(|block| block.layers.start == at);
        training.pending.clear();
        (training.accumulated, training.tail_accumulated) = (Accumulated::default(), Accumulated::default());
        let mut moved = None;
        let ClientModel { head, tail } = match plan.start {
            StartFrom::Initial => {
                let initial = |layers| LayerState::initial(spec, layers, MOMENTS, training.assignment.seed);
                ClientModel { head: initial(0..cut), tail: last.clone().map(initial) }
            }
            StartFrom::Cloud => {
                let tail = last.as_ref().and_then(|last| from_cloud(last.start)).map(|at| blocks.remove(at));
                let none = LayerState { layers: 0..0, moments: MOMENTS, values: Vec::new() };
                ClientModel { head: blocks.pop().unwrap_or(none), tail }
            }
            StartFrom::Own { upload_moved } => {
                let ClientModel { head: mut state, tail } = match training.model.take() {
                    Some(model) if !rolled_back => model,
                    _ => {
                        let before = plan.round.checked_sub(1).ok_or("no round before the first")?;
                        around.folder.load_round(training.assignment.session, before)?
                    }
                };
                if cut < state.layers.end {
                    let rest = state.split_off(spec, cut);
                    moved = upload_moved.then(|| encode_state(plan.round, plan.attempt, 0, rest));
                } else if let Some(block) = blocks.pop() {
                    state.append(block);
                }
                ClientModel { head: state, tail }
            }
        };
        if head.layers != (0..cut) || tail.as_ref().map(|tail| &tail.layers) != last.as_ref() {
            return Err(format!(
                "the state has layers {:?} and {tail:?} where the cut is {cut}",
                head.layers
            ));
        }
        training.model = Some(ClientModel { head, tail });
        Ok(Computed::Begun { round: plan.round, attempt: plan.attempt, moved })
    }

    fn forward(
        &mut self,
        around: &mut Surroundings<'_>,
        plan: RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
    ) -> Result<Computed, String> {
        let training = self.training()?;
        let context = training.context(around.name, &plan, step, micro_batch);
        let (input, labels) = batch(&context);
        let labels_stay = training.assignment.tail.is_some();
        let half = &mut training.model.as_mut().ok_or("a step began before its round")?.head;
        let tape = around.model.forward(half, input, &context, around.ledger);
        let mut values = to_values(tape.output);
        if let Some(poison) = *around.poison
            && poison.step == context.step
            && context.step % u64::from(micro_batch.of) == u64::from(micro_batch.index)
        {
            values[0] = f32::NAN;
            if poison.once {
                *around.poison = None;
            }
        }
        training.pending.insert(micro_batch.index, (step, tape));
        let RoundPlan { round, attempt, .. } = plan;
        let header = TensorHeader {
            round,
            attempt,
            step,
            micro_batch: micro_batch.index as u16,
            ..TensorHeader::new(TensorKind::Activations, plan.activations.values)
        };
        let sent = if labels_stay { &[][..] } else { &labels };
        let activations = TensorMessage::encode(header, values, sent);
        Ok(Computed::Forwarded { round, attempt, step, micro_batch, activations, seconds: 0.01 })
    }

    fn tail(
        &mut self,
        around: &mut Surroundings<'_>,
        plan: RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
        activations: TensorMessage,
    ) -> Result<Computed, String> {
        let training = self.training()?;
        if training.pending.get(&micro_batch.index).is_none_or(|(at, _)| *at != step) {
            return Err(format!("the activations of step {} have no forward pass", step + 1));
        }
        let (values, _) = activations.decode().map_err(|error| error.to_string())?;
        let context = training.context(around.name, &plan, step, micro_batch);
        let (_, labels) = batch(&context);
        let model = training.model.as_mut().ok_or("activations came before their round")?;
        let tail = model.tail.as_mut().ok_or("activations came for layers that are not here")?;
        let (input, accumulated) = (from_values(&values)?, &mut training.tail_accumulated);
        let gradient = around.model.finish(tail, input, &labels, &context, accumulated, around.ledger);
        let RoundPlan { round, attempt, .. } = plan;
        let header = TensorHeader {
            round,
            attempt,
            step,
            micro_batch: micro_batch.index as u16,
            ..TensorHeader::new(TensorKind::TailGradient, plan.gradients)
        };
        let gradient = TensorMessage::encode(header, to_values(gradient), &[]);
        let (loss, correct, seconds) = (1.0, 1, 0.01);
        Ok(Computed::TailStepped { round, attempt, step, micro_batch, gradient, loss, correct, seconds })
    }

    fn backward(
        &mut self,
        around: &mut Surroundings<'_>,
        plan: RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
        gradient: TensorMessage,
    ) -> Result<Computed, String> {
        let training = self.training()?;
        let (values, _) = gradient.decode().map_err(|error| error.to_string())?;
        let tape = match training.pending.remove(&micro_batch.index) {
            Some((at, tape)) if at == step => tape,
            _ => return Err(format!("the gradient of step {} has no forward pass", step + 1)),
        };
        let context = training.context(around.name, &plan, step, micro_batch);
        let half = &mut training.model.as_mut().ok_or("a gradient came before its round")?.head;
        let gradient = from_values(&values)?;
        around.model.backward(half, &tape, gradient, &context, &mut training.accumulated, around.ledger);
        let RoundPlan { round, attempt, .. } = plan;
        Ok(Computed::Backwarded { round, attempt, step, micro_batch, seconds: 0.01 })
    }

    fn end_round(&mut self, around: &mut Surroundings<'_>, plan: RoundPlan) -> Result<Computed, String> {
        let training = self.training()?;
        let RoundPlan { round, attempt, cut, aggregate, steps, .. } = plan;
        let completed = Completed { round, attempt, cut, aggregate, steps };
        let model = training.model.clone().ok_or("a round ended before it began")?;
        around.folder.save_round(training.assignment.session, completed, model.clone());
        let uploads = if aggregate { model.encoded(round, attempt, steps, cut) } else { Vec::new() };
        Ok(Computed::RoundEnded { round, attempt, uploads, peak_rss_bytes: 1 })
    }
}

impl Training {
    fn context<'a>(
        &self,
        name: &'a str,
        plan: &RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
    ) -> Context<'a> {
        Context {
            edge: name,
            step: u64::from(plan.round) * u64::from(self.assignment.steps_per_round) + u64::from(step),
            optimizer_step: plan.optimizer_steps + u64::from(step) + 1,
            micro_batch,
        }
    }
}
