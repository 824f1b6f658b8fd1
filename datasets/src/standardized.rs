//! Samples as a model takes them.

use partway_core::standardize::{StandardizeError, Standardizer};

use crate::Samples;

impl Samples {
    /// The samples at `indices`, standardized: `[indices.len(), C, H, W]`, and their labels.
    ///
    /// # Errors
    /// If the standardizer is for other channels.
    ///
    /// # Panics
    /// If an index is not below [`Samples::len`].
    pub fn standardized(
        &self,
        indices: &[usize],
        standardizer: &Standardizer,
    ) -> Result<(Vec<f32>, Vec<u32>), StandardizeError> {
        let mut values = Vec::new();
        self.gather(indices, &mut values);
        let [_, height, width] = self.shape();
        for sample in values.chunks_exact_mut(self.sample_len()) {
            standardizer.apply(sample, height * width)?;
        }
        let labels = indices.iter().map(|index| self.labels()[*index]).collect();
        Ok((values, labels))
    }
}

#[cfg(test)]
mod tests {
    use partway_core::standardize::{Affine, Method, Transform};

    use super::*;
    use crate::Pixels;

    #[test]
    fn values_are_standardized_with_their_labels() {
        let pixels = Pixels::F32(vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let samples = Samples::new([2, 1, 1], pixels, vec![0, 1, 2], 3).expect("three samples");
        let standardizer = Standardizer {
            method: Method::Zscore,
            transform: Transform::Identity,
            channels: vec![Affine { offset: 1.0, scale: 2.0 }, Affine { offset: 10.0, scale: 0.5 }],
        };
        let taken = samples.standardized(&[2, 0], &standardizer).expect("two channels");
        assert_eq!(taken, (vec![4.0, 10.0, 0.0, 0.0], vec![2, 0]));
        let one = Standardizer { channels: vec![Affine { offset: 0.0, scale: 1.0 }], ..standardizer };
        assert!(samples.standardized(&[0], &one).is_err());
    }
}
