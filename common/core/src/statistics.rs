//! Mergeable statistics of each channel: what an edge reports so that the cloud can choose one
//! standardization for all without seeing any sample.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Count, mean, sum of squared deviations, minimum and maximum of one channel's values.
///
/// Merging is exact up to rounding (Chan, Golub & `LeVeque` 1979): the parts of a data set give the
/// same as the whole.
///
/// ```
/// use partway_core::statistics::ChannelStatistics;
/// let (mut left, mut right) = (ChannelStatistics::default(), ChannelStatistics::default());
/// left.push_all(&[1.0, 2.0]);
/// right.push_all(&[3.0, 6.0]);
/// left.merge(&right);
/// assert_eq!((left.count, left.mean, left.variance()), (4, 3.0, 3.5));
/// assert_eq!((left.min, left.max), (1.0, 6.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelStatistics {
    /// How many values (pixels, not samples).
    pub count: u64,
    /// Their mean; 0 of none.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
    /// The least value; infinity of none.
    pub min: f64,
    /// The greatest value; minus infinity of none.
    pub max: f64,
}

/// Samples or reports whose channels do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StatisticsError {
    /// A sample whose length is not a whole number of planes.
    #[error("a sample of {values} values cannot be {channels} planes of equal size")]
    SampleLength {
        /// Values in the sample.
        values: usize,
        /// Channels expected.
        channels: usize,
    },
    /// An edge that reports other channels than the first one.
    #[error("contributor {contributor} reports {actual} channels, but the first one {expected}")]
    Channels {
        /// Position in the list.
        contributor: usize,
        /// Channels of the first.
        expected: usize,
        /// Its own channels.
        actual: usize,
    },
}

impl Default for ChannelStatistics {
    /// Of no values.
    fn default() -> Self {
        Self { count: 0, mean: 0.0, m2: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl ChannelStatistics {
    /// Adds one value.
    pub fn push(&mut self, value: f32) {
        self.push_all(&[value]);
    }

    /// Adds values: one pass for the mean and one for the deviations, then one merge. More precise,
    /// and without a division per value, than adding them one by one. A value that is not finite
    /// makes the mean not finite, which [`crate::standardize::Standardizer::fit`] refuses.
    pub fn push_all(&mut self, values: &[f32]) {
        if values.is_empty() {
            return;
        }
        let mut block = Self { count: values.len() as u64, ..Self::default() };
        let mut sum = 0.0;
        for value in values.iter().map(|value| f64::from(*value)) {
            sum += value;
            block.min = block.min.min(value);
            block.max = block.max.max(value);
        }
        block.mean = sum / block.count as f64;
        block.m2 = values.iter().map(|value| (f64::from(*value) - block.mean).powi(2)).sum();
        self.merge(&block);
    }

    /// Adds the values that `other` stands for.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        // Saturates because counts come over the wire.
        let count = self.count.saturating_add(other.count);
        let share = other.count as f64 / count as f64;
        let delta = other.mean - self.mean;
        self.mean += delta * share;
        self.m2 += other.m2 + delta * delta * self.count as f64 * share;
        self.count = count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Population variance; 0 of no values.
    pub fn variance(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.m2 / self.count as f64 }
    }

    /// Population standard deviation; 0 of no values.
    pub fn standard_deviation(&self) -> f64 {
        self.variance().sqrt()
    }
}

/// Adds one sample, laid out `[C, H, W]`, to the statistics of its C channels.
///
/// # Errors
/// If the sample is not C planes of equal size; nothing is added then.
pub fn push_sample(channels: &mut [ChannelStatistics], sample: &[f32]) -> Result<(), StatisticsError> {
    if channels.is_empty() || sample.is_empty() || !sample.len().is_multiple_of(channels.len()) {
        return Err(StatisticsError::SampleLength { values: sample.len(), channels: channels.len() });
    }
    let plane = sample.len() / channels.len();
    for (statistics, values) in channels.iter_mut().zip(sample.chunks_exact(plane)) {
        statistics.push_all(values);
    }
    Ok(())
}

/// Merges the edges' reports, one entry per channel each. Pass them in edge-id order: the result then
/// does not depend on who reported first. No report gives no channels.
///
/// # Errors
/// If an edge reports another number of channels than the first.
pub fn merge_all<'a>(
    reports: impl IntoIterator<Item = &'a [ChannelStatistics]>,
) -> Result<Vec<ChannelStatistics>, StatisticsError> {
    let mut reports = reports.into_iter();
    let mut merged = reports.next().map_or_else(Vec::new, <[ChannelStatistics]>::to_vec);
    for (contributor, report) in (1..).zip(reports) {
        if report.len() != merged.len() {
            return Err(StatisticsError::Channels {
                contributor,
                expected: merged.len(),
                actual: report.len(),
            });
        }
        for (statistics, other) in merged.iter_mut().zip(report) {
            statistics.merge(other);
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests;
