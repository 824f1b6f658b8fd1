use partway_core::config::Config;

use super::*;

fn link(keys: &str, trace: Option<&str>) -> Link {
    let text = format!(
        "name = \"x\"\n[model]\narch = \"mlp\"\n[data]\ndataset = \"synthetic\"\n[[edge]]\nname = \"a\"\n{keys}"
    );
    let config = Config::parse(&text, "x.toml", &[]).expect("it is right");
    let trace = trace.map(|text| LinkTrace::parse(text, "x.csv").expect("it is right"));
    Link::new(&config.edges()[0], trace.as_ref(), 1000.0, PATIENCE, 7)
}

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(15);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Bytes that take a whole number of full packets: 100 of them.
const BYTES: u64 = 100 * PACKET_PAYLOAD;
/// What they take at 8 Mbit/s, which is a byte a microsecond.
const AT_8_MBPS: Duration = Duration::from_micros(100 * (PACKET_PAYLOAD + PACKET_OVERHEAD));

#[test]
fn a_message_takes_its_bytes_at_the_rate_and_half_of_the_round_trip() {
    let Link { mut up, mut down, .. } = link("uplink_mbps = 8\ndownlink_mbps = 16\nrtt = \"20ms\"", None);
    let crossing = up.send(millis(5), BYTES, None).expect("it arrives");
    assert_eq!(crossing.arrives, millis(5) + AT_8_MBPS + millis(10));
    assert!((crossing.seconds - AT_8_MBPS.as_secs_f64()).abs() < 1e-9, "the receiver measures the rate");
    let next = up.send(millis(6), BYTES, None).expect("it arrives");
    assert_eq!(next.arrives, crossing.arrives + AT_8_MBPS, "it waits in the queue");
    assert_eq!(down.send(millis(5), BYTES, None).expect("it arrives").arrives, millis(15) + AT_8_MBPS / 2);
}

#[test]
fn a_link_without_a_rate_of_its_own_has_the_clouds() {
    let Link { mut up, .. } = link("", None);
    let crossing = up.send(Duration::ZERO, BYTES, None).expect("it arrives");
    assert_eq!(crossing.arrives, AT_8_MBPS / 125);
}

#[test]
fn a_paced_sender_keeps_to_its_rate_after_the_first_burst() {
    let Link { mut up, .. } = link("uplink_mbps = 80", None);
    let pace = 100_000.0;
    let crossing = up.send(Duration::ZERO, BYTES, Some(pace)).expect("it arrives");
    let paced = Duration::from_secs_f64((BYTES - LEAST_BURST) as f64 / pace);
    assert!(crossing.arrives >= paced && crossing.arrives < paced + millis(10), "{crossing:?}");
    let measured = BYTES as f64 / crossing.seconds;
    // Up to a burst, as its pieces come at once.
    assert!((0.9..1.25).contains(&(measured / pace)), "the receiver measures the pace: {measured}");
    let fast = link("uplink_mbps = 8", None).up.send(Duration::ZERO, BYTES, Some(1e9)).expect("it arrives");
    assert_eq!(fast.arrives, AT_8_MBPS, "a pace above the rate changes nothing");
}

#[test]
fn the_rate_follows_the_trace_and_stops_in_an_outage() {
    let Link { mut up, outages, .. } =
        link("down = [[\"2s\", \"30s\"]]", Some("seconds,mbps\n0,8\n1,4\n40,0\n41,8"));
    let second = Duration::from_secs(1);
    let crossing = up.send(second.saturating_sub(AT_8_MBPS / 2), BYTES, None).expect("it arrives");
    assert_eq!(crossing.arrives, second + AT_8_MBPS, "half of it at half the rate");
    let held_up = up.send((2 * second).saturating_sub(AT_8_MBPS), BYTES, None).expect("it arrives");
    assert_eq!(held_up.arrives, 30 * second + AT_8_MBPS);
    assert_eq!(outages, [(2 * second, 30 * second), (40 * second, 41 * second)], "a rate of 0 is one, too");
}

#[test]
fn jitter_delays_and_never_reorders_and_every_seed_has_its_own() {
    let mut one = link("uplink_mbps = 8\njitter = \"10ms\"", None).up;
    let mut last = Duration::ZERO;
    let mut late = 0;
    for nth in 0..50 {
        let sent = millis(2 * nth);
        let arrives = one.send(sent, 100, None).expect("it arrives").arrives;
        assert!(arrives >= last && arrives <= sent + millis(12), "{arrives:?}");
        late += u32::from(arrives > sent + millis(3));
        last = arrives;
    }
    assert!(late > 20, "it varies: {late}");
}

#[test]
fn lost_packets_cost_time_and_rate() {
    let keys = "uplink_mbps = 8\nrtt = \"40ms\"";
    let plain = link(keys, None).up.send(Duration::ZERO, BYTES, None).expect("it arrives").arrives;
    let mut lossy = link(&format!("{keys}\nloss = 0.05"), None).up;
    let mut extra = Duration::ZERO;
    for _ in 0..20 {
        lossy.reset(Duration::ZERO);
        let arrives = lossy.send(Duration::ZERO, BYTES, None).expect("it arrives").arrives;
        assert!(arrives >= plain);
        extra += arrives.saturating_sub(plain);
    }
    // Nearly all of 20 messages of 100 packets lose one; few lose one of the last that a timeout must find.
    assert!(extra > millis(20) && extra < millis(20 * 120), "{extra:?}");
}

#[test]
fn a_packet_that_is_lost_for_too_long_ends_the_connection() {
    for loss in [0.99, 0.999_999_999_999] {
        let mut dead = link(&format!("uplink_mbps = 8\nloss = {loss}"), None).up;
        let lost = dead.send(Duration::ZERO, BYTES, None).expect_err("a hundred packets do not come through");
        let Lost::Silent { at } = lost else { panic!("{lost:?}") };
        assert!(at >= PATIENCE && at <= PATIENCE + AT_8_MBPS, "{at:?}");
        let next = dead.send(millis(1), 0, None);
        assert!(next.is_err() || next.is_ok_and(|next| next.arrives >= at), "nothing overtakes: {next:?}");
    }
}

#[test]
fn what_never_comes_is_said() {
    let mut dead = link("", Some("0,8\n1,0")).up;
    assert!(dead.send(millis(10), BYTES, None).is_ok());
    assert_eq!(dead.send(Duration::from_secs(1), BYTES, None), Err(Lost::Stalled));
}
