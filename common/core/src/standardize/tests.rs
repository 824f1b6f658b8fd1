#![expect(clippy::float_cmp, reason = "where values must be exact, nearly is not enough")]

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::statistics::push_sample;

const CHANNELS: usize = 2;

fn statistics(sample: &[f32], channels: usize) -> Vec<ChannelStatistics> {
    let mut all = vec![ChannelStatistics::default(); channels];
    push_sample(&mut all, sample).expect("whole planes");
    all
}

/// Two channels of 40 values, each with its own place and spread, as pixels or readings have.
fn sample() -> impl Strategy<Value = Vec<f32>> {
    let channel =
        (-100.0..100.0f32, 0.5..100.0f32, vec(-1.0..1.0f32, 40)).prop_map(|(place, spread, units)| {
            let mut values: Vec<f32> = units.iter().map(|unit| place + spread * unit).collect();
            // Keeps the spread from being accidentally tiny beside the place, where f32 has no digits left.
            values.extend([place - spread, place + spread]);
            values
        });
    vec(channel, CHANNELS).prop_map(|planes| planes.concat())
}

fn standardized(method: Method, sample: &[f32]) -> (Standardizer, Vec<f32>) {
    let standardizer = Standardizer::fit(method, &statistics(sample, CHANNELS)).expect("finite");
    let mut values = sample.to_vec();
    standardizer.apply(&mut values, sample.len() / CHANNELS).expect("the same channels");
    (standardizer, values)
}

proptest! {
    #[test]
    fn zscore_gives_mean_0_and_variance_1(sample in sample()) {
        let (_, values) = standardized(Method::Zscore, &sample);
        for channel in statistics(&values, CHANNELS) {
            prop_assert!(channel.mean.abs() < 1e-4, "mean {}", channel.mean);
            prop_assert!((channel.variance() - 1.0).abs() < 1e-4, "variance {}", channel.variance());
        }
    }

    #[test]
    fn min_max_gives_0_to_1(sample in sample()) {
        let (_, values) = standardized(Method::MinMax, &sample);
        for channel in statistics(&values, CHANNELS) {
            prop_assert_eq!(channel.min, 0.0);
            prop_assert!((1.0 - 1e-6..=1.0).contains(&channel.max), "maximum {}", channel.max);
        }
    }

    #[test]
    fn min_max_never_leaves_the_interval(a in -1e38..1e38f32, b in -1e38..1e38f32, small in any::<bool>()) {
        let shrink = if small { 1e-44 } else { 1.0 };
        let values = [a * shrink, b * shrink];
        let standardizer = Standardizer::fit(Method::MinMax, &statistics(&values, 1)).expect("finite");
        let mut mapped = values;
        standardizer.apply(&mut mapped, 2).expect("one channel");
        prop_assert!(mapped.iter().all(|y| (0.0..=1.0).contains(y)), "{values:?} became {mapped:?}");
    }

    #[test]
    fn invert_undoes_apply(
        sample in sample(),
        method in prop_oneof![Just(Method::Zscore), Just(Method::MinMax), Just(Method::None)],
    ) {
        let (standardizer, mut values) = standardized(method, &sample);
        standardizer.invert(&mut values, sample.len() / CHANNELS).expect("the same channels");
        for (back, value) in values.iter().zip(&sample) {
            prop_assert!((back - value).abs() <= 1e-4, "{value} became {back}");
        }
    }

    #[test]
    fn standardized_data_needs_no_further_standardization(
        sample in sample(),
        method in prop_oneof![Just(Method::Zscore), Just(Method::MinMax)],
    ) {
        let (_, values) = standardized(method, &sample);
        let (again, _) = standardized(method, &values);
        for Affine { offset, scale } in again.channels {
            prop_assert!(offset.abs() < 1e-4 && (scale - 1.0).abs() < 1e-4, "({offset}, {scale})");
        }
    }

    #[test]
    fn none_changes_no_bit(sample in vec(-1e30..1e30f32, 8)) {
        let (_, values) = standardized(Method::None, &sample);
        prop_assert_eq!(values, sample);
    }

    #[test]
    fn whatever_is_reported_never_makes_an_unusable_map(
        count in any::<u64>(), mean in any::<f64>(), m2 in any::<f64>(), min in any::<f64>(), max in any::<f64>(),
    ) {
        let reported = ChannelStatistics { count, mean, m2, min, max };
        for method in [Method::Zscore, Method::MinMax, Method::None] {
            if let Ok(fitted) = Standardizer::fit(method, &[reported]) {
                let Affine { offset, scale } = fitted.channels[0];
                prop_assert!(offset.is_finite() && scale.is_finite() && scale > 0.0, "({offset}, {scale})");
            }
        }
    }
}

#[test]
fn a_constant_channel_is_only_shifted() {
    // A reporter may have rounded differently: equal bounds say that the channel is constant.
    let channels = [ChannelStatistics { m2: 1e-15, ..statistics(&[0.1; 90], 1)[0] }];
    for method in [Method::Zscore, Method::MinMax] {
        let fitted = Standardizer::fit(method, &channels).expect("constant, yet finite");
        assert_eq!(fitted.channels, [Affine { offset: 0.1, scale: 1.0 }]);
    }
}

#[test]
fn statistics_that_no_data_has_are_refused() {
    let good = statistics(&[1.0, 2.0], 1)[0];
    let bad = [
        ChannelStatistics { mean: f64::NAN, ..good },
        ChannelStatistics { m2: -1.0, ..good },
        ChannelStatistics { m2: f64::INFINITY, ..good },
        ChannelStatistics { m2: 1e296, ..good },
        ChannelStatistics { min: 3.0, ..good },
        ChannelStatistics { max: 1e300, ..good },
        ChannelStatistics { min: -3e38, max: 3e38, ..good },
        statistics(&[1.0, f32::NAN], 1)[0],
        statistics(&[1.0, f32::INFINITY], 1)[0],
    ];
    for statistics in bad {
        let error = Standardizer::fit(Method::Zscore, &[good, statistics]).expect_err("impossible");
        assert!(matches!(error, StandardizeError::Impossible { channel: 1, .. }), "{error}");
    }
    let none = ChannelStatistics::default();
    let error = Standardizer::fit(Method::None, &[good, none]).expect_err("no values");
    assert_eq!(error, StandardizeError::NoValues { channel: 1 });
    assert_eq!(Standardizer::fit(Method::None, &[]), Err(StandardizeError::NoChannels));
}

#[test]
fn a_sample_of_other_channels_is_refused() {
    let fitted = Standardizer::fit(Method::Zscore, &statistics(&[1.0, 2.0, 3.0, 5.0], 2)).expect("finite");
    let mut sample = [0.0; 6];
    let error = StandardizeError::SampleLength { values: 6, channels: 2, plane: 2 };
    assert_eq!(fitted.apply(&mut sample, 2), Err(error));
    assert!(fitted.invert(&mut sample, usize::MAX).is_err());
    assert_eq!(fitted.apply(&mut [], 0), Ok(()));
}

#[test]
fn files_name_methods_in_kebab_case() {
    #[derive(Deserialize)]
    struct File {
        methods: Vec<Method>,
    }
    let file: File = toml::from_str(r#"methods = ["zscore", "min-max", "none"]"#).expect("the known names");
    assert_eq!(file.methods, [Method::Zscore, Method::MinMax, Method::None]);
}
