use proptest::prelude::*;

use super::*;
use crate::random::{stream, unit_f64};

const MIB: u64 = 1 << 20;

fn at_rate(bytes_per_s: f64, paced_at: Option<f64>) -> Transfer {
    Transfer { bytes: MIB, seconds: MIB as f64 / bytes_per_s, paced_at }
}

fn near(left: f64, right: f64, tolerance: f64) -> bool {
    (left / right - 1.0).abs() < tolerance
}

fn close(left: f64, right: f64) -> bool {
    near(left, right, 1e-9)
}

/// Rates around `mean` whose logarithms are normal with this standard deviation (Box & Muller 1958).
fn jittered(seed: u64, mean: f64, deviation: f64) -> impl Iterator<Item = f64> {
    let mut rng = stream(seed, &["jitter"]);
    std::iter::repeat_with(move || {
        let radius = (-2.0 * (1.0 - unit_f64(&mut rng)).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * unit_f64(&mut rng)).cos();
        mean * (deviation * normal).exp()
    })
}

#[test]
fn what_no_link_can_be_is_not_believed() {
    let mut link = LinkEstimator::new(None);
    let absurd = Transfer { bytes: u64::MAX, seconds: 1e-3, paced_at: None };
    (0..20).for_each(|_| link.observe(absurd));
    assert!(link.rate() <= MOST_RATE * (1.0 + 1e-9), "{}", link.rate());
    let infinite = Transfer { bytes: u64::MAX, seconds: f64::MIN_POSITIVE, paced_at: None };
    let mut link = LinkEstimator::new(None);
    (0..20).for_each(|_| link.observe(infinite));
    assert!(close(link.rate(), ASSUMED_BYTES_PER_S));
}

#[test]
fn before_any_transfer_hint_then_probe_then_optimism() {
    let mut link = LinkEstimator::new(None);
    assert!(close(link.rate(), ASSUMED_BYTES_PER_S));
    assert_eq!(link.state(), LinkState::Assumed);
    link.probe(at_rate(3e6, None));
    assert!(close(link.rate(), 3e6));
    assert_eq!(link.state(), LinkState::Probed);

    let mut hinted = LinkEstimator::new(Some(2e6));
    hinted.probe(at_rate(3e6, None));
    assert!(close(hinted.rate(), 2e6));
    assert_eq!(hinted.state(), LinkState::Hinted);
    assert_eq!(LinkEstimator::new(Some(f64::NAN)), LinkEstimator::new(None));
}

#[test]
fn a_real_transfer_replaces_the_hint_and_a_stall_changes_little() {
    let mut link = LinkEstimator::new(Some(9e6));
    link.observe(at_rate(2e6, None));
    assert!(close(link.rate(), 2e6));
    assert_eq!(link.state(), LinkState::Measured);
    for rate in [2.1e6, 1.9e6, 2e6, 0.1e6] {
        link.observe(at_rate(rate, None));
    }
    assert!(near(link.rate(), 2e6, 0.05), "{}", link.rate());
    link.observe(at_rate(2e6, None));
    assert!(near(link.rate(), 2e6, 0.02) && link.changes() == 0, "{link:?}");
}

#[test]
fn a_lasting_change_of_the_link_shows_with_its_second_transfer() {
    let mut link = LinkEstimator::new(None);
    (0..15).for_each(|_| link.observe(at_rate(8e6, None)));
    (0..2).for_each(|_| link.observe(at_rate(1e6, None)));
    assert!(near(link.rate(), 1e6, 0.1), "{}", link.rate());
    assert_eq!(link.changes(), 1);
    (0..3).for_each(|_| link.observe(at_rate(8e6, None)));
    assert!(near(link.rate(), 8e6, 0.1) && link.changes() == 2, "{}", link.rate());
}

#[test]
fn a_paced_transfer_is_only_a_lower_bound() {
    let mut link = LinkEstimator::new(Some(4e6));
    link.observe(at_rate(1.95e6, Some(2e6)));
    assert!(close(link.rate(), 4e6), "below the estimate it says nothing");
    link.observe(at_rate(5e6, Some(5e6)));
    assert!(close(link.rate(), 5e6), "above the estimate it raises it");
    (0..30).for_each(|_| link.observe(at_rate(2e6, Some(2e6))));
    assert!(near(link.rate(), 5e6, 0.01), "however often: {}", link.rate());
    (0..3).for_each(|_| link.observe(at_rate(3e6, Some(6.25e6))));
    assert!(near(link.rate(), 3e6, 0.1), "well below its pace it is a measurement: {}", link.rate());
    (0..3).for_each(|_| link.observe(at_rate(9e6, Some(9e6))));
    assert!(near(link.rate(), 9e6, 0.1), "{}", link.rate());
}

#[test]
fn small_transfers_are_weak_evidence() {
    let small = Transfer { bytes: 1000, seconds: 0.01, paced_at: None };
    let mut link = LinkEstimator::new(None);
    link.observe(small);
    assert!(close(link.rate(), 1e5), "better than an assumption");
    let mut hinted = LinkEstimator::new(Some(4e6));
    (0..5).for_each(|_| hinted.observe(small));
    assert!(close(hinted.rate(), 4e6), "a few do not outweigh a hint");
    (0..10).for_each(|_| hinted.observe(small));
    assert!(close(hinted.rate(), 1e5), "many do");
    hinted.observe(at_rate(2e6, None));
    assert!(close(hinted.rate(), 2e6), "one real transfer outweighs them all");
}

#[test]
fn a_transfer_within_two_round_trips_is_only_a_lower_bound() {
    let mut link = LinkEstimator::new(None);
    (0..10).for_each(|_| link.observe(at_rate(1e7, None).over(Some(0.01))));
    // Deep cuts send little: what the window of the first flight carries must not pass for the link's rate.
    let small = Transfer { bytes: 20_000, seconds: 0.01, paced_at: None };
    (0..40).for_each(|_| link.observe(small.over(Some(0.006))));
    assert!(near(link.rate(), 1e7, 0.01) && link.changes() == 0, "{}", link.rate());
    // As slow over a link with a short round trip it is a measurement.
    (0..4).for_each(|_| link.observe(small.over(Some(0.004))));
    assert!(near(link.rate(), 2e6, 0.1) && link.changes() > 0, "{}", link.rate());
    let mut probed = LinkEstimator::new(None);
    probed.probe(at_rate(1e6, None));
    (0..4).for_each(|_| probed.observe(small.over(Some(0.006))));
    assert!(near(probed.rate(), 2e6, 0.01), "above the estimate it raises it: {}", probed.rate());
    assert_eq!(small.over(None), small);
}

#[test]
fn the_round_trip_is_the_recent_minimum() {
    let mut rtt = RttFilter::default();
    assert_eq!(rtt.rtt_s(), None);
    for sample in [0.03, f64::NAN, 0.02, -1.0, 0.05, 0.0] {
        rtt.observe(sample);
    }
    assert_eq!(rtt.rtt_s(), Some(0.02));
    (0..RTT_WINDOW).for_each(|_| rtt.observe(0.04));
    assert_eq!(rtt.rtt_s(), Some(0.04));
}

/// Over a thousand histories: how many transfers it takes until a step is known, and until the estimate is within 15 %.
#[test]
fn a_halved_link_is_known_within_a_round() {
    for (jitter, factor, most_mean, most) in
        [(0.05, 0.5, 2.2, 4), (0.1, 0.5, 2.8, 6), (0.1, 2.0, 2.8, 6), (0.2, 0.25, 3.2, 8)]
    {
        let (mut total, mut slowest) = (0, 0);
        for seed in 0..1_000 {
            let mut link = LinkEstimator::new(None);
            jittered(seed, 5e6, jitter).take(30).for_each(|rate| link.observe(at_rate(rate, None)));
            let before = link.changes();
            let known = jittered(seed + 1_000_000, 5e6 * factor, jitter).take(50).position(|rate| {
                link.observe(at_rate(rate, None));
                link.changes() > before
            });
            let transfers = known.expect("a halved link is not jitter") + 1;
            total += transfers;
            slowest = slowest.max(transfers);
        }
        let mean = total as f64 / 1_000.0;
        assert!(mean <= most_mean && slowest <= most, "jitter {jitter}, factor {factor}: {mean}, {slowest}");
    }
}

/// A hundred thousand transfers at each jitter: false alarms, and estimates that are off by more than the jitter and
/// 15 %, per thousand.
#[test]
fn jitter_is_no_change() {
    for (jitter, most_alarms, most_off) in
        [(0.05, 0.05, 0.1), (0.1, 0.1, 0.5), (0.2, 1.5, 2.0), (0.3, 5.0, 10.0)]
    {
        let (mut alarms, mut off) = (0, 0);
        for seed in 0..200 {
            let mut link = LinkEstimator::new(None);
            for (transfer, rate) in jittered(seed, 5e6, jitter).take(500).enumerate() {
                link.observe(at_rate(rate, None));
                off += u32::from(transfer >= 10 && !near(link.rate(), 5e6, 0.15 + jitter));
            }
            alarms += link.changes();
        }
        let (alarms, off) = (f64::from(alarms) / 100.0, f64::from(off) / 100.0);
        println!(
            "jitter {jitter}: {alarms} false alarms and {off} estimates that are off in a thousand transfers"
        );
        assert!(alarms <= most_alarms && off <= most_off, "jitter {jitter}: {alarms}, {off} in a thousand");
    }
}

proptest! {
    #[test]
    fn the_estimate_is_always_a_rate_and_memory_is_bounded(
        hint in proptest::option::of(any::<f64>()),
        transfers in proptest::collection::vec((any::<u64>(), any::<f64>(), proptest::option::of(any::<f64>())), 0..200),
    ) {
        let mut link = LinkEstimator::new(hint);
        for (bytes, seconds, paced_at) in transfers {
            link.observe(Transfer { bytes, seconds, paced_at });
            prop_assert!(is_rate(link.rate()));
        }
        prop_assert!(link.states.hypotheses() <= 65 && link.weak.len() <= WINDOW);
    }

    #[test]
    fn the_estimate_lies_among_the_last_state_s_transfers(
        seed: u64, first in 1e5..1e8_f64, ratio in prop_oneof![0.1..0.5_f64, 2.0..10.0_f64], jitter in 0.0..0.15_f64,
    ) {
        let mut link = LinkEstimator::new(None);
        jittered(seed, first, jitter).take(25).for_each(|rate| link.observe(at_rate(rate, None)));
        jittered(seed ^ 1, ratio * first, jitter).take(10).for_each(|rate| link.observe(at_rate(rate, None)));
        prop_assert!(near(link.rate(), ratio * first, 0.25), "{} of {}", link.rate(), ratio * first);
    }
}
