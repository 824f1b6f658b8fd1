//! The rows of `metrics.csv`: how far training was at each evaluated aggregation.

use std::fmt;

/// The names of the columns, in order: the fields of [`MetricsRow`].
pub const HEADER: &str = "round,aggregation,seconds,accuracy,loss,training_loss,bytes_up,bytes_down,\
                          deadline_hit_rate,samples_trained";

/// One evaluated aggregation; written as a line of comma-separated values without its end.
///
/// Bytes, hit rate and samples are those of the run up to the aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsRow {
    /// The round after which, from 1.
    pub round: u32,
    /// The aggregation, from 1.
    pub aggregation: u32,
    /// From the start of training to the end of the evaluation, in seconds.
    pub seconds: f64,
    /// Share of correct predictions of the global model.
    pub accuracy: f64,
    /// Its mean loss.
    pub loss: f64,
    /// Mean loss of the steps since the aggregation before; empty if there were none.
    pub training_loss: Option<f64>,
    /// Bytes from edges to cloud.
    pub bytes_up: u64,
    /// Bytes from cloud to edges.
    pub bytes_down: u64,
    /// Share of steps within their deadline; empty if there were none.
    pub deadline_hit_rate: Option<f64>,
    /// Samples trained on, over all edges.
    pub samples_trained: u64,
}

impl fmt::Display for MetricsRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, aggregation, seconds, accuracy, loss, bytes_up, bytes_down, .. } = self;
        write!(f, "{round},{aggregation},{seconds},{accuracy},{loss},")?;
        optional(f, self.training_loss)?;
        write!(f, ",{bytes_up},{bytes_down},")?;
        optional(f, self.deadline_hit_rate)?;
        write!(f, ",{}", self.samples_trained)
    }
}

/// The value, or an empty cell.
fn optional(f: &mut fmt::Formatter<'_>, value: Option<f64>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{value}"))
}
