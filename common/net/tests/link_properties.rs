//! The link model against what any link must do, whatever is sent when.

use std::time::Duration;

use partway_core::random;
use partway_net::{DropCause, Fate, Link, LinkProfile, shaped::link::DATAGRAM_OVERHEAD};
use proptest::prelude::*;

/// Pauses in microseconds and payloads in bytes.
fn traffic() -> impl Strategy<Value = Vec<(u64, usize)>> {
    prop::collection::vec((0..3_000_u64, 1..1_472_usize), 1..300)
}

/// Sends all; returns time of sending, payload and fate of each.
fn run(link: &mut Link, traffic: &[(u64, usize)], seed: u64) -> Vec<(Duration, usize, Fate)> {
    let mut rng = random::stream(seed, &["link test"]);
    let mut now = Duration::ZERO;
    let one = |&(pause, payload): &(u64, usize)| {
        now += Duration::from_micros(pause);
        (now, payload, link.send(now, payload, &mut rng))
    };
    traffic.iter().map(one).collect()
}

fn up(profile: &LinkProfile) -> Link {
    profile.up_link().expect("the profile makes sense")
}

fn deliveries(fates: &[(Duration, usize, Fate)]) -> Vec<(Duration, usize)> {
    let delivered = |&(_, payload, fate): &(Duration, usize, Fate)| match fate {
        Fate::Deliver(at) => Some((at, payload)),
        Fate::Drop(_) => None,
    };
    fates.iter().filter_map(delivered).collect()
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

proptest! {
    #[test]
    fn order_holds_and_nothing_arrives_early(
        traffic in traffic(), mbps in 0.1..200.0_f64, rtt in 0..200_u64, jitter in 0..50_u64,
    ) {
        let (rtt, jitter) = (millis(rtt), millis(jitter));
        let profile = LinkProfile { up_mbps: Some(mbps), rtt, jitter, ..LinkProfile::default() };
        let mut last = Duration::ZERO;
        for (sent, payload, fate) in run(&mut up(&profile), &traffic, 1) {
            if let Fate::Deliver(at) = fate {
                prop_assert!(at >= last, "one overtook another");
                let alone = (payload + DATAGRAM_OVERHEAD) as f64 * 8.0 / (mbps * 1e6);
                let earliest = sent + rtt / 2 + Duration::from_secs_f64(alone);
                prop_assert!(at + Duration::from_nanos(2) >= earliest, "{at:?} is before {earliest:?}");
                last = at;
            }
        }
    }

    /// Between any two arrivals lies the time that the bytes of the second and those between take.
    #[test]
    fn the_rate_is_never_exceeded_over_any_window(
        traffic in traffic(), mbps in 0.1..200.0_f64, loss in 0.0..0.5_f64,
    ) {
        let profile = LinkProfile { up_mbps: Some(mbps), loss, ..LinkProfile::default() };
        let arrived = deliveries(&run(&mut up(&profile), &traffic, 2));
        for first in 0..arrived.len() {
            let mut bits = 0.0;
            for &(at, payload) in &arrived[first + 1..] {
                bits += (payload + DATAGRAM_OVERHEAD) as f64 * 8.0;
                let window = at.abs_diff(arrived[first].0).as_secs_f64();
                prop_assert!(bits <= mbps * 1e6 * (window + 1e-6), "{bits} bits in {window} s at {mbps}");
            }
        }
    }

    /// A queue that is never empty keeps the link busy: late callers do not lower the rate.
    #[test]
    fn a_busy_link_works_at_its_rate(payloads in prop::collection::vec(1..1_472_usize, 1..80), mbps in 0.1..200.0_f64) {
        let profile = LinkProfile { up_mbps: Some(mbps), ..LinkProfile::default() };
        let traffic: Vec<_> = payloads.iter().map(|&payload| (0, payload)).collect();
        let arrived = deliveries(&run(&mut up(&profile), &traffic, 3));
        prop_assert_eq!(arrived.len(), payloads.len(), "all fit the default queue");
        let bits: usize = payloads.iter().map(|payload| (payload + DATAGRAM_OVERHEAD) * 8).sum();
        let expected = bits as f64 / (mbps * 1e6);
        let last = arrived.last().map_or(0.0, |(at, _)| at.as_secs_f64());
        prop_assert!((last - expected).abs() < 1e-6, "{last} s, not {expected} s");
    }

    /// What is accepted and not yet sent never exceeds the queue; what is dropped would have.
    #[test]
    fn a_full_queue_drops_and_only_a_full_one(traffic in traffic(), mbps in 0.1..20.0_f64, queue in 2_000..20_000_usize) {
        let profile = LinkProfile { up_mbps: Some(mbps), queue_bytes: Some(queue), ..LinkProfile::default() };
        let mut waiting: Vec<(Duration, usize)> = Vec::new();
        for (sent, payload, fate) in run(&mut up(&profile), &traffic, 4) {
            waiting.retain(|&(done, _)| done > sent);
            let backlog: usize = waiting.iter().map(|(_, bytes)| bytes).sum();
            let bytes = payload + DATAGRAM_OVERHEAD;
            match fate {
                Fate::Deliver(at) => {
                    prop_assert!(waiting.is_empty() || backlog + bytes <= queue);
                    waiting.push((at, bytes));
                }
                Fate::Drop(cause) => {
                    prop_assert_eq!(cause, DropCause::QueueFull);
                    prop_assert!(backlog + bytes > queue, "dropped with {} of {} used", backlog, queue);
                }
            }
        }
    }

    #[test]
    fn the_same_seed_is_the_same_link(traffic in traffic(), seed: u64) {
        let profile =
            LinkProfile { up_mbps: Some(5.0), jitter: millis(3), loss: 0.1, ..LinkProfile::default() };
        prop_assert_eq!(run(&mut up(&profile), &traffic, seed), run(&mut up(&profile), &traffic, seed));
    }
}

#[test]
fn a_trace_changes_the_rate_in_the_middle_of_a_datagram() {
    // 1000 bytes with headers at 0.8 Mbit/s are 10 ms; from 5 ms on the rate is half: 5 + 10 ms.
    let trace = Some(vec![(Duration::ZERO, 0.8), (millis(5), 0.4)]);
    let profile = LinkProfile { trace, ..LinkProfile::default() };
    let mut rng = random::stream(0, &[]);
    let mut link = up(&profile);
    assert_eq!(link.send(Duration::ZERO, 972, &mut rng), Fate::Deliver(millis(15)));
    // The last rate holds: 20 ms after the first is done.
    assert_eq!(link.send(millis(1), 972, &mut rng), Fate::Deliver(millis(35)));
}

#[test]
fn before_the_trace_the_plain_rate_holds_or_else_its_first() {
    let trace = Some(vec![(millis(100), 0.8)]);
    for (up_mbps, expected) in [(Some(8.0), 1), (None, 10)] {
        let profile = LinkProfile { up_mbps, trace: trace.clone(), ..LinkProfile::default() };
        let fate = up(&profile).send(Duration::ZERO, 972, &mut random::stream(0, &[]));
        assert_eq!(fate, Fate::Deliver(millis(expected)));
    }
}

#[test]
fn a_stalled_link_goes_on_when_its_rate_returns_and_drops_if_it_never_does() {
    let mut rng = random::stream(0, &[]);
    let returns = Some(vec![(Duration::ZERO, 0.0), (millis(50), 0.8)]);
    let profile = LinkProfile { trace: returns, ..LinkProfile::default() };
    assert_eq!(up(&profile).send(Duration::ZERO, 972, &mut rng), Fate::Deliver(millis(60)));
    let never = Some(vec![(Duration::ZERO, 0.0)]);
    let profile = LinkProfile { trace: never, ..LinkProfile::default() };
    assert_eq!(up(&profile).send(Duration::ZERO, 972, &mut rng), Fate::Drop(DropCause::QueueFull));
}

#[test]
fn out_of_reach_drops_what_is_sent_or_would_arrive_then() {
    let down = vec![(millis(100), millis(200))];
    let profile = LinkProfile { rtt: millis(40), down, ..LinkProfile::default() };
    let mut link = up(&profile);
    let mut rng = random::stream(0, &[]);
    let mut fate = |at| link.send(millis(at), 100, &mut rng);
    assert_eq!(fate(70), Fate::Deliver(millis(90)));
    assert_eq!(fate(80), Fate::Drop(DropCause::OutOfReach));
    assert_eq!(fate(199), Fate::Drop(DropCause::OutOfReach));
    assert_eq!(fate(200), Fate::Deliver(millis(220)));
}

#[test]
fn losses_come_at_the_given_share() {
    let profile = LinkProfile { loss: 0.1, ..LinkProfile::default() };
    let lost = run(&mut up(&profile), &vec![(100, 1000); 20_000], 5);
    let lost = lost.iter().filter(|(_, _, fate)| *fate == Fate::Drop(DropCause::Lost)).count();
    // The standard deviation is 42.
    assert!((1_800..2_200).contains(&lost), "{lost} of 20000");
}
