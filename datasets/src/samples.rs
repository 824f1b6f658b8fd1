//! Images with their labels, in memory.

use std::sync::Arc;

use thiserror::Error;

/// Most pixel values that one set of samples may hold: forty times MNIST's, and 8 GiB as `f32`.
pub const MAX_VALUES: u64 = 1 << 31;

/// Most classes that samples may have: fifty times those of the whole `ImageNet`.
pub const MAX_CLASSES: usize = 1 << 20;

/// Samples that cannot be built.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SamplesError {
    /// A sample without pixels, or a problem without classes.
    #[error(
        "samples of shape {shape:?} and {classes} classes: every side and the classes must be at least 1"
    )]
    Empty {
        /// `[channels, height, width]`.
        shape: [usize; 3],
        /// Classes asked for.
        classes: usize,
    },
    /// More than [`MAX_CLASSES`].
    #[error("{classes} classes are more than {MAX_CLASSES}: is that number right?")]
    Classes {
        /// Classes asked for.
        classes: usize,
    },
    /// More than [`MAX_VALUES`].
    #[error(
        "{count} samples of shape {shape:?} are more than {MAX_VALUES} values: use fewer or smaller samples"
    )]
    TooLarge {
        /// How many samples.
        count: usize,
        /// `[channels, height, width]`.
        shape: [usize; 3],
    },
    /// Pixels and labels do not belong together.
    #[error("{count} labels of shape {shape:?} samples need {expected} pixel values, but there are {actual}")]
    Length {
        /// How many labels.
        count: usize,
        /// `[channels, height, width]`.
        shape: [usize; 3],
        /// Values that the labels need.
        expected: u64,
        /// Values given.
        actual: usize,
    },
    /// A label that is no class.
    #[error("sample {index} has label {label}, but labels must be below classes = {classes}")]
    Label {
        /// Which sample.
        index: usize,
        /// Its label.
        label: u32,
        /// Classes of the data set.
        classes: usize,
    },
    /// Another number of values than a sample has.
    #[error("samples of shape {from:?} cannot be taken for {to:?}, which has another number of values")]
    Reshape {
        /// `[channels, height, width]`.
        from: [usize; 3],
        /// The shape asked for.
        to: [usize; 3],
    },
    /// A pixel that would turn every weight into NaN.
    #[error("sample {index} has a pixel that is {value}: pixels must be finite")]
    NotFinite {
        /// Which sample.
        index: usize,
        /// The pixel.
        value: f32,
    },
}

/// Pixel values, sample after sample, each `[C, H, W]` row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// A byte each; 255 stands for 1.0.
    U8(Vec<u8>),
    /// As they are.
    F32(Vec<f32>),
}

impl Pixels {
    /// How many values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Labelled images of one shape. Bytes stay bytes until a batch asks for them: a quarter of the memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    shape: [usize; 3],
    pixels: Pixels,
    labels: Vec<u32>,
    classes: usize,
    /// In the order of the classes' numbers; none if labels are numbers.
    class_names: Arc<[String]>,
}

/// Values of `count` samples of `shape`, if they are within [`MAX_VALUES`].
pub(crate) fn volume(count: usize, shape: [usize; 3]) -> Result<u64, SamplesError> {
    shape
        .iter()
        .try_fold(count as u64, |product, side| product.checked_mul(*side as u64))
        .filter(|values| *values <= MAX_VALUES)
        .ok_or(SamplesError::TooLarge { count, shape })
}

impl Samples {
    /// Samples of `shape` = `[C, H, W]` with one label each, below `classes`.
    pub fn new(
        shape: [usize; 3],
        pixels: Pixels,
        labels: Vec<u32>,
        classes: usize,
    ) -> Result<Self, SamplesError> {
        if classes == 0 || shape.contains(&0) {
            return Err(SamplesError::Empty { shape, classes });
        }
        if classes > MAX_CLASSES {
            return Err(SamplesError::Classes { classes });
        }
        let expected = volume(labels.len(), shape)?;
        if expected != pixels.len() as u64 {
            return Err(SamplesError::Length { count: labels.len(), shape, expected, actual: pixels.len() });
        }
        if let Some(index) = labels.iter().position(|label| *label as usize >= classes) {
            return Err(SamplesError::Label { index, label: labels[index], classes });
        }
        if let Pixels::F32(values) = &pixels
            && let Some(at) = values.iter().position(|value| !value.is_finite())
        {
            let index = at / shape.iter().product::<usize>();
            return Err(SamplesError::NotFinite { index, value: values[at] });
        }
        Ok(Self { shape, pixels, labels, classes, class_names: Arc::default() })
    }

    /// The same with names for the classes, in the order of their numbers.
    #[must_use]
    pub fn named(self, class_names: Vec<String>) -> Self {
        Self { class_names: class_names.into(), ..self }
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Shape of one sample, `[C, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Values of one sample, C * H * W.
    pub fn sample_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The pixels, `[N, C, H, W]`.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// One label per sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// How many classes; every label is below it.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The classes' names in the order of their numbers; none if labels are numbers.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// How many samples each class has; as long as there are classes.
    pub fn label_counts(&self) -> Vec<usize> {
        label_counts(self.labels.iter().copied(), self.classes)
    }

    /// A copy of the samples at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`Samples::len`].
    #[must_use]
    pub fn take(&self, indices: &[usize]) -> Self {
        fn rows<T: Copy>(values: &[T], width: usize, indices: &[usize]) -> Vec<T> {
            let mut taken = Vec::with_capacity(indices.len() * width);
            for index in indices {
                taken.extend_from_slice(&values[index * width..][..width]);
            }
            taken
        }
        let width = self.sample_len();
        Self {
            shape: self.shape,
            pixels: match &self.pixels {
                Pixels::U8(values) => Pixels::U8(rows(values, width, indices)),
                Pixels::F32(values) => Pixels::F32(rows(values, width, indices)),
            },
            labels: indices.iter().map(|index| self.labels[*index]).collect(),
            classes: self.classes,
            class_names: self.class_names.clone(),
        }
    }

    /// The first `count` samples; all of them if there are fewer.
    #[must_use]
    pub fn limit(mut self, count: usize) -> Self {
        let values = count.min(self.len()) * self.sample_len();
        self.labels.truncate(count);
        self.labels.shrink_to_fit();
        match &mut self.pixels {
            Pixels::U8(pixels) => {
                pixels.truncate(values);
                pixels.shrink_to_fit();
            }
            Pixels::F32(pixels) => {
                pixels.truncate(values);
                pixels.shrink_to_fit();
            }
        }
        self
    }

    /// The same values as samples of another `shape` = `[C, H, W]` of as many.
    pub fn reshaped(mut self, shape: [usize; 3]) -> Result<Self, SamplesError> {
        if volume(1, shape)? != self.sample_len() as u64 {
            return Err(SamplesError::Reshape { from: self.shape, to: shape });
        }
        self.shape = shape;
        Ok(self)
    }

    /// The samples with `pad` zero pixels added on every side: 2 makes MNIST's 28x28 into 32x32.
    pub fn padded(&self, pad: usize) -> Result<Self, SamplesError> {
        let [channels, height, width] = self.shape;
        let side = |side: usize| side.saturating_add(pad.saturating_mul(2));
        let shape = [channels, side(height), side(width)];
        volume(self.len(), shape)?;
        let pixels = match &self.pixels {
            Pixels::U8(values) => Pixels::U8(padded_planes(values, [height, width], pad)),
            Pixels::F32(values) => Pixels::F32(padded_planes(values, [height, width], pad)),
        };
        let (labels, class_names) = (self.labels.clone(), self.class_names.clone());
        Ok(Self { shape, pixels, labels, classes: self.classes, class_names })
    }

    /// Appends the sample at `index` to `out` as `C * H * W` values; a byte `v` becomes `v / 255`.
    ///
    /// # Panics
    /// If `index` is not below [`Samples::len`].
    pub fn values(&self, index: usize, out: &mut Vec<f32>) {
        let width = self.sample_len();
        match &self.pixels {
            Pixels::U8(values) => {
                out.extend(values[index * width..][..width].iter().map(|value| f32::from(*value) / 255.0));
            }
            Pixels::F32(values) => out.extend_from_slice(&values[index * width..][..width]),
        }
    }

    /// Appends the samples at `indices` to `out`: a batch `[indices.len(), C, H, W]`.
    ///
    /// # Panics
    /// If an index is not below [`Samples::len`].
    pub fn gather(&self, indices: &[usize], out: &mut Vec<f32>) {
        out.reserve(indices.len() * self.sample_len());
        for index in indices {
            self.values(*index, out);
        }
    }
}

/// How often each class occurs among `labels`, all below `classes`.
pub(crate) fn label_counts(labels: impl Iterator<Item = u32>, classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for label in labels {
        counts[label as usize] += 1;
    }
    counts
}

/// Every plane of `side` = `[H, W]` in the middle of one with `pad` more zeros on every side.
fn padded_planes<T: Copy + Default>(values: &[T], side: [usize; 2], pad: usize) -> Vec<T> {
    let [height, width] = side;
    let wide = width + 2 * pad;
    let plane = (height + 2 * pad) * wide;
    let mut out = vec![T::default(); values.len() / (height * width) * plane];
    for (from, to) in values.chunks_exact(height * width).zip(out.chunks_exact_mut(plane)) {
        for (row, padded) in from.chunks_exact(width).zip(to.chunks_exact_mut(wide).skip(pad)) {
            padded[pad..pad + width].copy_from_slice(row);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Samples {
        Samples::new([1, 1, 2], Pixels::U8(vec![0, 51, 102, 153, 204, 255, 1, 2]), vec![1, 0, 1, 2], 4)
            .expect("four samples of two pixels")
    }

    #[test]
    fn take_keeps_pixels_with_their_labels() {
        let taken = four().take(&[2, 0]);
        assert_eq!(taken.pixels(), &Pixels::U8(vec![204, 255, 0, 51]));
        assert_eq!((taken.labels(), taken.classes()), (&[1, 1][..], 4));
    }

    #[test]
    fn limit_takes_the_first_and_no_more_than_there_are() {
        assert_eq!(four().limit(1), four().take(&[0]));
        assert_eq!(four().limit(9), four());
        assert!(four().limit(0).is_empty());
    }

    #[test]
    fn bytes_become_fractions_of_255() {
        let mut out = vec![9.0];
        four().gather(&[1, 2], &mut out);
        assert_eq!(out, [9.0, 0.4, 0.6, 0.8, 1.0]);
    }

    #[test]
    fn padding_surrounds_every_plane_with_zeros() {
        let one = Samples::new([2, 1, 2], Pixels::F32(vec![1.0, 2.0, 3.0, 4.0]), vec![0], 1);
        let padded = one.expect("one sample of two planes").padded(1).expect("small");
        assert_eq!(padded.shape(), [2, 3, 4]);
        let planes = [
            [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ];
        assert_eq!(padded.pixels(), &Pixels::F32(planes.concat()));
    }

    #[test]
    fn another_shape_has_the_same_values() {
        let reshaped = four().reshaped([2, 1, 1]).expect("two values");
        assert_eq!((reshaped.shape(), reshaped.pixels()), ([2, 1, 1], four().pixels()));
        assert!(matches!(four().reshaped([3, 1, 1]), Err(SamplesError::Reshape { .. })));
        assert!(four().reshaped([usize::MAX; 3]).is_err());
    }

    #[test]
    fn a_padding_beyond_memory_is_refused() {
        let huge = four().padded(usize::MAX / 2).expect_err("no machine holds it");
        assert!(matches!(huge, SamplesError::TooLarge { count: 4, .. }), "{huge}");
    }

    #[test]
    fn counts_cover_classes_that_do_not_occur() {
        assert_eq!(four().label_counts(), [1, 2, 1, 0]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let build = |pixels, labels, classes| Samples::new([1, 1, 1], pixels, labels, classes);
        let refused = |result: Result<Samples, SamplesError>| result.expect_err("does not fit").to_string();
        assert!(refused(build(Pixels::U8(vec![0]), vec![0, 0], 1)).contains("need 2 pixel values"));
        assert!(refused(build(Pixels::U8(vec![0]), vec![1], 1)).contains("sample 0 has label 1"));
        assert!(refused(build(Pixels::U8(vec![]), vec![], 0)).contains("at least 1"));
        assert!(refused(build(Pixels::U8(vec![]), vec![], usize::MAX)).contains("classes are more than"));
        assert!(refused(build(Pixels::F32(vec![0.0, f32::NAN]), vec![0, 0], 1)).contains("sample 1"));
        assert!(refused(Samples::new([usize::MAX; 3], Pixels::U8(vec![]), vec![0], 1)).contains("more than"));
    }
}
