use proptest::prelude::*;

use super::*;
use crate::random::{stream, unit_f64};

fn work(kind: LayerKind, flops: f64, bytes: f64) -> LayerWork {
    LayerWork {
        kind,
        forward_flops: flops,
        backward_flops: 2.0 * flops,
        forward_bytes: bytes,
        backward_bytes: 3.0 * bytes,
    }
}

fn measured(model: &KindModel, work: LayerWork) -> Measurement {
    Measurement {
        work,
        forward_s: model.forward.seconds(work.forward_flops, work.forward_bytes),
        backward_s: model.backward.seconds(work.backward_flops, work.backward_bytes),
    }
}

/// Sizes over three decades whose FLOPs, bytes and constant are far from proportional.
fn sizes() -> Vec<(f64, f64)> {
    vec![(1e6, 1e5), (3e6, 5e6), (2e7, 4e5), (1e8, 2e7), (5e7, 1e5), (1e9, 3e6), (4e8, 9e7), (2e6, 2e7)]
}

fn conv(flops: f64, bytes: f64) -> LayerWork {
    work(LayerKind::Conv2d, flops, bytes)
}

fn near(left: f64, right: f64, tolerance: f64) -> bool {
    (left - right).abs() <= tolerance * right.abs().max(1e-30)
}

#[test]
fn one_size_gets_one_coefficient() {
    let points = [Measurement { work: conv(1e6, 1e4), forward_s: 2e-3, backward_s: 4e-3 }; 3];
    let profile = fit(&points).expect("three good measurements");
    let Line { per_flop, per_byte, fixed } = profile.kinds[&LayerKind::Conv2d].forward;
    assert!(near(per_flop, 2e-9, 1e-12) && per_byte <= 0.0 && fixed <= 0.0);
    assert!(near(profile.seconds_forward(&conv(2e6, 1e4)), 4e-3, 1e-12));
}

#[test]
fn a_kind_without_flops_is_timed_by_its_bytes() {
    let flat = work(LayerKind::Flatten, 0.0, 1e6);
    let profile =
        fit(&[Measurement { work: flat, forward_s: 1e-4, backward_s: 3e-4 }]).expect("one measurement");
    let model = profile.kinds[&LayerKind::Flatten];
    assert!(near(model.forward.per_byte, 1e-10, 1e-12) && model.forward.per_flop <= 0.0);
}

#[test]
fn a_layer_without_a_backward_pass_takes_no_time_for_it_and_says_nothing_of_others() {
    let point = Measurement { work: conv(1e6, 1e4), forward_s: 2e-3, backward_s: 4e-3 };
    let none = LayerWork { backward_flops: 0.0, backward_bytes: 0.0, ..point.work };
    let alone = fit(&[point]).expect("one measurement");
    let both = fit(&[point, Measurement { work: none, backward_s: 7.0, ..point }]).expect("two measurements");
    assert_eq!(both.kinds[&LayerKind::Conv2d].backward, alone.kinds[&LayerKind::Conv2d].backward);
    let fixed = Line { fixed: 1e-3, ..Line::default() };
    let model = KindModel { forward: fixed, backward: fixed };
    let profile = DeviceProfile { other: Some(model), ..DeviceProfile::default() };
    assert!(profile.seconds_backward(&none) <= 0.0 && profile.seconds_backward(&point.work) > 0.0);
}

#[test]
fn two_sizes_fit_exactly() {
    let model =
        KindModel { forward: Line { per_flop: 1e-9, per_byte: 0.0, fixed: 1e-4 }, ..KindModel::default() };
    let points = [conv(1e5, 1e5), conv(1e6, 1e6)]
        .map(|work| Measurement { backward_s: 0.0, ..measured(&model, work) });
    let profile = fit(&points).expect("two measurements");
    let line = profile.kinds[&LayerKind::Conv2d].forward;
    assert!(near(line.per_flop, 1e-9, 1e-6) && near(line.fixed, 1e-4, 1e-6), "{line:?}");
}

#[test]
fn a_time_that_falls_with_size_never_gives_a_negative_coefficient() {
    let points = [(1e5, 3e-3), (1e6, 2e-3), (1e7, 1e-3)].map(|(flops, seconds)| Measurement {
        work: conv(flops, flops),
        forward_s: seconds,
        backward_s: seconds,
    });
    let line = fit(&points).expect("three measurements").kinds[&LayerKind::Conv2d].forward;
    assert!(line.per_flop >= 0.0 && line.per_byte >= 0.0 && line.fixed > 0.0, "{line:?}");
}

#[test]
fn a_kind_that_was_not_measured_costs_the_mean_flop_rate() {
    let points = [
        Measurement { work: conv(1e6, 1.0), forward_s: 1e-3, backward_s: 1e-3 },
        Measurement { work: work(LayerKind::Linear, 3e6, 1.0), forward_s: 1e-3, backward_s: 1e-3 },
    ];
    let mut profile = fit(&points).expect("two measurements");
    let unknown = work(LayerKind::Residual, 4e6, 7.0);
    assert!(near(profile.seconds_forward(&unknown), 2e-3, 1e-12));
    // Without the stored mean: the mean of 1e9 and 3e9 FLOP/s.
    profile.other = None;
    assert!(near(profile.seconds_forward(&unknown), 2e-3, 1e-12));
    assert!(DeviceProfile::default().seconds_forward(&unknown) <= 0.0, "nothing is known at all");
}

#[test]
fn scaling_scales_every_time() {
    let points = sizes().into_iter().map(|(flops, bytes)| Measurement {
        work: conv(flops, bytes),
        forward_s: 1e-9 * flops + 1e-5,
        backward_s: 1e-9 * bytes,
    });
    let profile = fit(&points.collect::<Vec<_>>()).expect("eight measurements");
    let slow = profile.scaled(4.0);
    for work in [conv(1e6, 1e5), work(LayerKind::Relu, 1e6, 1e5)] {
        assert!(near(slow.seconds_forward(&work), 4.0 * profile.seconds_forward(&work), 1e-12));
        assert!(near(slow.seconds_backward(&work), 4.0 * profile.seconds_backward(&work), 1e-12));
    }
}

#[test]
fn bad_measurements_are_refused_by_name() {
    assert_eq!(fit(&[]), Err(ProfileError::Empty));
    let good = Measurement { work: conv(1e6, 1e5), forward_s: 1e-3, backward_s: 1e-3 };
    let error = fit(&[good, Measurement { backward_s: f64::NAN, ..good }]).expect_err("NaN is no time");
    assert!(error.to_string().starts_with("measurement 1 (conv2d): backward_s is NaN"), "{error}");
    assert!(fit(&[Measurement { forward_s: -1.0, ..good }]).is_err());
    assert!(fit(&[Measurement { work: conv(f64::INFINITY, 1.0), ..good }]).is_err());
}

#[test]
fn a_profile_survives_toml_and_bincode_and_bad_ones_do_not_read() {
    let model = KindModel {
        forward: Line { per_flop: 1e-9, per_byte: 2e-10, fixed: 1e-5 },
        backward: Line { per_flop: 2e-9, per_byte: 0.0, fixed: 0.0 },
    };
    let kinds = BTreeMap::from([(LayerKind::Conv2d, model), (LayerKind::MaxPool2d, model)]);
    for other in [None, Some(model)] {
        let profile = DeviceProfile { source: "hand".to_owned(), other, kinds: kinds.clone() };
        let text = toml::to_string(&profile).expect("a profile is a TOML table");
        assert_eq!(toml::from_str::<DeviceProfile>(&text).expect("it was just written"), profile, "{text}");
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&profile, config).expect("plain data");
        let (read, used) =
            bincode::serde::decode_from_slice::<DeviceProfile, _>(&bytes, config).expect("same bytes");
        assert_eq!((read, used), (profile, bytes.len()));
    }
    let short = "[kinds.max-pool2d]\nforward = { per_byte = 1e-10 }\nbackward = { per_byte = 2e-10 }\n";
    let profile: DeviceProfile = toml::from_str(short).expect("coefficients left out are 0");
    assert_eq!(profile.kinds[&LayerKind::MaxPool2d].backward, Line { per_byte: 2e-10, ..Line::default() });
    let error =
        toml::from_str::<DeviceProfile>(&short.replace("1e-10", "-1e-10")).expect_err("negative seconds");
    assert!(error.to_string().contains("per_byte is -0.0000000001"), "{error}");
}

proptest! {
    #[test]
    fn known_coefficients_come_back(a in 1e-11..1e-8_f64, b in 1e-11..1e-8_f64, k in 1e-6..1e-3_f64) {
        let line = Line { per_flop: a, per_byte: b, fixed: k };
        let model = KindModel { forward: line, backward: line };
        let points: Vec<_> = sizes().into_iter().map(|(f, m)| measured(&model, conv(f, m))).collect();
        let profile = fit(&points).expect("good measurements");
        for fitted in [profile.kinds[&LayerKind::Conv2d].forward, profile.kinds[&LayerKind::Conv2d].backward] {
            // A term that hardly shows in any measured time is not held to as much.
            prop_assert!(near(fitted.per_flop, a, 1e-3), "{:?} from {:?}", fitted, line);
            prop_assert!(near(fitted.per_byte, b, 1e-3), "{:?} from {:?}", fitted, line);
            prop_assert!(near(fitted.fixed, k, 1e-2), "{:?} from {:?}", fitted, line);
        }
        let worst = profile.fit_errors(&points)[&LayerKind::Conv2d];
        prop_assert!(worst.measurements == 8 && worst.forward < 1e-6 && worst.backward < 1e-6);
    }

    #[test]
    fn noise_of_ten_percent_leaves_predictions_within_twenty(seed: u64, a in 1e-10..1e-8_f64, b in 1e-11..1e-9_f64) {
        let line = Line { per_flop: a, per_byte: b, fixed: 1e-5 };
        let model = KindModel { forward: line, backward: line };
        let mut rng = stream(seed, &["noise"]);
        let mut noisy = Vec::new();
        for (flops, bytes) in sizes().into_iter().cycle().take(40) {
            let exact = measured(&model, conv(flops, bytes));
            let mut jitter = || 0.9 + 0.2 * unit_f64(&mut rng);
            noisy.push(Measurement { forward_s: exact.forward_s * jitter(), backward_s: exact.backward_s * jitter(), ..exact });
        }
        let profile = fit(&noisy).expect("good measurements");
        for (flops, bytes) in sizes() {
            let work = conv(flops, bytes);
            let exact = line.seconds(work.forward_flops, work.forward_bytes);
            prop_assert!(near(profile.seconds_forward(&work), exact, 0.2));
        }
    }

    #[test]
    fn whatever_was_measured_no_coefficient_is_negative_and_no_single_column_fits_better(
        points in proptest::collection::vec((0.0..1e9_f64, 0.0..1e8_f64, 0.0..1.0_f64), 1..12),
    ) {
        let measurements: Vec<_> = points
            .iter()
            .map(|&(flops, bytes, seconds)| Measurement { work: conv(flops, bytes), forward_s: seconds, backward_s: seconds })
            .collect();
        let line = fit(&measurements).expect("good measurements").kinds[&LayerKind::Conv2d].forward;
        prop_assert!([line.per_flop, line.per_byte, line.fixed].iter().all(|value| is_time(*value)));
        let error = |line: Line| -> f64 {
            points.iter().map(|&(flops, bytes, seconds)| {
                let seconds = seconds.max(regression::LEAST_SECONDS);
                (line.seconds(flops, bytes) / seconds - 1.0).powi(2)
            }).sum()
        };
        // A first-order optimum of a convex problem is the optimum: no small feasible move improves it.
        for step in [0.999, 1.001] {
            for moved in [
                Line { per_flop: line.per_flop * step, ..line },
                Line { per_byte: line.per_byte * step, ..line },
                Line { fixed: line.fixed * step, ..line },
            ] {
                prop_assert!(error(line) <= error(moved) * (1.0 + 1e-6) + 1e-9);
            }
        }
    }
}
