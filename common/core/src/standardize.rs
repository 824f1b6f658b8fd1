//! Data standardization: the cloud chooses a method, fits it to everybody's merged statistics, and
//! every edge applies the same transform and affine map per channel.

mod transform;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::statistics::ChannelStatistics;
pub use transform::Transform;

/// How samples are standardized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Mean 0 and variance 1 per channel.
    Zscore,
    /// The interval `[0, 1]` per channel.
    MinMax,
    /// `log1p` of the value over the channel's minimum, then mean 0 and variance 1: for values of many
    /// magnitudes. Takes two exchanges of statistics, since the minimum is needed for the second. A
    /// value below the minimum, which test data may have, counts as the minimum.
    Log,
    /// L2 norm 1 per sample, over all its channels: for samples whose size says nothing. A sample of
    /// zeros stays one.
    UnitNorm,
    /// Samples stay as they are.
    None,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Zscore => "zscore",
            Self::MinMax => "min-max",
            Self::Log => "log",
            Self::UnitNorm => "unit-norm",
            Self::None => "none",
        })
    }
}

/// `y = (x - offset) * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// Subtracted first.
    pub offset: f32,
    /// Multiplied then.
    pub scale: f32,
}

/// A method with its fitted parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardizer {
    /// The method.
    pub method: Method,
    /// What happens to a sample first.
    pub transform: Transform,
    /// One map per channel.
    pub channels: Vec<Affine>,
}

/// What follows from the edges' merged statistics.
#[derive(Clone, Debug, PartialEq)]
pub enum Fit {
    /// The standardizer is known.
    Done(Standardizer),
    /// It takes another exchange, with statistics of transformed samples.
    Measure(Transform),
}

/// Why a standardizer cannot be fitted or applied.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StandardizeError {
    /// There are no channels to fit to.
    #[error("there are no channels to fit a standardizer to")]
    NoChannels,
    /// A channel without values.
    #[error("channel {channel}: its statistics are of no values; does every edge have samples?")]
    NoValues {
        /// Which channel.
        channel: usize,
    },
    /// Statistics that no f32 values have.
    #[error(
        "channel {channel}: mean {mean}, squared deviations {m2}, range {min} to {max} are not statistics of \
         finite f32 values with a finite range; look for NaN or infinity in the data"
    )]
    Impossible {
        /// Which channel.
        channel: usize,
        /// Its mean.
        mean: f64,
        /// Its sum of squared deviations.
        m2: f64,
        /// Its minimum.
        min: f64,
        /// Its maximum.
        max: f64,
    },
    /// A sample that is not one plane per channel.
    #[error("a sample of {values} values is not {channels} channels of {plane} values each")]
    SampleLength {
        /// Values in the sample.
        values: usize,
        /// Channels of the standardizer.
        channels: usize,
        /// Values per channel asked for.
        plane: usize,
    },
    /// A map that forgets what it was given.
    #[error("`{0}` cannot be undone: it forgets how large each sample was")]
    NoInverse(Method),
}

impl Affine {
    /// Changes nothing.
    const IDENTITY: Self = Self { offset: 0.0, scale: 1.0 };
}

impl Standardizer {
    /// Fits `method` to the statistics of each channel, which are `of` samples so transformed: of
    /// [`Transform::Identity`] in the first exchange, then of what [`Fit::Measure`] asked for. A channel
    /// of one constant value (or of values so close that a scale would overflow) is shifted only: its
    /// scale is 1.
    ///
    /// ```
    /// use partway_core::{standardize::{Fit, Method, Standardizer, Transform}, statistics::ChannelStatistics};
    /// let mut channel = ChannelStatistics::default();
    /// channel.push_all(&[2.0, 6.0]);
    /// let fit = Standardizer::fit(Method::Zscore, &Transform::Identity, &[channel])?;
    /// let Fit::Done(standardizer) = fit else { panic!("only `log` takes two exchanges") };
    /// let mut sample = [2.0, 4.0, 6.0, 8.0];
    /// standardizer.apply(&mut sample, 4)?;
    /// assert_eq!(sample, [-1.0, 0.0, 1.0, 2.0]);
    /// # Ok::<(), partway_core::standardize::StandardizeError>(())
    /// ```
    pub fn fit(
        method: Method,
        of: &Transform,
        channels: &[ChannelStatistics],
    ) -> Result<Fit, StandardizeError> {
        if channels.is_empty() {
            return Err(StandardizeError::NoChannels);
        }
        channels.iter().enumerate().try_for_each(|(channel, statistics)| check(channel, statistics))?;
        let (transform, affine): (_, fn(&ChannelStatistics) -> Affine) = match (method, of) {
            (Method::Log, Transform::Log1p { .. }) => (of.clone(), zscore),
            (Method::Log, _) => {
                let shifts = channels.iter().map(|statistics| statistics.min as f32).collect();
                return Ok(Fit::Measure(Transform::Log1p { shifts }));
            }
            (Method::Zscore, _) => (Transform::Identity, zscore),
            (Method::MinMax, _) => (Transform::Identity, min_max),
            (Method::UnitNorm, _) => (Transform::UnitNorm, |_| Affine::IDENTITY),
            (Method::None, _) => (Transform::Identity, |_| Affine::IDENTITY),
        };
        Ok(Fit::Done(Self { method, transform, channels: channels.iter().map(affine).collect() }))
    }

    /// Standardizes one sample in place, laid out `[C, H, W]` with `plane` = H * W.
    pub fn apply(&self, sample: &mut [f32], plane: usize) -> Result<(), StandardizeError> {
        self.check_length(sample, plane)?;
        self.transform.apply(sample, plane)?;
        self.map(sample, plane, |Affine { offset, scale }, x| (x - offset) * scale);
        Ok(())
    }

    /// Undoes [`Standardizer::apply`], up to rounding; what `log` took for its minimum becomes that.
    ///
    /// # Errors
    /// If the sample has another length, or for `unit-norm`.
    pub fn invert(&self, sample: &mut [f32], plane: usize) -> Result<(), StandardizeError> {
        self.check_length(sample, plane)?;
        if self.transform == Transform::UnitNorm {
            return Err(StandardizeError::NoInverse(self.method));
        }
        self.map(sample, plane, |Affine { offset, scale }, y| y / scale + offset);
        self.transform.invert(sample, plane)
    }

    fn check_length(&self, sample: &[f32], plane: usize) -> Result<(), StandardizeError> {
        check_length(sample, self.channels.len(), plane)
    }

    fn map(&self, sample: &mut [f32], plane: usize, change: impl Fn(Affine, f32) -> f32) {
        // A plane of 0 values only fits an empty sample.
        for (affine, values) in self.channels.iter().zip(sample.chunks_exact_mut(plane.max(1))) {
            for value in values {
                *value = change(*affine, *value);
            }
        }
    }
}

/// Whether a sample is one plane per channel.
fn check_length(sample: &[f32], channels: usize, plane: usize) -> Result<(), StandardizeError> {
    if channels.checked_mul(plane) == Some(sample.len()) {
        Ok(())
    } else {
        Err(StandardizeError::SampleLength { values: sample.len(), channels, plane })
    }
}

fn check(channel: usize, statistics: &ChannelStatistics) -> Result<(), StandardizeError> {
    let ChannelStatistics { count, mean, m2, min, max } = *statistics;
    if count == 0 {
        return Err(StandardizeError::NoValues { channel });
    }
    // In f32, because that is what the maps compute with.
    let widths = [max - min, statistics.standard_deviation()];
    let finite = [min, max, mean].into_iter().chain(widths).all(|value| (value as f32).is_finite());
    if finite && m2 >= 0.0 && min <= max {
        Ok(())
    } else {
        Err(StandardizeError::Impossible { channel, mean, m2, min, max })
    }
}

/// `1 / width`, or 1 where there is no width to speak of.
fn scale(width: f64) -> f32 {
    let scale = width.recip() as f32;
    if width > 0.0 && scale.is_finite() { scale } else { 1.0 }
}

fn zscore(statistics: &ChannelStatistics) -> Affine {
    // A constant channel's deviation may be a rounding error instead of 0.
    let constant = statistics.min >= statistics.max;
    let width = if constant { 0.0 } else { statistics.standard_deviation() };
    Affine { offset: statistics.mean as f32, scale: scale(width) }
}

fn min_max(statistics: &ChannelStatistics) -> Affine {
    let (offset, max) = (statistics.min as f32, statistics.max as f32);
    let mut scale = scale(statistics.max - statistics.min);
    if (max - offset) * scale > 1.0 {
        // Rounded up: one step less keeps the maximum, hence everything, within [0, 1].
        scale = scale.next_down();
    }
    Affine { offset, scale }
}

#[cfg(test)]
mod tests;
