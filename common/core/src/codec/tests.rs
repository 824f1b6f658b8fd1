#![expect(clippy::float_cmp, reason = "where values must be exact, nearly is not enough")]

mod integers;
mod selections;

use proptest::{collection::vec, prelude::*};

use super::*;

/// The codecs of floating-point numbers.
const FLOATS: [Codec; 3] = [Codec::F32, Codec::F16, Codec::Bf16];

/// Any f32 whatever, in lengths around the block size.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let any = any::<u32>().prop_map(f32::from_bits);
    prop_oneof![vec(any.clone(), 0..40), vec(any, 1020..1030)]
}

fn round_trip(codec: Codec, values: &[f32]) -> Vec<f32> {
    let (mut bytes, mut back) = (Vec::new(), Vec::new());
    let shape = BatchShape::row(values.len());
    encode(codec, shape, values, &mut bytes);
    assert_eq!(bytes.len(), encoded_len(codec, shape));
    decode(codec, &bytes, values.len(), &mut back).expect("just encoded");
    back
}

fn round_trip_scaled(codec: Codec, values: &[f32]) -> (i8, Vec<f32>) {
    let (mut bytes, mut back) = (Vec::new(), Vec::new());
    let exponent = encode_scaled(codec, BatchShape::row(values.len()), values, &mut bytes);
    decode_scaled(codec, exponent, &bytes, values.len(), &mut back).expect("just encoded");
    (exponent, back)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn f32_keeps_every_bit(values in values()) {
        prop_assert_eq!(bits(&round_trip(Codec::F32, &values)), bits(&values));
        let (exponent, back) = round_trip_scaled(Codec::F32, &values);
        prop_assert_eq!(exponent, 0);
        prop_assert_eq!(bits(&back), bits(&values));
    }

    #[test]
    fn f16_errors_are_within_the_documented_bounds(values in vec(-65_504.0..65_504.0f32, 1..1100), small in -30..0i32) {
        let values: Vec<f32> = values.iter().map(|value| value * 2f32.powi(small)).collect();
        for (back, value) in round_trip(Codec::F16, &values).iter().zip(&values) {
            let bound = if value.abs() >= 2f32.powi(-14) { value.abs() * 2f32.powi(-11) } else { 2f32.powi(-25) };
            prop_assert!((back - value).abs() <= bound, "{value} became {back}");
        }
    }

    #[test]
    fn bf16_errors_are_within_the_documented_bounds(values in vec(any::<u32>().prop_map(f32::from_bits), 1..1100)) {
        for (back, value) in round_trip(Codec::Bf16, &values).iter().zip(&values) {
            if !value.is_finite() {
                prop_assert!(back.is_nan() == value.is_nan() && back.is_infinite() == value.is_infinite());
            } else if value.abs() < 2f32.powi(127) {
                let bound = (f64::from(value.abs()) * 2f64.powi(-8)).max(2f64.powi(-134));
                prop_assert!((f64::from(*back) - f64::from(*value)).abs() <= bound, "{value} became {back}");
            }
        }
    }

    #[test]
    fn what_was_decoded_encodes_to_the_same_bytes(values in values()) {
        for codec in FLOATS {
            let once = round_trip(codec, &values);
            prop_assert_eq!(bits(&round_trip(codec, &once)), bits(&once));
        }
    }

    #[test]
    fn f16_keeps_what_is_not_finite_from_looking_finite(values in values()) {
        let (_, scaled) = round_trip_scaled(Codec::F16, &values);
        for (back, value) in round_trip(Codec::F16, &values).iter().chain(&scaled).zip(values.iter().chain(&values)) {
            prop_assert_eq!(back.is_nan(), value.is_nan());
            prop_assert!(!value.is_infinite() || back == value, "{value} became {back}");
        }
        // Scaled values overflow only where f32 itself has no larger value to round to.
        let fits = |value: f32| value.is_finite() && value.abs() < f32::MAX * (1.0 - 2f32.powi(-12));
        prop_assert!(scaled.iter().zip(&values).all(|(back, value)| back.is_finite() || !fits(*value)));
    }

    #[test]
    fn scaled_f16_is_relative_to_the_largest_value(
        values in vec(-1.0..1.0f32, 1..1100),
        magnitude in -100..127i32,
    ) {
        let values: Vec<f32> = values.iter().map(|value| value * 2f32.powi(magnitude)).collect();
        let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let (exponent, back) = round_trip_scaled(Codec::F16, &values);
        let scaled = f64::from(largest) * 2f64.powi(i32::from(exponent));
        prop_assert!(largest < 2f32.powi(-112) || (16_384.0..32_768.0).contains(&scaled), "{scaled}");
        for (back, value) in back.iter().zip(&values) {
            // f16 has normal numbers down to 2^-28 of the largest; below, steps of 2^-39 of it.
            let bound = (value.abs() * 2f32.powi(-11)).max(largest * 2f32.powi(-38));
            prop_assert!((back - value).abs() <= bound, "{value} became {back}");
        }
    }

    #[test]
    fn scaling_does_not_round(mantissas in vec(-2047..=2047i32, 1..50), magnitude in -100..100i32) {
        // Eleven significant bits are what f16 holds: at any magnitude they come back exactly.
        let values: Vec<f32> = mantissas.iter().map(|m| *m as f32 * 2f32.powi(magnitude)).collect();
        prop_assert_eq!(bits(&round_trip_scaled(Codec::F16, &values).1), bits(&values));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(
        bytes in vec(any::<u8>(), 0..64),
        n in prop_oneof![0..40usize, Just(usize::MAX), Just(usize::MAX / 2 + 1)],
        exponent in any::<i8>(),
    ) {
        for codec in Codec::ALL {
            let mut out = vec![7.0];
            let decoded = decode_scaled(codec, exponent, &bytes, n, &mut out).is_ok();
            prop_assert_eq!(out.len(), if decoded { n + 1 } else { 1 });
            prop_assert!(!decoded || !FLOATS.contains(&codec) || bytes.len() == encoded_len(codec, BatchShape::row(n)));
        }
    }
}

#[test]
fn bytes_are_little_endian() {
    let mut bytes = vec![9];
    for codec in FLOATS {
        encode(codec, BatchShape::row(1), &[1.0], &mut bytes);
    }
    assert_eq!(bytes, [9, 0, 0, 0x80, 0x3f, 0, 0x3c, 0x80, 0x3f]);
}

#[test]
fn bf16_rounds_to_the_nearest_and_ties_to_even() {
    let halfway = 1.0 + 2f32.powi(-8);
    let above = halfway + 2f32.powi(-20);
    let odd = 1.0 + 3.0 * 2f32.powi(-8);
    let back = round_trip(Codec::Bf16, &[halfway, -halfway, above, odd, f32::MAX, f32::MIN_POSITIVE]);
    let step = 2f32.powi(-7);
    assert_eq!(back, [1.0, -1.0, 1.0 + step, 1.0 + 2.0 * step, f32::INFINITY, f32::MIN_POSITIVE]);
    // Every bit set is a NaN that rounding would carry over to zero.
    assert!(round_trip(Codec::Bf16, &[f32::from_bits(u32::MAX)])[0].is_nan());
}

#[test]
fn every_codec_has_a_number_of_its_own() {
    for (code, codec) in Codec::ALL.into_iter().enumerate() {
        assert_eq!((usize::from(codec.code()), Codec::from_code(code as u8)), (code, Some(codec)));
    }
    assert_eq!(Codec::from_code(Codec::ALL.len() as u8), None);
}

#[test]
fn zeros_keep_their_sign() {
    for codec in FLOATS {
        assert_eq!(bits(&round_trip(codec, &[0.0, -0.0])), bits(&[0.0, -0.0]));
        let (exponent, back) = round_trip_scaled(codec, &[0.0, -0.0]);
        assert_eq!((exponent, bits(&back)), (0, bits(&[0.0, -0.0])));
    }
    assert_eq!(round_trip_scaled(Codec::F16, &[]), (0, vec![]));
}

#[test]
fn the_scale_ignores_what_is_not_finite() {
    let (exponent, back) = round_trip_scaled(Codec::F16, &[f32::INFINITY, 3.0, f32::NAN, f32::NEG_INFINITY]);
    assert_eq!(exponent, 13);
    assert_eq!((back[0], back[1], back[3]), (f32::INFINITY, 3.0, f32::NEG_INFINITY));
    assert!(back[2].is_nan());
    assert_eq!(round_trip_scaled(Codec::F16, &[f32::INFINITY]), (0, vec![f32::INFINITY]));
}

#[test]
fn the_extremes_of_f32_scale_within_range() {
    assert_eq!(round_trip_scaled(Codec::F16, &[2f32.powi(127)]), (-113, vec![2f32.powi(127)]));
    // To eleven bits, the largest f32 is 2^128.
    assert_eq!(round_trip_scaled(Codec::F16, &[f32::MAX]), (-113, vec![f32::INFINITY]));
    let least = f32::from_bits(1);
    assert_eq!(round_trip_scaled(Codec::F16, &[least]), (126, vec![least]));
}

#[test]
fn wrong_lengths_and_exponents_are_refused() {
    let mut out = Vec::new();
    let error = decode(Codec::F16, &[0; 5], 2, &mut out).expect_err("2 values are 4 bytes");
    assert_eq!(error, CodecError::Length { codec: Codec::F16, values: 2, expected: 4, actual: 5 });
    for (codec, exponent) in [(Codec::F32, 1), (Codec::F16, 127), (Codec::F16, -114)] {
        let bytes = vec![0; encoded_len(codec, BatchShape::row(1))];
        let error = decode_scaled(codec, exponent, &bytes, 1, &mut out).expect_err("out of range");
        assert_eq!(error, CodecError::Exponent { codec, exponent });
    }
}

#[test]
fn files_and_messages_name_codecs() {
    #[derive(Deserialize)]
    struct File {
        codecs: Vec<Codec>,
    }
    let file: File = toml::from_str(r#"codecs = ["f32", "f16"]"#).expect("the known names");
    assert_eq!(file.codecs, [Codec::F32, Codec::F16]);
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(Codec::F16, config).expect("a unit variant");
    assert_eq!(bincode::serde::decode_from_slice(&bytes, config).expect("just encoded"), (Codec::F16, 1));
}
