//! The synthetic task: the same from the same seed, beyond a linear model, within a convolution's reach.

use partway_core::random::{shuffle, stream};
use partway_datasets::{Pixels, Samples, Split, Synthetic, SyntheticError};

const SHAPE: [usize; 3] = [1, 16, 16];
const CLASSES: usize = 5;

fn task(difficulty: f32, seed: u64) -> Synthetic {
    Synthetic::new(SHAPE, CLASSES, difficulty, seed).expect("the task can be made")
}

fn floats(samples: &Samples) -> &[f32] {
    match samples.pixels() {
        Pixels::F32(values) => values,
        Pixels::U8(_) => panic!("synthetic samples are floats"),
    }
}

/// The mean image of every class.
fn class_means(samples: &Samples) -> Vec<Vec<f32>> {
    let mut means = vec![vec![0.0; samples.sample_len()]; CLASSES];
    let counts = samples.label_counts();
    for (image, label) in floats(samples).chunks_exact(samples.sample_len()).zip(samples.labels()) {
        for (mean, pixel) in means[*label as usize].iter_mut().zip(image) {
            *mean += pixel / counts[*label as usize] as f32;
        }
    }
    means
}

#[test]
fn the_seed_the_split_and_the_index_make_a_sample() {
    let train = |seed, count| task(0.5, seed).samples(Split::Train, count).expect("small");
    assert_eq!(train(1, 20), train(1, 20));
    assert_eq!(train(1, 20), train(1, 40).limit(20), "more samples do not change the first");
    assert_ne!(train(1, 20), train(2, 20));
    assert_ne!(train(1, 20), task(0.5, 1).samples(Split::Test, 20).expect("small"));
}

#[test]
fn classes_are_equally_frequent() {
    assert_eq!(task(0.5, 1).samples(Split::Train, 53).expect("small").label_counts(), [11, 11, 11, 10, 10]);
}

#[test]
fn class_means_do_not_differ() {
    let samples = task(0.5, 1).samples(Split::Train, 10_000).expect("fits");
    let root_mean_square = |values: &mut dyn Iterator<Item = f32>| {
        let squares: Vec<f32> = values.map(|value| value * value).collect();
        (squares.iter().sum::<f32>() / squares.len() as f32).sqrt()
    };
    let pixel = root_mean_square(&mut floats(&samples).iter().copied());
    let means = class_means(&samples);
    let difference = root_mean_square(
        &mut means.windows(2).flat_map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| a - b)),
    );
    // Two means of 2,000 samples each differ by chance by sqrt(2 / 2000) = 0.032 of a pixel's deviation.
    assert!(difference < 0.04 * pixel, "class means differ by {difference}, pixels by {pixel}");
    let mean = floats(&samples).iter().sum::<f32>() / floats(&samples).len() as f32;
    assert!(mean.abs() < 0.01 * pixel, "the mean pixel is {mean}");
}

/// Test accuracy of softmax regression on what `features` makes of an image.
fn linear_accuracy(task: &Synthetic, features: impl Fn(&[f32]) -> Vec<f32>) -> f32 {
    let read = |split, count| -> (Vec<Vec<f32>>, Vec<u32>) {
        let samples = task.samples(split, count).expect("fits");
        let inputs = floats(&samples).chunks_exact(samples.sample_len()).map(&features).collect();
        (inputs, samples.labels().to_vec())
    };
    let logits = |weights: &[Vec<f32>], input: &[f32]| -> Vec<f32> {
        weights.iter().map(|row| row.iter().zip(input).map(|(w, x)| w * x).sum()).collect()
    };
    let (inputs, labels) = read(Split::Train, 2000);
    let mut weights = vec![vec![0.0; inputs[0].len()]; CLASSES];
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    let mut rng = stream(1, &["test"]);
    for epoch in 0..20 {
        shuffle(&mut rng, &mut order);
        for index in &order {
            let scores = logits(&weights, &inputs[*index]);
            let largest = scores.iter().copied().fold(f32::MIN, f32::max);
            let exponents: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f32 = exponents.iter().sum();
            for (class, row) in weights.iter_mut().enumerate() {
                let target = if labels[*index] as usize == class { 1.0 } else { 0.0 };
                let step = 0.01 / (1.0 + epoch as f32) * (target - exponents[class] / sum);
                row.iter_mut().zip(&inputs[*index]).for_each(|(weight, x)| *weight += step * x);
            }
        }
    }
    let (inputs, labels) = read(Split::Test, 1000);
    let right = inputs.iter().zip(&labels).filter(|(input, label)| {
        let scores = logits(&weights, input);
        (0..CLASSES).max_by(|a, b| scores[*a].total_cmp(&scores[*b])) == Some(**label as usize)
    });
    right.count() as f32 / labels.len() as f32
}

#[test]
fn a_linear_model_stays_near_chance() {
    let accuracy = linear_accuracy(&task(0.0, 1), <[f32]>::to_vec);
    assert!(accuracy < 0.3, "chance is 0.2, a linear model without any noise reached {accuracy}");
}

/// What is alike at every place, whatever the sign, tells the classes apart: the images' mean
/// autocorrelation is what one convolution with squared outputs and global pooling can compute.
fn autocorrelation(image: &[f32]) -> Vec<f32> {
    let [_, height, width] = SHAPE;
    let mut features = vec![1.0];
    for down in 0..4 {
        for right in 0..7usize {
            let left = right.saturating_sub(3);
            let right = 3usize.saturating_sub(right);
            let mut sum = 0.0;
            for row in 0..height - down {
                for column in right..width - left {
                    sum += image[row * width + column] * image[(row + down) * width + column + left - right];
                }
            }
            features.push(sum / 32.0);
        }
    }
    features
}

#[test]
fn the_same_model_learns_from_pooled_local_features_and_noise_makes_it_harder() {
    let [easy, hard] = [0.25, 2.0].map(|difficulty| linear_accuracy(&task(difficulty, 1), autocorrelation));
    assert!(easy > 0.6, "pooled local features reached {easy}");
    assert!(hard < easy - 0.1, "with eight times the noise {hard}, before {easy}");
}

#[test]
fn tasks_that_cannot_be_made_are_refused() {
    let refuse =
        |shape, classes, difficulty| Synthetic::new(shape, classes, difficulty, 1).expect_err("refused");
    assert!(matches!(refuse([1, 7, 16], 2, 0.0), SyntheticError::Shape { .. }));
    assert!(matches!(refuse([0, 16, 16], 2, 0.0), SyntheticError::Shape { .. }));
    assert!(matches!(refuse([usize::MAX; 3], 2, 0.0), SyntheticError::Samples(_)));
    assert!(matches!(refuse(SHAPE, 1, 0.0), SyntheticError::Classes { classes: 1 }));
    assert!(matches!(refuse(SHAPE, usize::MAX, 0.0), SyntheticError::Samples(_)));
    assert!(matches!(refuse(SHAPE, 2, -0.1), SyntheticError::Difficulty { .. }));
    assert!(matches!(refuse(SHAPE, 2, f32::NAN), SyntheticError::Difficulty { .. }));
    let error = task(0.0, 1).samples(Split::Train, usize::MAX).expect_err("no machine holds them");
    assert!(matches!(error, SyntheticError::Samples(_)), "{error}");
}
