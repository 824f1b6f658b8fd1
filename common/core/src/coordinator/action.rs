//! What the coordinator asks of its driver, and what the driver answers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::{ActivationCodec, Codec};
use crate::event::Event;
use crate::micro_batch::MicroBatch;
use crate::model::LayerState;
use crate::standardize::Standardizer;
use crate::wire::{CloudMessage, TensorMessage};

/// A connection, as the driver numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Something for the driver to do, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send a control message.
    Send {
        /// To whom.
        to: ConnectionId,
        /// What.
        message: CloudMessage,
    },
    /// Send a tensor on a stream of its own.
    SendTensor {
        /// To whom.
        to: ConnectionId,
        /// What.
        tensor: TensorMessage,
        /// At no more than this many bytes per second.
        pace: Option<f64>,
    },
    /// Compute something. Jobs of one replica run in this order; different replicas may run at the
    /// same time.
    Compute(Job),
    /// Call `handle_timeout` at this time; replaces the timer before it.
    SetTimer(Option<Duration>),
    /// Make this durable.
    Checkpoint(Checkpoint),
    /// Record an event.
    Emit(Event),
    /// Close a connection, after what was sent to it before.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: String,
    },
    /// The run is over; nothing follows.
    Finish(Outcome),
}

/// Which server-side model a job is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Replica {
    /// The replica of one edge.
    Of(String),
    /// The one model that all edges' batches update.
    Shared,
}

/// Tensor work.
#[derive(Clone, Debug)]
pub enum Job {
    /// Make the replica anew from some layers of a state.
    Place {
        /// Which replica.
        replica: Replica,
        /// Where its values are.
        state: Arc<LayerState>,
        /// Its layers.
        layers: Range<usize>,
    },
    /// The cloud's part of a step. Answered by [`Computed::Stepped`], or by [`Computed::Passed`] where the
    /// labels stay on the edge, or by [`Computed::Rejected`].
    Step(StepJob),
    /// Free the replica: no other job of it follows before it is placed again.
    Discard {
        /// Which replica.
        replica: Replica,
    },
    /// Copy the replica's state. Answered by [`Computed::Exported`].
    Export {
        /// Which replica.
        replica: Replica,
        /// The round whose end it is.
        round: u32,
        /// The attempt at it.
        attempt: u32,
    },
    /// Average full models, or client-side models of one cut. Answered by [`Computed::Aggregated`].
    Aggregate {
        /// The round after which.
        round: u32,
        /// Weight and parts of each, in edge order: adjoining layers, without those that are shared and need
        /// no averaging.
        models: Vec<(f64, Vec<LayerState>)>,
        /// Whether the optimizer moments start anew.
        reset_moments: bool,
    },
    /// Evaluate the global model. Answered by [`Computed::Evaluated`].
    Evaluate {
        /// The round after which it was made.
        round: u32,
        /// The whole model.
        state: Arc<LayerState>,
        /// How samples are standardized.
        standardizer: Standardizer,
    },
}

/// What a replica does with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepPart {
    /// Finishes the step: forward, loss, backward, optimizer step.
    Whole,
    /// Labels on the edge: forward up to the edge's last layers. The replica keeps what the way back needs.
    Forward,
    /// Labels on the edge: backward from the gradient of these activations, optimizer step.
    Backward,
}

/// One step's cloud part.
#[derive(Clone, Debug)]
pub struct StepJob {
    /// Which part.
    pub part: StepPart,
    /// Whose server-side model.
    pub replica: Replica,
    /// Whose batch.
    pub edge: String,
    /// The round.
    pub round: u32,
    /// The attempt at it.
    pub attempt: u32,
    /// The step in the round, from 0.
    pub step: u32,
    /// The step in the run, from 0: names the dropout masks.
    pub global_step: u64,
    /// Which of the step's micro-batches: the gradients of the others are kept until the last one, after which the
    /// optimizer steps.
    pub micro_batch: MicroBatch,
    /// Adam's `t`, from 1.
    pub optimizer_step: u64,
    /// The activations and labels, or the gradient.
    pub tensor: TensorMessage,
    /// How activations travel, if they are the answer.
    pub activations: ActivationCodec,
    /// Codec of the gradient, if that is the answer.
    pub gradients: Codec,
}

/// A job's result.
#[derive(Clone, Debug)]
pub enum Computed {
    /// A micro-batch is done; with the last one its step is.
    Stepped {
        /// Whose batch.
        edge: String,
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches.
        micro_batch: MicroBatch,
        /// The cut gradient, to be sent.
        reply: TensorMessage,
        /// Mean loss.
        loss: f32,
        /// Correct predictions.
        correct: u32,
        /// Time of the computation alone, in seconds.
        seconds: f64,
    },
    /// A micro-batch has gone forward or back through layers between the edge's.
    Passed {
        /// Whose batch.
        edge: String,
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches.
        micro_batch: MicroBatch,
        /// The activations before the edge's last layers, or the cut gradient; to be sent.
        reply: TensorMessage,
        /// Time of the computation alone, in seconds.
        seconds: f64,
    },
    /// A step's activations are not usable; the replica is as it was.
    Rejected {
        /// Whose.
        edge: String,
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// What is wrong with them.
        reason: String,
    },
    /// A replica's state.
    Exported {
        /// Which replica.
        replica: Replica,
        /// The round whose end it is.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// Its layers.
        state: LayerState,
    },
    /// The new global model, or its client-side half.
    Aggregated {
        /// The round after which.
        round: u32,
        /// The layers that were averaged.
        state: LayerState,
    },
    /// How good a global model is: the newest, or the one before if that took long.
    Evaluated {
        /// The round after which it was made.
        round: u32,
        /// The model: what a run ends with if this is good enough.
        state: Arc<LayerState>,
        /// Share of correct predictions.
        accuracy: f64,
        /// Mean loss.
        loss: f64,
        /// Samples evaluated.
        samples: u64,
    },
    /// A job cannot be done at all.
    Failed {
        /// What and why.
        reason: String,
    },
}

/// What a coordinator continues from.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Rounds done.
    pub rounds: u32,
    /// Aggregations done.
    pub aggregations: u32,
    /// Optimizer steps behind the moments: Adam's `t`. Where edges share a model, they cannot be told from
    /// the rounds, in which edges may have been left out.
    pub optimizer_steps: u64,
    /// The global model, with moments.
    pub state: Arc<LayerState>,
}

impl Checkpoint {
    /// The start of a run whose first model is this one and not a random one.
    pub fn before_training(state: LayerState) -> Self {
        Self { rounds: 0, aggregations: 0, optimizer_steps: 0, state: Arc::new(state) }
    }
}

/// How the run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The target was met or the rounds are done.
    Finished {
        /// Rounds that count.
        rounds: u32,
        /// The global model.
        state: Arc<LayerState>,
        /// Whether the accuracy target was met.
        target_reached: bool,
    },
    /// It cannot go on.
    Aborted {
        /// Why and what to do.
        reason: String,
    },
}
