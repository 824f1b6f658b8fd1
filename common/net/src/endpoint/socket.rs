//! The UDP socket of an endpoint.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::error::BindError;

/// Room for what arrives while a task computes; the system grants what its limits allow.
const SOCKET_BUFFER: usize = 4 << 20;

/// What the system hands over at once, of one datagram or of several joined: no more than an IP packet holds.
const MOST_READ: usize = 64 << 10;

/// A socket whose reads are given no more room than they can fill. quinn makes room for as many datagrams as the system
/// may join, each of the largest payload, in each of 32 buffers: 12 MB instead of 2, per endpoint.
struct Bounded {
    inner: Arc<dyn AsyncUdpSocket>,
    segments: usize,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for Bounded {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.segments
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// A socket bound to `addr`, for datagrams of at most `largest_payload` bytes.
pub(super) fn udp_socket(
    addr: SocketAddr,
    largest_payload: u16,
) -> Result<Arc<dyn AsyncUdpSocket>, BindError> {
    let runtime = quinn::default_runtime().ok_or(BindError::NoRuntime)?;
    let bound = || {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        // Larger buffers are for speed: a system that grants less still works.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&addr.into())?;
        runtime.wrap_udp_socket(socket.into())
    };
    let inner = bound().map_err(|source| BindError::Socket { addr, source })?;
    let segments = inner.max_receive_segments().min(MOST_READ.div_ceil(usize::from(largest_payload)));
    Ok(Arc::new(Bounded { inner, segments }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_has_room_for_a_whole_packet_and_little_more() {
        for payload in [1452, 6000] {
            let socket = udp_socket(SocketAddr::from(([127, 0, 0, 1], 0)), payload).expect("a free port");
            let room = socket.max_receive_segments() * usize::from(payload);
            let joins = socket.max_receive_segments() > 1;
            assert!(!joins || (MOST_READ..MOST_READ + usize::from(payload)).contains(&room), "{room}");
        }
    }
}
