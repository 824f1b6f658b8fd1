//! A peer's tensors over one connection, in both directions.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use partway_core::wire::{HEADER_BYTES, TensorHeader, TensorMessage};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{BodyLimit, PeerEvent};
use crate::Connection;
use crate::connection::tensor::{Incoming, Outgoing, SendError, TensorError, TensorStream};

/// Tensors of a step that may wait for those before them: the most micro-batches that a step has.
const QUEUE: usize = 1024;

/// A tensor on its way into QUIC.
type Sending = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>;

/// The sending side of a connection's tensors.
#[derive(Debug)]
pub(super) struct Lane {
    connection: Connection,
    /// Tensors of a step, each sent after the one before.
    queue: mpsc::Sender<Sending>,
    /// How many of these QUIC has not taken yet.
    waiting: Arc<AtomicUsize>,
}

impl Lane {
    /// Starts to read the tensors of `connection`, which go to `events` under `key`, and to send those that must wait.
    pub(super) fn start<K, M>(
        key: K,
        connection: Connection,
        limit: BodyLimit,
        events: mpsc::Sender<(K, PeerEvent<M>)>,
    ) -> Self
    where
        K: Copy + Send + 'static,
        M: Send + 'static,
    {
        tokio::spawn(read(key, connection.clone(), limit, events));
        let (queue, queued) = mpsc::channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        tokio::spawn(send_queued(queued, waiting.clone()));
        Self { connection, queue, waiting }
    }

    /// Sends a tensor at once.
    pub(super) fn send(&self, outgoing: Outgoing) {
        if let Some(sending) = self.begin(outgoing) {
            tokio::spawn(sending);
        }
    }

    /// Sends a tensor after those that were given here before; but at once if too many wait.
    pub(super) fn send_in_order(&self, outgoing: Outgoing) {
        let sending = if self.waiting.load(Ordering::Acquire) > 0 {
            self.sending(outgoing)
        } else {
            match self.begin(outgoing) {
                Some(sending) => sending,
                None => return,
            }
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if let Err(TrySendError::Full(sending) | TrySendError::Closed(sending)) = self.queue.try_send(sending)
        {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            tokio::spawn(sending);
        }
    }

    fn sending(&self, outgoing: Outgoing) -> Sending {
        let connection = self.connection.clone();
        // A tensor that cannot be sent is sent again when the peer is back; its loss is the connection's.
        Box::pin(async move { connection.send_tensor(outgoing).await.map(drop) })
    }

    /// Hands a tensor to QUIC; gives back what is left to do if QUIC does not take all of it at once, as it mostly
    /// does. Then nobody has to be woken for it.
    fn begin(&self, outgoing: Outgoing) -> Option<Sending> {
        let mut sending = self.sending(outgoing);
        // Nobody waits yet: whoever takes over asks again.
        let asked = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        asked.is_pending().then_some(sending)
    }
}

/// Sends tensors one after the other until the connection or its peer is gone.
async fn send_queued(mut queued: mpsc::Receiver<Sending>, waiting: Arc<AtomicUsize>) {
    while let Some(sending) = queued.recv().await {
        let sent = sending.await;
        waiting.fetch_sub(1, Ordering::AcqRel);
        // One that the peer has stopped is not wanted; the next may be.
        if let Err(SendError::Closed(_)) = sent {
            return;
        }
    }
}

/// Accepts tensor streams and reads them, until the connection ends.
///
/// Streams mostly come one after the other, and the newest is read here: another task would cost each tensor another
/// turn of the scheduler. One that is not whole when the next begins goes on in a task of its own.
async fn read<K, M>(key: K, connection: Connection, limit: BodyLimit, events: mpsc::Sender<(K, PeerEvent<M>)>)
where
    K: Copy + Send + 'static,
    M: Send + 'static,
{
    let mut next = connection.accept_stream().await;
    while let Ok(stream) = next {
        let mut reading = Box::pin(pass_on(key, connection.clone(), stream, limit.get(), events.clone()));
        next = tokio::select! {
            biased;
            () = &mut reading => connection.accept_stream().await,
            next = connection.accept_stream() => {
                tokio::spawn(reading);
                next
            }
        };
    }
}

/// Receives one tensor and tells `events`.
async fn pass_on<K, M>(
    key: K,
    connection: Connection,
    stream: TensorStream,
    limit: usize,
    events: mpsc::Sender<(K, PeerEvent<M>)>,
) {
    let event = match receive(stream, limit).await {
        Ok((tensor, seconds)) => {
            PeerEvent::Tensor { tensor, seconds, rtt_s: connection.min_rtt().as_secs_f64() }
        }
        Err(Some(reason)) => PeerEvent::Malformed(reason),
        Err(None) => return,
    };
    let _ = events.send((key, event)).await;
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
