//! `[cloud]`: the machine of the server-side models.

use std::path::PathBuf;

use super::{
    cpus::CpuList,
    number::{Mbps, Whole, literal},
    reader::section,
    setting::named,
};

section! {
    /// The `[cloud]` table.
    pub struct CloudConfig {
        /// What computes. Default `"cpu"`; `"wgpu"` needs a build with the cargo feature `wgpu`.
        /// Example: `device = "wgpu"`.
        pub device: DeviceKind = DeviceKind::Cpu,
        /// Wall clock: threads per worker, from 1 to 1024. Default 1. Example: `threads = 4`.
        pub threads: Whole<1, 1024> = literal(Whole::new(1)),
        /// Replicas that train at the same time, from 1 to 1024. Default 1. Example: `workers = 2`.
        pub workers: Whole<1, 1024> = literal(Whole::new(1)),
        /// The processors that its process is pinned to, under the wall clock. Default: any. Example: `cpus = "0-1"`.
        pub cpus: Option<CpuList>,
        /// Rate of its link per direction in Mbit/s, from 0.001 to 1000000. Default 1000. Example:
        /// `capacity_mbps = 100`.
        pub capacity_mbps: Mbps = literal(Mbps::new(1000.0)),
        /// A file with its seconds per layer kind, required by the virtual clock. Default: none.
        /// Example: `profile = "configs/devices/server.toml"`.
        pub profile: Option<PathBuf>,
    }
}

named! {
    /// What computes.
    pub enum DeviceKind {
        /// Threads of the processor.
        Cpu = "cpu",
        /// A graphics processor, by `wgpu`.
        Wgpu = "wgpu",
    }
}
