//! Endpoints: the coordinator's [`Listener`], and [`connect`] for an edge.

pub mod error;
mod socket;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use quinn::{
    AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, ServerConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Connection, EmulatedLink, ServerIdentity, TransportOptions, TrustedAuthority,
    options::{INTERNET_PAYLOAD, LOOPBACK_PAYLOAD},
    shaped::ShapedSocket,
};
use error::{AcceptError, BindError, ConnectError};
use socket::udp_socket;

/// Handshakes that a listener works on at a time; others wait in QUIC's own queue.
const HANDSHAKES: usize = 256;

/// Listens for edges.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    options: Arc<TransportOptions>,
    handshakes: JoinSet<Result<Connection, AcceptError>>,
    local_addr: SocketAddr,
}

impl Listener {
    /// Listens on a UDP address; port 0 lets the system choose. Call it inside a tokio runtime.
    pub fn bind(
        addr: SocketAddr,
        identity: &ServerIdentity,
        options: TransportOptions,
    ) -> Result<Self, BindError> {
        let tls = QuicServerConfig::try_from(identity.server_config(&options.protocol))
            .map_err(|error| BindError::Tls(error.to_string()))?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        // Each client announces what it takes, so the larger payload goes to loopback clients only.
        config.transport_config(Arc::new(options.transport(LOOPBACK_PAYLOAD)?));
        let socket = udp_socket(addr, LOOPBACK_PAYLOAD)?;
        let endpoint = endpoint(addr, socket, Some(config), LOOPBACK_PAYLOAD)?;
        let local_addr = endpoint.local_addr().map_err(|source| BindError::Socket { addr, source })?;
        Ok(Self { endpoint, options: Arc::new(options), handshakes: JoinSet::new(), local_addr })
    }

    /// Where it listens, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next client, or the next client's failure; `None` once the listener is closed.
    ///
    /// Handshakes run at the same time: a slow one holds up no other, and a failed one leaves the listener
    /// as it was. May be dropped and called again without losing a client.
    pub async fn accept(&mut self) -> Option<Result<Connection, AcceptError>> {
        let mut open = true;
        loop {
            tokio::select! {
                incoming = self.endpoint.accept(), if open && self.handshakes.len() < HANDSHAKES => {
                    match incoming {
                        Some(incoming) => {
                            self.handshakes.spawn(handshake(incoming, self.options.clone()));
                        }
                        None => open = false,
                    }
                }
                Some(finished) = self.handshakes.join_next() => {
                    // A handshake that panicked or was aborted has nothing to tell.
                    if let Ok(result) = finished {
                        return Some(result);
                    }
                }
                else => return None,
            }
        }
    }

    /// Closes every connection with code and reason, and takes no new ones.
    pub fn close(&self, code: u32, reason: &str) {
        self.endpoint.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Closes, and waits until every peer had time to hear of it.
    pub async fn shutdown(&self, code: u32, reason: &str) {
        self.close(code, reason);
        self.endpoint.wait_idle().await;
    }
}

async fn handshake(
    incoming: quinn::Incoming,
    options: Arc<TransportOptions>,
) -> Result<Connection, AcceptError> {
    let peer = incoming.remote_address();
    let failed = |error| AcceptError::from_handshake(error, peer, &options.protocol);
    match timeout(options.handshake_timeout, incoming).await {
        Ok(finished) => Ok(Connection::new(finished.map_err(failed)?, None, &options)),
        Err(_elapsed) => Err(AcceptError::TimedOut { peer }),
    }
}

/// Connects to the server at `addr`, whose certificate must be for `server_name` and issued by
/// `trusted`; over an emulated link if one is given.
///
/// Every call has a socket of its own. To reconnect, call again with the same link: its trace and outages
/// go on, and connections that share it share its rate.
pub async fn connect(
    addr: SocketAddr,
    server_name: &str,
    trusted: &TrustedAuthority,
    options: &TransportOptions,
    link: Option<&EmulatedLink>,
) -> Result<Connection, ConnectError> {
    // A real link would not carry the loopback's payload.
    let largest = if addr.ip().is_loopback() && link.is_none() { LOOPBACK_PAYLOAD } else { INTERNET_PAYLOAD };
    let tls_error = |reason: String| BindError::Tls(reason);
    let tls = trusted.client_config(&options.protocol).map_err(|error| tls_error(error.to_string()))?;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| tls_error(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(options.transport(largest).map_err(BindError::Options)?));

    let any = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let local = options.local.unwrap_or(SocketAddr::new(any, 0));
    let mut socket = udp_socket(local, largest)?;
    if let Some(link) = link {
        socket = Arc::new(ShapedSocket::new(socket, link.clone()));
    }
    let endpoint = endpoint(local, socket, None, largest)?;
    let started = Instant::now();
    let connecting = endpoint.connect_with(config, addr, server_name).map_err(|error| match error {
        quinn::ConnectError::InvalidServerName(name) => ConnectError::InvalidName { name },
        other => ConnectError::InvalidAddress { addr, reason: other.to_string() },
    })?;
    match timeout(options.handshake_timeout, connecting).await {
        Ok(Ok(quic)) => Ok(Connection::new(quic, Some(endpoint), options)),
        Ok(Err(error)) => {
            let (ca, protocol) = (trusted.origin(), &options.protocol);
            Err(ConnectError::from_handshake(error, addr, server_name, ca, protocol, started.elapsed()))
        }
        Err(_elapsed) => Err(ConnectError::Unreachable { addr, waited: options.handshake_timeout }),
    }
}

fn endpoint(
    addr: SocketAddr,
    socket: Arc<dyn AsyncUdpSocket>,
    server: Option<ServerConfig>,
    largest_payload: u16,
) -> Result<Endpoint, BindError> {
    let runtime = quinn::default_runtime().ok_or(BindError::NoRuntime)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(largest_payload).map_err(|error| BindError::Socket {
        addr,
        source: io::Error::new(io::ErrorKind::InvalidInput, error),
    })?;
    Endpoint::new_with_abstract_socket(config, server, socket, runtime)
        .map_err(|source| BindError::Socket { addr, source })
}
