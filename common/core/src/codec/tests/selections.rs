//! Top-k: what is selected, and how it is written.

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use super::*;
use crate::codec::selection::{EncodedSelection, encoded_len};

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(7)
}

/// Some samples of the same length, with equal magnitudes among them.
fn batches() -> impl Strategy<Value = (BatchShape, Vec<f32>)> {
    (1..5usize, prop_oneof![1..40usize, 60..70usize]).prop_flat_map(|(samples, len)| {
        let value = prop_oneof![3 => -1.0..1.0f32, 1 => Just(0.0), 1 => Just(-0.5), 1 => Just(0.5)];
        vec(value, samples * len).prop_map(move |values| (BatchShape::of(samples, &[len]), values))
    })
}

fn read(bytes: &[u8], values: usize) -> Result<Selection, SelectionError> {
    let (encoded, rest) = EncodedSelection::split_off(bytes, values)?;
    assert!(rest.is_empty());
    encoded.decode()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

proptest! {
    #[test]
    fn without_chance_the_largest_are_kept((shape, values) in batches(), fraction in 0.001..1.0f64) {
        let top_k = TopK { fraction, alpha: 0.0 };
        let selection = top_k.select(&values, shape, &mut rng());
        let (len, kept) = (shape.sample_len(), top_k.kept(shape.sample_len()));
        prop_assert_eq!((selection.samples(), selection.kept()), (shape.samples, kept));
        for (indices, values) in selection.indices().chunks(kept).zip(values.chunks(len)) {
            prop_assert!(indices.is_sorted_by(|a, b| a < b));
            // Largest first; of equals, the first: a stable sort says the same in other words.
            let mut order: Vec<u32> = (0..len as u32).collect();
            order.sort_by(|a, b| values[*b as usize].abs().total_cmp(&values[*a as usize].abs()));
            order.truncate(kept);
            order.sort_unstable();
            prop_assert_eq!(indices, order);
        }
    }

    #[test]
    fn with_chance_as_many_are_kept_in_order((shape, values) in batches(), fraction in 0.001..1.0f64, alpha in 0.0..1.0f64) {
        let top_k = TopK { fraction, alpha };
        let selection = top_k.select(&values, shape, &mut rng());
        let kept = top_k.kept(shape.sample_len());
        prop_assert_eq!(selection.indices().len(), shape.samples * kept);
        for indices in selection.indices().chunks(kept) {
            prop_assert!(indices.is_sorted_by(|a, b| a < b), "{:?}", indices);
            prop_assert!((*indices.last().expect("at least 1") as usize) < shape.sample_len());
        }
        prop_assert_eq!(top_k.select(&values, shape, &mut rng()), selection, "the same draws select the same");
    }

    #[test]
    fn scatter_is_the_adjoint_of_gather((shape, values) in batches(), fraction in 0.001..1.0f64, seed in any::<u64>()) {
        let top_k = TopK { fraction, alpha: 0.3 };
        let selection = top_k.select(&values, shape, &mut ChaCha12Rng::seed_from_u64(seed));
        let kept: Vec<f32> = (0..selection.indices().len()).map(|at| at as f32 - 2.5).collect();
        let (gathered, scattered) = (selection.gather(&values), selection.scatter(&kept).expect("as many"));
        prop_assert_eq!(dot(&gathered, &kept), dot(&values, &scattered));
        prop_assert_eq!(selection.gather(&scattered), kept);
    }

    #[test]
    fn what_is_written_reads_the_same((shape, values) in batches(), fraction in 0.001..1.0f64) {
        let top_k = TopK { fraction, alpha: 0.2 };
        let selection = top_k.select(&values, shape, &mut rng());
        let mut bytes = Vec::new();
        selection.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), encoded_len(shape.samples, shape.sample_len(), selection.kept()));
        prop_assert_eq!(read(&bytes, selection.indices().len()), Ok(selection));
    }

    #[test]
    fn any_bytes_are_a_selection_or_refused(
        samples in 0..4u32,
        len in prop_oneof![0..40u32, Just(70_000), Just(u32::MAX)],
        kept in prop_oneof![0..6u32, Just(u32::MAX)],
        rest in vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..40),
        values in 0..12usize,
    ) {
        let counts = [samples, len, kept].map(u32::to_le_bytes).concat();
        let bytes = [&counts[..], &rest].concat();
        if let Ok((encoded, _)) = EncodedSelection::split_off(&bytes, values)
            && let Ok(selection) = encoded.decode()
        {
            prop_assert_eq!(selection.indices().len(), values);
            for indices in selection.indices().chunks(kept as usize) {
                prop_assert!(indices.is_sorted_by(|a, b| a < b) && indices.iter().all(|index| *index < len));
            }
        }
    }
}

/// The probability that `left` draws one by one, each index by its weight, end in exactly the indices of `set`.
fn probability_of(set: &[u32], weights: &[f64], drawn: &mut Vec<u32>) -> f64 {
    if drawn.len() == set.len() {
        return 1.0;
    }
    let weight = |index: u32| if drawn.contains(&index) { 0.0 } else { weights[index as usize] };
    let total: f64 = (0..weights.len() as u32).map(weight).sum();
    let next: Vec<(u32, f64)> = set.iter().map(|index| (*index, weight(*index) / total)).collect();
    let mut probability = 0.0;
    for (index, share) in next.into_iter().filter(|(_, share)| *share > 0.0) {
        drawn.push(index);
        probability += share * probability_of(set, weights, drawn);
        drawn.pop();
    }
    probability
}

#[test]
fn sets_are_as_likely_as_drawing_one_by_one_without_putting_back_makes_them() {
    const SAMPLES: usize = 40_000;
    let (len, alpha) = (5, 0.3);
    // The largest two are those at 1 and 4.
    let values: Vec<f32> = [0.5, -2.0, 1.0, 0.1, 3.0].repeat(SAMPLES);
    let weights = [alpha / 3.0, (1.0 - alpha) / 2.0, alpha / 3.0, alpha / 3.0, (1.0 - alpha) / 2.0];
    let top_k = TopK { fraction: 0.4, alpha };
    let selection = top_k.select(&values, BatchShape::of(SAMPLES, &[len]), &mut rng());
    for set in (0..5u32).flat_map(|a| (a + 1..5).map(move |b| [a, b])) {
        let found = selection.indices().chunks(2).filter(|indices| **indices == set).count();
        let expected = probability_of(&set, &weights, &mut Vec::new());
        let deviation = (expected * (1.0 - expected) / SAMPLES as f64).sqrt();
        let share = found as f64 / SAMPLES as f64;
        assert!((share - expected).abs() < 4.0 * deviation, "{set:?}: {share} instead of {expected}");
    }
}

#[test]
fn the_others_share_grows_as_the_largest_run_out() {
    let (samples, len, alpha) = (100, 20_000, 0.1);
    let values: Vec<f32> = (0..samples * len).map(|at| (at % len) as f32).collect();
    let top_k = TopK { fraction: 0.01, alpha };
    let selection = top_k.select(&values, BatchShape::of(samples, &[len]), &mut rng());
    let others = selection.indices().iter().filter(|index| **index < 19_800).count();
    // Of many values, few of which are kept, the share `u` of others solves `(1 - alpha) u = -alpha ln u`:
    // `(1 - u)` of the largest are drawn at a rate that falls with how many of them are left.
    let share = others as f64 / selection.indices().len() as f64;
    assert!(((1.0 - alpha) * share + alpha * share.ln()).abs() < 0.01, "{share}");
    // All of the others are as likely: each half has half of them, within four standard deviations.
    let low = selection.indices().iter().filter(|index| **index < 9_900).count();
    assert!((low as f64 / others as f64 - 0.5).abs() < 2.0 / (others as f64).sqrt(), "{low} of {others}");
}

#[test]
fn the_number_kept_is_rounded_and_at_least_one() {
    let kept = |fraction: f64, len| TopK { fraction, alpha: 0.0 }.kept(len);
    assert_eq!([kept(0.1, 30), kept(0.1, 34), kept(0.1, 35), kept(1.0, 30)], [3, 3, 4, 30]);
    assert_eq!([kept(0.001, 30), kept(0.5, 1), kept(0.5, 0)], [1, 1, 0]);
    // A peer can send any number.
    assert_eq!([kept(f64::NAN, 30), kept(-1.0, 30), kept(1e300, 30)], [1, 1, 30]);
}

#[test]
fn a_sample_with_what_is_not_finite_lets_it_travel() {
    let top_k = TopK { fraction: 0.1, alpha: 0.99 };
    for spoilt in [f32::NAN, f32::NEG_INFINITY] {
        let mut values = vec![1.0; 40];
        values[33] = spoilt;
        let selection = top_k.select(&values, BatchShape::of(2, &[20]), &mut rng());
        assert_eq!(selection.indices()[2..], [0, 13], "the second sample's largest");
    }
}

#[test]
fn indices_take_the_shorter_form() {
    assert_eq!(encoded_len(3, 160, 10), 12 + 3 * 20, "a bitmap, where it is as long");
    assert_eq!(encoded_len(3, 168, 10), 12 + 3 * 20, "two bytes each");
    assert_eq!(encoded_len(1, 65_536, 10), 12 + 20);
    assert_eq!(encoded_len(1, 65_537, 10), 12 + 40, "four bytes each");
    assert_eq!(encoded_len(1, 100_000, 5_000), 12 + 12_500);
}

#[test]
fn bytes_of_each_form() {
    let written = |len, kept, indices: &[u32]| {
        let mut bytes = Vec::new();
        Selection::new(len, kept, indices.to_vec()).encode(&mut bytes);
        bytes.split_off(12)
    };
    assert_eq!(written(10, 2, &[0, 9, 3, 4]), [1, 2, 0b1_1000, 0]);
    assert_eq!(written(1000, 2, &[1, 999]), [1, 0, 231, 3]);
    assert_eq!(written(70_000, 1, &[69_999]), [0x6f, 0x11, 1, 0]);
}

#[test]
fn malformed_selections_are_refused() {
    let bytes = |counts: [u32; 3], rest: &[u8]| [&counts.map(u32::to_le_bytes).concat()[..], rest].concat();
    for (counts, rest, values, message) in [
        ([1, 10, 2], &[1, 2][..], 3, "2 of 10 values of each of 1 samples cannot be selected by 3 values"),
        ([1, 10, 0], &[], 0, "0 of 10 values of each of 1 samples cannot be selected by 0 values"),
        ([1, 1, 2], &[0, 0], 2, "2 of 1 values of each of 1 samples cannot be selected by 2 values"),
        ([1, 10, 2], &[1], 2, "a selection takes 14 bytes, but only 13 came"),
        (
            [1, u32::MAX, u32::MAX],
            &[1],
            u32::MAX as usize,
            "a selection takes 536870924 bytes, but only 13 came",
        ),
        ([1, 10, 2], &[1, 0], 2, "the indices of sample 0 are not 2 increasing ones below 10"),
        ([1, 10, 2], &[7, 0], 2, "the indices of sample 0 are not 2 increasing ones below 10"),
        ([1, 10, 2], &[1, 128], 2, "the indices of sample 0 are not 2 increasing ones below 10"),
        ([1, 1000, 2], &[5, 0, 5, 0], 2, "the indices of sample 0 are not 2 increasing ones below 1000"),
        ([1, 1000, 2], &[5, 0, 4, 0], 2, "the indices of sample 0 are not 2 increasing ones below 1000"),
        ([2, 1000, 1], &[5, 0, 232, 3], 2, "the indices of sample 1 are not 1 increasing ones below 1000"),
    ] {
        let error = read(&bytes(counts, rest), values).expect_err("it is malformed");
        assert_eq!(error.to_string(), message);
    }
    let error = read(&[0; 11], 1).expect_err("it is too short");
    assert_eq!(error.to_string(), "a selection takes 12 bytes, but only 11 came");
}
