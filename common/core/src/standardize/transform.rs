//! What happens to a sample before its channels' affine maps, and before it is measured.

use serde::{Deserialize, Serialize};

use super::{StandardizeError, check_length};

/// A map of samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Transform {
    /// Changes nothing.
    #[default]
    Identity,
    /// `log1p(x - shift)`; what is below the shift counts as the shift.
    Log1p {
        /// One per channel: its minimum.
        shifts: Vec<f32>,
    },
    /// Division by the sample's L2 norm; zeros stay zeros.
    UnitNorm,
}

impl Transform {
    /// Transforms one sample in place, laid out `[C, H, W]` with `plane` = H * W.
    ///
    /// # Errors
    /// If a sample for [`Transform::Log1p`] has other channels; nothing is changed then.
    pub fn apply(&self, sample: &mut [f32], plane: usize) -> Result<(), StandardizeError> {
        match self {
            Self::Identity => Ok(()),
            // In f64: the range of an f32 channel may be beyond f32.
            Self::Log1p { shifts } => map(shifts, sample, plane, |shift, x| {
                let above = x - shift;
                if above < 0.0 { 0.0 } else { above.ln_1p() }
            }),
            Self::UnitNorm => {
                let squares: f64 = sample.iter().map(|value| f64::from(*value).powi(2)).sum();
                let norm = squares.sqrt();
                if norm > 0.0 {
                    for value in sample {
                        *value = (f64::from(*value) / norm) as f32;
                    }
                }
                Ok(())
            }
        }
    }

    /// Undoes [`Transform::apply`] where that is possible; a unit norm stays.
    pub(super) fn invert(&self, sample: &mut [f32], plane: usize) -> Result<(), StandardizeError> {
        match self {
            Self::Identity | Self::UnitNorm => Ok(()),
            Self::Log1p { shifts } => map(shifts, sample, plane, |shift, y| y.exp_m1() + shift),
        }
    }

    /// What is subtracted from each channel before the logarithm; nothing for the others.
    pub fn shifts(&self) -> &[f32] {
        match self {
            Self::Log1p { shifts } => shifts,
            Self::Identity | Self::UnitNorm => &[],
        }
    }
}

fn map(
    shifts: &[f32],
    sample: &mut [f32],
    plane: usize,
    change: impl Fn(f64, f64) -> f64,
) -> Result<(), StandardizeError> {
    check_length(sample, shifts.len(), plane)?;
    for (shift, values) in shifts.iter().zip(sample.chunks_exact_mut(plane.max(1))) {
        for value in values {
            *value = change(f64::from(*shift), f64::from(*value)) as f32;
        }
    }
    Ok(())
}
