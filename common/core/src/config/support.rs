//! What the configuration can say and this version cannot do yet: refused, never ignored.
//!
//! Whoever builds one of these deletes its line here.

use super::{
    Clock, Config, Congestion, DeviceKind,
    error::Fault,
    setting::{Faults, Setting, shown},
};

/// Collects refusals.
struct Refusals(Faults);

impl Refusals {
    fn refuse<T: Setting>(&mut self, refused: bool, key: &str, value: &T, now: &str) {
        if refused {
            let value = value.write().as_ref().map(shown).unwrap_or_default();
            self.0.push((key.to_owned(), Fault::Unsupported { value, now: now.to_owned() }));
        }
    }
}

/// Every value of `config` that this version cannot do, in the order of the keys.
pub(super) fn refusals(config: &Config) -> Faults {
    let Config { clock, wire, cloud, edge, .. } = config;
    let as_profiled = "1 with `clock = \"virtual\"`, whose devices are as fast as their profiles say";
    let unpinned = "leave it out with `clock = \"virtual\"`";
    let mut all = Refusals(Faults::new());

    let (is_virtual, cpu) = (*clock == Clock::Virtual, "\"cpu\" with `clock = \"virtual\"`");

    let alone = "false with `clock = \"virtual\"`, which has links and no connections";
    all.refuse(is_virtual && wire.data_connection, "wire.data_connection", &wire.data_connection, alone);
    let other_than_cubic = is_virtual && wire.congestion != Congestion::Cubic;
    let unmodelled = "\"cubic\" with `clock = \"virtual\"`, whose links are filled by every sender";
    all.refuse(other_than_cubic, "wire.congestion", &wire.congestion, unmodelled);

    all.refuse(is_virtual && cloud.device != DeviceKind::Cpu, "cloud.device", &cloud.device, cpu);
    all.refuse(is_virtual && cloud.cpus.is_some(), "cloud.cpus", &cloud.cpus, unpinned);
    all.refuse(is_virtual && cloud.threads.get() != 1, "cloud.threads", &cloud.threads, as_profiled);

    for (index, edge) in edge.iter().enumerate() {
        let key = |key: &str| format!("edge[{index}].{key}");
        all.refuse(is_virtual && edge.device != DeviceKind::Cpu, &key("device"), &edge.device, cpu);
        all.refuse(is_virtual && edge.cpus.is_some(), &key("cpus"), &edge.cpus, unpinned);
        all.refuse(is_virtual && edge.threads.get() != 1, &key("threads"), &edge.threads, as_profiled);
    }
    all.0
}
