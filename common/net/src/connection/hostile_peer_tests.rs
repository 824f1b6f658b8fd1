//! What a peer can send that this crate's own sender never would, byte by byte.

use std::net::SocketAddr;

use super::*;
use crate::{Authority, Listener, TrustedAuthority, connect};

const LIMIT: usize = 1 << 20;

async fn pair() -> (Listener, Connection, Connection) {
    let authority = Authority::generate().expect("an authority");
    let identity = authority.issue(&["localhost".to_owned()]).expect("an identity");
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = TransportOptions::default();
    let mut listener = Listener::bind(addr, &identity, options.clone()).expect("a free port");
    let trusted = TrustedAuthority::from_pem(&authority.to_pem(), "ca.pem").expect("a certificate");
    let addr = listener.local_addr();
    let (client, accepted) =
        tokio::join!(connect(addr, "localhost", &trusted, &options, None), listener.accept());
    let accepted = accepted.expect("the listener is open").expect("a client");
    (listener, client.expect("a connection"), accepted)
}

/// A tensor's stream with these lengths announced, then these bytes.
fn stream(header_len: u16, body_len: u64, rest: &[u8]) -> Vec<u8> {
    [b"PW".as_slice(), &header_len.to_le_bytes(), &body_len.to_le_bytes(), rest].concat()
}

async fn received(bytes: &[u8]) -> Result<Incoming, TensorError> {
    let (_listener, client, accepted) = pair().await;
    let mut raw = client.quic.open_uni().await.expect("a stream");
    raw.write_all(bytes).await.expect("written");
    raw.finish().expect("it was open");
    let result = accepted.accept_tensor(LIMIT).await;
    // Whatever it was, the connection carries the next.
    let mut raw = client.quic.open_uni().await.expect("a stream");
    raw.write_all(&stream(1, 2, b"hbb")).await.expect("written");
    raw.finish().expect("it was open");
    let next = accepted.accept_tensor(LIMIT).await.expect("the connection lives");
    assert_eq!((&next.header[..], next.body.as_bytes()), (&b"h"[..], &b"bb"[..]));
    result
}

#[tokio::test]
async fn a_body_of_another_length_is_refused() {
    let short = received(&stream(1, 10, b"h12345")).await;
    assert_eq!(short.err(), Some(TensorError::Short { expected: 10, got: 5 }));
    let long = received(&stream(1, 4, b"h12345")).await;
    assert_eq!(long.err(), Some(TensorError::Long { expected: 4 }));
}

#[tokio::test]
async fn a_stream_that_ends_before_its_body_is_refused() {
    assert_eq!(received(b"PW").await.err(), Some(TensorError::Truncated { expected: 12, got: 2 }));
    assert_eq!(received(b"").await.err(), Some(TensorError::Truncated { expected: 12, got: 0 }));
    let in_header = received(&stream(8, 0, b"abc")).await;
    assert_eq!(in_header.err(), Some(TensorError::Truncated { expected: 20, got: 15 }));
}

#[tokio::test]
async fn lengths_beyond_the_limits_are_refused_unread() {
    let huge = received(&stream(0, u64::MAX, b"")).await;
    assert_eq!(huge.err(), Some(TensorError::OverLimit { len: u64::MAX, limit: LIMIT }));
    let header = received(&stream(513, 0, &[0; 513])).await;
    assert_eq!(header.err(), Some(TensorError::HeaderTooLong { len: 513 }));
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let other = received(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(other.err(), Some(TensorError::Magic { found: *b"GE" }));
}

#[tokio::test]
async fn control_messages_cut_short_are_refused() {
    for (bytes, expected, got) in [(&b"\x05\0\0\0abc"[..], 5, 3), (b"\x05\0", 4, 2), (b"\x05\0\0\0", 5, 0)] {
        let (_listener, client, accepted) = pair().await;
        let (mut send, _receive) = client.quic.open_bi().await.expect("a stream");
        send.write_all(bytes).await.expect("written");
        send.finish().expect("it was open");
        let (_send, mut receive) = accepted.control().await.expect("a stream");
        assert_eq!(receive.recv().await, Err(ControlError::Truncated { expected, got }));
    }
}

#[tokio::test]
async fn control_messages_of_any_announced_length_allocate_nothing_over_the_limit() {
    let (_listener, client, accepted) = pair().await;
    let (mut send, _receive) = client.quic.open_bi().await.expect("a stream");
    send.write_all(&u32::MAX.to_le_bytes()).await.expect("written");
    let (_send, mut receive) = accepted.control().await.expect("a stream");
    let len = u32::MAX as usize;
    assert_eq!(receive.recv().await, Err(ControlError::OverLimit { len, limit: 1 << 20 }));
}
