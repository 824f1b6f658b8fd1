//! The way to the coordinator: its connection for control messages, and the one for tensors if they have one of their
//! own.

use std::sync::Arc;
use std::time::Duration;

use partway_core::wire::CloudMessage;
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::{ConnectError, Connection, EmulatedLink, TransportOptions, TrustedAuthority, connect_data};
use tokio::sync::mpsc;

use crate::JoinOptions;

/// A connection is tried for at least so long, however little patience there is.
const LEAST_HANDSHAKE: Duration = Duration::from_secs(1);

/// The connections to the coordinator.
pub(crate) struct Connected {
    control: Connection,
    /// For tensors, if they have one of their own.
    data: Option<Connection>,
}

impl Connected {
    /// Starts to read and write them.
    pub(crate) fn start(
        self,
        number: u64,
        limit: &BodyLimit,
        events: &mpsc::Sender<(u64, PeerEvent<CloudMessage>)>,
    ) -> Peer {
        let mut peer = Peer::start(number, self.control, limit.clone(), events.clone());
        if let Some(data) = self.data {
            peer.move_tensors(number, data, limit.clone(), events.clone());
        }
        peer
    }
}

/// Connects to the coordinator, over an emulated link if one is given.
pub(crate) fn connect(
    options: &JoinOptions,
    authority: &Arc<TrustedAuthority>,
    link: Option<&EmulatedLink>,
) -> impl Future<Output = Result<Connected, ConnectError>> + Send + 'static {
    let JoinOptions { address, data_address, idle_timeout, congestion, patience, .. } = *options;
    let server_name = options.server_name.clone();
    let (authority, link) = (authority.clone(), link.cloned());
    let keep_alive = idle_timeout / 3;
    let transport = TransportOptions { idle_timeout, keep_alive, congestion, ..TransportOptions::default() };
    // An attempt takes no longer than there is patience for: one handshake, or two and an answer.
    let waits = if data_address.is_some() { 3 } else { 1 };
    let handshake_timeout = transport.handshake_timeout.min(patience.max(LEAST_HANDSHAKE) / waits);
    let transport = TransportOptions { handshake_timeout, ..transport };
    async move {
        let (name, link) = (server_name.as_str(), link.as_ref());
        let control = partway_net::connect(address, name, &authority, &transport, link).await?;
        let data = match data_address {
            // Over the same emulated link: both connections share its rate and its queue.
            Some(address) => Some(connect_data(&control, address, name, &authority, &transport, link).await?),
            None => None,
        };
        Ok(Connected { control, data })
    }
}

/// Whether trying again cannot help.
pub(crate) fn is_final(error: &ConnectError) -> bool {
    let error = if let ConnectError::Data(error) = error { error } else { error };
    matches!(
        error,
        ConnectError::Certificate { .. }
            | ConnectError::ServerName { .. }
            | ConnectError::InvalidName { .. }
            | ConnectError::InvalidAddress { .. }
            | ConnectError::Version { .. }
            | ConnectError::Bind(_)
    )
}
