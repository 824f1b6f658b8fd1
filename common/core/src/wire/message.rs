//! Control messages: bincode, versioned by the first message, limited before allocation, fully
//! consumed. Tensors never travel in them.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::codec::{ActivationCodec, Codec};
use crate::link::Transfer;
use crate::model::ModelSpec;
use crate::optimizer::Optimizer;
use crate::profile::DeviceProfile;
use crate::standardize::{Method, Standardizer, Transform};
use crate::statistics::ChannelStatistics;

/// Version of the conversation; both sides must speak the same one.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest control message, in bytes: a model spec of thousands of layers fits.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// What an edge says to the cloud.
#[expect(
    clippy::large_enum_variant,
    reason = "requests are one per connection, and none is kept as a message"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EdgeMessage {
    /// The first message on every connection. It stays the first variant and its `version` the first
    /// field, so that any later version can still be told apart.
    TrainingRequest(TrainingRequest),
    /// The shard's statistics, mergeable; answers [`CloudMessage::Assignment`] and
    /// [`CloudMessage::Measure`].
    Statistics {
        /// What the samples were transformed by before.
        of: Transform,
        /// One entry per channel.
        channels: Vec<ChannelStatistics>,
    },
    /// The edge can train; answers [`CloudMessage::Standardize`].
    Ready {
        /// The downlink probe's transfer, if it came.
        downlink: Option<Transfer>,
        /// Why it will not evaluate the global model, if it was told to and cannot.
        evaluates_not: Option<String>,
    },
    /// The edge cannot take part, for example because the model does not fit its memory.
    Declined {
        /// Why, for the operator.
        reason: String,
    },
    /// Steps are finished: one, or all of the round once more after a lost connection.
    StepsDone {
        /// Which round.
        round: u32,
        /// Which attempt at it.
        attempt: u32,
        /// What was measured of each.
        reports: Vec<StepReport>,
    },
    /// All steps of the round are done and their result is durable on the edge.
    RoundDone {
        /// Which round.
        round: u32,
        /// Which attempt at it.
        attempt: u32,
        /// Largest resident set of the edge's process so far, in bytes; 0 if unknown.
        peak_rss_bytes: u64,
    },
    /// How good the global model is on the samples that this edge holds out; answers a tensor of kind
    /// [`super::TensorKind::Model`].
    Evaluated {
        /// The round after which it was made.
        round: u32,
        /// What was counted, or why nothing was.
        result: Result<Score, String>,
    },
}

/// A request to take part, or to come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRequest {
    /// [`PROTOCOL_VERSION`] of the edge.
    pub version: u32,
    /// The edge's name: its identity, unique in the fleet.
    pub name: String,
    /// Samples in its shard.
    pub samples: u64,
    /// Samples per label, from label 0 on; empty where the labels stay on the edge.
    pub labels: Vec<u64>,
    /// [`crate::classes::fingerprint`] of the classes' names in the order of their numbers, if they have any: the
    /// names themselves are as much the edge's as its labels are.
    pub class_names: Option<u64>,
    /// Shape of one sample, `[channels, height, width]`.
    pub shape: [usize; 3],
    /// Seconds per layer kind, from the device's calibration.
    pub profile: DeviceProfile,
    /// Memory that training may use, in bytes.
    pub memory_limit: Option<u64>,
    /// The operator's guess of the uplink, in bytes per second.
    pub uplink_hint: Option<f64>,
    /// Where the edge left off, if it took part before.
    pub resume: Option<ResumePoint>,
}

/// How far an edge that comes back has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The training session it belongs to.
    pub session: u64,
    /// The last round whose end it holds durably, and which attempt at it.
    pub completed: Option<(u32, u32)>,
    /// Whether its process is ready to train: only the connection was lost.
    pub prepared: bool,
    /// The round and attempt that its process is in.
    pub live: Option<(u32, u32)>,
}

/// What was measured of one step, on the edge. Times in seconds, finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Step within the round, from 0.
    pub step: u32,
    /// Forward pass of the client-side model; 0 for a local step, which is not timed in parts.
    pub forward_s: f64,
    /// Backward pass of the client-side model and its optimizer step, and all that its last layers do
    /// where the labels stay on the edge; all of a local step.
    pub backward_s: f64,
    /// From the start of the forward pass to the end of the optimizer step.
    pub latency_s: f64,
    /// The cut gradient's transfer, or the longer one where there are two; of a local step that of a probe which came
    /// since the one before.
    pub downlink: Option<Transfer>,
    /// Mean loss and correct predictions, where the edge ran the last layer itself.
    pub local: Option<(f32, u32)>,
}

impl StepReport {
    /// Whether every number is one that a clock can give.
    pub fn is_sound(&self) -> bool {
        let times = [self.forward_s, self.backward_s, self.latency_s];
        let loss = self.local.map_or(0.0, |(loss, _)| f64::from(loss));
        let downlink = self.downlink.map_or(0.0, |transfer| transfer.seconds);
        times.iter().chain([&loss, &downlink]).all(|number| number.is_finite() && *number >= 0.0)
    }
}

/// What a model does on some samples; scores of parts add up to that of the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Samples whose largest logit is their label's.
    pub correct: u64,
    /// Sum of the samples' cross-entropies.
    pub loss_sum: f64,
    /// How many samples.
    pub samples: u64,
}

impl Score {
    /// Whether it can be a score of so many samples.
    pub fn is_of(&self, samples: u64) -> bool {
        self.samples == samples
            && self.correct <= samples
            && self.loss_sum.is_finite()
            && self.loss_sum >= 0.0
    }

    /// Share of the samples that were right; 0 of none.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }

    /// Mean cross-entropy; 0 of none.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.samples.max(1) as f64
    }
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        // Saturates because counts come over the wire.
        self.correct = self.correct.saturating_add(other.correct);
        self.loss_sum += other.loss_sum;
        self.samples = self.samples.saturating_add(other.samples);
    }
}

/// What the cloud says to an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CloudMessage {
    /// The edge cannot take part; the connection closes.
    Refused {
        /// Why and what to do.
        reason: String,
    },
    /// The edge cannot take part yet; the connection closes, and it may ask again.
    NotYet {
        /// Why.
        reason: String,
    },
    /// Model determination: the architecture, the standardization method and how to train.
    Assignment(Box<Assignment>),
    /// Another exchange: statistics of the transformed samples are wanted now.
    Measure(Transform),
    /// The fitted standardizer.
    Standardize(Standardizer),
    /// The edge is attached to its session again; it sends what was not answered once more.
    Resumed,
    /// One round's plan for this edge.
    Round(RoundPlan),
    /// Training is over.
    Finished {
        /// Why, in words.
        reason: String,
    },
    /// Training failed.
    Aborted {
        /// Why and what to do.
        reason: String,
    },
    /// The others go on without this edge: it finishes its round, and ends it as one that ends with an
    /// aggregation, whatever the plan said.
    HandIn {
        /// Which round.
        round: u32,
        /// Which attempt at it.
        attempt: u32,
    },
}

/// What an edge must know once: what to build and how to train it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The session, to be named when coming back.
    pub session: u64,
    /// Seed of batch order, initial weights and dropout.
    pub seed: u64,
    /// The architecture.
    pub model: ModelSpec,
    /// How samples will be standardized.
    pub standardization: Method,
    /// What the shard's statistics are to be of.
    pub measure: Transform,
    /// The fitted standardizer, where it is known already: no statistics are wanted then.
    pub standardizer: Option<Standardizer>,
    /// The share of its samples that the edge holds out ([`crate::holdout`]) to evaluate the global
    /// models on; without it the edge trains on all of them and evaluates nothing.
    pub holdout: Option<f64>,
    /// The optimizer of both halves.
    pub optimizer: Optimizer,
    /// Samples per step.
    pub batch_size: u32,
    /// Steps per round.
    pub steps_per_round: u32,
    /// Least cut that a plan may give: what the edge checks its memory limit against.
    pub least_cut: u32,
    /// Where the labels stay on the edge: layers `[tail, L)` run there too, and cuts go up to `tail`.
    pub tail: Option<u32>,
    /// Bytes of the probe that measures the uplink; 0 for none.
    pub probe_bytes: u32,
}

impl Assignment {
    /// One past the last layer that the cloud may have.
    pub fn cloud_end(&self) -> usize {
        self.tail.map_or(self.model.len(), |tail| tail as usize)
    }
}

/// Where an edge's half of the model comes from at the start of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFrom {
    /// Initial values by seed and tensor name.
    Initial,
    /// The end of the round before. With a deeper cut, the cloud sends the layers in between as a
    /// state tensor; with a shallower one the edge sends them, if `upload_moved`. The tail never moves.
    Own {
        /// Whether the cloud still needs the layers that leave the edge.
        upload_moved: bool,
    },
    /// A state tensor with all of the edge's layers, from the cloud; another with its tail's.
    Cloud,
}

/// One edge's plan for one round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundPlan {
    /// The round, from 0.
    pub round: u32,
    /// Counts the starts of this round for this edge: what belongs to an earlier one is void.
    pub attempt: u32,
    /// Layers `[0, cut)` run on the edge. The cloud has none at cut L, or at the tail.
    pub cut: u32,
    /// Steps in this round.
    pub steps: u32,
    /// Optimizer steps since the moments were last zero: Adam's `t` before the first step.
    pub optimizer_steps: u64,
    /// Where the client-side model comes from.
    pub start: StartFrom,
    /// Whether the edge sends its state after the last step, for the aggregation.
    pub aggregate: bool,
    /// How the activations travel.
    pub activations: ActivationCodec,
    /// Codec of the gradients.
    pub gradients: Codec,
    /// Micro-batches that each step's batch is split into; a divisor of the batch size.
    pub in_flight: u32,
    /// The rate reserved on the uplink, in bytes per second: the edge paces to it.
    pub pace: Option<f64>,
    /// The shared latency deadline, in seconds.
    pub deadline_s: f64,
    /// Where the edge trains alone: bytes of the values that it sends now and then while it computes, to measure the
    /// uplink; 0 for none.
    pub probe_bytes: u32,
}

/// A control message that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The bytes are no message of this protocol version.
    #[error("the control message of {length} bytes cannot be decoded: {reason}")]
    Malformed {
        /// Bytes received.
        length: usize,
        /// The decoder's words.
        reason: String,
    },
    /// A message ended before its frame did.
    #[error("the control message of {length} bytes ends after {used}")]
    Trailing {
        /// Bytes received.
        length: usize,
        /// Bytes that the message took.
        used: usize,
    },
}

fn format() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_MESSAGE_BYTES>()
}

/// Encodes a control message.
///
/// # Errors
/// If it is longer than [`MAX_MESSAGE_BYTES`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let bytes = bincode::serde::encode_to_vec(message, format())
        .map_err(|error| MessageError::Malformed { length: 0, reason: error.to_string() })?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        let reason = format!("it is longer than {MAX_MESSAGE_BYTES} bytes");
        return Err(MessageError::Malformed { length: bytes.len(), reason });
    }
    Ok(bytes)
}

/// Decodes a control message: never allocates more than [`MAX_MESSAGE_BYTES`] asks for, and accepts
/// no trailing bytes.
///
/// # Errors
/// If the bytes are not exactly one message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    let (message, used) = bincode::serde::decode_from_slice(bytes, format())
        .map_err(|error| MessageError::Malformed { length: bytes.len(), reason: error.to_string() })?;
    if used == bytes.len() { Ok(message) } else { Err(MessageError::Trailing { length: bytes.len(), used }) }
}

/// The protocol version of a [`EdgeMessage::TrainingRequest`] of any version, read without decoding
/// the rest; `None` if the bytes are something else.
pub fn peek_version(bytes: &[u8]) -> Option<u32> {
    let ((variant, version), _) = bincode::serde::decode_from_slice::<(u32, u32), _>(bytes, format()).ok()?;
    (variant == 0).then_some(version)
}

/// Why a control message cannot be decoded, for the operator: another protocol version above all.
pub fn explain(bytes: &[u8], error: &MessageError) -> String {
    match peek_version(bytes) {
        Some(version) if version != PROTOCOL_VERSION => other_version(version),
        _ => error.to_string(),
    }
}

/// What to tell an edge of another protocol version.
pub fn other_version(version: u32) -> String {
    format!(
        "the edge speaks protocol version {version}, this coordinator {PROTOCOL_VERSION}: install the same release of Partway on both"
    )
}
