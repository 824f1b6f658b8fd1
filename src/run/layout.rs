//! Where a run's files are.

use std::path::{Path, PathBuf};

use partway_core::config::DeviceKind;

use crate::calibration::Measured;

/// The file that makes a folder a run's.
pub(crate) const RUN_MARKER: &str = ".partway-run";

/// The folder of one run.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Everything that a run leaves in its folder, and that the next one there replaces.
    pub(crate) const OUTPUTS: [&'static str; 17] = [
        "config.toml",
        "inputs.toml",
        "calibration.toml",
        "calibration-wgpu.toml",
        "calibration",
        "events.jsonl",
        "metrics.csv",
        "model.safetensors",
        "model.toml",
        "classes.txt",
        "summary.json",
        "report.html",
        "checkpoint",
        "cloud",
        "edges",
        "logs",
        "tls",
    ];

    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether `path` is, or is in, what a fresh run in this folder removes before it writes its own.
    pub(crate) fn replaces(&self, path: &Path) -> bool {
        let (Ok(root), Ok(path)) = (self.root.canonicalize(), path.canonicalize()) else { return false };
        path.strip_prefix(root)
            .is_ok_and(|inside| Self::OUTPUTS.iter().any(|output| inside.starts_with(output)))
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Says that the folder is a run's; locked while one is at work.
    pub(crate) fn marker(&self) -> PathBuf {
        self.root.join(RUN_MARKER)
    }

    /// The resolved configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The sums of what the run is made from beside that.
    pub(crate) fn inputs(&self) -> PathBuf {
        self.root.join("inputs.toml")
    }

    /// The profile of one of the machine's devices.
    pub(crate) fn calibration(&self, measured: Measured) -> PathBuf {
        match (measured.kind, measured.threads) {
            (DeviceKind::Cpu, 1) => self.root.join("calibration.toml"),
            (DeviceKind::Cpu, threads) => self.root.join(format!("calibration/cpu-{threads}-threads.toml")),
            (DeviceKind::Wgpu, _) => self.root.join("calibration-wgpu.toml"),
        }
    }

    /// The classes' names, if they have any, a line for each number from 0 on.
    pub(crate) fn class_names(&self) -> PathBuf {
        self.root.join("classes.txt")
    }

    /// The folder of certificates.
    pub(crate) fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// The authority that edges trust.
    pub(crate) fn authority(&self) -> PathBuf {
        self.tls().join("ca.pem")
    }

    /// The coordinator's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.tls().join("coordinator.pem")
    }

    /// The coordinator's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.tls().join("coordinator.key")
    }

    /// What the cloud starts from.
    pub(crate) fn cloud(&self) -> PathBuf {
        self.root.join("cloud")
    }

    /// The cloud's test set, as a shard.
    pub(crate) fn test_set(&self) -> PathBuf {
        self.cloud().join("test")
    }

    /// The model's layers, for a coordinator whose configuration names a file: the run's own copy.
    pub(crate) fn layers(&self) -> PathBuf {
        self.cloud().join("model.toml")
    }

    /// The weights that training starts from, if they are not random: the run's own copy.
    pub(crate) fn initial_weights(&self) -> PathBuf {
        self.cloud().join("init.safetensors")
    }

    /// One edge's training samples.
    pub(crate) fn shard(&self, edge: &str) -> PathBuf {
        self.root.join("edges").join(edge).join("shard")
    }

    /// What one edge keeps for its own restart.
    pub(crate) fn state(&self, edge: &str) -> PathBuf {
        self.root.join("edges").join(edge).join("state")
    }

    /// The folder of logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What one process wrote to its standard error.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }
}
