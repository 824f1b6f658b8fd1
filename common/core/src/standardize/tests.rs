#![expect(clippy::float_cmp, reason = "where values must be exact, nearly is not enough")]

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::statistics::{merge_all, push_sample};

const CHANNELS: usize = 2;

const ALL: [Method; 5] = [Method::Zscore, Method::MinMax, Method::Log, Method::UnitNorm, Method::None];

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

/// Fits `method` to what each edge measures of its own sample, in as many exchanges as it takes.
fn fitted(method: Method, edges: &[&[f32]], channels: usize) -> Result<Standardizer, StandardizeError> {
    let mut of = Transform::Identity;
    loop {
        let measured: Vec<_> = edges
            .iter()
            .map(|sample| {
                let mut values = sample.to_vec();
                of.apply(&mut values, sample.len() / channels).expect("the same channels");
                statistics(&values, channels)
            })
            .collect();
        let merged = merge_all(measured.iter().map(Vec::as_slice)).expect("the same channels");
        match Standardizer::fit(method, &of, &merged)? {
            Fit::Done(standardizer) => return Ok(standardizer),
            Fit::Measure(next) => of = next,
        }
    }
}

fn standardized(method: Method, sample: &[f32]) -> (Standardizer, Vec<f32>) {
    let standardizer = fitted(method, &[sample], CHANNELS).expect("finite");
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
        let standardizer = fitted(Method::MinMax, &[&values], 1).expect("finite");
        let mut mapped = values;
        standardizer.apply(&mut mapped, 2).expect("one channel");
        prop_assert!(mapped.iter().all(|y| (0.0..=1.0).contains(y)), "{values:?} became {mapped:?}");
    }

    #[test]
    fn invert_undoes_apply(
        sample in sample(),
        method in prop_oneof![Just(Method::Zscore), Just(Method::MinMax), Just(Method::Log), Just(Method::None)],
    ) {
        let (standardizer, mut values) = standardized(method, &sample);
        standardizer.invert(&mut values, sample.len() / CHANNELS).expect("the same channels");
        for (back, value) in values.iter().zip(&sample) {
            prop_assert!((back - value).abs() <= 1e-3, "{value} became {back}");
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
    fn log_gives_mean_0_and_variance_1(sample in sample()) {
        let (_, values) = standardized(Method::Log, &sample);
        for channel in statistics(&values, CHANNELS) {
            prop_assert!(channel.mean.abs() < 1e-4, "mean {}", channel.mean);
            prop_assert!((channel.variance() - 1.0).abs() < 1e-4, "variance {}", channel.variance());
        }
    }

    #[test]
    fn log_keeps_the_order_and_takes_what_is_below_the_minimum_for_it(sample in sample(), below in 0.0..1e38f32) {
        let standardizer = fitted(Method::Log, &[&sample], CHANNELS).expect("finite");
        let plane = sample.len() / CHANNELS;
        let least = |values: &[f32]| values[..plane].iter().copied().fold(f32::INFINITY, f32::min);
        let mut sorted = sample.clone();
        sorted[..plane].sort_unstable_by(f32::total_cmp);
        let late = least(&sample) - below;
        let mut unseen = vec![late; sample.len()];
        standardizer.apply(&mut sorted, plane).expect("the same channels");
        standardizer.apply(&mut unseen, plane).expect("the same channels");
        prop_assert!(sorted[..plane].is_sorted());
        prop_assert_eq!(unseen[0], least(&sorted));
    }

    #[test]
    fn unit_norm_gives_norm_1_and_once_is_as_good_as_twice(values in vec(-1e38..1e38f32, 1..50), shrink in 0..38i32) {
        let sample: Vec<f32> = values.iter().map(|value| value * 10f32.powi(-shrink)).collect();
        prop_assume!(sample.iter().any(|value| *value != 0.0));
        let standardizer = fitted(Method::UnitNorm, &[&[0.0, 1.0]], 1).expect("finite");
        let mut once = sample.clone();
        standardizer.apply(&mut once, sample.len()).expect("one channel");
        let norm = once.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        prop_assert!((norm - 1.0).abs() < 1e-6, "norm {norm}");
        let mut twice = once.clone();
        standardizer.apply(&mut twice, sample.len()).expect("one channel");
        for (once, twice) in once.iter().zip(&twice) {
            prop_assert!((once - twice).abs() <= 1e-6 * once.abs(), "{once} became {twice}");
        }
    }

    /// The same data as one edge's, and split over several: equal up to the rounding of f64 sums.
    #[test]
    fn edges_together_fit_what_one_edge_with_all_data_fits(
        edges in vec(sample(), 1..6), method in proptest::sample::select(ALL.to_vec()),
    ) {
        let plane = edges[0].len() / CHANNELS;
        let channel = |of: usize| edges.iter().flat_map(move |sample| &sample[of * plane..][..plane]).copied();
        let pooled: Vec<f32> = (0..CHANNELS).flat_map(channel).collect();
        let federated: Vec<&[f32]> = edges.iter().map(Vec::as_slice).collect();
        let together = fitted(method, &federated, CHANNELS).expect("finite");
        let alone = fitted(method, &[&pooled], CHANNELS).expect("finite");
        prop_assert_eq!(&together.transform, &alone.transform);
        let measured = |sample: &[f32]| {
            let mut values = sample.to_vec();
            together.transform.apply(&mut values, sample.len() / CHANNELS).expect("the same channels");
            statistics(&values, CHANNELS)
        };
        // A sample's norm is its own: only what is measured value by value can be pooled.
        if method != Method::UnitNorm {
            let parts: Vec<_> = edges.iter().map(|sample| measured(sample)).collect();
            let merged = merge_all(parts.iter().map(Vec::as_slice)).expect("the same channels");
            for (merged, pooled) in merged.iter().zip(measured(&pooled)) {
                let size = pooled.min.abs().max(pooled.max.abs()).max(1.0);
                prop_assert!((merged.mean - pooled.mean).abs() <= 1e-12 * size);
                prop_assert!((merged.variance() - pooled.variance()).abs() <= 1e-12 * size * size);
                prop_assert_eq!((merged.count, merged.min, merged.max), (pooled.count, pooled.min, pooled.max));
            }
        }
        for (together, alone) in together.channels.iter().zip(&alone.channels) {
            prop_assert!((together.scale / alone.scale - 1.0).abs() <= 1e-6, "{together:?} {alone:?}");
        }
    }

    #[test]
    fn files_and_messages_keep_a_standardizer(sample in sample(), method in proptest::sample::select(ALL.to_vec())) {
        let (standardizer, _) = standardized(method, &sample);
        let text = toml::to_string(&standardizer).expect("plain data");
        prop_assert_eq!(&toml::from_str::<Standardizer>(&text).expect("just written"), &standardizer);
        let bytes = crate::wire::message::encode(&standardizer).expect("it is short");
        prop_assert_eq!(crate::wire::message::decode::<Standardizer>(&bytes), Ok(standardizer));
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
        let log1p = Transform::Log1p { shifts: vec![0.0] };
        for (method, of) in ALL.map(|method| (method, &Transform::Identity)).into_iter().chain([(Method::Log, &log1p)]) {
            match Standardizer::fit(method, of, &[reported]) {
                Ok(Fit::Done(fitted)) => {
                    let Affine { offset, scale } = fitted.channels[0];
                    prop_assert!(offset.is_finite() && scale.is_finite() && scale > 0.0, "({offset}, {scale})");
                }
                Ok(Fit::Measure(next)) => prop_assert!(next.shifts()[0].is_finite()),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_constant_channel_is_only_shifted() {
    // A reporter may have rounded differently: equal bounds say that the channel is constant.
    let channels = [ChannelStatistics { m2: 1e-15, ..statistics(&[0.1; 90], 1)[0] }];
    for method in [Method::Zscore, Method::MinMax] {
        let fit = Standardizer::fit(method, &Transform::Identity, &channels).expect("constant, yet finite");
        let Fit::Done(fitted) = fit else { panic!("one exchange is enough") };
        assert_eq!(fitted.channels, [Affine { offset: 0.1, scale: 1.0 }]);
    }
    let (log, values) = standardized(Method::Log, &[0.1, 0.1, 7.0, 7.0]);
    assert_eq!(log.transform, Transform::Log1p { shifts: vec![0.1, 7.0] });
    assert_eq!(values, [0.0; 4]);
}

#[test]
fn log_takes_a_second_exchange_that_the_minimum_is_needed_for() {
    let of = |values: &[f32], transform: &Transform| {
        Standardizer::fit(Method::Log, transform, &statistics(values, 1)).expect("finite")
    };
    let log1p = Transform::Log1p { shifts: vec![-3.0] };
    assert_eq!(of(&[5.0, -3.0], &Transform::Identity), Fit::Measure(log1p.clone()));
    let channels = vec![Affine { offset: 1.0, scale: 1.0 }];
    let done = Standardizer { method: Method::Log, transform: log1p.clone(), channels };
    assert_eq!(of(&[0.0, 2.0], &log1p), Fit::Done(done));
}

#[test]
fn a_sample_of_zeros_keeps_them_and_a_norm_cannot_be_undone() {
    let (standardizer, values) = standardized(Method::UnitNorm, &[0.0; 4]);
    assert_eq!(values, [0.0; 4]);
    let (_, values) = standardized(Method::UnitNorm, &[3.0, 0.0, 0.0, -4.0]);
    assert_eq!(values, [0.6, 0.0, 0.0, -0.8], "over all channels");
    let mut sample = [0.6, 0.8];
    assert_eq!(standardizer.invert(&mut sample, 1), Err(StandardizeError::NoInverse(Method::UnitNorm)));
    assert_eq!(sample, [0.6, 0.8]);
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
        for method in ALL {
            let error = Standardizer::fit(method, &Transform::Identity, &[good, statistics]);
            assert!(matches!(error, Err(StandardizeError::Impossible { channel: 1, .. })), "{error:?}");
        }
    }
    let none = ChannelStatistics::default();
    let fit =
        |channels: &[ChannelStatistics]| Standardizer::fit(Method::None, &Transform::Identity, channels);
    assert_eq!(fit(&[good, none]), Err(StandardizeError::NoValues { channel: 1 }));
    assert_eq!(fit(&[]), Err(StandardizeError::NoChannels));
}

#[test]
fn a_sample_of_other_channels_is_refused() {
    for method in ALL {
        let fitted = fitted(method, &[&[1.0, 2.0, 3.0, 5.0]], 2).expect("finite");
        let mut sample = [1.0; 6];
        let error = StandardizeError::SampleLength { values: 6, channels: 2, plane: 2 };
        assert_eq!(fitted.apply(&mut sample, 2), Err(error));
        assert!(fitted.invert(&mut sample, usize::MAX).is_err());
        assert_eq!(sample, [1.0; 6], "nothing was changed");
        assert_eq!(fitted.apply(&mut [], 0), Ok(()));
    }
    let log = Transform::Log1p { shifts: vec![0.0; 3] };
    assert!(log.apply(&mut [1.0; 4], 2).is_err());
}

#[test]
fn files_name_methods_in_kebab_case() {
    #[derive(Deserialize)]
    struct File {
        methods: Vec<Method>,
    }
    let file: File = toml::from_str(r#"methods = ["zscore", "min-max", "log", "unit-norm", "none"]"#)
        .expect("the known names");
    assert_eq!(file.methods, ALL);
    assert_eq!(ALL.map(|method| method.to_string()).join(" "), "zscore min-max log unit-norm none");
}
