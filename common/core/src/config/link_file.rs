//! A link as a TOML file: what a `[[edge]]` table can say of its link, said once for many, with its source.

use std::path::PathBuf;
use std::time::Duration;

use super::document;
use super::edge::Delay;
use super::error::ConfigError;
use super::number::{Mbps, Probability, literal};
use super::reader::{Reader, section};
use super::setting::Faults;
use super::text::Text;

section! {
    /// A link file, such as `configs/links/lte-good.toml`. The keys that an `[[edge]]` table has as well mean
    /// the same in both; what the table says counts.
    pub struct LinkFile {
        /// What the link is, for people. Required. Example: `description = "LTE, good reception"`.
        pub description: Text,
        /// Where the numbers come from: a publication, a measurement, or how they were derived. Required.
        pub source: Text,
        /// Rate towards the cloud in Mbit/s, from 0.001 to 1000000. Required. Example: `uplink_mbps = 20`.
        pub uplink_mbps: Mbps,
        /// Rate from the cloud in Mbit/s, from 0.001 to 1000000. Required. Example: `downlink_mbps = 50`.
        pub downlink_mbps: Mbps,
        /// Time to the cloud and back, at most a minute. Required. Example: `rtt = "40ms"`.
        pub rtt: Delay,
        /// How far the one-way delay varies, at most a minute. Default `"0s"`. Example: `jitter = "10ms"`.
        pub jitter: Delay = literal(Delay::new(Duration::ZERO)),
        /// Share of packets that is lost per direction, at least 0 and below 1. Default 0. Example:
        /// `loss = 0.01`.
        pub loss: Probability = literal(Probability::new(0.0)),
        /// A file of rates over time. Default: none. Example: `trace = "configs/links/lte.csv"`.
        pub trace: Option<PathBuf>,
    }
}

impl LinkFile {
    /// The link that the text of a file describes; `file` is its name in messages.
    ///
    /// ```
    /// use partway_core::config::LinkFile;
    /// let text = "description = \"Wi-Fi\"\nsource = \"made up\"\nuplink_mbps = 80\ndownlink_mbps = 90\nrtt = \"4ms\"";
    /// assert_eq!(LinkFile::parse(text, "wifi.toml")?.uplink_mbps.get(), 80.0);
    /// let wrong = LinkFile::parse(&text.replace("80", "0"), "wifi.toml").unwrap_err().to_string();
    /// assert!(wrong.starts_with("wifi.toml:3: `uplink_mbps = 0` is not allowed"));
    /// # Ok::<(), partway_core::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// All keys that are unknown, missing or out of range.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let (table, origin) = document::load(text, file, &[])?;
        let mut faults = Faults::new();
        let link = Self::read_from(Reader::new(&table, "", &mut faults));
        match link {
            Some(link) if faults.is_empty() => Ok(link),
            _ => Err(origin.error(faults)),
        }
    }
}
