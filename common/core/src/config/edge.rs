//! `[[edge]]`: one device, or several alike.

use std::{path::PathBuf, time::Duration};

use toml::Value;

use super::{
    cloud::DeviceKind,
    cpus::CpuList,
    number::{Factor, Mbps, Probability, Speed, Whole, literal},
    reader::section,
    setting::{Name, Plain},
    units::{ByteSize, Time, duration_text, parse_duration},
};

section! {
    /// One `[[edge]]` table.
    pub struct EdgeConfig {
        /// What the edge is called, which also says its place in every order. Required. Example:
        /// `name = "camera"`.
        pub name: Name,
        /// How many there are, from 1 to 10000. More than one are called `camera-0`, `camera-1`, and so
        /// on. Default 1. Example: `count = 2`.
        pub count: Whole<1, 10_000> = literal(Whole::new(1)),
        /// What computes. Default `"cpu"`; `"wgpu"` needs a build with the cargo feature `wgpu`.
        /// Example: `device = "wgpu"`.
        pub device: DeviceKind = DeviceKind::Cpu,
        /// Its speed as a share of one thread of this machine, or of its graphics processor, or of its profile
        /// under the virtual clock; above 0 and at most 64. Default 1. Example: `speed = 0.25`.
        pub speed: Speed = literal(Speed::new(1.0)),
        /// Virtual clock: a file with its seconds per layer kind. Default: none. Example:
        /// `profile = "configs/devices/pi4.toml"`.
        pub profile: Option<PathBuf>,
        /// A file that describes its link; what is given here counts before what is given there. Default:
        /// none. Example: `link = "configs/links/lte-good.toml"`.
        pub link: Option<PathBuf>,
        /// Rate towards the cloud in Mbit/s, from 0.001 to 1000000. Default: not limited. Example:
        /// `uplink_mbps = 20`.
        pub uplink_mbps: Option<Mbps>,
        /// Rate from the cloud in Mbit/s, from 0.001 to 1000000. Default: not limited. Example:
        /// `downlink_mbps = 50`.
        pub downlink_mbps: Option<Mbps>,
        /// Time to the cloud and back, added to the machine's own, at most a minute. Default `"0s"`. Example:
        /// `rtt = "20ms"`.
        pub rtt: Delay = literal(Delay::new(Duration::ZERO)),
        /// How far the one-way delay varies from packet to packet, at most a minute. Default `"0s"`. Example:
        /// `jitter = "2ms"`.
        pub jitter: Delay = literal(Delay::new(Duration::ZERO)),
        /// Share of packets that is lost per direction, at least 0 and below 1. Default 0. Example:
        /// `loss = 0.01`.
        pub loss: Probability = literal(Probability::new(0.0)),
        /// A file of `seconds,mbps` lines that the rate towards the cloud follows, or of
        /// `seconds,up_mbps,down_mbps` lines, both rates. Default: none. Example:
        /// `trace = "configs/links/lte.csv"`.
        pub trace: Option<PathBuf>,
        /// When it is out of reach, from the start of the run, in order and without overlap. Default:
        /// never. Example: `down = [["120s", "180s"]]`.
        pub down: Vec<Outage>,
        /// When it computes slower, from the start of the run, and how many times, at least 1; in order and
        /// without overlap. Default: never. Example: `slow = [["60s", "120s", 10]]`.
        pub slow: Vec<Slowdown>,
        /// The memory that it may use, above 0. Default: not limited, or the profile's under the virtual
        /// clock. Example: `memory = "256MiB"`.
        pub memory: Option<ByteSize>,
        /// Wall clock: threads that compute, from 1 to 1024. Default 1. Example: `threads = 2`.
        pub threads: Whole<1, 1024> = literal(Whole::new(1)),
        /// The processors that its process is pinned to, under the wall clock. Default: any. Example: `cpus = "2"`.
        pub cpus: Option<CpuList>,
    }
}

/// A link's delay, or how far it varies: at most a minute, beyond which no connection is made.
pub type Delay = Time<0, 60_000>;

/// A time during which an edge is out of reach, counted from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    from: Duration,
    until: Duration,
}

impl Outage {
    /// The outage, if it ends after it starts.
    pub fn new(from: Duration, until: Duration) -> Option<Self> {
        (from < until).then_some(Self { from, until })
    }

    /// Its first moment.
    pub fn from(self) -> Duration {
        self.from
    }

    /// Its end.
    pub fn until(self) -> Duration {
        self.until
    }
}

impl Plain for Outage {
    fn allowed() -> String {
        "[from, until], two times with units in quotes, the first the earlier, such as [\"120s\", \"180s\"]"
            .into()
    }

    fn parse(value: &Value) -> Option<Self> {
        let times: Option<Vec<Duration>> =
            value.as_array()?.iter().map(|time| parse_duration(time.as_str()?)).collect();
        let [from, until] = times?.try_into().ok()?;
        Self::new(from, until)
    }

    fn to_value(&self) -> Value {
        Value::Array(vec![duration_text(self.from).into(), duration_text(self.until).into()])
    }
}

/// A time during which an edge computes slower, counted from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    during: Outage,
    factor: f64,
}

impl Slowdown {
    /// Its first moment.
    pub fn from(self) -> Duration {
        self.during.from
    }

    /// Its end.
    pub fn until(self) -> Duration {
        self.during.until
    }

    /// How many times longer everything takes.
    pub fn factor(self) -> f64 {
        self.factor
    }
}

impl Plain for Slowdown {
    fn allowed() -> String {
        "[from, until, times], two times with units in quotes, the first the earlier, and a number of at least 1, \
         such as [\"60s\", \"120s\", 10]"
            .into()
    }

    fn parse(value: &Value) -> Option<Self> {
        let [from, until, factor] = &value.as_array()?[..] else { return None };
        let during = Outage::new(parse_duration(from.as_str()?)?, parse_duration(until.as_str()?)?)?;
        Some(Self { during, factor: Factor::parse(factor)?.get() })
    }

    fn to_value(&self) -> Value {
        let times = [self.during.from, self.during.until].map(|time| Value::from(duration_text(time)));
        Value::Array(times.into_iter().chain([self.factor.into()]).collect())
    }
}

impl EdgeConfig {
    /// The edges that this describes, each with its full name and a count of 1.
    pub(super) fn expanded(&self) -> impl Iterator<Item = Self> + '_ {
        let count = self.count.get();
        (0..count).map(move |index| {
            let name = if count == 1 { self.name.clone() } else { self.name.numbered(index) };
            Self { name, count: literal(Whole::new(1)), ..self.clone() }
        })
    }
}
