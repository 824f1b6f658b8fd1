//! Links, traces and devices in files of their own.

use std::io;
use std::path::Path;

use super::*;

const LINK: &str = "description = \"LTE\"\nsource = \"made up\"\nuplink_mbps = 20\ndownlink_mbps = 50\n\
                    rtt = \"40ms\"\njitter = \"5ms\"\nloss = 0.01\ntrace = \"lte.csv\"\n";
const DEVICE: &str = "source = \"made up\"\nmemory = \"1GiB\"\n[kinds.linear]\n\
                      forward = { per_flop = 1e-9 }\nbackward = { per_flop = 1e-9 }\n";

/// The files of a folder that is not there.
fn read(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("lte.toml") => Ok(LINK.to_owned()),
        Some("no-rate.toml") => Ok(LINK.replace("uplink_mbps = 20", "uplink_mbps = 0")),
        Some("pi.toml") => Ok(DEVICE.to_owned()),
        Some("lte.csv") => Ok("0,20\n60,10\n".to_owned()),
        Some("unsorted.csv") => Ok("60,20\n0,10\n".to_owned()),
        Some("empty.csv") => Ok(String::new()),
        Some("negative.csv") => Ok("0,-1\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "there is no such file")),
    }
}

#[test]
fn a_link_file_says_what_the_edge_does_not() {
    let sets = ["edge.camera.link=lte.toml", "edge.camera.rtt=10ms", "edge.camera.uplink_mbps=5"];
    let mut config = small(&sets);
    config.apply_links(read).expect("it is right");
    let edge = &config.edge[0];
    assert_eq!(edge.rtt.get(), Duration::from_millis(10), "given here");
    assert_eq!((edge.uplink_mbps.map(Mbps::get), edge.downlink_mbps.map(Mbps::get)), (Some(5.0), Some(50.0)));
    assert_eq!((edge.jitter.get(), edge.loss.get().to_bits()), (Duration::from_millis(5), 0.01f64.to_bits()));
    assert_eq!(edge.trace.as_deref(), Some(Path::new("lte.csv")));
    assert_eq!(config.traces(read).expect("it is right")[Path::new("lte.csv")].steps().len(), 2);
    assert_eq!(config.edge[1].uplink_mbps, None, "another edge's link is its own");

    let mut again =
        Config::parse(&config.to_toml(), "written.toml", &[]).expect("what was written is allowed");
    again.apply_links(read).expect("it is right");
    assert_eq!(again, config, "what came from the file is written out, and stays");
}

#[test]
fn what_is_wrong_with_a_file_names_the_key_that_names_it() {
    let links = |set: &str| small(&[set]).apply_links(read).expect_err(set).to_string();
    let found = links("edge.camera.link=no-rate.toml");
    let expected = "--set edge.camera.link=no-rate.toml: `edge[0].link = \"no-rate.toml\"` (edge `camera`) cannot \
                    be used: no-rate.toml:3: `uplink_mbps = 0` is not allowed; allowed: Mbit/s: a number of at least";
    assert!(found.starts_with(expected), "{found}");
    assert!(links("edge.camera.link=absent.toml").contains("it cannot be read: there is no such file"));

    let trace = |file: &str| {
        let set = format!("edge.gateway.trace={file}");
        let found = small(&[&set]).traces(read).expect_err(file).to_string();
        let start =
            format!("--set {set}: `edge[1].trace = \"{file}\"` (edge `gateway`) cannot be used: {file}");
        found.strip_prefix(&start).unwrap_or_else(|| panic!("{found}")).to_owned()
    };
    assert_eq!(trace("unsorted.csv"), ":2: 0 s is not after 60 s; allowed: times in ascending order");
    assert!(trace("empty.csv").starts_with(": the trace is empty"));
    assert_eq!(trace("negative.csv"), ":1: `-1` is not allowed; allowed: Mbit/s from 0 to 1000000");
}

#[test]
fn devices_are_read_under_the_virtual_clock_only() {
    let sets = ["cloud.profile=pi.toml", "edge.0.profile=pi.toml", "edge.1.profile=pi.toml"];
    let mut wall = small(&sets);
    assert!(wall.apply_devices(read).expect("nothing is read").is_empty());
    let with = |more: &[&str]| small(&[&sets[..], &["clock=virtual"], more].concat());
    let mut config = with(&["edge.camera.memory=1MiB"]);
    assert_eq!(config.apply_devices(read).expect("it is right").len(), 1, "one file, one device");
    assert_eq!(config.edge[0].memory, ByteSize::new(1 << 20));
    assert_eq!(config.edge[1].memory, ByteSize::new(1 << 30), "the device's");
    let error = with(&["cloud.profile=absent.toml"]).apply_devices(read).expect_err("there is no file");
    let expected = "--set cloud.profile=absent.toml: `cloud.profile = \"absent.toml\"` cannot be used: it cannot be read";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_virtual_run_computes_on_the_processor_and_slows_down_in_order() {
    let profiles = ["cloud.profile=a", "edge.0.profile=a", "edge.1.profile=a", "clock=virtual"];
    let found = messages(SMALL, &[&profiles[..], &["cloud.device=wgpu"]].concat());
    assert!(found.contains("allowed now: \"cpu\" with `clock = \"virtual\"`"), "{found}");
    let found = messages(SMALL, &["edge.camera.slow=[[\"1s\", \"3s\", 10], [\"2s\", \"4s\", 2]]"]);
    assert!(found.contains("is not allowed; allowed: times in order"), "{found}");
    let found = messages(SMALL, &["edge.camera.slow=[[\"1s\", \"3s\", 0.5]]"]);
    assert!(found.contains("allowed: [from, until, times]"), "{found}");
    let found = messages(SMALL, &["cloud.capacity_mbps=0"]);
    assert!(
        found.contains(
            "`cloud.capacity_mbps = 0` is not allowed; allowed: Mbit/s: a number of at least 0.001"
        )
    );
}
