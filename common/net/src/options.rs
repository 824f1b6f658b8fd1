//! What an endpoint can be told: timeouts, windows, limits.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use partway_core::config::Congestion;
use quinn::{
    IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::{BbrConfig, CubicConfig},
};
use thiserror::Error;

/// Options of an endpoint; the defaults suit both sides.
///
/// Memory that a peer can make this side hold is bounded per connection by `receive_window`.
#[derive(Clone, Debug, PartialEq)]
pub struct TransportOptions {
    /// The ALPN protocol; both sides must name the same. Default `partway/1`.
    pub protocol: String,
    /// A peer that has been silent for so long is dead. Default 15 s; the lesser of both sides' counts.
    pub idle_timeout: Duration,
    /// How often an idle connection sends a sign of life; below `idle_timeout`. Default 5 s.
    pub keep_alive: Duration,
    /// A handshake that takes longer has failed. Default 10 s.
    pub handshake_timeout: Duration,
    /// Where a client binds its socket, to choose an interface. Default: any.
    pub local: Option<SocketAddr>,
    /// The longest control message, in bytes, in both directions. Default 1 MiB.
    pub control_limit: usize,
    /// How many tensor streams the peer may have open at a time. Default 64.
    pub max_tensor_streams: u32,
    /// How many bytes a peer may have in flight or unread, all streams together. Default 4 MiB.
    pub receive_window: u32,
    /// How many sent bytes may await acknowledgement, all streams together. Default 4 MiB.
    pub send_window: u32,
    /// How this side finds the rate that a link carries; each side has its own. Default Cubic.
    pub congestion: Congestion,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            protocol: "partway/1".to_owned(),
            idle_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            local: None,
            control_limit: 1 << 20,
            max_tensor_streams: 64,
            receive_window: 4 << 20,
            send_window: 4 << 20,
            congestion: Congestion::Cubic,
        }
    }
}

/// A value in [`TransportOptions`] that cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum OptionsError {
    /// Signs of life would come too late.
    #[error("keep_alive = {keep_alive:?} must be below idle_timeout = {idle_timeout:?}, and both above zero")]
    KeepAlive {
        /// The interval given.
        keep_alive: Duration,
        /// The timeout given.
        idle_timeout: Duration,
    },
    /// The timeout does not fit QUIC's field.
    #[error("idle_timeout = {0:?} is too long: QUIC carries at most 2^62 milliseconds")]
    IdleTimeout(Duration),
    /// The protocol's name does not fit TLS's field.
    #[error("protocol must have 1 to 255 bytes, not {0}")]
    Protocol(usize),
}

/// The largest UDP payload on the loopback interface: 2.8 times the throughput of the Internet's, and
/// ten segments of it, which the system may take in one call, still fit an IP packet's 64 KiB.
pub(crate) const LOOPBACK_PAYLOAD: u16 = 6000;
/// The largest UDP payload that an Ethernet path carries with room for IPv6 and tunnel headers.
pub(crate) const INTERNET_PAYLOAD: u16 = 1452;

impl TransportOptions {
    pub(crate) fn transport(&self, largest_payload: u16) -> Result<TransportConfig, OptionsError> {
        if self.keep_alive.is_zero() || self.keep_alive >= self.idle_timeout {
            let (keep_alive, idle_timeout) = (self.keep_alive, self.idle_timeout);
            return Err(OptionsError::KeepAlive { keep_alive, idle_timeout });
        }
        if !(1..=255).contains(&self.protocol.len()) {
            return Err(OptionsError::Protocol(self.protocol.len()));
        }
        let idle = IdleTimeout::try_from(self.idle_timeout)
            .map_err(|_| OptionsError::IdleTimeout(self.idle_timeout))?;
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(largest_payload);
        let mut transport = TransportConfig::default();
        match self.congestion {
            Congestion::Cubic => transport.congestion_controller_factory(Arc::new(CubicConfig::default())),
            Congestion::Bbr => transport.congestion_controller_factory(Arc::new(BbrConfig::default())),
        };
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive))
            .mtu_discovery_config(Some(discovery))
            // The one control stream; only the client opens it.
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(self.max_tensor_streams))
            .receive_window(VarInt::from_u32(self.receive_window))
            .send_window(u64::from(self.send_window))
            // Tensors of one priority go one after the other: the first is whole, and used, the sooner.
            .send_fairness(false)
            .datagram_receive_buffer_size(None);
        Ok(transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_values_are_refused() {
        let refused = |change: fn(&mut TransportOptions)| {
            let mut options = TransportOptions::default();
            change(&mut options);
            options.transport(INTERNET_PAYLOAD).err()
        };
        assert_eq!(refused(|_| ()), None);
        assert!(matches!(refused(|o| o.keep_alive = o.idle_timeout), Some(OptionsError::KeepAlive { .. })));
        assert!(matches!(refused(|o| o.keep_alive = Duration::ZERO), Some(OptionsError::KeepAlive { .. })));
        assert_eq!(
            refused(|o| o.idle_timeout = Duration::MAX),
            Some(OptionsError::IdleTimeout(Duration::MAX))
        );
        assert_eq!(refused(|o| o.protocol = String::new()), Some(OptionsError::Protocol(0)));
    }
}
