//! A peer's tensors in order and out of it, over real QUIC on 127.0.0.1.

use std::net::SocketAddr;
use std::time::Duration;

use partway_core::codec::Codec;
use partway_core::wire::{TensorHeader, TensorKind, TensorMessage};
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::{Authority, Listener, TransportOptions, TrustedAuthority, connect};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than any of these takes on a busy machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "coordinator.test";

/// What holds up a tensor of `LONG` values for some 0.2 s.
const PACE: Option<f64> = Some(200e3);
const LONG: usize = 15_000;

type Happened = mpsc::Receiver<((), PeerEvent<()>)>;

/// Both ends, and what happens at the second.
async fn peers() -> (Peer, Peer, Happened) {
    let authority = Authority::generate().expect("an authority");
    let identity = authority.issue(&[NAME.to_owned()]).expect("an identity");
    let options = TransportOptions::default();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut listener = Listener::bind(anywhere, &identity, options.clone()).expect("a free port");
    let trusted = TrustedAuthority::from_pem(&authority.to_pem(), "ca.pem").expect("a certificate");
    let (client, accepted) = tokio::join!(
        connect(listener.local_addr(), NAME, &trusted, &options, None),
        timeout(PATIENCE, listener.accept()),
    );
    let accepted = accepted.expect("in time").expect("the listener is open").expect("a client");
    let limit = BodyLimit::new(8 << 20);
    let (events, _) = mpsc::channel::<((), PeerEvent<()>)>(64);
    let client = Peer::start((), client.expect("a connection"), limit.clone(), events);
    let (events, happened) = mpsc::channel(64);
    let accepted = Peer::start((), accepted, limit, events);
    (client, accepted, happened)
}

fn tensor(kind: TensorKind, step: u32, values: usize) -> TensorMessage {
    let header = TensorHeader { step, ..TensorHeader::new(kind, Codec::F32) };
    TensorMessage::encode(header, vec![step as f32; values], &[])
}

/// The steps of the next tensors, all of whose values must be their step.
async fn steps(happened: &mut Happened, count: usize) -> Vec<u32> {
    let mut steps = Vec::new();
    while steps.len() < count {
        let next = timeout(PATIENCE, happened.recv()).await.expect("in time");
        let Some(((), PeerEvent::Tensor { tensor, .. })) = next else { panic!("{next:?} is no tensor") };
        let step = tensor.header.step;
        let (values, _) = tensor.decode().expect("it is whole");
        assert!(values.iter().all(|value| value.to_bits() == (step as f32).to_bits()));
        steps.push(step);
    }
    steps
}

#[tokio::test]
async fn tensors_of_a_step_wait_for_those_before_them() {
    let (client, _accepted, mut happened) = peers().await;
    client.send_tensor(tensor(TensorKind::Activations, 0, 10), None);
    client.send_tensor(tensor(TensorKind::Activations, 1, LONG), PACE);
    (2..40).for_each(|step| client.send_tensor(tensor(TensorKind::Activations, step, 10), None));
    assert_eq!(steps(&mut happened, 40).await, (0..40).collect::<Vec<_>>());
    // Nothing waits any more.
    client.send_tensor(tensor(TensorKind::Activations, 40, 10), None);
    assert_eq!(steps(&mut happened, 1).await, [40]);
}

#[tokio::test]
async fn a_tensor_that_is_slow_holds_up_no_other_kind() {
    let (client, _accepted, mut happened) = peers().await;
    client.send_tensor(tensor(TensorKind::State, 0, LONG), PACE);
    // The slow one has begun to arrive before the others are sent.
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.send_tensor(tensor(TensorKind::Activations, 1, 10), None);
    client.send_tensor(tensor(TensorKind::State, 2, 10), None);
    assert_eq!(steps(&mut happened, 3).await, [1, 2, 0]);
}

#[tokio::test]
async fn more_than_fits_the_window_arrives() {
    let (client, _accepted, mut happened) = peers().await;
    // Each is larger than what may await acknowledgement.
    (0..3).for_each(|step| client.send_tensor(tensor(TensorKind::Activations, step, 1_500_000), None));
    assert_eq!(steps(&mut happened, 3).await, [0, 1, 2]);
}
