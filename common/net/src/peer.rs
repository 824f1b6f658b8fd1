//! One peer of the conversation: the tasks that read and write its connection, with a bounded queue
//! in each direction.

mod lane;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use partway_core::wire::{TensorKind, TensorMessage, message};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::connection::control::{ControlReceiver, ControlSender};
use crate::connection::tensor::Outgoing;
use crate::{BytesPerSecond, Connection, Priority};
use lane::Lane;

/// Control messages that may wait to be sent; a peer that reads so few is as good as gone.
const OUTBOUND_QUEUE: usize = 256;

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
    /// Over the same connection, or one of their own.
    tensors: Lane,
    outbound: mpsc::Sender<Outbound>,
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
        let tensors = Lane::start(key, connection.clone(), limit, events);
        Self { connection, tensors, outbound }
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
        tokio::spawn(end_together(self.connection.clone(), data.clone()));
        self.tensors = Lane::start(key, data, limit, events);
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
        if is_of_a_step {
            self.tensors.send_in_order(outgoing);
        } else {
            self.tensors.send(outgoing);
        }
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
