//! Images made from a seed: a task for which no data has to be there, of any shape and number of classes.
//!
//! A class is two small textures. An image shows textures of its class at random places, each with a
//! random sign, under noise. The sign makes the mean of every pixel 0 in every class, so no weighted sum of
//! pixels tells classes apart and a linear model stays near chance; a convolution that matches the
//! textures, followed by pooling, tells them apart well. The values are sums and products of random
//! integers, in an order that is fixed: the same on every machine.

use partway_core::random::{below, stream};
use rand::Rng;
use thiserror::Error;

use crate::samples::{MAX_CLASSES, Pixels, Samples, SamplesError, volume};

/// Smallest height and width: a texture has to have more than one place.
pub const MIN_SIDE: usize = 8;

/// Largest side of a texture: two 5x5 or three 3x3 convolutions see it whole.
const MAX_TEXTURE_SIDE: usize = 7;

/// Textures of one class.
const TEXTURES_PER_CLASS: usize = 2;

/// An image has one texture for each so many times a texture's area.
const SPREAD: usize = 4;

/// A task that cannot be made.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SyntheticError {
    /// No room for a texture.
    #[error("synthetic data of shape {shape:?}: needs at least one channel and sides of at least {MIN_SIDE}")]
    Shape {
        /// `[channels, height, width]` asked for.
        shape: [usize; 3],
    },
    /// Nothing to tell apart.
    #[error("synthetic data with {classes} classes: needs at least 2")]
    Classes {
        /// Classes asked for.
        classes: usize,
    },
    /// Noise of no strength.
    #[error("synthetic data with difficulty = {difficulty}: must be at least 0 and finite")]
    Difficulty {
        /// The value given.
        difficulty: f32,
    },
    /// More than fits in memory.
    #[error(transparent)]
    Samples(#[from] SamplesError),
}

/// Which half a sample belongs to; the halves show the same textures and share no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To train on.
    Train,
    /// To test on.
    Test,
}

/// The task: its textures, and how images are made of them.
#[derive(Clone, Debug)]
pub struct Synthetic {
    shape: [usize; 3],
    classes: usize,
    difficulty: f32,
    seed: u64,
    side: usize,
    /// Of every class in turn, `[class][texture]`, each `[C, side, side]`.
    textures: Vec<Vec<f32>>,
}

impl Synthetic {
    /// A task of images of `shape` = `[C, H, W]` in `classes` classes. `difficulty` is the standard
    /// deviation of the noise where a texture's root mean square is 1: 0 is clean; with
    /// thousands of samples of 28x28 in 10 classes, LeNet-5 learns much at 0.5 and little at 1.
    pub fn new(
        shape: [usize; 3],
        classes: usize,
        difficulty: f32,
        seed: u64,
    ) -> Result<Self, SyntheticError> {
        let [channels, height, width] = shape;
        if channels == 0 || height.min(width) < MIN_SIDE {
            return Err(SyntheticError::Shape { shape });
        }
        if classes < 2 {
            return Err(SyntheticError::Classes { classes });
        }
        if !difficulty.is_finite() || difficulty < 0.0 {
            return Err(SyntheticError::Difficulty { difficulty });
        }
        if classes > MAX_CLASSES {
            return Err(SamplesError::Classes { classes }.into());
        }
        volume(1, shape)?;
        let side = (height.min(width) / 2).min(MAX_TEXTURE_SIDE);
        volume(classes * TEXTURES_PER_CLASS, [channels, side, side])?;
        let textures = (0..classes * TEXTURES_PER_CLASS)
            .map(|index| {
                texture(&mut stream(seed, &["synthetic texture", &index.to_string()]), channels, side)
            })
            .collect();
        Ok(Self { shape, classes, difficulty, seed, side, textures })
    }

    /// The first `count` samples of `split`, as `f32`. Classes take turns, so they are equally frequent.
    pub fn samples(&self, split: Split, count: usize) -> Result<Samples, SyntheticError> {
        let values = volume(count, self.shape)?;
        let mut pixels = Vec::with_capacity(usize::try_from(values).unwrap_or(0));
        let labels = (0..count).map(|index| self.sample(split, index, &mut pixels)).collect();
        Ok(Samples::new(self.shape, Pixels::F32(pixels), labels, self.classes)?)
    }

    /// Appends the pixels of one sample to `out` and returns its label. A sample depends on the task, the
    /// split and its index alone.
    pub fn sample(&self, split: Split, index: usize, out: &mut Vec<f32>) -> u32 {
        let [channels, height, width] = self.shape;
        let class = index % self.classes;
        let split = match split {
            Split::Train => "train",
            Split::Test => "test",
        };
        let mut rng = stream(self.seed, &["synthetic", split, &index.to_string()]);
        let start = out.len();
        out.extend((0..channels * height * width).map(|_| self.difficulty * noise(&mut rng)));
        let image = &mut out[start..];
        for _ in 0..(height * width / (SPREAD * self.side * self.side)).max(1) {
            let texture = below(&mut rng, TEXTURES_PER_CLASS as u64) as usize;
            let top = below(&mut rng, (height - self.side + 1) as u64) as usize;
            let left = below(&mut rng, (width - self.side + 1) as u64) as usize;
            let sign = if below(&mut rng, 2) == 0 { 1.0 } else { -1.0 };
            let texture = &self.textures[class * TEXTURES_PER_CLASS + texture];
            for (line, values) in texture.chunks_exact(self.side).enumerate() {
                let (channel, row) = (line / self.side, line % self.side);
                let at = (channel * height + top + row) * width + left;
                for (pixel, value) in image[at..].iter_mut().zip(values) {
                    *pixel += sign * value;
                }
            }
        }
        class as u32
    }
}

/// A random texture `[channels, side, side]`: neighbouring pixels alike, mean 0, root mean square 1.
fn texture(rng: &mut impl Rng, channels: usize, side: usize) -> Vec<f32> {
    let rough = side + 1;
    let mut texture = Vec::with_capacity(channels * side * side);
    for _ in 0..channels {
        let plane: Vec<f32> = (0..rough * rough).map(|_| noise(rng)).collect();
        for row in 0..side {
            for column in 0..side {
                let at = row * rough + column;
                texture.push(plane[at] + plane[at + 1] + plane[at + rough] + plane[at + rough + 1]);
            }
        }
    }
    let mean = texture.iter().sum::<f32>() / texture.len() as f32;
    let power = texture.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>();
    let scale = (texture.len() as f32 / power).sqrt();
    texture.iter().map(|value| (value - mean) * scale).collect()
}

/// Nearly normal, mean 0, standard deviation 1: the sum of four uniform 16-bit integers, because a
/// logarithm or cosine is not the same on every machine.
fn noise(rng: &mut impl Rng) -> f32 {
    /// Standard deviation of the sum: `sqrt((2^32 - 1) / 3)`.
    const DEVIATION: f64 = 37_837.227_237;
    /// Mean of the sum: `2 * (2^16 - 1)`.
    const MEAN: f64 = 131_070.0;
    let bits = rng.next_u64();
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    ((sum as f64 - MEAN) / DEVIATION) as f32
}
