//! What happens in a run, as data: one line of `events.jsonl` each.

use serde::{Deserialize, Serialize};

/// One event, with the seconds since the coordinator started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the coordinator started.
    pub at: f64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The terms of one step's latency, in milliseconds. With micro-batches in flight, how long all of them keep each part
/// busy: they overlap, and add up to more than the latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TermsMs {
    /// Forward pass on the edge.
    pub edge_forward: f64,
    /// Activations to the cloud.
    pub uplink: f64,
    /// Forward and backward pass in the cloud, with the wait for a worker.
    pub cloud: f64,
    /// Cut gradient to the edge.
    pub downlink: f64,
    /// Backward pass and optimizer step on the edge, and its last layers where the labels stay there.
    pub edge_backward: f64,
}

/// One edge's part of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedEdge {
    /// The edge.
    pub edge: String,
    /// Layers `[0, cut)` run on it.
    pub cut: u32,
    /// Whether its predicted step meets the deadline.
    pub feasible: bool,
    /// Why this cut.
    pub reason: String,
    /// Predicted terms.
    pub terms_ms: TermsMs,
    /// Predicted step latency, in milliseconds.
    pub step_ms: f64,
    /// Reserved uplink rate, in Mbit/s.
    pub reserved_up_mbps: f64,
    /// Reserved downlink rate, in Mbit/s.
    pub reserved_down_mbps: f64,
    /// Estimated uplink rate, in Mbit/s.
    pub estimated_up_mbps: f64,
    /// Estimated downlink rate, in Mbit/s.
    pub estimated_down_mbps: f64,
}

/// What happened. Rounds are counted from 1 here, as people do; the wire counts from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The coordinator accepts edges.
    Listening {
        /// Where.
        address: String,
        /// Where for data connections, if tensors may have some of their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_address: Option<String>,
    },
    /// An edge asked to take part and was accepted.
    EdgeJoined {
        /// The edge.
        edge: String,
        /// Samples that it trains on.
        samples: u64,
        /// Samples that it holds out to evaluate on.
        #[serde(default, skip_serializing_if = "is_zero")]
        held_out: u64,
        /// Samples per label, of both; empty where the edge keeps them to itself.
        labels: Vec<u64>,
    },
    /// A connection or an edge was turned away, or sent something that cannot be.
    EdgeRefused {
        /// The edge, as far as known.
        edge: String,
        /// Why.
        reason: String,
    },
    /// The model was determined and sent.
    ModelDetermined {
        /// Its name.
        model: String,
        /// How many layers it has.
        layers: usize,
        /// Its trained parameters.
        parameters: u64,
        /// Its forward multiply-adds per sample.
        macs: u64,
    },
    /// The edges' statistics were merged and the standardizer was fitted.
    Standardized {
        /// The method.
        method: String,
        /// What is subtracted from each channel before the logarithm, for `log`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shifts: Vec<f32>,
        /// Offset of each channel.
        offsets: Vec<f32>,
        /// Scale of each channel.
        scales: Vec<f32>,
    },
    /// A round was planned.
    Planned {
        /// The round.
        round: u32,
        /// The shared deadline, in milliseconds.
        deadline_ms: f64,
        /// Share by which the plan may miss the optimum.
        optimality_gap: f64,
        /// Each edge's part.
        edges: Vec<PlannedEdge>,
    },
    /// An edge finished a step.
    Step {
        /// The round.
        round: u32,
        /// Which attempt at it; a step of an attempt that was rolled back does not count.
        attempt: u32,
        /// The edge.
        edge: String,
        /// The step in the round, from 1.
        step: u32,
        /// The cut.
        cut: u32,
        /// Measured latency, in milliseconds.
        latency_ms: f64,
        /// Predicted latency, in milliseconds.
        predicted_ms: f64,
        /// The deadline, in milliseconds.
        deadline_ms: f64,
        /// Measured terms; the network's rest is split as predicted.
        terms_ms: TermsMs,
        /// Mean loss of the batch.
        loss: f32,
        /// Correct predictions in the batch.
        correct: u32,
        /// Bytes up: headers, activations, and labels or the gradient that stands for them.
        bytes_up: u64,
        /// Bytes down: headers, cut gradient, and the activations of the edge's last layers.
        bytes_down: u64,
    },
    /// All edges finished a round.
    RoundDone {
        /// The round.
        round: u32,
        /// From its start to its barrier, in seconds.
        seconds: f64,
    },
    /// An edge's turn is over, and the model goes to the next.
    HandedOn {
        /// The round.
        round: u32,
        /// Whose turn it was.
        edge: String,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// A block of weights crossed the wire.
    StateMoved {
        /// The round that it is for.
        round: u32,
        /// The edge.
        edge: String,
        /// `up` or `down`.
        direction: String,
        /// Its bytes.
        bytes: u64,
    },
    /// A probe was sent to an edge that trains alone, or came from it, and measured its link.
    Probed {
        /// The round.
        round: u32,
        /// The edge.
        edge: String,
        /// `up` or `down`.
        direction: String,
        /// Its bytes.
        bytes: u64,
    },
    /// Federated averaging has made a global model.
    Aggregated {
        /// The round after which.
        round: u32,
        /// How many there were before, plus one.
        aggregation: u32,
        /// Each edge's weight; where one model was handed on, the steps that it made in it.
        weights: Vec<(String, f64)>,
    },
    /// The global model was evaluated.
    Evaluated {
        /// The round after which it was made.
        round: u32,
        /// Share of correct predictions.
        accuracy: f64,
        /// Mean loss.
        loss: f64,
        /// Samples evaluated.
        samples: u64,
    },
    /// An edge evaluated the global model on what it holds out: its part of [`EventKind::Evaluated`].
    EdgeEvaluated {
        /// The round after which the model was made.
        round: u32,
        /// The edge.
        edge: String,
        /// Share of correct predictions.
        accuracy: f64,
        /// Mean loss.
        loss: f64,
        /// Samples evaluated.
        samples: u64,
    },
    /// An edge's part is missing in an evaluation.
    EvaluationDeclined {
        /// The round after which the model was made; 0 if the edge evaluates none.
        round: u32,
        /// The edge.
        edge: String,
        /// Why.
        reason: String,
    },
    /// A checkpoint was asked for.
    Checkpointed {
        /// The round after which.
        round: u32,
    },
    /// An edge's connection was lost.
    EdgeLost {
        /// The round in which.
        round: u32,
        /// The edge.
        edge: String,
    },
    /// An edge is back.
    EdgeResumed {
        /// The round in which.
        round: u32,
        /// The edge.
        edge: String,
        /// What that took.
        how: Recovery,
    },
    /// An edge did not come back in time and is left out.
    EdgeDropped {
        /// The round in which.
        round: u32,
        /// The edge.
        edge: String,
        /// Why.
        reason: String,
    },
    /// A late edge is not waited for: the others go on while it finishes its round.
    EdgeDeferred {
        /// The round that it finishes.
        round: u32,
        /// The edge.
        edge: String,
        /// Why.
        reason: String,
    },
    /// A deferred edge has finished its round; its model counts at the next aggregation.
    EdgeCaughtUp {
        /// The round that it has finished.
        round: u32,
        /// The edge.
        edge: String,
        /// Steps of the edge in that model since the global one that it started from.
        steps: u64,
    },
    /// An edge reported its memory.
    EdgeMemory {
        /// The edge.
        edge: String,
        /// Largest resident set so far, in bytes.
        peak_rss_bytes: u64,
    },
    /// Training is over.
    Finished {
        /// The last round that counts.
        round: u32,
        /// Why.
        reason: String,
        /// Whether the accuracy target was met.
        target_reached: bool,
    },
    /// Training failed.
    Aborted {
        /// Why and what to do.
        reason: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How an edge came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// Only the connection had been lost: it went on inside the round.
    Connection,
    /// Both its halves were rolled back to the start of the round.
    RolledBack,
    /// Its state was gone: it starts again from the global model.
    StateLost,
    /// It had been left out, or was deferred: it takes part again, from the global model.
    Readmitted,
}
