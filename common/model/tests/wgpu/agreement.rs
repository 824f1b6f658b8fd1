//! How far two devices are apart, and how far rounding may take them.

use std::ops::Range;

use partway_core::model::state::slots;
use partway_core::model::{LayerState, ModelSpec, TensorRole};

/// The relative difference that rounding may make.
pub(crate) const ROUNDING: f64 = 1e-4;

/// Batches that a comparison may take.
///
/// A rectification's or a maximum's decision is another one on another device where rounding decides it. Of `n`
/// gradients behind it one is then gone, and all together differ by some `1 / sqrt(n)`, far more than by rounding.
/// Every device has its own such batches; a kernel that is wrong is wrong on each batch.
const BATCHES: usize = 4;

/// The largest relative differences found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Difference {
    /// Of what rounding alone can change: activations, loss, statistics.
    pub(crate) forward: f64,
    /// Of what decisions change as well: gradients, and the weights and moments that they make.
    pub(crate) backward: f64,
    /// Where the largest of `backward` is.
    at: String,
}

impl Difference {
    /// Takes one more forward value into account.
    pub(crate) fn forward(&mut self, actual: &[f32], expected: &[f32]) {
        self.forward = worse(self.forward, distance(actual, expected));
    }

    /// Takes one more gradient into account.
    pub(crate) fn backward(&mut self, actual: &[f32], expected: &[f32], what: &str) {
        self.backward_by(distance(actual, expected), what);
    }

    fn backward_by(&mut self, distance: f64, what: &str) {
        let worst = worse(self.backward, distance);
        if worst.total_cmp(&self.backward).is_ne() {
            (self.backward, self.at) = (worst, what.to_owned());
        }
    }

    /// Takes the layers of two states after a step into account: each weight, its moments, and the statistics.
    ///
    /// A tensor whose gradient is zero but for rounding, as that of a bias before a batch norm is, is measured by the
    /// layer's others.
    pub(crate) fn states(&mut self, spec: &ModelSpec, actual: &LayerState, expected: &LayerState) {
        for layer in actual.layers.clone() {
            let slots = slots(spec, layer..layer + 1, expected.moments);
            let [actual, expected] =
                [actual, expected].map(|state| state.slice(spec, layer..layer + 1).values);
            let moments = || slots.iter().flat_map(|slot| slot.moments.iter().cloned());
            let typical = root_mean_square(moments().flat_map(|range| &expected[range]));
            let mut apart = |range: &Range<usize>, what: String| {
                let [actual, expected] = [&actual[range.clone()], &expected[range.clone()]];
                let scale = length(expected).max(typical * (range.len() as f64).sqrt());
                self.backward_by(
                    length_of_difference(actual, expected) / scale.max(f64::MIN_POSITIVE),
                    &what,
                );
            };
            for slot in slots.iter().filter(|slot| !slot.moments.is_empty()) {
                apart(&slot.values, slot.tensor.name.clone());
                slot.moments
                    .iter()
                    .for_each(|range| apart(range, format!("the gradient of {}", slot.tensor.name)));
            }
            for pair in slots.windows(2) {
                let [mean, variance] = pair else { continue };
                if (mean.tensor.role, variance.tensor.role)
                    == (TensorRole::RunningMean, TensorRole::RunningVar)
                {
                    let [mean, variance] = [mean, variance]
                        .map(|slot| [&actual, &expected].map(|values| &values[slot.values.clone()]));
                    // A mean may be zero but for rounding: the deviation is its measure.
                    let deviation = variance[1].iter().map(|x| f64::from(*x)).sum::<f64>().sqrt();
                    self.forward = worse(self.forward, length_of_difference(mean[0], mean[1]) / deviation);
                    self.forward(variance[0], variance[1]);
                }
            }
        }
    }

    /// Whether there is nothing here that rounding cannot make.
    pub(crate) fn is_rounding(&self) -> bool {
        self.forward <= ROUNDING && self.backward <= ROUNDING
    }
}

/// The larger difference; what is no number is larger than any.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Length of the difference, relative to that of `expected`.
pub(crate) fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    let difference = length_of_difference(actual, expected);
    if difference == 0.0 { 0.0 } else { difference / length(expected).max(f64::MIN_POSITIVE) }
}

fn length_of_difference(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "values that are compared");
    let squares = actual.iter().zip(expected).map(|(a, e)| (f64::from(*a) - f64::from(*e)).powi(2));
    squares.sum::<f64>().sqrt()
}

fn length(values: &[f32]) -> f64 {
    values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn root_mean_square<'a>(values: impl Iterator<Item = &'a f32>) -> f64 {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), x| (count + 1, sum + f64::from(*x).powi(2)));
    (sum / f64::from(count.max(1))).sqrt()
}

/// Compares two devices on one of the `batches` after the other until they agree up to rounding. What decisions cannot
/// change must agree on each.
#[track_caller]
pub(crate) fn assert_agreement(
    what: &str,
    batches: impl IntoIterator<Item = u64>,
    compare: impl Fn(u64) -> Difference,
) {
    let mut found = Vec::new();
    for batch in batches.into_iter().take(BATCHES) {
        let difference = compare(batch);
        println!(
            "{what}, batch {batch}: forward {:.1e}, backward {:.1e}",
            difference.forward, difference.backward
        );
        assert!(difference.forward <= ROUNDING, "{what}, batch {batch}: {difference:?}");
        if difference.is_rounding() {
            return;
        }
        found.push(difference);
    }
    panic!("{what}: no batch agrees: {found:?}");
}
