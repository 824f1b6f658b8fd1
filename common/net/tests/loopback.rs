//! Real QUIC on 127.0.0.1.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use partway_net::{
    AcceptError, AlignedBytes, Authority, BytesPerSecond, CloseReason, ConnectError, Connection,
    ControlError, Listener, Outgoing, Priority, SendError, TensorError, TransportOptions, TrustedAuthority,
    connect,
    connection::tensor::{HEADER_LIMIT, code},
};
use tokio::time::{Instant, timeout};

const NAME: &str = "coordinator.test";
/// Longer than any of these takes on a busy machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
const LIMIT: usize = 8 << 20;

struct Server {
    listener: Listener,
    trusted: TrustedAuthority,
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn server_with(options: TransportOptions) -> Server {
    let authority = Authority::generate().expect("an authority");
    let identity = authority.issue(&[NAME.to_owned(), "127.0.0.1".to_owned()]).expect("an identity");
    let listener = Listener::bind(anywhere(), &identity, options).expect("a free port");
    let trusted = TrustedAuthority::from_pem(&authority.to_pem(), "ca.pem").expect("a certificate");
    Server { listener, trusted }
}

async fn pair_with(options: TransportOptions) -> (Server, Connection, Connection) {
    let mut server = server_with(options.clone());
    let (client, accepted) = meet(&mut server, &options).await;
    (server, client, accepted)
}

async fn pair() -> (Server, Connection, Connection) {
    pair_with(TransportOptions::default()).await
}

async fn meet(server: &mut Server, options: &TransportOptions) -> (Connection, Connection) {
    let addr = server.listener.local_addr();
    let (client, accepted) = tokio::join!(
        connect(addr, NAME, &server.trusted, options, None),
        timeout(PATIENCE, server.listener.accept()),
    );
    let accepted = accepted.expect("in time").expect("the listener is open").expect("a client");
    (client.expect("a connection"), accepted)
}

fn outgoing(body: impl Into<Bytes>) -> Outgoing {
    let header = Bytes::from_static(b"a header");
    Outgoing { header, body: body.into(), priority: Priority::Activations, pace: None }
}

#[tokio::test]
async fn both_sides_meet_and_talk() {
    let (_server, client, accepted) = pair().await;
    let (mut client_send, mut client_receive) = client.control().await.expect("a stream");
    client_send.send(b"hello").await.expect("sent");
    let (mut server_send, mut server_receive) = accepted.control().await.expect("a stream");
    assert_eq!(server_receive.recv().await, Ok(Some(b"hello".to_vec())));
    server_send.send(b"").await.expect("sent");
    server_send.send(&vec![7; 100_000]).await.expect("sent");
    assert_eq!(client_receive.recv().await, Ok(Some(vec![])));
    assert_eq!(client_receive.recv().await, Ok(Some(vec![7; 100_000])));
    client_send.finish();
    assert_eq!(server_receive.recv().await, Ok(None));
    assert_eq!(client.control().await.err(), Some(ControlError::Taken));
    assert!(accepted.counters().sent_bytes > 100_000);
    assert!(client.counters().received_bytes > 100_000);
    assert!(client.rtt() > Duration::ZERO);
}

#[tokio::test]
async fn another_authority_is_refused_and_the_listener_goes_on() {
    let mut server = server_with(TransportOptions::default());
    let addr = server.listener.local_addr();
    let other = Authority::generate().expect("an authority");
    let other = TrustedAuthority::from_pem(&other.to_pem(), "other/ca.pem").expect("a certificate");
    let options = TransportOptions::default();
    let (refused, accepted) =
        tokio::join!(connect(addr, NAME, &other, &options, None), server.listener.accept());
    let error = refused.expect_err("not our authority");
    assert!(matches!(error, ConnectError::Certificate { .. }), "{error:?}");
    assert!(error.to_string().contains("other/ca.pem"), "{error}");
    let failure = accepted.expect("open").expect_err("the client left");
    assert!(matches!(failure, AcceptError::Certificate { .. }), "{failure:?}");
    meet(&mut server, &options).await;
}

#[tokio::test]
async fn another_name_is_refused() {
    let mut server = server_with(TransportOptions::default());
    let addr = server.listener.local_addr();
    let options = TransportOptions::default();
    let (refused, _) = tokio::join!(
        connect(addr, "elsewhere.test", &server.trusted, &options, None),
        server.listener.accept()
    );
    let error = refused.expect_err("not its name");
    assert!(matches!(&error, ConnectError::ServerName { name, .. } if name == "elsewhere.test"), "{error:?}");
    let (by_address, _) =
        tokio::join!(connect(addr, "127.0.0.1", &server.trusted, &options, None), server.listener.accept());
    by_address.expect("the certificate lists the address too");
    let error = connect(addr, "not a name", &server.trusted, &options, None).await.expect_err("spaces");
    assert!(matches!(error, ConnectError::InvalidName { .. }), "{error:?}");
}

#[tokio::test]
async fn another_version_is_refused() {
    let mut server = server_with(TransportOptions::default());
    let addr = server.listener.local_addr();
    let options = TransportOptions { protocol: "partway/2".to_owned(), ..TransportOptions::default() };
    let (refused, accepted) =
        tokio::join!(connect(addr, NAME, &server.trusted, &options, None), server.listener.accept());
    let error = refused.expect_err("another version");
    assert!(matches!(&error, ConnectError::Version { protocol, .. } if protocol == "partway/2"), "{error:?}");
    let failure = accepted.expect("open").expect_err("another version");
    assert!(
        matches!(&failure, AcceptError::Version { protocol, .. } if protocol == "partway/1"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let silent = std::net::UdpSocket::bind(anywhere()).expect("a free port");
    let addr = silent.local_addr().expect("it is bound");
    let server = server_with(TransportOptions::default());
    let handshake_timeout = Duration::from_millis(300);
    let options = TransportOptions { handshake_timeout, ..TransportOptions::default() };
    let error = connect(addr, NAME, &server.trusted, &options, None).await.expect_err("nobody answers");
    assert!(
        matches!(error, ConnectError::Unreachable { waited, .. } if waited == handshake_timeout),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_handshake_that_never_ends_holds_up_no_other() {
    let mut server = server_with(TransportOptions::default());
    let addr = server.listener.local_addr();
    // A client whose datagrams get through, but which is dead after its first: a half-open handshake.
    let relay = tokio::net::UdpSocket::bind(anywhere()).await.expect("a free port");
    let relay_addr = relay.local_addr().expect("it is bound");
    let (trusted, options) = (server.trusted.clone(), TransportOptions::default());
    let half = tokio::spawn(async move { connect(relay_addr, NAME, &trusted, &options, None).await.is_ok() });
    let mut first = vec![0; 65_536];
    let (len, _) = relay.recv_from(&mut first).await.expect("the client's hello");
    relay.send_to(&first[..len], addr).await.expect("passed on");
    let started = Instant::now();
    meet(&mut server, &TransportOptions::default()).await;
    assert!(started.elapsed() < Duration::from_secs(8), "it waited for the half-open one");
    half.abort();
}

#[tokio::test]
async fn control_messages_over_the_limit_are_refused_on_both_sides() {
    let mut server = server_with(TransportOptions { control_limit: 1000, ..TransportOptions::default() });
    let (client, accepted) = meet(&mut server, &TransportOptions::default()).await;
    let (mut send, _receive) = client.control().await.expect("a stream");
    let over = send.send(&vec![0; (1 << 20) + 1]).await;
    assert_eq!(over, Err(ControlError::OverLimit { len: (1 << 20) + 1, limit: 1 << 20 }));
    send.send(&[1; 1000]).await.expect("sent");
    send.send(&[2; 1001]).await.expect("this side allows it");
    let (_send, mut receive) = accepted.control().await.expect("a stream");
    assert_eq!(receive.recv().await, Ok(Some(vec![1; 1000])));
    assert_eq!(receive.recv().await, Err(ControlError::OverLimit { len: 1001, limit: 1000 }));
    let told = async {
        loop {
            if let Err(error) = send.send(b"more").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    let told = timeout(PATIENCE, told).await.expect("in time");
    assert_eq!(told, ControlError::Abandoned { code: 1 });
}

#[tokio::test]
async fn a_dropped_receive_loses_no_part_of_a_message() {
    let (_server, client, accepted) = pair().await;
    let (mut send, _keep) = client.control().await.expect("a stream");
    let sender = tokio::spawn(async move {
        for value in 0..50 {
            send.send(&vec![value; 50_000]).await.expect("sent");
        }
        send
    });
    let (_send, mut receive) = accepted.control().await.expect("a stream");
    let mut dropped = 0;
    for value in 0..50 {
        let message = loop {
            tokio::select! {
                biased;
                message = receive.recv() => break message,
                () = tokio::task::yield_now() => dropped += 1,
            }
        };
        assert_eq!(message, Ok(Some(vec![value; 50_000])));
    }
    assert!(dropped > 0, "no receive was dropped");
    sender.await.expect("all sent");
}

#[tokio::test]
async fn tensors_arrive_whole_and_aligned() {
    let (_server, client, accepted) = pair().await;
    let values: Vec<f32> = (0..1_000_003_u32).map(|value| value as f32 * 0.5).collect();
    let body = AlignedBytes::from(values.clone()).into_bytes();
    let (sent, received) = tokio::join!(client.send_tensor(outgoing(body)), accepted.accept_tensor(LIMIT));
    let (sent, received) = (sent.expect("sent"), received.expect("received"));
    assert_eq!(received.header, &b"a header"[..]);
    assert_eq!(received.body.into_f32(), Ok(values));
    assert_eq!((sent.len, received.len), (4_000_012 + 20, 4_000_012 + 20));
    assert!(received.first_byte_at < received.last_byte_at);
    assert!(sent.started_at <= received.first_byte_at);
    assert_eq!(sent.paced_for, Duration::ZERO);
    sent.acknowledged().await.expect("it has arrived");
    let (sent, received) = tokio::join!(client.send_tensor(outgoing("")), accepted.accept_tensor(0));
    sent.expect("sent");
    assert!(received.expect("an empty body is a body").body.is_empty());
}

#[tokio::test]
async fn limits_hold_before_anything_is_allocated() {
    let (_server, client, accepted) = pair().await;
    let header = Bytes::from(vec![0; HEADER_LIMIT + 1]);
    let long = client.send_tensor(Outgoing { header, ..outgoing("") }).await;
    assert_eq!(long.err(), Some(SendError::HeaderTooLong { len: HEADER_LIMIT + 1 }));
    // More than the windows hold, so the sender is still at it when it is told.
    let (sent, received) =
        tokio::join!(client.send_tensor(outgoing(vec![0; LIMIT])), accepted.accept_tensor(1000));
    assert_eq!(received.err(), Some(TensorError::OverLimit { len: LIMIT as u64, limit: 1000 }));
    assert_eq!(sent.err(), Some(SendError::Stopped { code: u64::from(code::OVER_LIMIT) }));
    works(&client, &accepted).await;
}

#[tokio::test]
async fn a_tensor_can_be_reset_or_refused_alone() {
    let (_server, client, accepted) = pair().await;
    // More than the windows hold: the sender is stuck until someone reads.
    let stuck = client.send_tensor(outgoing(vec![1; LIMIT]));
    let stream = {
        tokio::pin!(stuck);
        tokio::select! {
            _ = &mut stuck => panic!("8 MiB do not fit the windows"),
            stream = accepted.accept_stream() => stream.expect("a stream"),
        }
    };
    // The sender was dropped half-way.
    let reset = timeout(PATIENCE, stream.receive(LIMIT)).await.expect("in time");
    assert_eq!(reset.err(), Some(TensorError::Reset { code: u64::from(code::CANCELLED) }));
    works(&client, &accepted).await;

    let (sent, stream) = tokio::join!(client.send_tensor(outgoing(vec![1; LIMIT])), async {
        accepted.accept_stream().await.expect("a stream").refuse(1000);
    });
    let () = stream;
    assert_eq!(sent.err(), Some(SendError::Stopped { code: 1000 }));
    works(&client, &accepted).await;
}

async fn works(client: &Connection, accepted: &Connection) {
    let (sent, received) = tokio::join!(client.send_tensor(outgoing("after")), accepted.accept_tensor(LIMIT));
    sent.expect("the connection lives");
    assert_eq!(received.expect("the connection lives").body.as_bytes(), b"after");
}

#[tokio::test]
async fn streams_do_not_wait_for_each_other() {
    let (_server, client, accepted) = pair().await;
    let slow = BytesPerSecond::new(20_000.0);
    let slow = Outgoing { pace: slow, priority: Priority::Weights, ..outgoing(vec![1; 1 << 20]) };
    let sender = client.clone();
    let slow = tokio::spawn(async move { sender.send_tensor(slow).await.is_ok() });
    let slow_stream = accepted.accept_stream().await.expect("a stream");
    works(&client, &accepted).await;
    assert!(!slow.is_finished(), "1 MiB at 20 kB/s takes 50 s");
    slow.abort();
    let reset = timeout(PATIENCE, slow_stream.receive(LIMIT)).await.expect("in time");
    assert_eq!(reset.err(), Some(TensorError::Reset { code: u64::from(code::CANCELLED) }));
}

#[tokio::test]
async fn pacing_holds_a_sender_to_the_rate() {
    let (_server, client, accepted) = pair().await;
    let one_megabyte = || outgoing(vec![1; 1_000_000]);
    client.set_pace(BytesPerSecond::new(5e6));
    let started = Instant::now();
    let (sent, received) = tokio::join!(client.send_tensor(one_megabyte()), accepted.accept_tensor(LIMIT));
    received.expect("received");
    // One burst of 50 kB goes ahead.
    let least = Duration::from_millis(190);
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
    let paced_for = sent.expect("sent").paced_for;
    assert!(paced_for > least / 2, "{paced_for:?} of waiting was pacing");
    client.set_pace(None);
    let (sent, _) = tokio::join!(client.send_tensor(one_megabyte()), accepted.accept_tensor(LIMIT));
    assert_eq!(sent.expect("sent").paced_for, Duration::ZERO);
}

#[tokio::test]
async fn closing_tells_the_peer_why() {
    let (_server, client, accepted) = pair().await;
    client.shutdown(42, "enough").await;
    let reason = timeout(PATIENCE, accepted.closed()).await.expect("in time");
    assert_eq!(reason, CloseReason::ByPeer { code: 42, reason: "enough".to_owned() });
    assert_eq!(client.close_reason(), Some(CloseReason::Local));
    assert_eq!(accepted.accept_tensor(LIMIT).await.err(), Some(TensorError::Closed(reason)));
    let gone = client.send_tensor(outgoing("late")).await;
    assert_eq!(gone.err(), Some(SendError::Closed(CloseReason::Local)));
}

#[tokio::test]
async fn a_client_comes_back_after_its_connection_was_lost() {
    let options = TransportOptions::default();
    let (mut server, client, accepted) = pair().await;
    client.close(1, "lost");
    accepted.closed().await;
    let (client, accepted) = meet(&mut server, &options).await;
    works(&client, &accepted).await;
}

#[tokio::test]
async fn a_silent_peer_is_noticed() {
    let options = TransportOptions {
        idle_timeout: Duration::from_millis(400),
        keep_alive: Duration::from_millis(100),
        ..TransportOptions::default()
    };
    let mut server = server_with(options.clone());
    let addr = server.listener.local_addr();
    let trusted = server.trusted.clone();
    // The client lives in a runtime of its own, which dies without a word.
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let connection = connect(addr, NAME, &trusted, &options, None).await.expect("a connection");
            told.await.expect("the server says when");
            std::mem::forget(connection);
        });
    });
    let accepted = server.listener.accept().await.expect("open").expect("a client");
    let early = timeout(Duration::from_secs(1), accepted.closed()).await;
    assert!(early.is_err(), "signs of life keep an idle connection open");
    tell.send(()).expect("the client waits");
    client.join().expect("the client ended");
    let reason = timeout(PATIENCE, accepted.closed()).await.expect("in time");
    assert_eq!(reason, CloseReason::TimedOut);
}

#[tokio::test]
async fn a_listener_shuts_down_with_all_its_connections() {
    let (mut server, client, _accepted) = pair().await;
    server.listener.shutdown(3, "training is finished").await;
    let reason = timeout(PATIENCE, client.closed()).await.expect("in time");
    assert_eq!(reason, CloseReason::ByPeer { code: 3, reason: "training is finished".to_owned() });
    assert!(server.listener.accept().await.is_none());
}

#[tokio::test]
async fn the_loopback_carries_large_packets() {
    let (_server, client, accepted) = pair().await;
    let grown = async {
        while client.largest_payload() <= 1500 {
            works(&client, &accepted).await;
        }
    };
    timeout(PATIENCE, grown).await.expect("discovery goes beyond Ethernet's size");
}
