//! The socket that quinn sends and receives through when a link is emulated.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

use super::{EmulatedLink, lock};

/// What may be on its way in one direction, whatever the profile: a flood must not fill the memory.
const MOST_IN_FLIGHT: usize = 64 << 20;
/// How many reads of the real socket one poll makes before others get their turn.
const READS_PER_POLL: usize = 32;
/// Buffers for one read, each for as many coalesced datagrams as the system hands over at once.
const READ_BUFFERS: usize = 4;
const READ_BUFFER_BYTES: usize = 64 << 10;

/// A UDP socket behind an emulated link.
pub(crate) struct ShapedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    link: EmulatedLink,
    egress: Arc<Egress>,
    ingress: Mutex<Ingress>,
}

impl ShapedSocket {
    /// Wraps `inner`; spawns the task that sends what is due, so call it inside a tokio runtime.
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, link: EmulatedLink) -> Self {
        let egress = Arc::new(Egress {
            queue: Mutex::new(DelayQueue::new()),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        });
        tokio::spawn(send_when_due(egress.clone(), inner.clone()));
        let ingress = Mutex::new(Ingress {
            queue: DelayQueue::new(),
            buffer: vec![0; READ_BUFFERS * READ_BUFFER_BYTES],
            timer: Box::pin(sleep_until(Instant::now())),
        });
        Self { inner, link, egress, ingress }
    }
}

impl Drop for ShapedSocket {
    fn drop(&mut self) {
        self.egress.closed.store(true, Ordering::Release);
        self.egress.changed.notify_one();
    }
}

impl fmt::Debug for ShapedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShapedSocket")
            .field("inner", &self.inner)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for ShapedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    /// Never blocks: like a real network, it takes the datagram or drops it.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(segment) {
            let Some(at) = self.link.send_up(contents.len()) else { continue };
            lock(&self.egress.queue).push(Datagram {
                at,
                peer: transmit.destination,
                local_ip: transmit.src_ip,
                ecn: transmit.ecn,
                contents: contents.into(),
            });
        }
        self.egress.changed.notify_one();
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut ingress = lock(&self.ingress);
        let more = ingress.read_arrived(cx, self.inner.as_ref(), &self.link)?;
        loop {
            let delivered = ingress.queue.deliver(Instant::now(), bufs, meta);
            if delivered > 0 {
                return Poll::Ready(Ok(delivered));
            }
            let Some(next) = ingress.queue.next_at() else { break };
            ingress.timer.as_mut().reset(next);
            if ingress.timer.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// One: each datagram meets the link by itself.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A datagram on its way; `peer` is where it goes to or came from.
struct Datagram {
    at: Instant,
    peer: SocketAddr,
    local_ip: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    contents: Box<[u8]>,
}

/// Datagrams in the order of their times: a link never lets one overtake another.
struct DelayQueue {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

impl DelayQueue {
    fn new() -> Self {
        Self { datagrams: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, datagram: Datagram) {
        if self.bytes + datagram.contents.len() <= MOST_IN_FLIGHT {
            self.bytes += datagram.contents.len();
            self.datagrams.push_back(datagram);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        self.datagrams.front().map(|datagram| datagram.at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Datagram> {
        self.next_at().filter(|at| *at <= now)?;
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= datagram.contents.len();
        Some(datagram)
    }

    /// Copies what is due into `bufs`, one datagram each; returns how many.
    fn deliver(&mut self, now: Instant, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut delivered = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            // Larger than this side said it would take: not for us.
            let fits = loop {
                match self.pop_due(now) {
                    Some(datagram) if datagram.contents.len() > buf.len() => {}
                    other => break other,
                }
            };
            let Some(datagram) = fits else { break };
            let len = datagram.contents.len();
            buf[..len].copy_from_slice(&datagram.contents);
            meta.addr = datagram.peer;
            meta.len = len;
            meta.stride = len;
            meta.ecn = datagram.ecn;
            meta.dst_ip = datagram.local_ip;
            delivered += 1;
        }
        delivered
    }
}

struct Ingress {
    queue: DelayQueue,
    buffer: Vec<u8>,
    timer: Pin<Box<Sleep>>,
}

impl Ingress {
    /// Takes what has arrived at the real socket; true if there may be more.
    fn read_arrived(
        &mut self,
        cx: &mut Context<'_>,
        inner: &dyn AsyncUdpSocket,
        link: &EmulatedLink,
    ) -> io::Result<bool> {
        for _ in 0..READS_PER_POLL {
            let mut metas = [RecvMeta::default(); READ_BUFFERS];
            let mut slices: Vec<IoSliceMut<'_>> =
                self.buffer.chunks_mut(READ_BUFFER_BYTES).map(IoSliceMut::new).collect();
            let count = match inner.poll_recv(cx, &mut slices, &mut metas) {
                Poll::Pending => return Ok(false),
                Poll::Ready(read) => read?,
            };
            for (meta, buffer) in metas.iter().zip(self.buffer.chunks(READ_BUFFER_BYTES)).take(count) {
                for contents in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    let Some(at) = link.send_down(contents.len()) else { continue };
                    self.queue.push(Datagram {
                        at,
                        peer: meta.addr,
                        local_ip: meta.dst_ip,
                        ecn: meta.ecn,
                        contents: contents.into(),
                    });
                }
            }
        }
        Ok(true)
    }
}

struct Egress {
    queue: Mutex<DelayQueue>,
    changed: Notify,
    closed: AtomicBool,
}

/// Sends everything at its time. Timers are a millisecond coarse: what is due leaves together, and the
/// link's own clock keeps the average rate. Ends when the socket is gone and all has left.
async fn send_when_due(egress: Arc<Egress>, socket: Arc<dyn AsyncUdpSocket>) {
    let mut writable = socket.clone().create_io_poller();
    loop {
        let (due, next) = {
            let mut queue = lock(&egress.queue);
            (queue.pop_due(Instant::now()), queue.next_at())
        };
        match (due, next) {
            (Some(datagram), _) => {
                let transmit = Transmit {
                    destination: datagram.peer,
                    ecn: datagram.ecn,
                    contents: &datagram.contents,
                    segment_size: None,
                    src_ip: datagram.local_ip,
                };
                // Any other failure is a lost datagram, which QUIC repairs.
                while let Err(error) = socket.try_send(&transmit)
                    && error.kind() == io::ErrorKind::WouldBlock
                    && poll_fn(|cx| writable.as_mut().poll_writable(cx)).await.is_ok()
                {}
            }
            // What comes later is due later: nothing can need waking before.
            (None, Some(next)) => sleep_until(next).await,
            (None, None) if egress.closed.load(Ordering::Acquire) => return,
            (None, None) => egress.changed.notified().await,
        }
    }
}
