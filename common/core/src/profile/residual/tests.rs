use proptest::prelude::*;

use super::*;
use crate::random::{Stream, stream, unit_f64};

fn normal(rng: &mut Stream) -> f64 {
    let radius = (-2.0 * (1.0 - unit_f64(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit_f64(rng)).cos()
}

/// Runs a stream of residuals, as logarithms, past the margin that was known before each; returns the margins and
/// whether each step was within it.
fn margins(residuals: &mut Residuals, logarithms: impl IntoIterator<Item = f64>) -> Vec<(f64, bool)> {
    let judged = logarithms.into_iter().map(|logarithm| {
        let margin = residuals.margin(0.15);
        residuals.observe(1.0, logarithm.exp());
        (margin, logarithm.exp() <= 1.0 + margin)
    });
    judged.collect()
}

fn hit_rate(judged: &[(f64, bool)]) -> f64 {
    judged.iter().filter(|(_, hit)| *hit).count() as f64 / judged.len() as f64
}

fn mean_margin(judged: &[(f64, bool)]) -> f64 {
    judged.iter().map(|(margin, _)| margin).sum::<f64>() / judged.len() as f64
}

/// A kind of residuals that does not change: `scale` wide, `bias` off.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Normal,
    Exponential,
    /// Every tenth step takes twice as long.
    Bimodal,
    /// Each is 0.8 of the one before, and something new.
    Correlated,
}

fn stationary(kind: Kind, scale: f64, bias: f64, seed: u64) -> impl Iterator<Item = f64> {
    let mut rng = stream(seed, &["residuals"]);
    let mut before = 0.0;
    std::iter::repeat_with(move || {
        let value = match kind {
            Kind::Normal => scale * normal(&mut rng),
            Kind::Exponential => scale * (-(1.0 - unit_f64(&mut rng)).ln() - 2.0_f64.ln()),
            Kind::Bimodal => {
                let slow = unit_f64(&mut rng) < 0.1;
                scale * normal(&mut rng) + if slow { 2.0_f64.ln() } else { 0.0 }
            }
            Kind::Correlated => 0.8 * before + 0.6 * scale * normal(&mut rng),
        };
        before = value;
        bias + value
    })
}

#[test]
fn ninety_five_of_a_hundred_steps_are_within_it() {
    for (kind, scale, bias) in [
        (Kind::Normal, 0.02, 0.0),
        (Kind::Normal, 0.1, 0.0),
        (Kind::Normal, 0.3, 0.0),
        (Kind::Normal, 0.6, 0.0),
        (Kind::Normal, 0.1, 0.2),
        (Kind::Exponential, 0.1, 0.0),
        (Kind::Bimodal, 0.05, 0.0),
        (Kind::Correlated, 0.1, 0.0),
    ] {
        let runs = (0..40).map(|seed| {
            let judged = margins(&mut Residuals::default(), stationary(kind, scale, bias, seed).take(2_030));
            (hit_rate(&judged[30..]), mean_margin(&judged[30..]))
        });
        let runs: Vec<(f64, f64)> = runs.collect();
        let hits = runs.iter().map(|run| run.0).sum::<f64>() / 40.0;
        assert!((0.95..0.972).contains(&hits), "{kind:?} {scale} {bias}: {hits}");
        if let Kind::Normal = kind {
            let margin = runs.iter().map(|run| run.1).sum::<f64>() / 40.0;
            let exact = (bias + 1.645 * scale).exp() - 1.0;
            assert!((0.95..1.35).contains(&(margin / exact)), "{scale} {bias}: {margin} for {exact}");
        }
    }
}

#[test]
fn what_was_given_fades() {
    for given in [0.0, 0.15, 3.0] {
        assert!((Residuals::default().margin(given) - given).abs() < 1e-9);
    }
    let mut residuals = Residuals::default();
    let mut last = f64::INFINITY;
    for step in 0..IMAGINED {
        residuals.observe(1.0, 1.05);
        let margin = residuals.margin(0.15);
        assert!(margin >= 0.05 - 1e-9 && (step < 2 || margin <= last + 1e-9), "{step}: {margin}");
        last = margin;
    }
    assert!((residuals.margin(5.0) - 0.05).abs() < 1e-9);
}

#[test]
fn steps_shorter_than_predicted_need_no_reserve_and_nonsense_is_ignored() {
    let mut residuals = Residuals::default();
    (0..40).for_each(|_| residuals.observe(1.0, 0.5));
    assert!(residuals.margin(0.15) <= 0.0);
    for (predicted, measured) in [(0.0, 1.0), (1.0, f64::NAN), (-1.0, 1.0), (1.0, f64::INFINITY)] {
        residuals.observe(predicted, measured);
    }
    assert_eq!(residuals.count(), 40);
    (0..500).for_each(|_| residuals.observe(1e-9, 1e9));
    assert!(residuals.count() == WINDOW && residuals.margin(0.0) <= MOST_RATIO);
}

#[test]
fn as_many_are_set_aside_as_may_be_stalls() {
    assert_eq!([1, 4, 10, 20, 40, 64, 100].map(stalls_among), [0, 1, 2, 2, 3, 4, 6]);
}

/// One stall among the first steps, whenever it comes: the deadline of the next rounds is not another one.
#[test]
fn one_stall_at_the_start_is_no_reason_for_a_longer_deadline() {
    for at in 0..30 {
        let logarithms = (0..60).map(|step| if step == at { 10.0_f64.ln() } else { 0.02 });
        let judged = margins(&mut Residuals::default(), logarithms);
        let most = judged.iter().map(|(margin, _)| *margin).fold(0.0, f64::max);
        assert!(most <= 0.25, "a stall at step {at}: {most}");
    }
}

#[test]
fn steps_of_a_plan_for_another_state_do_not_count() {
    let mut residuals = Residuals::default();
    (0..40).for_each(|_| residuals.observe(1.0, 1.03));
    residuals.begin_plan(false);
    (0..12).for_each(|_| residuals.observe(1.0, 10.0));
    residuals.begin_plan(true);
    assert_eq!(residuals.count(), 40);
    (0..5).for_each(|_| residuals.observe(10.0, 10.2));
    assert!(residuals.count() == 45 && residuals.margin(0.15) < 0.05, "{}", residuals.margin(0.15));
}

proptest! {
    /// Stalls of any length at 2 % of the steps: on the mean the margin is hardly larger than without, and in no
    /// more than a few windows, which have too many of them, is it twice as large.
    #[test]
    fn stalls_do_not_inflate_it(seed: u64, scale in 0.02..0.2_f64, longest in 1.0..4.0_f64) {
        let mut calm = Vec::new();
        let mut stalled = Vec::new();
        for history in 0..8 {
            let mut rng = stream(seed, &["stalls", &history.to_string()]);
            let quiet: Vec<f64> =
                stationary(Kind::Normal, scale, 0.0, seed.wrapping_add(history)).take(500).collect();
            let stalls: Vec<f64> = quiet
                .iter()
                .map(|value| if unit_f64(&mut rng) < STALLS { value + 0.3 + longest * unit_f64(&mut rng) } else { *value })
                .collect();
            calm.extend(margins(&mut Residuals::default(), quiet));
            stalled.extend(margins(&mut Residuals::default(), stalls));
        }
        let inflated = stalled.iter().zip(&calm).filter(|(stalled, calm)| stalled.0 > 2.0 * calm.0 + 0.05).count();
        prop_assert!(inflated * 10 < stalled.len(), "{inflated} of {}", stalled.len());
        let mut rising: Vec<f64> = stalled.iter().map(|(margin, _)| *margin).collect();
        rising.sort_by(f64::total_cmp);
        let (median, usual) = (rising[rising.len() / 2], mean_margin(&calm));
        prop_assert!(median < 1.5 * usual + 0.02, "{median}, {usual} without stalls");
        prop_assert!(hit_rate(&stalled) >= 0.94, "{}", hit_rate(&stalled));
    }

    /// A device that becomes slower than its predictions is followed within ten steps; once it is back, the margin is
    /// the old one within a window.
    #[test]
    fn a_change_is_followed(seed: u64, scale in 0.01..0.1_f64, slower in 0.3..2.0_f64, steps in 10..200_usize) {
        let mut residuals = Residuals::default();
        let mut steady = stationary(Kind::Normal, scale, 0.0, seed);
        margins(&mut residuals, steady.by_ref().take(200));
        let usual = residuals.margin(0.15);
        let changed = steady.by_ref().take(steps).map(|value| slower + value);
        let judged = margins(&mut residuals, changed);
        prop_assert!(judged[9].0 >= slower.exp_m1() * 0.9 - 0.1, "{} of {}", judged[9].0, slower.exp_m1());
        prop_assert!(judged.iter().filter(|(_, hit)| !hit).count() <= 12 + steps / 5);
        margins(&mut residuals, steady.by_ref().take(WINDOW));
        prop_assert!(residuals.margin(0.15) <= 2.0 * usual + 0.05, "{} for {usual}", residuals.margin(0.15));
    }
}
