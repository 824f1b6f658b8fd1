//! A run in numbers: `summary.json`.

mod builder;

use partway_core::config::Clock;
use serde::{Deserialize, Serialize};

pub use builder::SummaryBuilder;

/// The contents of `summary.json`. A number that there is not, such as an accuracy before the first
/// evaluation, is `null`.
///
/// A step counts if its work is in the global model: not if it was rolled back, nor if it is of the
/// round that the end of training cut off, nor before it was handed in where that was late. Bytes count whenever they crossed the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The experiment's name.
    pub name: String,
    /// What passes the time.
    pub clock: Clock,
    /// Seed of everything random.
    pub seed: u64,
    /// Rounds that count: those that are part of the global model.
    pub rounds: u32,
    /// Aggregations that count.
    pub aggregations: u32,
    /// Accuracy of the global model when it was last evaluated.
    pub final_accuracy: Option<f64>,
    /// Best accuracy of any global model.
    pub best_accuracy: Option<f64>,
    /// Whether the accuracy target was met.
    pub target_reached: bool,
    /// From the coordinator's start, in seconds.
    pub seconds_total: f64,
    /// From the start of the first round to the end of training, in seconds.
    pub seconds_training: f64,
    /// From the start of the first round to the evaluation that met the target, in seconds.
    pub seconds_to_target: Option<f64>,
    /// `seconds_training` on the run's own clock: virtual time under the virtual clock.
    pub seconds_clock: f64,
    /// Samples of all steps that count, over all edges.
    pub samples_trained: u64,
    /// `samples_trained` over `seconds_training`; 0 if no time has passed.
    pub samples_per_second: f64,
    /// Bytes of activations, labels and weights from edges to cloud.
    pub bytes_up: u64,
    /// Bytes of cut gradients and weights from cloud to edges.
    pub bytes_down: u64,
    /// The deadline of the last round that counts, in milliseconds.
    pub deadline_ms: Option<f64>,
    /// Share of steps within their deadline.
    pub deadline_hit_rate: Option<f64>,
    /// Median over steps of `|measured - predicted| / measured`.
    pub prediction_median_error: Option<f64>,
    /// Median over steps of the relative deviation from the median step of the same edge and round:
    /// the least error that any prediction can have. A round of one step says nothing about it.
    pub repeatability_floor: Option<f64>,
    /// [`crate::model_file::weights_sha256`] of the global model.
    pub weights_sha256: Option<String>,
    /// Each edge, by name.
    pub edges: Vec<EdgeSummary>,
    /// The coordinator.
    pub cloud: CloudSummary,
}

/// One edge of [`Summary::edges`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeSummary {
    /// Its name.
    pub name: String,
    /// Its cut in the first round that counts.
    pub cut_first: Option<u32>,
    /// Its cut in the last round that counts.
    pub cut_last: Option<u32>,
    /// How often its cut was another one than in its round before.
    pub recuts: u32,
    /// Steps that count.
    pub steps: u64,
    /// Samples of its shard that it trains on.
    pub samples: u64,
    /// Samples of its shard that it holds out to evaluate on; absent if it holds none out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<u64>,
    /// Accuracy of the global model on these, when this edge last evaluated it; absent if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Median measured latency of a step, in milliseconds.
    pub step_ms_median: Option<f64>,
    /// Median predicted latency of a step, in milliseconds.
    pub step_ms_predicted: Option<f64>,
    /// Largest resident set that it reported, in MiB.
    pub peak_rss_mib: Option<f64>,
    /// Whether it was ever left out.
    pub dropped: bool,
    /// How many of its rounds the others did not wait for.
    #[serde(default)]
    pub deferred: u32,
}

/// The coordinator's part of [`Summary`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CloudSummary {
    /// Its largest resident set, in MiB.
    pub peak_rss_mib: Option<f64>,
}

/// Bytes in MiB.
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
