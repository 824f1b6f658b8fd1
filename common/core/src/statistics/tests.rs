#![expect(clippy::float_cmp, reason = "where values must be exact, nearly is not enough")]

use proptest::{collection::vec, prelude::*};

use super::*;

fn of(values: &[f32]) -> ChannelStatistics {
    let mut statistics = ChannelStatistics::default();
    statistics.push_all(values);
    statistics
}

/// Checks against two passes over all values; tolerances are relative to what was summed.
fn assert_describes(statistics: &ChannelStatistics, values: &[f32]) {
    let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let m2: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let mean_magnitude = values.iter().map(|value| value.abs()).sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| value * value).sum();
    assert_eq!(statistics.count, values.len() as u64);
    assert!((statistics.mean - mean).abs() <= 1e-12 * mean_magnitude, "{} is not {mean}", statistics.mean);
    assert!((statistics.m2 - m2).abs() <= 1e-12 * squares, "{} is not {m2}", statistics.m2);
    assert_eq!(statistics.min, values.iter().copied().fold(f64::INFINITY, f64::min));
    assert_eq!(statistics.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
}

proptest! {
    #[test]
    fn ten_edges_merged_are_as_one_that_has_all_data(
        edges in vec(vec(-1000.0..1000.0f32, 0..60), 10),
        extra in -1000.0..1000.0f32,
    ) {
        let reports: Vec<_> = edges.iter().map(|values| [of(values), of(&[extra])]).collect();
        let merged = merge_all(reports.iter().map(<[_; 2]>::as_slice)).expect("two channels each");
        let mut pooled = edges.concat();
        if pooled.is_empty() {
            prop_assert_eq!(merged[0], ChannelStatistics::default());
            pooled.push(extra);
        } else {
            assert_describes(&merged[0], &pooled);
        }
        assert_describes(&merged[1], &[extra; 10]);
    }

    #[test]
    fn one_by_one_is_as_all_at_once(values in vec(-1e6..1e6f32, 1..200)) {
        let mut statistics = ChannelStatistics::default();
        for value in &values {
            statistics.push(*value);
        }
        assert_describes(&statistics, &values);
        assert_describes(&of(&values), &values);
    }

    #[test]
    fn nothing_merged_changes_nothing(values in vec(-1e6..1e6f32, 1..20)) {
        let one = of(&values);
        let (mut left, mut right) = (one, ChannelStatistics::default());
        left.merge(&ChannelStatistics::default());
        right.merge(&one);
        prop_assert_eq!(left, one);
        prop_assert_eq!(right, one);
    }

    #[test]
    fn samples_are_planes(planes in vec(vec(0.0..255.0f32, 6), 1..4)) {
        let mut channels = vec![ChannelStatistics::default(); planes.len()];
        push_sample(&mut channels, &planes.concat()).expect("planes of 6");
        for (statistics, plane) in channels.iter().zip(&planes) {
            prop_assert_eq!(statistics, &of(plane));
        }
    }
}

#[test]
fn a_constant_channel_has_exactly_no_variance() {
    let mut statistics = of(&[0.1; 7]);
    statistics.merge(&of(&[0.1; 500]));
    assert_eq!(statistics.m2, 0.0);
    assert_eq!(statistics.mean, f64::from(0.1f32));
}

#[test]
fn a_sample_that_is_not_planes_is_refused() {
    let mut channels = [ChannelStatistics::default(); 3];
    let error = push_sample(&mut channels, &[0.0; 10]).expect_err("10 is not divisible by 3");
    assert_eq!(error, StatisticsError::SampleLength { values: 10, channels: 3 });
    assert_eq!(channels, [ChannelStatistics::default(); 3]);
    assert!(push_sample(&mut channels, &[]).is_err());
    assert!(push_sample(&mut [], &[1.0]).is_err());
}

#[test]
fn reports_of_other_channels_are_refused() {
    let (one, three) = ([of(&[1.0])], [of(&[1.0]); 3]);
    let error = merge_all([&three[..], &three[..], &one[..]]).expect_err("1 channel is not 3");
    assert_eq!(error, StatisticsError::Channels { contributor: 2, expected: 3, actual: 1 });
    assert_eq!(merge_all([]), Ok(Vec::new()));
}

#[test]
fn counts_from_outside_cannot_overflow() {
    let absurd = ChannelStatistics { count: u64::MAX, ..of(&[1.0, 2.0]) };
    let mut merged = absurd;
    merged.merge(&absurd);
    assert_eq!(merged.count, u64::MAX);
}

#[test]
fn the_wire_keeps_every_bit() {
    for statistics in [ChannelStatistics::default(), of(&[0.1, 0.7, 1e-30])] {
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(statistics, config).expect("plain numbers");
        let (back, read) = bincode::serde::decode_from_slice(&bytes, config).expect("just encoded");
        assert_eq!((statistics, bytes.len()), (back, read));
    }
}
