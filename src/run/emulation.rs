//! What the edges' devices and links are made to be, and whether this machine can keep up with that.

use std::time::Duration;

use partway_core::config::{Config, DeviceKind, EdgeConfig, LinkTrace, TraceStep};
use partway_core::random;
use partway_edge::Emulation;
use partway_net::LinkProfile;

/// What of the edge is emulated, `elapsed` after the start of the run; `None` if it is this machine as
/// it is. `trace` is that of `edge.trace`.
pub(crate) fn emulation(
    edge: &EdgeConfig,
    trace: Option<&LinkTrace>,
    seed: u64,
    elapsed: Duration,
) -> Option<Emulation> {
    let slow = edge.slow.iter().filter(|slow| slow.until() > elapsed).map(|slow| {
        (slow.from().saturating_sub(elapsed), slow.until().saturating_sub(elapsed), slow.factor())
    });
    let link = link(edge, trace, seed, elapsed);
    let emulation = Emulation { speed: edge.speed.get(), slow: slow.collect(), link };
    let plain = LinkProfile { seed: emulation.link.seed, ..LinkProfile::default() };
    let is_plain =
        emulation.link == plain && emulation.slow.is_empty() && edge.speed.get().to_bits() == 1f64.to_bits();
    (!is_plain).then_some(emulation)
}

/// Rates over time from `elapsed` on.
fn later(
    trace: &LinkTrace,
    elapsed: Duration,
    rate: impl Fn(&TraceStep) -> Option<f64>,
) -> Option<Vec<(Duration, f64)>> {
    let begun = trace.steps().partition_point(|step| step.at <= elapsed);
    let rest = &trace.steps()[begun.saturating_sub(1)..];
    rest.iter().map(|step| Some((step.at.saturating_sub(elapsed), rate(step)?))).collect()
}

/// The edge's link. Times are counted from the start of the run in the configuration, and from the start
/// of the link, which is `elapsed` later, here.
fn link(edge: &EdgeConfig, trace: Option<&LinkTrace>, seed: u64, elapsed: Duration) -> LinkProfile {
    let outages = edge.down.iter().filter(|outage| outage.until() > elapsed);
    LinkProfile {
        up_mbps: edge.uplink_mbps.map(partway_core::config::Mbps::get),
        down_mbps: edge.downlink_mbps.map(partway_core::config::Mbps::get),
        rtt: edge.rtt.get(),
        jitter: edge.jitter.get(),
        loss: edge.loss.get(),
        trace: trace.and_then(|trace| later(trace, elapsed, |step| Some(step.up_mbps))),
        down_trace: trace.and_then(|trace| later(trace, elapsed, |step| step.down_mbps)),
        down: outages
            .map(|outage| (outage.from().saturating_sub(elapsed), outage.until().saturating_sub(elapsed)))
            .collect(),
        seed: random::below(&mut random::stream(seed, &["link", edge.name.as_str()]), u64::MAX),
        ..LinkProfile::default()
    }
}

/// The speed that an emulated edge comes to, as a share of this machine's: none is faster.
pub(crate) fn speed(edge: &EdgeConfig) -> f64 {
    edge.speed.get().min(1.0)
}

/// How many times longer than on this machine computation takes on the edge: its profile is the
/// calibration times that, which is what calibrating on the emulated device would have found.
pub(crate) fn slowdown(edge: &EdgeConfig) -> f64 {
    1.0 / speed(edge)
}

/// What a machine with so many processors cannot emulate, in words.
pub(crate) fn warnings(config: &Config, processors: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let edges = config.edges();
    let on = |kind| edges.iter().filter(move |edge| edge.device == kind);
    let is_cloud_on = |kind| config.cloud.device == kind;
    let devices: f64 = on(DeviceKind::Cpu).map(|edge| edge.speed.get() * edge.threads.get() as f64).sum();
    let workers = (config.cloud.workers.get() * config.cloud.threads.get()) as f64;
    let cloud = if is_cloud_on(DeviceKind::Cpu) { workers } else { 0.0 };
    if devices + cloud > processors as f64 * (1.0 + 1e-9) {
        warnings.push(format!(
            "the edges need {devices:.2} processors at their speeds and the cloud {cloud:.0}, {:.2} in all, but this \
             machine has {processors}: when all are busy at once, steps take longer than on the devices that they \
             stand for; lower `edge.speed`, `edge.threads`, `cloud.workers` or `cloud.threads`",
            devices + cloud
        ));
    }
    let graphics: f64 = on(DeviceKind::Wgpu).map(|edge| edge.speed.get()).sum();
    let cloud = if is_cloud_on(DeviceKind::Wgpu) { 1.0 } else { 0.0 };
    if graphics + cloud > 1.0 + 1e-9 {
        warnings.push(format!(
            "the edges need {graphics:.2} graphics processors at their speeds and the cloud {cloud:.0}, but they \
             share one: when all are busy at once, steps take longer than on the devices that they stand for; \
             lower `edge.speed`, or set `edge.device` or `cloud.device` to \"cpu\""
        ));
    }
    let fast: Vec<&str> =
        edges.iter().filter(|edge| edge.speed.get() > 1.0).map(|edge| edge.name.as_str()).collect();
    if !fast.is_empty() {
        warnings.push(format!(
            "a speed above 1 cannot be emulated, only slower devices can: {} will be as fast as this machine",
            fast.join(", ")
        ));
    }
    let described = edges.iter().any(|edge| edge.profile.is_some());
    if described || config.cloud.profile.is_some() {
        let keys = match (config.cloud.profile.is_some(), described) {
            (true, false) => "`cloud.profile` counts",
            (false, _) => "`edge.profile` counts",
            (true, true) => "`cloud.profile` and `edge.profile` count",
        };
        warnings.push(format!(
            "{keys} with `clock = \"virtual\"` only: here the cloud is this machine, and an edge `edge.speed` of it"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(edges: &str) -> Config {
        let text = format!(
            "name = \"x\"\n[model]\narch = \"mlp\"\n[data]\ndataset = \"synthetic\"\n[cloud]\nthreads = 1\n{edges}"
        );
        Config::parse(&text, "x.toml", &[]).expect("it is right")
    }

    #[test]
    fn speeds_are_added_up_against_the_machines_processors() {
        let four = config("[[edge]]\nname = \"a\"\ncount = 4\nspeed = 0.25\n");
        assert_eq!(warnings(&four, 2), Vec::<String>::new());
        let [warning] = &warnings(&four, 1)[..] else { panic!("one warning") };
        assert!(warning.contains("need 1.00 processors") && warning.contains("2.00 in all"), "{warning}");
        let threads = config("[[edge]]\nname = \"a\"\nspeed = 0.5\nthreads = 4\n");
        assert_eq!(warnings(&threads, 2).len(), 1);
        assert_eq!(warnings(&threads, 3).len(), 0);
    }

    #[test]
    fn the_graphics_processor_is_shared_apart_from_the_others() {
        let graphics = |count, speed| {
            format!("[[edge]]\nname = \"a\"\ncount = {count}\nspeed = {speed}\ndevice = \"wgpu\"\n")
        };
        assert_eq!(warnings(&config(&graphics(4, 0.25)), 1), Vec::<String>::new());
        let [warning] = &warnings(&config(&graphics(2, 0.75)), 64)[..] else { panic!("one warning") };
        assert!(warning.contains("need 1.50 graphics processors"), "{warning}");
    }

    #[test]
    fn a_faster_device_than_this_machine_is_named() {
        let fast = config("[[edge]]\nname = \"server\"\nspeed = 2\n[[edge]]\nname = \"camera\"\n");
        let found = warnings(&fast, 64);
        assert!(matches!(&found[..], [one] if one.contains(": server will be")), "{found:?}");
    }

    #[test]
    fn profiles_that_do_not_count_are_named() {
        let edges = config("[[edge]]\nname = \"a\"\nprofile = \"pi4.toml\"\n");
        assert!(matches!(&warnings(&edges, 64)[..], [one] if one.starts_with("`edge.profile` counts with")));
        let mut both = edges.clone();
        both.cloud.profile = Some("server.toml".into());
        assert!(
            matches!(&warnings(&both, 64)[..], [one] if one.starts_with("`cloud.profile` and `edge.profile`"))
        );
    }

    #[test]
    fn an_edge_like_this_machine_is_not_emulated() {
        let edge = &config("[[edge]]\nname = \"a\"\n").edges()[0];
        assert_eq!(emulation(edge, None, 1, Duration::ZERO), None);
        let slow = &config("[[edge]]\nname = \"a\"\nspeed = 0.25\n").edges()[0];
        assert!(emulation(slow, None, 1, Duration::ZERO).is_some_and(|it| it.speed < 0.26));
        assert!((slowdown(slow) - 4.0).abs() < 1e-12);
        let fast = &config("[[edge]]\nname = \"a\"\nspeed = 2\n").edges()[0];
        assert!((slowdown(fast) - 1.0).abs() < 1e-12, "it is as fast as this machine, and says so");
        let far = &config("[[edge]]\nname = \"a\"\nrtt = \"20ms\"\nuplink_mbps = 8\n").edges()[0];
        let link = emulation(far, None, 1, Duration::ZERO).expect("it is far").link;
        assert_eq!((link.rtt, link.up_mbps, link.down_mbps), (Duration::from_millis(20), Some(8.0), None));
    }

    #[test]
    fn each_edge_has_its_own_luck_and_keeps_it_over_a_restart() {
        let edges = config("[[edge]]\nname = \"a\"\ncount = 2\nloss = 0.1\n").edges();
        let seed = |edge, seconds| link(edge, None, 7, Duration::from_secs(seconds)).seed;
        assert_ne!(seed(&edges[0], 0), seed(&edges[1], 0));
        assert_eq!(seed(&edges[0], 0), seed(&edges[0], 9));
    }

    #[test]
    fn outages_stay_where_they_are_when_an_edge_starts_later() {
        let edges = config("[[edge]]\nname = \"a\"\ndown = [[\"1s\", \"3s\"], [\"5s\", \"6s\"]]\n").edges();
        let down = |millis| link(&edges[0], None, 1, Duration::from_millis(millis)).down;
        let millis = Duration::from_millis;
        assert_eq!(down(0), [(millis(1000), millis(3000)), (millis(5000), millis(6000))]);
        assert_eq!(down(2000), [(millis(0), millis(1000)), (millis(3000), millis(4000))]);
        assert_eq!(down(3000), [(millis(2000), millis(3000))]);
        assert_eq!(down(7000), []);
    }

    #[test]
    fn traces_and_slowdowns_stay_where_they_are_when_an_edge_starts_later() {
        let edge = &config("[[edge]]\nname = \"a\"\nslow = [[\"1s\", \"3s\", 10], [\"5s\", \"6s\", 2]]\n")
            .edges()[0];
        let trace = LinkTrace::parse("0,8,80\n2,4,40\n9,1,10", "x.csv").expect("it is right");
        let second = Duration::from_secs(1);
        let found = emulation(edge, Some(&trace), 1, 4 * second).expect("it is emulated");
        assert_eq!(found.link.trace, Some(vec![(Duration::ZERO, 4.0), (5 * second, 1.0)]));
        assert_eq!(found.link.down_trace, Some(vec![(Duration::ZERO, 40.0), (5 * second, 10.0)]));
        assert_eq!(found.slow, [(second, 2 * second, 2.0)]);
        let up_only = LinkTrace::parse("0,8", "x.csv").expect("it is right");
        assert_eq!(link(edge, Some(&up_only), 1, second).down_trace, None);
    }
}
