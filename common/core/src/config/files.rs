//! What the configuration names in other files: links, their traces, devices.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::device_file::DeviceFile;
use super::error::{ConfigError, Fault};
use super::link_file::LinkFile;
use super::link_trace::LinkTrace;
use super::setting::{Plain, shown};
use super::{Clock, Config};

impl Config {
    /// Takes in the link files: what an `[[edge]]` table with `link` does not say itself, it has from
    /// there. `read` gives the text of a file.
    ///
    /// # Errors
    /// If a file cannot be read, or is no link file.
    pub fn apply_links(&mut self, read: impl Fn(&Path) -> io::Result<String>) -> Result<(), ConfigError> {
        for index in 0..self.edge.len() {
            let Some(path) = self.edge[index].link.clone() else { continue };
            let link = self.parse_file(&format!("edge[{index}].link"), &path, &read, LinkFile::parse)?;
            let given = |key: &str| self.origin.is_given(&format!("edge[{index}].{key}"));
            let rtt = if given("rtt") { self.edge[index].rtt } else { link.rtt };
            let jitter = if given("jitter") { self.edge[index].jitter } else { link.jitter };
            let loss = if given("loss") { self.edge[index].loss } else { link.loss };
            let edge = &mut self.edge[index];
            (edge.rtt, edge.jitter, edge.loss) = (rtt, jitter, loss);
            edge.uplink_mbps = edge.uplink_mbps.or(Some(link.uplink_mbps));
            edge.downlink_mbps = edge.downlink_mbps.or(Some(link.downlink_mbps));
            edge.trace = edge.trace.take().or(link.trace);
        }
        Ok(())
    }

    /// The traces that edges name, by path.
    ///
    /// # Errors
    /// If a file cannot be read, or is no trace.
    pub fn traces(
        &self,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<BTreeMap<PathBuf, Arc<LinkTrace>>, ConfigError> {
        let mut traces = BTreeMap::new();
        for (index, edge) in self.edge.iter().enumerate() {
            let Some(path) = edge.trace.as_ref().filter(|path| !traces.contains_key(*path)) else { continue };
            // One that a link file names has no key here.
            let own = format!("edge[{index}].trace");
            let key = if self.origin.is_given(&own) { own } else { format!("edge[{index}].link") };
            traces.insert(path.clone(), Arc::new(self.parse_file(&key, path, &read, LinkTrace::parse)?));
        }
        Ok(traces)
    }

    /// The devices of the cloud and of the edges under the virtual clock, by path; none under the wall
    /// clock. An edge without `memory` has its device's from then on.
    ///
    /// # Errors
    /// If a file cannot be read, or is no device file.
    pub fn apply_devices(
        &mut self,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<BTreeMap<PathBuf, Arc<DeviceFile>>, ConfigError> {
        let mut devices: BTreeMap<PathBuf, Arc<DeviceFile>> = BTreeMap::new();
        if self.clock == Clock::Wall {
            return Ok(devices);
        }
        let edges = (0..self.edge.len())
            .map(|index| (format!("edge[{index}].profile"), self.edge[index].profile.clone()));
        let named: Vec<_> =
            std::iter::once(("cloud.profile".to_owned(), self.cloud.profile.clone())).chain(edges).collect();
        for (key, path) in named {
            let Some(path) = path.filter(|path| !devices.contains_key(path)) else { continue };
            let device = self.parse_file(&key, &path, &read, DeviceFile::parse)?;
            devices.insert(path, Arc::new(device));
        }
        for edge in &mut self.edge {
            let device = edge.profile.as_ref().and_then(|path| devices.get(path));
            edge.memory = edge.memory.or(device.and_then(|device| device.memory));
        }
        Ok(devices)
    }

    fn parse_file<T, E: ToString>(
        &self,
        key: &str,
        path: &Path,
        read: impl Fn(&Path) -> io::Result<String>,
        parse: impl FnOnce(&str, &str) -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        let file = path.display().to_string();
        let text = read(path).map_err(|error| format!("it cannot be read: {error}"));
        text.and_then(|text| parse(&text, &file).map_err(|error| error.to_string())).map_err(|reason| {
            let value = shown(&path.to_path_buf().to_value());
            self.origin.error(vec![(key.to_owned(), Fault::Unusable { value, reason })])
        })
    }
}
