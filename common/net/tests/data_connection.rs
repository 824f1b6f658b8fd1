//! Control and data on two connections, over real QUIC on 127.0.0.1.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use partway_core::codec::Codec;
use partway_core::wire::{TensorHeader, TensorKind, TensorMessage, message};
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::{
    AcceptError, Authority, ConnectError, Connection, ControlReceiver, DataListener, Listener, Outgoing,
    PairingKey, Priority, TransportOptions, TrustedAuthority, Unpaired, connect, connect_data,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const NAME: &str = "coordinator.test";
/// The protocol of data connections, as both sides of this version name it.
const DATA_PROTOCOL: &str = "partway-data/1";
/// Longer than any of these takes on a busy machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
const LIMIT: usize = 8 << 20;

struct Server {
    control: Listener,
    data: DataListener,
    trusted: TrustedAuthority,
}

type Event = (u64, PeerEvent<String>);

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn server() -> Server {
    let authority = Authority::generate().expect("an authority");
    let identity = authority.issue(&[NAME.to_owned()]).expect("an identity");
    let options = TransportOptions::default();
    let control = Listener::bind(anywhere(), &identity, options.clone()).expect("a free port");
    let data = DataListener::bind(anywhere(), &identity, options).expect("another");
    let trusted = TrustedAuthority::from_pem(&authority.to_pem(), "ca.pem").expect("a certificate");
    Server { control, data, trusted }
}

impl Server {
    /// A client's connection for control messages, from both ends.
    async fn meet(&mut self) -> (Connection, Connection) {
        let (addr, options) = (self.control.local_addr(), TransportOptions::default());
        let (client, accepted) = tokio::join!(
            connect(addr, NAME, &self.trusted, &options, None),
            timeout(PATIENCE, self.control.accept()),
        );
        let accepted = accepted.expect("in time").expect("the listener is open").expect("a client");
        (client.expect("a connection"), accepted)
    }

    async fn next_data(&mut self) -> Result<Unpaired, AcceptError> {
        let next = timeout(PATIENCE, self.data.accept());
        next.await.expect("in time").expect("the listener is open")
    }

    /// Its data connection, from both ends.
    async fn pair(&mut self, client: &Connection, accepted: &Connection) -> (Connection, Connection) {
        let (trusted, addr) = (self.trusted.clone(), self.data.local_addr());
        let client = client.clone();
        let connecting = tokio::spawn(async move {
            connect_data(&client, addr, NAME, &trusted, &TransportOptions::default(), None).await
        });
        let unpaired = self.next_data().await.expect("it shows its key");
        assert_eq!(Some(unpaired.key()), PairingKey::of(accepted).as_ref());
        let data = unpaired.pair();
        (connecting.await.expect("no panic").expect("it is paired"), data)
    }

    /// Both ends of a peer with two connections, and what happens to each.
    async fn peers(&mut self) -> [(Peer, Connection, mpsc::Receiver<Event>); 2] {
        let (client, accepted) = self.meet().await;
        let (client_data, accepted_data) = self.pair(&client, &accepted).await;
        [(client, client_data), (accepted, accepted_data)].map(|(control, data)| {
            let (events, happened) = mpsc::channel(64);
            let limit = BodyLimit::new(LIMIT);
            let mut peer = Peer::start(7, control, limit.clone(), events.clone());
            peer.move_tensors(7, data.clone(), limit, events);
            (peer, data, happened)
        })
    }

    /// One who speaks the protocol, has no key, and shows these bytes instead.
    fn stranger(&self, shown: Vec<u8>) -> JoinHandle<(Connection, ControlReceiver)> {
        let (addr, trusted) = (self.data.local_addr(), self.trusted.clone());
        let options = TransportOptions { protocol: DATA_PROTOCOL.to_owned(), ..TransportOptions::default() };
        tokio::spawn(async move {
            let connected = connect(addr, NAME, &trusted, &options, None).await.expect("it can connect");
            let (mut sender, receiver) = connected.control().await.expect("a stream");
            // More than fits the window is not taken while the connection lives.
            tokio::spawn(async move { sender.send(&shown).await });
            (connected, receiver)
        })
    }
}

async fn next(happened: &mut mpsc::Receiver<Event>) -> PeerEvent<String> {
    let (key, event) =
        timeout(PATIENCE, happened.recv()).await.expect("in time").expect("the peer is at work");
    assert_eq!(key, 7);
    event
}

fn said(text: &str) -> Vec<u8> {
    message::encode(&text.to_owned()).expect("a short message")
}

fn tensor(values: usize) -> TensorMessage {
    let header = TensorHeader::new(TensorKind::Activations, Codec::F32);
    TensorMessage::encode(header, vec![0.5; values], &[])
}

#[tokio::test]
async fn tensors_take_the_data_connection_and_messages_the_other() {
    let mut server = server();
    let [(client, client_data, mut to_client), (cloud, cloud_data, mut to_cloud)] = server.peers().await;
    let (values, bytes) = (250_000, 1_000_000);
    for _ in 0..3 {
        client.send(said("up"));
        cloud.send(said("down"));
        client.send_tensor(tensor(values), None);
        cloud.send_tensor(tensor(values), None);
    }
    for (happened, expected) in [(&mut to_cloud, "up"), (&mut to_client, "down")] {
        let (mut messages, mut tensors) = (0, 0);
        for _ in 0..6 {
            match next(happened).await {
                PeerEvent::Message(text) if text == expected => messages += 1,
                PeerEvent::Tensor { tensor, .. } if tensor.body.as_ref().len() == bytes => tensors += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((messages, tensors), (3, 3));
    }
    for data in [&client_data, &cloud_data] {
        assert!(data.counters().received_bytes > 3 * bytes as u64);
    }
    for control in [client.connection(), cloud.connection()] {
        assert!(control.counters().received_bytes < bytes as u64 / 10);
    }
    // States and other tensors that are not of a step go there too.
    let header = TensorHeader::new(TensorKind::Probe, Codec::F32);
    client.send_tensor(TensorMessage::encode(header, vec![0.5; values], &[]), None);
    assert!(matches!(next(&mut to_cloud).await, PeerEvent::Tensor { .. }));
    assert!(cloud.connection().counters().received_bytes < bytes as u64 / 10);
}

#[tokio::test]
async fn the_end_of_one_is_the_end_of_both() {
    let mut server = server();
    for end_data in [true, false] {
        let [(client, client_data, mut to_client), (cloud, cloud_data, mut to_cloud)] = server.peers().await;
        // The server sees a control stream when something is said there.
        client.send(said("here"));
        assert!(matches!(next(&mut to_cloud).await, PeerEvent::Message(_)));
        if end_data { &client_data } else { client.connection() }.close(9, "a broken cable");
        for happened in [&mut to_client, &mut to_cloud] {
            let PeerEvent::Closed(reason) = next(happened).await else { panic!("it goes on") };
            assert!(reason.contains("a broken cable") || reason.contains("closed on this side"), "{reason}");
        }
        for connection in [&client_data, &cloud_data, client.connection(), cloud.connection()] {
            timeout(PATIENCE, connection.closed()).await.expect("all are closed");
        }
    }
}

#[tokio::test]
async fn every_connection_has_a_key_of_its_own_that_both_ends_know() {
    let mut server = server();
    let (first, first_accepted) = server.meet().await;
    let (second, second_accepted) = server.meet().await;
    let key = |connection| PairingKey::of(connection).expect("TLS exports keys");
    assert_eq!(key(&first), key(&first_accepted));
    assert_eq!(key(&second), key(&second_accepted));
    assert_ne!(key(&first), key(&second));
    let shown = format!("{:?}", key(&first));
    assert_eq!(shown, "PairingKey { .. }", "it is never printed");
}

#[tokio::test]
async fn a_wrong_key_is_told_apart_and_turned_away() {
    let mut server = server();
    let (_client, accepted) = server.meet().await;
    let stranger = server.stranger(vec![1; 32]);
    let unpaired = server.next_data().await.expect("it has the length of a key");
    assert_ne!(Some(unpaired.key()), PairingKey::of(&accepted).as_ref());
    unpaired.refuse();
    let (_stranger, mut receiver) = stranger.await.expect("no panic");
    let told = timeout(PATIENCE, receiver.recv()).await.expect("in time").expect_err("no answer");
    assert!(told.to_string().contains("its key is of no connection that waits"), "{told}");
}

#[tokio::test]
async fn what_is_no_key_is_turned_away() {
    let mut server = server();
    for length in [0, 5, 33, 100_000] {
        let stranger = server.stranger(vec![1; length]);
        let refused = server.next_data().await.expect_err("it is no key");
        assert!(matches!(refused, AcceptError::Unpaired { .. }), "{refused:?}");
        let (stranger, _receiver) = stranger.await.expect("no panic");
        timeout(PATIENCE, stranger.closed()).await.expect("it is closed");
    }
}

#[tokio::test]
async fn one_who_shows_nothing_holds_up_nobody_and_is_turned_away() {
    let mut server = server();
    let (addr, trusted) = (server.data.local_addr(), server.trusted.clone());
    let silent = tokio::spawn(async move {
        let options = TransportOptions { protocol: DATA_PROTOCOL.to_owned(), ..TransportOptions::default() };
        connect(addr, NAME, &trusted, &options, None).await.expect("it can connect").closed().await
    });
    let (client, accepted) = server.meet().await;
    server.pair(&client, &accepted).await;
    let refused = server.next_data().await.expect_err("it shows nothing");
    assert!(matches!(refused, AcceptError::Unpaired { .. }), "{refused:?}");
    timeout(PATIENCE, silent).await.expect("it is closed").expect("no panic");
}

#[tokio::test]
async fn nothing_can_be_sent_before_the_key_is_known() {
    let mut server = server();
    let stranger = server.stranger(vec![1; 32]);
    let unpaired = server.next_data().await.expect("it has the length of a key");
    let (stranger, _receiver) = stranger.await.expect("no panic");
    let outgoing = || Outgoing {
        header: Bytes::from_static(b"a header"),
        body: Bytes::from(vec![0; 100_000]),
        priority: Priority::Activations,
        pace: None,
    };
    let waits = Duration::from_millis(300);
    timeout(waits, stranger.send_tensor(outgoing())).await.expect_err("no stream may be opened");
    let bytes = unpaired.connection().counters().received_bytes;
    assert!(bytes < 50_000, "{bytes} bytes of handshake and signs of life");
    let paired = unpaired.pair();
    let (sent, received) = tokio::join!(
        timeout(PATIENCE, stranger.send_tensor(outgoing())),
        timeout(PATIENCE, paired.accept_tensor(LIMIT)),
    );
    sent.expect("in time").expect("it may now");
    assert_eq!(received.expect("in time").expect("it is whole").body.len(), 100_000);
}

#[tokio::test]
async fn neither_listener_takes_the_others_clients() {
    let mut server = server();
    let (trusted, options) = (server.trusted.clone(), TransportOptions::default());
    let (control, data) = (server.control.local_addr(), server.data.local_addr());
    let (refused, accepted) =
        tokio::join!(connect(data, NAME, &trusted, &options, None), server.data.accept());
    let error = refused.expect_err("that is for data");
    assert!(matches!(&error, ConnectError::Version { .. }), "{error:?}");
    assert!(accepted.expect("open").is_err());

    let (client, _accepted) = server.meet().await;
    let connecting = connect_data(&client, control, NAME, &trusted, &options, None);
    let (refused, accepted) = tokio::join!(connecting, server.control.accept());
    let error = refused.expect_err("that is for control messages");
    assert!(error.to_string().starts_with("the data connection: "), "{error}");
    assert!(accepted.expect("open").is_err());
}

#[tokio::test]
async fn another_coordinators_data_address_is_noticed() {
    let (mut own, mut other) = (server(), server());
    let (client, _accepted) = own.meet().await;
    let (trusted, options) = (own.trusted.clone(), TransportOptions::default());
    let addr = other.data.local_addr();
    let connecting = connect_data(&client, addr, NAME, &trusted, &options, None);
    let (refused, accepted) = tokio::join!(connecting, other.data.accept());
    let error = refused.expect_err("another authority issued its certificate");
    let ConnectError::Data(within) = &error else { panic!("{error:?}") };
    assert!(matches!(**within, ConnectError::Certificate { .. }), "{error:?}");
    assert!(accepted.expect("open").is_err());
}
