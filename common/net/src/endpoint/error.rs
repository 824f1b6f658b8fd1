//! Why an endpoint could not listen, connect or accept.

use std::{io, net::SocketAddr, time::Duration};

use quinn::ConnectionError;
use thiserror::Error;

use crate::{CloseReason, OptionsError};

/// TLS alert: no protocol in common (RFC 7301).
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// TLS alerts that concern certificates (RFC 8446, section 6.2): from `bad_certificate` to
/// `certificate_unknown`, `unknown_ca`, `access_denied` and `decrypt_error`.
const CERTIFICATE_ALERTS: [u8; 8] = [42, 43, 44, 45, 46, 48, 49, 51];

/// Why an endpoint could not be set up.
#[derive(Debug, Error)]
pub enum BindError {
    /// The options contradict themselves.
    #[error("transport options: {0}")]
    Options(#[from] OptionsError),
    /// The address cannot be bound.
    #[error("cannot bind UDP {addr}: {source}; is the port taken, is the address this machine's?")]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The TLS library refused the configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// There is no runtime to drive the endpoint.
    #[error("an endpoint must be set up inside a tokio runtime")]
    NoRuntime,
}

/// Why a client could not connect.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// This side could not be set up.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Nobody answered.
    #[error(
        "no answer from {addr} within {waited:?}: is the coordinator running there, and does a firewall let UDP pass?"
    )]
    Unreachable {
        /// The server's address.
        addr: SocketAddr,
        /// How long the client waited.
        waited: Duration,
    },
    /// The server's certificate comes from another authority.
    #[error(
        "the coordinator's certificate was not issued by the CA in {ca} ({reason}): copy the ca.pem that the coordinator at {addr} wrote when it started"
    )]
    Certificate {
        /// The server's address.
        addr: SocketAddr,
        /// Where the trusted authority was read from.
        ca: String,
        /// What TLS says.
        reason: String,
    },
    /// The server's certificate is for other names.
    #[error(
        "the coordinator's certificate is not for {name:?} ({reason}): connect under a name that it lists, or start the coordinator with this one"
    )]
    ServerName {
        /// The name that the client expects.
        name: String,
        /// What TLS says.
        reason: String,
    },
    /// The name can be in no certificate.
    #[error("{name:?} is no valid host name or IP address")]
    InvalidName {
        /// The name given.
        name: String,
    },
    /// The address cannot be connected to.
    #[error("cannot connect to {addr}: {reason}")]
    InvalidAddress {
        /// The server's address.
        addr: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
    /// The server speaks another version of the protocol.
    #[error(
        "the coordinator at {addr} does not speak {protocol:?}: use the same version of Partway on both sides"
    )]
    Version {
        /// The server's address.
        addr: SocketAddr,
        /// The ALPN protocol that the client offered.
        protocol: String,
    },
    /// The server takes no more connections.
    #[error("the coordinator at {addr} refuses new connections: it is stopping or full")]
    Refused {
        /// The server's address.
        addr: SocketAddr,
    },
    /// The second connection, for tensors, could not be made.
    #[error("the data connection: {0}")]
    Data(#[source] Box<ConnectError>),
    /// The server does not know the connection that a data connection is to belong to.
    #[error(
        "the coordinator does not take the data connection to {addr}: {reason}; is this the data address of the same coordinator?"
    )]
    Unpaired {
        /// The server's address for data.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The handshake failed otherwise.
    #[error("the handshake with {addr} failed: {reason}")]
    Handshake {
        /// The server's address.
        addr: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a client's handshake failed, seen by the server, which goes on listening.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AcceptError {
    /// The client does not believe the server's certificate.
    #[error("{peer} does not trust this coordinator's certificate: give it this coordinator's ca.pem")]
    Certificate {
        /// The client's address.
        peer: SocketAddr,
    },
    /// The client speaks another version of the protocol.
    #[error("{peer} does not speak {protocol:?}: use the same version of Partway on both sides")]
    Version {
        /// The client's address.
        peer: SocketAddr,
        /// The ALPN protocol that the server requires.
        protocol: String,
    },
    /// The client fell silent.
    #[error("{peer} began a handshake and did not finish it in time")]
    TimedOut {
        /// The client's address.
        peer: SocketAddr,
    },
    /// The client opened a data connection that belongs to no other.
    #[error("{peer} opened a data connection without the key of a connection that waits for one")]
    Unpaired {
        /// The client's address.
        peer: SocketAddr,
    },
    /// The handshake failed otherwise.
    #[error("the handshake with {peer} failed: {reason}")]
    Handshake {
        /// The client's address.
        peer: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
}

/// The TLS alert in a failed handshake, whichever side raised it.
fn tls_alert(error: &ConnectionError) -> Option<u8> {
    let code: u64 = match error {
        ConnectionError::TransportError(error) => error.code.into(),
        ConnectionError::ConnectionClosed(close) => close.error_code.into(),
        _ => return None,
    };
    // RFC 9001, section 4.8: QUIC carries an alert as 0x100 + alert.
    code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

impl ConnectError {
    pub(super) fn from_handshake(
        error: ConnectionError,
        addr: SocketAddr,
        name: &str,
        ca: &str,
        protocol: &str,
        waited: Duration,
    ) -> Self {
        if let ConnectionError::ConnectionClosed(close) = &error
            && close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED
        {
            return Self::Refused { addr };
        }
        match (tls_alert(&error), error) {
            (_, ConnectionError::TimedOut) => Self::Unreachable { addr, waited },
            (Some(NO_APPLICATION_PROTOCOL), _) | (_, ConnectionError::VersionMismatch) => {
                Self::Version { addr, protocol: protocol.to_owned() }
            }
            (Some(alert), ConnectionError::TransportError(error)) if CERTIFICATE_ALERTS.contains(&alert) => {
                // The alert for a foreign name is the same as for other faults; the text tells them apart.
                if error.reason.contains("not valid for name") {
                    Self::ServerName { name: name.to_owned(), reason: error.reason }
                } else {
                    Self::Certificate { addr, ca: ca.to_owned(), reason: error.reason }
                }
            }
            (_, error) => Self::Handshake { addr, reason: error.into() },
        }
    }
}

impl AcceptError {
    pub(super) fn from_handshake(error: ConnectionError, peer: SocketAddr, protocol: &str) -> Self {
        match (tls_alert(&error), error) {
            (_, ConnectionError::TimedOut) => Self::TimedOut { peer },
            (Some(NO_APPLICATION_PROTOCOL), _) | (_, ConnectionError::VersionMismatch) => {
                Self::Version { peer, protocol: protocol.to_owned() }
            }
            (Some(alert), _) if CERTIFICATE_ALERTS.contains(&alert) => Self::Certificate { peer },
            (_, error) => Self::Handshake { peer, reason: error.into() },
        }
    }
}
