//! One peer of the conversation: the tasks that read and write its connection, with a bounded queue
//! in each direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use partway_core::wire::{HEADER_BYTES, TensorHeader, TensorKind, TensorMessage, message};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use crate::connection::control::{ControlReceiver, ControlSender};
use crate::connection::tensor::{Incoming, Outgoing, SendError, TensorError, TensorStream};
use crate::{BytesPerSecond, Connection, Priority};

/// Control messages that may wait to be sent; a peer that reads so few is as good as gone.
const OUTBOUND_QUEUE: usize = 256;

/// Tensors of a step that may wait for those before them: the most micro-batches that a step has.
const TENSOR_QUEUE: usize = 1024;

/// How long a peer may take to read the last words before its connection is closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// Something that a peer did.
#[derive(Debug)]
pub enum PeerEvent<M> {
    /// It sent a control message.
    Message(M),
    /// It sent a tensor.
    Tensor {
        /// The tensor.
        tensor: TensorMessage,
        /// How long its transfer took, in seconds.
        seconds: f64,
        /// Round-trip time of the path without queues, in seconds.
        rtt_s: f64,
    },
    /// It sent something that cannot be understood.
    Malformed(String),
    /// Its connection is gone.
    Closed(String),
}

/// Largest tensor body that a peer may send, in bytes; it may grow once the model is known.
#[derive(Clone, Debug)]
pub struct BodyLimit(Arc<AtomicUsize>);

impl BodyLimit {
    /// A limit to start with.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Another limit, for tensors that begin to arrive from now on.
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
enum Outbound {
    Message(Vec<u8>),
    Close(String),
}

/// The sending side of a peer.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    /// What tensors are sent over: the same, or one of their own.
    data: Connection,
    outbound: mpsc::Sender<Outbound>,
    /// Tensors of a step, each sent after the one before.
    in_order: mpsc::Sender<Outgoing>,
}

impl Peer {
    /// Starts reading and writing `connection`; what the peer does goes to `events` under `key`.
    ///
    /// Must be called within a tokio runtime.
    pub fn start<K, M>(
        key: K,
        connection: Connection,
        limit: BodyLimit,
        events: mpsc::Sender<(K, PeerEvent<M>)>,
    ) -> Self
    where
        K: Copy + Send + 'static,
        M: DeserializeOwned + Send + 'static,
    {
        let (outbound, queue) = mpsc::channel(OUTBOUND_QUEUE);
        tokio::spawn(control(key, connection.clone(), queue, events.clone()));
        tokio::spawn(tensors(key, connection.clone(), limit, events));
        let (in_order, tensor_queue) = mpsc::channel(TENSOR_QUEUE);
        tokio::spawn(send_in_order(connection.clone(), tensor_queue));
        Self { data: connection.clone(), connection, outbound, in_order }
    }

    /// Sends tensors over `data` from now on, which belongs to the same peer, and receives what it sends there, as of
    /// this connection. The end of one is the end of both.
    pub fn move_tensors<K, M>(
        &mut self,
        key: K,
        data: Connection,
        limit: BodyLimit,
        events: mpsc::Sender<(K, PeerEvent<M>)>,
    ) where
        K: Copy + Send + 'static,
        M: DeserializeOwned + Send + 'static,
    {
        tokio::spawn(tensors(key, data.clone(), limit, events));
        tokio::spawn(end_together(self.connection.clone(), data.clone()));
        let (in_order, tensor_queue) = mpsc::channel(TENSOR_QUEUE);
        tokio::spawn(send_in_order(data.clone(), tensor_queue));
        (self.data, self.in_order) = (data, in_order);
    }

    /// Queues a control message. A peer that does not read them is disconnected.
    pub fn send(&self, message: Vec<u8>) {
        if self.outbound.try_send(Outbound::Message(message)).is_err() {
            self.connection.close(1, "control messages are not being read");
        }
    }

    /// Sends a tensor on a stream of its own, at no more than `pace` bytes per second: the tensors of a step one after
    /// the other, so that a micro-batch that is there already is not held up by the next.
    pub fn send_tensor(&self, tensor: TensorMessage, pace: Option<f64>) {
        let is_of_a_step = tensor.header.kind.is_of_a_step();
        let priority = match tensor.header.kind {
            TensorKind::CutGradient | TensorKind::TailGradient => Priority::CutGradients,
            TensorKind::Activations | TensorKind::TailActivations => Priority::Activations,
            TensorKind::State | TensorKind::Probe | TensorKind::Model => Priority::Weights,
        };
        let outgoing = Outgoing {
            header: Bytes::copy_from_slice(&tensor.header.encode()),
            body: Bytes::from_owner(tensor.body),
            priority,
            pace: pace.and_then(BytesPerSecond::new),
        };
        let outgoing = if is_of_a_step {
            match self.in_order.try_send(outgoing) {
                Ok(()) => return,
                Err(TrySendError::Full(outgoing) | TrySendError::Closed(outgoing)) => outgoing,
            }
        } else {
            outgoing
        };
        let connection = self.data.clone();
        // A tensor that cannot be sent is sent again when the peer is back; its loss is the connection's.
        tokio::spawn(async move { connection.send_tensor(outgoing).await.map(drop) });
    }

    /// Closes the connection once what was queued before has been read, or a moment later.
    pub fn close(&self, reason: String) {
        if self.outbound.try_send(Outbound::Close(reason)).is_err() {
            self.connection.close(0, "closing");
        }
    }

    /// The connection of its control messages.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// One connection without the other is of no use.
async fn end_together(control: Connection, data: Connection) {
    tokio::select! {
        reason = data.closed() => control.close(1, &format!("the data connection has ended: {reason}")),
        _ = control.closed() => data.close(0, "the control connection has ended"),
    }
}

/// Sends tensors one after the other until the connection or its peer is gone.
async fn send_in_order(connection: Connection, mut queue: mpsc::Receiver<Outgoing>) {
    while let Some(outgoing) = queue.recv().await {
        // One that cannot be sent is sent again when the peer is back; one that the peer has stopped is not wanted.
        if let Err(SendError::Closed(_)) = connection.send_tensor(outgoing).await {
            return;
        }
    }
}

/// Reads and writes the control stream until the connection ends.
async fn control<K: Copy, M: DeserializeOwned>(
    key: K,
    connection: Connection,
    queue: mpsc::Receiver<Outbound>,
    events: mpsc::Sender<(K, PeerEvent<M>)>,
) {
    let reason = match connection.control().await {
        Ok((sender, receiver)) => {
            let writer = write_control(&connection, sender, queue);
            let reader = read_control(key, receiver, &events);
            let ((), ended) = tokio::join!(writer, async {
                let ended = reader.await;
                // Without its control stream a connection is of no use.
                if ended.is_none() {
                    connection.closed().await;
                }
                ended
            });
            match ended {
                Some(reason) => reason,
                None => connection.closed().await.to_string(),
            }
        }
        Err(error) => error.to_string(),
    };
    let reason = connection.own_reason().map_or(reason, str::to_owned);
    // The receiver is gone when the driver has ended.
    let _ = events.send((key, PeerEvent::Closed(reason))).await;
}

/// Reads control messages; returns why it ended, if that was not the connection's end.
async fn read_control<K: Copy, M: DeserializeOwned>(
    key: K,
    mut receiver: ControlReceiver,
    events: &mpsc::Sender<(K, PeerEvent<M>)>,
) -> Option<String> {
    loop {
        let event = match receiver.recv().await {
            Ok(Some(bytes)) => match message::decode(&bytes) {
                Ok(message) => PeerEvent::Message(message),
                Err(error) => PeerEvent::Malformed(message::explain(&bytes, &error)),
            },
            Ok(None) => return None,
            Err(crate::ControlError::Closed(reason)) => return Some(reason.to_string()),
            Err(error) => {
                let _ = events.send((key, PeerEvent::Malformed(error.to_string()))).await;
                return None;
            }
        };
        if events.send((key, event)).await.is_err() {
            return None;
        }
    }
}

async fn write_control(
    connection: &Connection,
    mut sender: ControlSender,
    mut queue: mpsc::Receiver<Outbound>,
) {
    loop {
        let next = tokio::select! {
            next = queue.recv() => next,
            _ = connection.closed() => return,
        };
        match next {
            Some(Outbound::Message(bytes)) => {
                if sender.send(&bytes).await.is_err() {
                    return;
                }
            }
            Some(Outbound::Close(reason)) => {
                sender.finish();
                // The peer closes when it has read the last message.
                let _ = timeout(FAREWELL, connection.closed()).await;
                connection.close(0, &reason);
                return;
            }
            None => {
                connection.close(0, "the other side has ended");
                return;
            }
        }
    }
}

/// Accepts tensor streams and reads each in a task of its own, until the connection ends.
async fn tensors<K, M>(
    key: K,
    connection: Connection,
    limit: BodyLimit,
    events: mpsc::Sender<(K, PeerEvent<M>)>,
) where
    K: Copy + Send + 'static,
    M: Send + 'static,
{
    while let Ok(stream) = connection.accept_stream().await {
        let (connection, events, limit) = (connection.clone(), events.clone(), limit.get());
        tokio::spawn(async move {
            let event = match receive(stream, limit).await {
                Ok((tensor, seconds)) => {
                    PeerEvent::Tensor { tensor, seconds, rtt_s: connection.min_rtt().as_secs_f64() }
                }
                Err(Some(reason)) => PeerEvent::Malformed(reason),
                Err(None) => return,
            };
            let _ = events.send((key, event)).await;
        });
    }
}

/// Receives one tensor; an error without words is the connection's end or a stream that was given up.
async fn receive(stream: TensorStream, limit: usize) -> Result<(TensorMessage, f64), Option<String>> {
    let incoming = stream.receive(limit).await.map_err(|error| match error {
        TensorError::Closed(_) | TensorError::Reset { .. } => None,
        other => Some(other.to_string()),
    })?;
    let seconds = incoming.transfer_time().as_secs_f64();
    let Incoming { header, body, .. } = incoming;
    let header: [u8; HEADER_BYTES] = header.as_ref().try_into().map_err(|_| {
        Some(format!("a tensor's header has {} bytes instead of {HEADER_BYTES}", header.len()))
    })?;
    let header = TensorHeader::decode(&header).map_err(|error| Some(error.to_string()))?;
    let length = body.len();
    let words = body
        .into_f32()
        .map_err(|_| Some(format!("a tensor's body of {length} bytes is not whole values")))?;
    let tensor = TensorMessage::received(header, words).map_err(|error| Some(error.to_string()))?;
    Ok((tensor, seconds))
}
