//! Control and data on two connections: the second carries a peer's tensors, and belongs to the first.
//!
//! The client opens both. On the second one's control stream it shows a key that TLS gives to the two ends of the first
//! connection and to nobody else (exported keying material: RFC 5705; RFC 8446, section 7.5). So no message has to bring
//! it there, none can be overheard, and whoever has not made the first connection cannot attach a second one to it. The
//! server answers with an empty message, or closes.
//!
//! Until then the second connection may send its key and nothing else: no tensor stream is open to it, and its windows
//! are small.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::VarInt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connection::control::ControlSender;
use crate::endpoint::connect;
use crate::{
    AcceptError, BindError, ConnectError, Connection, EmulatedLink, Listener, ServerIdentity,
    TransportOptions, TrustedAuthority,
};

/// The ALPN protocol of data connections, so that neither listener takes the other's clients.
const PROTOCOL: &str = "partway-data/1";

/// What names a connection among all that export keys (RFC 5705, section 4).
const LABEL: &[u8] = b"EXPORTER-partway-data-connection";

const KEY_BYTES: usize = 32;

/// What a data connection may send before it is paired, in bytes: its key, with QUIC's frames around it.
const FIRST_WINDOW: u32 = 1024;

/// Data connections that have not shown their keys yet; others wait in QUIC's own queue.
const UNIDENTIFIED: usize = 256;

/// How long a data connection may take to show its key.
const PATIENCE: Duration = Duration::from_secs(3);

/// The code with which a data connection is closed that belongs to no other.
const REFUSED: u32 = 2;

/// What only the two ends of a connection know. Equality takes the same time wherever two keys differ.
#[derive(Clone)]
pub struct PairingKey([u8; KEY_BYTES]);

impl PairingKey {
    /// The key of this connection; none if TLS cannot export any.
    pub fn of(connection: &Connection) -> Option<Self> {
        let mut key = [0; KEY_BYTES];
        connection.quic().export_keying_material(&mut key, LABEL, &[]).ok()?;
        Some(Self(key))
    }
}

impl PartialEq for PairingKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differences, (one, other)| differences | (one ^ other)) == 0
    }
}

impl Eq for PairingKey {}

impl fmt::Debug for PairingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairingKey").finish_non_exhaustive()
    }
}

/// Opens the data connection that belongs to `control`: to `addr`, where the same server listens for data, whose
/// certificate must be for the same `server_name`; over an emulated link if one is given.
///
/// # Errors
/// As of [`connect`], within [`ConnectError::Data`]; and if the server does not know `control`.
pub async fn connect_data(
    control: &Connection,
    addr: SocketAddr,
    server_name: &str,
    trusted: &TrustedAuthority,
    options: &TransportOptions,
    link: Option<&EmulatedLink>,
) -> Result<Connection, ConnectError> {
    let options = TransportOptions { protocol: PROTOCOL.to_owned(), ..options.clone() };
    let connected = connect(addr, server_name, trusted, &options, link).await;
    let data = connected.map_err(|error| ConnectError::Data(Box::new(error)))?;
    let unpaired = |reason: String| ConnectError::Unpaired { addr, reason };
    let key = PairingKey::of(control).ok_or_else(|| unpaired("this TLS has no keys to show".into()))?;
    let answered = async {
        let (mut sender, mut receiver) = data.control().await?;
        sender.send(&key.0).await?;
        sender.finish();
        receiver.recv().await
    };
    match timeout(options.handshake_timeout, answered).await {
        Ok(Ok(Some(_paired))) => Ok(data),
        Ok(Ok(None)) => Err(unpaired("it ended the conversation".into())),
        Ok(Err(error)) => Err(unpaired(error.to_string())),
        Err(_elapsed) => Err(unpaired(format!("no answer within {:?}", options.handshake_timeout))),
    }
}

/// Listens for data connections.
#[derive(Debug)]
pub struct DataListener {
    listener: Listener,
    paired: TransportOptions,
    unidentified: JoinSet<Result<Unpaired, AcceptError>>,
}

impl DataListener {
    /// Listens on a UDP address; port 0 lets the system choose. `options` are what connections get once they are
    /// paired. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind(
        addr: SocketAddr,
        identity: &ServerIdentity,
        options: TransportOptions,
    ) -> Result<Self, BindError> {
        let first = TransportOptions {
            protocol: PROTOCOL.to_owned(),
            control_limit: KEY_BYTES,
            max_tensor_streams: 0,
            receive_window: FIRST_WINDOW,
            ..options.clone()
        };
        let listener = Listener::bind(addr, identity, first)?;
        Ok(Self { listener, paired: options, unidentified: JoinSet::new() })
    }

    /// Where it listens, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The next client that has shown a key, or the next one's failure; `None` once the listener is closed.
    ///
    /// Clients are waited for at the same time, each for a few seconds and so many at most. May be dropped and called
    /// again without losing one.
    pub async fn accept(&mut self) -> Option<Result<Unpaired, AcceptError>> {
        let mut open = true;
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open && self.unidentified.len() < UNIDENTIFIED => {
                    match accepted {
                        Some(Ok(connection)) => {
                            self.unidentified.spawn(identified(connection, self.paired.clone()));
                        }
                        Some(Err(error)) => return Some(Err(error)),
                        None => open = false,
                    }
                }
                Some(finished) = self.unidentified.join_next() => {
                    // One that panicked or was aborted has nothing to tell.
                    if let Ok(result) = finished {
                        return Some(result);
                    }
                }
                else => return None,
            }
        }
    }

    /// Closes every data connection, and waits until every peer had time to hear of it.
    pub async fn shutdown(&self, code: u32, reason: &str) {
        self.listener.shutdown(code, reason).await;
    }
}

async fn identified(connection: Connection, paired: TransportOptions) -> Result<Unpaired, AcceptError> {
    let shown = async {
        let (sender, mut receiver) = connection.control().await.ok()?;
        let key = receiver.recv().await.ok()??;
        Some((sender, PairingKey(key.try_into().ok()?)))
    };
    match timeout(PATIENCE, shown).await {
        Ok(Some((answer, key))) => Ok(Unpaired { connection, key, answer, paired }),
        Ok(None) | Err(_) => {
            connection.close(REFUSED, "no key was shown that a data connection begins with");
            Err(AcceptError::Unpaired { peer: connection.peer() })
        }
    }
}

/// A data connection that has shown a key, and whose control connection is not known yet.
#[derive(Debug)]
pub struct Unpaired {
    connection: Connection,
    key: PairingKey,
    answer: ControlSender,
    paired: TransportOptions,
}

impl Unpaired {
    /// What it has shown.
    pub fn key(&self) -> &PairingKey {
        &self.key
    }

    /// The connection, which can send nothing yet.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Takes it: tensors may come, and the client is told so.
    pub fn pair(self) -> Connection {
        let Self { connection, mut answer, paired, .. } = self;
        connection.quic().set_max_concurrent_uni_streams(VarInt::from_u32(paired.max_tensor_streams));
        connection.quic().set_receive_window(VarInt::from_u32(paired.receive_window));
        tokio::spawn(async move {
            // A client that is gone is noticed by its connection.
            let _ = answer.send(&[]).await;
            answer.finish();
        });
        connection
    }

    /// Turns it away.
    pub fn refuse(&self) {
        self.connection.close(REFUSED, "its key is of no connection that waits for a data connection");
    }
}
