//! A connection to one peer: its control stream, its tensor streams, its counters and its end.

pub mod control;
#[cfg(test)]
mod hostile_peer_tests;
pub mod tensor;

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::{ConnectionError, VarInt};
use thiserror::Error;

use crate::{BytesPerSecond, Pacer, TransportOptions};
use control::{ControlError, ControlReceiver, ControlSender};
use tensor::{Incoming, Outgoing, SendError, Sent, TensorError, TensorStream};

/// What goes first when a connection is the bottleneck; the control stream goes before all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Model weights: needed at the round's end.
    Weights,
    /// Activations at the cut: a step of the cloud waits for them.
    Activations,
    /// Gradients at the cut: a step is finished by them.
    CutGradients,
}

const CONTROL_PRIORITY: i32 = 3;

impl Priority {
    fn of_stream(self) -> i32 {
        match self {
            Self::Weights => 0,
            Self::Activations => 1,
            Self::CutGradients => 2,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it.
    #[error("the peer closed the connection: {reason} (code {code})")]
    ByPeer {
        /// The code it gave.
        code: u64,
        /// The reason it gave, for people.
        reason: String,
    },
    /// Nothing was heard from the peer for the idle timeout.
    #[error("the peer fell silent: it, or the way to it, is down")]
    TimedOut,
    /// This side closed it.
    #[error("the connection was closed on this side")]
    Local,
    /// The peer does not know the connection any more.
    #[error("the peer has restarted and lost the connection")]
    PeerRestarted,
    /// QUIC itself failed.
    #[error("the transport failed: {0}")]
    Transport(String),
}

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::ByPeer {
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::Reset => Self::PeerRestarted,
            other => Self::Transport(other.to_string()),
        }
    }
}

/// What a connection has moved so far, in bytes of UDP payload: data, acknowledgements, repetitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes handed to the network.
    pub sent_bytes: u64,
    /// Bytes that arrived.
    pub received_bytes: u64,
    /// Packets that were declared lost and repeated.
    pub lost_packets: u64,
}

/// A connection; clones are the same connection.
///
/// Dropping the last clone and all streams closes it with code 0 and no reason.
#[derive(Clone, Debug)]
pub struct Connection {
    quic: quinn::Connection,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    is_client: bool,
    control_limit: usize,
    control_taken: AtomicBool,
    pacer: Pacer,
    /// Why this side closed it.
    own_reason: OnceLock<String>,
    /// A client's endpoint has this one connection; waiting for it delivers the farewell.
    endpoint: Option<quinn::Endpoint>,
}

impl Connection {
    pub(crate) fn new(
        quic: quinn::Connection,
        endpoint: Option<quinn::Endpoint>,
        options: &TransportOptions,
    ) -> Self {
        let shared = Shared {
            is_client: endpoint.is_some(),
            control_limit: options.control_limit,
            control_taken: AtomicBool::new(false),
            pacer: Pacer::new(None),
            own_reason: OnceLock::new(),
            endpoint,
        };
        Self { quic, shared: Arc::new(shared) }
    }

    /// The control stream: the client opens it, the server accepts it. Once per connection.
    ///
    /// On the server this waits for the client's first message: QUIC shows a stream with its first data.
    pub async fn control(&self) -> Result<(ControlSender, ControlReceiver), ControlError> {
        if self.shared.control_taken.swap(true, Ordering::Relaxed) {
            return Err(ControlError::Taken);
        }
        let opened =
            if self.shared.is_client { self.quic.open_bi().await } else { self.quic.accept_bi().await };
        let (send, receive) = opened.map_err(|error| ControlError::Closed(error.into()))?;
        // Fails only for a finished stream, and this one is new.
        let _ = send.set_priority(CONTROL_PRIORITY);
        let limit = self.shared.control_limit;
        Ok((ControlSender::new(send, limit), ControlReceiver::new(receive, limit)))
    }

    /// Sends a tensor on a stream of its own; returns when QUIC has taken its last byte.
    ///
    /// Dropping the future resets the stream. The body is not copied.
    pub async fn send_tensor(&self, outgoing: Outgoing) -> Result<Sent, SendError> {
        tensor::send(&self.quic, &self.shared.pacer, outgoing).await
    }

    /// Waits for the peer's next tensor stream; [`TensorStream::receive`] then reads it.
    ///
    /// Receive streams in tasks of their own, so that a slow one holds up no other. May be dropped and
    /// called again without losing a stream.
    pub async fn accept_stream(&self) -> Result<TensorStream, CloseReason> {
        Ok(TensorStream::new(self.quic.accept_uni().await?))
    }

    /// Waits for the peer's next tensor and receives all of it, at most `limit` bytes of body.
    ///
    /// Several calls may wait at a time, each for a tensor of its own. Dropping the future stops the
    /// stream that it has begun to read.
    pub async fn accept_tensor(&self, limit: usize) -> Result<Incoming, TensorError> {
        let stream = self.accept_stream().await.map_err(TensorError::Closed)?;
        stream.receive(limit).await
    }

    /// Limits the rate of all tensors that this side sends over this connection; `None` lifts it. Holds
    /// at once, also for tensors on their way.
    pub fn set_pace(&self, rate: Option<BytesPerSecond>) {
        self.shared.pacer.set_rate(rate);
    }

    /// The rate that [`set_pace`](Self::set_pace) set.
    pub fn pace(&self) -> Option<BytesPerSecond> {
        self.shared.pacer.rate()
    }

    /// Ends the connection at once; what is on its way is lost. The peer gets code and reason.
    pub fn close(&self, code: u32, reason: &str) {
        let _ = self.shared.own_reason.set(reason.to_owned());
        self.quic.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Closes, and on a client waits until the peer had time to hear of it: do so before the process ends,
    /// or the peer must wait for its idle timeout. A server does the same for all its connections with
    /// [`Listener::shutdown`](crate::Listener::shutdown).
    pub async fn shutdown(&self, code: u32, reason: &str) {
        self.close(code, reason);
        if let Some(endpoint) = &self.shared.endpoint {
            endpoint.wait_idle().await;
        }
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> CloseReason {
        self.quic.closed().await.into()
    }

    /// Why the connection ended; `None` while it lives.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.quic.close_reason().map(CloseReason::from)
    }

    /// Why this side closed it, if it did: the reason that the peer got.
    pub fn own_reason(&self) -> Option<&str> {
        self.shared.own_reason.get().map(String::as_str)
    }

    /// QUIC's estimate of the round-trip time.
    pub fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    /// The least round-trip time seen: the path's without queues.
    pub fn min_rtt(&self) -> Duration {
        self.quic.min_rtt()
    }

    /// What has been moved so far.
    pub fn counters(&self) -> Counters {
        let stats = self.quic.stats();
        Counters {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }

    /// The largest UDP payload that the path is known to carry, in bytes.
    pub fn largest_payload(&self) -> u16 {
        self.quic.stats().path.current_mtu
    }

    /// The connection of quinn underneath, for what this crate does not offer, such as measuring it alone.
    pub fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.quic.remote_address()
    }
}
