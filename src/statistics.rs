//! Medians, quantiles, means and deviations of measurements.

/// The quantile `q`, from 0 to 1, interpolated between neighbours. Values that are no numbers do not count.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The middle value, or the mean of the middle two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// A mean with the spread around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The mean.
    pub(crate) mean: f64,
    /// Standard deviation of a sample, which divides by one less than there are values; of one value, 0.
    pub(crate) deviation: f64,
    /// How many values.
    pub(crate) count: usize,
}

impl Spread {
    /// Of those values that are numbers, if there are any.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 };
        Some(Self { mean, deviation, count })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, f64::NAN, 1.0]), Some(2.0));
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(quantile([0.0, 10.0, 20.0], 0.25), Some(5.0));
        assert_eq!(quantile([0.0, 10.0, 20.0], 1.0), Some(20.0));
    }

    #[test]
    fn a_samples_deviation_divides_by_one_less() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[1.0, 2.0, 3.0]), Some(Spread { mean: 2.0, deviation: 1.0, count: 3 }));
        assert_eq!(of(&[4.0]), Some(Spread { mean: 4.0, deviation: 0.0, count: 1 }));
        assert_eq!(of(&[f64::INFINITY]), None);
    }

    proptest! {
        #[test]
        fn quantiles_grow_with_their_share(values in prop::collection::vec(-1e6..1e6, 1..40), a in 0.0..1.0, b in 0.0..1.0) {
            let at = |q: f64| quantile(values.iter().copied(), q).expect("there are values");
            prop_assert!(at(f64::min(a, b)) <= at(f64::max(a, b)));
            prop_assert!(values.contains(&at(0.0)) && values.contains(&at(1.0)));
        }
    }
}
