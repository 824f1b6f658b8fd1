//! What the participant asks of its driver, and what the driver answers.

use std::time::Duration;

use crate::micro_batch::MicroBatch;
use crate::standardize::{Standardizer, Transform};
use crate::statistics::ChannelStatistics;
use crate::wire::{Assignment, EdgeMessage, RoundPlan, Score, TensorMessage};

/// Something for the driver to do, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open a connection. Answered by `handle_connected` or `handle_disconnect`.
    Connect,
    /// Send a control message.
    Send(EdgeMessage),
    /// Send a tensor on a stream of its own.
    SendTensor {
        /// What.
        tensor: TensorMessage,
        /// At no more than this many bytes per second.
        pace: Option<f64>,
    },
    /// Compute something; jobs run one after the other, in this order.
    Compute(Job),
    /// Call `handle_timeout` at this time; replaces the timer before it.
    SetTimer(Option<Duration>),
    /// Tell the operator.
    Report(Progress),
    /// The edge's part is over; nothing follows.
    Finish(Outcome),
}

/// Work on tensors and on the edge's state folder.
#[derive(Clone, Debug)]
pub enum Job {
    /// The statistics of the part of the shard that is trained on. Answered by
    /// [`Computed::Statistics`].
    Statistics {
        /// Says which part that is.
        assignment: Box<Assignment>,
        /// What the samples are transformed by before.
        of: Transform,
    },
    /// Get ready to train; a session that is not the state folder's clears it. Answered by
    /// [`Computed::Prepared`].
    Prepare {
        /// What to train and how.
        assignment: Box<Assignment>,
        /// How samples are standardized.
        standardizer: Standardizer,
    },
    /// Make the client-side model what it is at the start of a round. Answered by
    /// [`Computed::Begun`].
    Begin {
        /// The round's plan.
        plan: RoundPlan,
        /// Layers from the cloud.
        blocks: Vec<TensorMessage>,
        /// Whether the model in memory is not what the round before this one ended with, so that it must
        /// come from the state folder.
        rolled_back: bool,
    },
    /// Forward a micro-batch to the cut. Answered by [`Computed::Forwarded`].
    Forward {
        /// The round's plan.
        plan: RoundPlan,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches.
        micro_batch: MicroBatch,
    },
    /// Labels on the edge: all that its last layers do for a micro-batch. Answered by [`Computed::TailStepped`].
    Tail {
        /// The round's plan.
        plan: RoundPlan,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches, each after the one before.
        micro_batch: MicroBatch,
        /// The activations before them.
        activations: TensorMessage,
    },
    /// Take a micro-batch back with the gradient at the cut; the last one finishes the step. Answered by
    /// [`Computed::Backwarded`].
    Backward {
        /// The round's plan.
        plan: RoundPlan,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches, each after the one before.
        micro_batch: MicroBatch,
        /// The gradient.
        gradient: TensorMessage,
    },
    /// A whole step, where all layers run here. Answered by [`Computed::LocalStepped`].
    LocalStep {
        /// The round's plan.
        plan: RoundPlan,
        /// The step in the round.
        step: u32,
    },
    /// Make the end of the round durable beside that of the round before, and encode it if it is to be aggregated. Answered by
    /// [`Computed::RoundEnded`].
    EndRound {
        /// The round's plan.
        plan: RoundPlan,
    },
    /// Encode the durable end of a round once more. Answered by [`Computed::RoundEnded`].
    Upload(Completed),
    /// Evaluate a global model on the samples that are held out; the client-side model in memory may
    /// make room for it. Answered by [`Computed::Evaluated`].
    Evaluate {
        /// The session that it belongs to.
        session: u64,
        /// The whole model.
        model: TensorMessage,
    },
}

/// A job's result. Times in seconds, as the device took them.
#[derive(Clone, Debug)]
pub enum Computed {
    /// The shard's statistics.
    Statistics {
        /// What the samples were transformed by.
        of: Transform,
        /// One entry per channel.
        channels: Vec<ChannelStatistics>,
    },
    /// The edge can train.
    Prepared,
    /// The client-side model is at the start of the round.
    Begun {
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// Layers that a shallower cut gives to the cloud.
        moved: Option<TensorMessage>,
    },
    /// The activations at the cut.
    Forwarded {
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches.
        micro_batch: MicroBatch,
        /// Activations, and labels unless they stay here.
        activations: TensorMessage,
        /// How long it took.
        seconds: f64,
    },
    /// The edge's last layers are done with a micro-batch.
    TailStepped {
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches.
        micro_batch: MicroBatch,
        /// The gradient of the activations before them.
        gradient: TensorMessage,
        /// Mean loss.
        loss: f32,
        /// Correct predictions.
        correct: u32,
        /// How long it took.
        seconds: f64,
    },
    /// A micro-batch has gone back; with the last one the step is done.
    Backwarded {
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// The step in the round.
        step: u32,
        /// Which of its micro-batches.
        micro_batch: MicroBatch,
        /// How long it took.
        seconds: f64,
    },
    /// A whole local step is done.
    LocalStepped {
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// The step in the round.
        step: u32,
        /// Mean loss.
        loss: f32,
        /// Correct predictions.
        correct: u32,
        /// How long it took.
        seconds: f64,
    },
    /// The end of the round is durable.
    RoundEnded {
        /// The round.
        round: u32,
        /// The attempt at it.
        attempt: u32,
        /// The client-side model, each run of layers, if it is to be aggregated.
        uploads: Vec<TensorMessage>,
        /// Largest resident set so far, in bytes; 0 if unknown.
        peak_rss_bytes: u64,
    },
    /// How good a global model is here.
    Evaluated {
        /// The session that it belongs to.
        session: u64,
        /// The round after which it was made.
        round: u32,
        /// What was counted, or why nothing was.
        result: Result<Score, String>,
    },
    /// A job cannot be done at all.
    Failed {
        /// What and why.
        reason: String,
    },
}

/// The last round whose end an edge holds durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The round.
    pub round: u32,
    /// The attempt at it.
    pub attempt: u32,
    /// Its cut.
    pub cut: u32,
    /// Whether it ends with an aggregation.
    pub aggregate: bool,
    /// Its steps.
    pub steps: u32,
}

/// What an edge's state folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The session that it belongs to.
    pub session: u64,
    /// The last round that was completed.
    pub completed: Option<Completed>,
}

/// What an operator of one edge wants to see.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Connected and asked to take part.
    Asked,
    /// The coordinator does not answer, or not yet take this edge; it is asked again for a while.
    Waiting {
        /// Why.
        reason: String,
    },
    /// The model is known.
    Assigned {
        /// Its name.
        model: String,
    },
    /// A round starts.
    Round {
        /// The round, from 1.
        round: u32,
        /// The cut.
        cut: u32,
        /// The deadline, in seconds.
        deadline_s: f64,
    },
    /// A global model was evaluated on the samples that are held out.
    Evaluated {
        /// The round after which it was made, from 1.
        round: u32,
        /// What was counted, or why nothing was.
        result: Result<Score, String>,
    },
    /// The connection is lost; it is tried again.
    Lost,
    /// Attached to the session again.
    Resumed,
}

/// How the edge's part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Training is over.
    Finished {
        /// Why, in the coordinator's words.
        reason: String,
    },
    /// It cannot go on.
    Failed {
        /// Why and what to do.
        reason: String,
    },
}
