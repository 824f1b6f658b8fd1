use super::*;

fn pass(cut: usize, seconds: f64) -> Pass {
    Pass { cut, calls: 1.0, seconds }
}

fn measured(steps: impl IntoIterator<Item = (usize, f64, f64)>) -> Correction {
    let mut correction = Correction::default();
    steps
        .into_iter()
        .for_each(|(cut, predicted, measured)| correction.observe(pass(cut, predicted), measured));
    correction
}

/// Without anything that calls could cost.
fn factor(correction: &Correction) -> f64 {
    correction.fit_latest(0.0).factor
}

#[test]
fn the_first_step_corrects_most_of_it_and_a_stall_among_the_first_does_not_last() {
    assert_eq!(Correction::default().fit_latest(0.1), Corrected::NONE);
    let first = factor(&measured([(1, 1.0, 4.0)]));
    assert!((first / 4.0 - 1.0).abs() < 0.15, "{first}");
    let stalled = measured([40.0, 4.0, 4.1, 3.9, 4.0].map(|measured| (1, 1.0, measured)));
    assert!((factor(&stalled) / 4.0 - 1.0).abs() < 0.05, "{}", factor(&stalled));
    assert_eq!(stalled.observations(), 5);
}

#[test]
fn one_stall_hardly_moves_it_but_a_lasting_change_does() {
    let mut correction =
        measured((0..40).map(|step| (3, 0.1, 0.2 * if step % 2 == 0 { 1.02 } else { 0.98 })));
    assert!((factor(&correction) / 2.0 - 1.0).abs() < 0.025, "{}", factor(&correction));
    let mut stalled = correction.clone();
    stalled.observe(pass(3, 0.1), 5.0);
    assert!((factor(&stalled) / factor(&correction) - 1.0).abs() < 0.05, "{}", factor(&stalled));
    (0..5).for_each(|_| correction.observe(pass(3, 0.1), 0.8));
    assert!((factor(&correction) / 8.0 - 1.0).abs() < 0.05, "{}", factor(&correction));
    assert!((correction.logarithm() - 8_f64.ln()).abs() < 1e-9 && correction.changes() == 1);
}

/// Two cameras and the gateway keep all but the last layers, the robot is cut early; milliseconds of the cloud's half.
const QUICKSTART: [(usize, f64, f64); 3] = [(11, 0.018, 0.21), (10, 0.031, 0.25), (3, 1.6, 1.85)];
/// A tenth of what the whole model takes there.
const SCALE: f64 = 0.6e-3;

fn milliseconds(cuts: &[(usize, f64, f64)], steps: usize) -> Correction {
    let one = cuts.iter().map(|&(cut, predicted, measured)| (cut, 1e-3 * predicted, 1e-3 * measured));
    measured((0..steps).flat_map(|_| one.clone()))
}

#[test]
fn what_every_call_costs_is_told_from_the_speed() {
    let correction = milliseconds(&QUICKSTART, 10);
    let fit = correction.fit(SCALE);
    assert!((fit.factor - 1.0).abs() < 0.15, "{fit:?}");
    assert!((fit.missing_s - 0.2e-3).abs() < 0.04e-3, "{fit:?}");
    for (cut, predicted, measured) in QUICKSTART {
        let found = 1e3 * correction.seconds(pass(cut, 1e-3 * predicted), &fit);
        assert!((found / measured - 1.0).abs() < 0.05, "cut {cut}: {found} is not {measured}");
    }
    // And of a cut that nobody has: what the two together say.
    let between = 1e3 * correction.seconds(pass(6, 0.8e-3), &fit);
    assert!((between - 1.05).abs() < 0.15, "{between}");
}

#[test]
fn a_cut_with_less_to_do_never_takes_longer() {
    // Cut 2 was measured to take less than cut 3.
    let correction = measured((0..10).flat_map(|_| [(1, 4.0, 2.5), (2, 3.0, 2.0), (3, 1.0, 3.0)]));
    let passes = [8.0, 4.0, 3.0, 1.0, 0.5, 0.0].into_iter().enumerate().map(|(cut, s)| pass(cut, s));
    let passes: Vec<Pass> = passes.collect();
    let found = correction.falling_seconds(&passes, &correction.fit(0.5));
    assert!(found.windows(2).all(|pair| pair[0] >= pair[1]), "{found:?}");
    assert!((found[2] - 6_f64.sqrt()).abs() < 0.1 && (found[2] - found[3]).abs() < 1e-9, "{found:?}");
    assert!((found[1] - 2.5).abs() < 0.2, "{found:?}");
    assert!(found[0] > 2.0 * found[1] && found[5] <= 0.0, "{found:?}");
    // What contradicts nothing stays what it is.
    let steady = measured([(1, 4.0, 4.4), (3, 1.0, 1.1)]);
    let fit = steady.fit(0.5);
    for (pass, found) in passes.iter().zip(steady.falling_seconds(&passes, &fit)) {
        assert!((found - steady.seconds(*pass, &fit)).abs() < 1e-9, "{pass:?}");
    }
}

#[test]
fn halves_that_hardly_do_anything_say_nothing_of_large_ones() {
    let correction = milliseconds(&QUICKSTART[..2], 10);
    let found = 1e3 * correction.seconds(pass(3, 1.6e-3), &correction.fit(SCALE));
    assert!((found - 1.8).abs() < 0.3, "{found}");
}

#[test]
fn a_device_that_is_slower_is_slower_at_every_cut() {
    // Ten times as long at a cut that is half of the model: no call costs so much.
    let correction = measured((0..10).map(|_| (3, 0.5, 5.0)));
    let fit = correction.fit_latest(0.1);
    for (cut, predicted) in [(1, 0.2), (3, 0.5), (7, 1.0)] {
        let found = fit.seconds(pass(cut, predicted));
        assert!((found / (10.0 * predicted) - 1.0).abs() < 0.2, "cut {cut}: {found}");
    }
}

#[test]
fn a_change_at_one_cut_makes_what_was_measured_at_others_void() {
    let steps = |measured| (0..15).map(move |_| (8, 0.01, measured));
    let mut correction = measured((0..15).map(|_| (2, 1.0, 1.0)).chain(steps(0.01)));
    steps(0.1).for_each(|(cut, predicted, measured)| correction.observe(pass(cut, predicted), measured));
    assert_eq!((correction.changes(), correction.levels.len()), (1, 1));
    assert!((factor(&correction) / 10.0 - 1.0).abs() < 0.05, "{}", factor(&correction));
}

#[test]
fn what_was_measured_long_ago_counts_less() {
    let mut correction = measured((0..15).map(|_| (2, 1.0, 1.0)));
    let own = |correction: &Correction| {
        correction.seconds(pass(2, 1.0), &Corrected { factor: 2.0, missing_s: 0.0 })
    };
    let fresh = own(&correction);
    (0..10).for_each(|_| correction.begin_round());
    let old = own(&correction);
    assert!(fresh < 1.1 && old > 1.9, "{fresh} {old}");
}

#[test]
fn calls_are_paid_one_by_one() {
    let corrected = Corrected { factor: 2.0, missing_s: 0.1 };
    assert!((corrected.seconds(Pass { cut: 1, calls: 4.0, seconds: 1.0 }) - 2.8).abs() < 1e-12);
    assert!(corrected.seconds(Pass { cut: 0, calls: 4.0, seconds: 0.0 }).abs() < 1e-12);
    // In four calls four times as much is missing as in one.
    let mut correction = Correction::default();
    for _ in 0..10 {
        correction.observe(Pass { cut: 1, calls: 4.0, seconds: 0.01 }, 0.41);
        correction.observe(Pass { cut: 9, calls: 1.0, seconds: 1.0 }, 1.1);
    }
    let fit = correction.fit(0.2);
    assert!((fit.missing_s - 0.1).abs() < 0.02 && (fit.factor - 1.0).abs() < 0.05, "{fit:?}");
}

#[test]
fn the_cuts_that_are_remembered_are_the_last() {
    let mut correction = Correction::default();
    for cut in 0..50 {
        correction.begin_round();
        correction.observe(pass(cut, 1.0), 1.0);
    }
    assert_eq!(correction.levels.keys().copied().collect::<Vec<_>>(), (42..50).collect::<Vec<_>>());
}

#[test]
fn numbers_that_say_nothing_are_ignored() {
    let mut correction = Correction::default();
    for (predicted, measured) in [
        (0.0, 1.0),
        (1.0, 0.0),
        (f64::NAN, 1.0),
        (1.0, f64::NAN),
        (1.0, f64::INFINITY),
        (-1.0, -1.0),
        (f64::INFINITY, 1.0),
    ] {
        correction.observe(pass(1, predicted), measured);
    }
    assert_eq!(correction, Correction::default());
    let absurd = measured([(1, 1e-9, 1e9), (2, 1e9, 1e-9)]);
    for scale in [0.0, 1e-300, 1.0, f64::NAN, f64::INFINITY] {
        let fit = absurd.fit_latest(scale);
        assert!(fit.factor.is_finite() && fit.factor > 0.0 && fit.missing_s.is_finite(), "{scale}: {fit:?}");
    }
}
