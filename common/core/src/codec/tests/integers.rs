//! int8 and int4.

use super::*;

const INTEGERS: [Codec; 4] = [
    Codec::Int8(Scale::Channel),
    Codec::Int8(Scale::Tensor),
    Codec::Int4(Scale::Channel),
    Codec::Int4(Scale::Tensor),
];

/// A batch of short runs, long runs, or flat features.
fn shapes() -> impl Strategy<Value = BatchShape> {
    let positions = prop_oneof![Just(1usize), 2..16usize, 16..70usize];
    (0..5usize, 1..20usize, positions).prop_map(|(samples, channels, positions)| BatchShape {
        samples,
        channels,
        positions,
    })
}

/// A batch with its values: magnitudes from 2^-60 to 2^60, different in every channel.
fn batches() -> impl Strategy<Value = (BatchShape, Vec<f32>)> {
    shapes().prop_flat_map(|shape| {
        let values = vec((-1.0..1.0f32, any::<u8>()), shape.values());
        let scales = vec(-60..60i32, shape.channels);
        (values, scales).prop_map(move |(values, scales)| {
            let to_value = |(at, (value, zero)): (usize, &(f32, u8))| {
                let scale = scales[at / shape.positions % shape.channels];
                if *zero < 32 { 0.0 } else { value * 2f32.powi(scale) }
            };
            (shape, values.iter().enumerate().map(to_value).collect())
        })
    })
}

fn encoded(codec: Codec, shape: BatchShape, values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(codec, shape, values, &mut bytes);
    assert_eq!(bytes.len(), encoded_len(codec, shape));
    bytes
}

fn decoded(codec: Codec, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut values = Vec::new();
    decode(codec, bytes, n, &mut values).expect("just encoded");
    values
}

/// The group of a value, by the words of [`Scale`].
fn group(codec: Codec, shape: BatchShape, at: usize) -> usize {
    match codec {
        Codec::Int8(Scale::Channel) | Codec::Int4(Scale::Channel) if shape.positions == 1 => {
            at / shape.channels
        }
        Codec::Int8(Scale::Channel) | Codec::Int4(Scale::Channel) => at / shape.positions % shape.channels,
        _ => 0,
    }
}

/// The largest magnitude in each group.
fn largest(codec: Codec, shape: BatchShape, values: &[f32]) -> Vec<f32> {
    let mut largest = vec![0f32; shape.samples.max(shape.channels)];
    for (at, value) in values.iter().enumerate() {
        let group = &mut largest[group(codec, shape, at)];
        *group = group.max(value.abs());
    }
    largest
}

proptest! {
    #[test]
    fn errors_are_within_half_a_step((shape, values) in batches()) {
        for codec in INTEGERS {
            let back = decoded(codec, &encoded(codec, shape, &values), values.len());
            let largest = largest(codec, shape, &values);
            let step = if matches!(codec, Codec::Int8(_)) { 1.0 / 127.0 } else { 1.0 / 7.0 };
            for (at, (back, value)) in back.iter().zip(&values).enumerate() {
                let bound = largest[group(codec, shape, at)] * step / 2.0 * 1.0001;
                prop_assert!((back - value).abs() <= bound, "{codec:?}: {value} became {back}");
                prop_assert!(*value != 0.0 || back.to_bits() == 0, "zeros are kept");
                prop_assert!(back.abs() <= largest[group(codec, shape, at)] * 1.0001);
            }
        }
    }

    #[test]
    fn what_was_decoded_encodes_to_the_same_bytes((shape, values) in batches()) {
        for codec in INTEGERS {
            let bytes = encoded(codec, shape, &values);
            prop_assert_eq!(encoded(codec, shape, &decoded(codec, &bytes, values.len())), bytes);
        }
    }

    #[test]
    fn a_group_with_what_is_not_finite_is_not_a_number(
        (shape, mut values) in batches().prop_filter("has values", |(shape, _)| shape.values() > 0),
        at in any::<prop::sample::Index>(),
        spoilt in prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ) {
        let at = at.index(values.len());
        values[at] = spoilt;
        for codec in INTEGERS {
            let back = decoded(codec, &encoded(codec, shape, &values), values.len());
            for (other, back) in back.iter().enumerate() {
                let same = group(codec, shape, other) == group(codec, shape, at);
                prop_assert_eq!(back.is_nan(), same, "{:?}: {} and {}", codec, at, other);
            }
        }
    }

    #[test]
    fn any_groups_decode_or_are_refused(
        groups in prop_oneof![0..9u32, Just(u32::MAX)],
        run in prop_oneof![0..40u32, Just(u32::MAX)],
        rest in vec(any::<u8>(), 0..80),
        n in 0..80usize,
    ) {
        let bytes = [&groups.to_le_bytes()[..], &run.to_le_bytes(), &rest].concat();
        for codec in INTEGERS {
            let mut out = vec![7.0];
            let decoded = decode(codec, &bytes, n, &mut out);
            prop_assert_eq!(out.len(), if decoded.is_ok() { n + 1 } else { 1 });
            let divides = n > 0 && groups > 0 && run > 0 && (n as u64).is_multiple_of(u64::from(groups) * u64::from(run));
            prop_assert!(decoded.is_err() || divides);
        }
    }

    #[test]
    fn any_values_encode(bits in vec(any::<u32>(), 0..200)) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        for codec in INTEGERS {
            let shape = BatchShape { samples: values.len(), channels: 1, positions: 1 };
            prop_assert_eq!(decoded(codec, &encoded(codec, shape, &values), values.len()).len(), values.len());
        }
    }
}

#[test]
fn the_bytes_are_counts_scales_and_integers() {
    let shape = BatchShape::of(2, &[2, 1, 3]);
    let values = [127.0, -1.0, 0.4, 254.0, 2.0, 0.0, 63.6, 0.0, -127.0, -254.0, 3.1, -2.9];
    let counts = [2, 0, 0, 0, 3, 0, 0, 0];
    let scales = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
    let integers = [127, 255, 0, 127, 1, 0, 64, 0, 129, 129, 2, 255];
    let expected = [&counts[..], &scales, &integers].concat();
    assert_eq!(encoded(Codec::Int8(Scale::Channel), shape, &values), expected);

    let values = [7.0, -7.0, 1.0, 0.0, -1.0];
    let expected = [&[1, 0, 0, 0, 5, 0, 0, 0][..], &1f32.to_le_bytes(), &[0x97, 0x01, 0x0f]].concat();
    assert_eq!(encoded(Codec::Int4(Scale::Tensor), BatchShape::row(5), &values), expected);
}

#[test]
fn flat_features_are_grouped_by_sample() {
    let flat = BatchShape::of(3, &[20]);
    assert_eq!(encoded_len(Codec::Int8(Scale::Channel), flat), 8 + 4 * 3 + 60);
    assert_eq!(encoded_len(Codec::Int8(Scale::Channel), BatchShape::of(3, &[20, 1, 1])), 8 + 4 * 3 + 60);
    let small = [vec![1e-6f32; 20], vec![1.0; 20], vec![1e6; 20]].concat();
    let back = decoded(Codec::Int4(Scale::Channel), &encoded(Codec::Int4(Scale::Channel), flat, &small), 60);
    assert!(back.iter().zip(&small).all(|(back, value)| (back / value - 1.0).abs() < 1e-4), "{back:?}");
}

#[test]
fn magnitudes_at_the_ends_of_f32_stay_finite_or_become_zero() {
    for codec in INTEGERS {
        let tiny = 2f32.powi(-101);
        assert_eq!(round_trip(codec, &[tiny, -tiny, f32::from_bits(1)]), [0.0; 3]);
        let small = 2f32.powi(-99);
        assert!((round_trip(codec, &[small])[0] / small - 1.0).abs() < 1e-4);
        let large = f32::MAX * (1.0 - 2f32.powi(-13));
        assert!((round_trip(codec, &[large])[0] / large - 1.0).abs() < 1e-4);
    }
}
