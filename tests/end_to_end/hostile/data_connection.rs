//! Tensors on a connection of their own: nobody else's is taken for it, and its loss is repaired like any other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::fleet::Fleet;
use super::raw_edge::{PROTOCOL, RawEdge};
use super::{block_on, train, train_with, weights_without_others};

const TWO: &str = "wire.data_connection=true";
/// The protocol of data connections.
const DATA_PROTOCOL: &str = "partway-data/1";

/// A way to a server that can be interrupted: datagrams go through it in both directions, each client's from a socket
/// of its own.
struct Relay {
    address: SocketAddr,
    blocked: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let local = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let outside = Arc::new(local().await.expect("a free port"));
        let address = outside.local_addr().expect("it is bound");
        let (blocked, passed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let relay = Self { address, blocked: blocked.clone(), passed: passed.clone() };
        tokio::spawn(async move {
            let mut clients: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
            let mut datagram = vec![0; 65_536];
            while let Ok((length, client)) = outside.recv_from(&mut datagram).await {
                let known = clients.get(&client).cloned();
                let inside = match known {
                    Some(inside) => inside,
                    None => {
                        let inside = Arc::new(local().await.expect("a free port"));
                        inside.connect(server).await.expect("it is there");
                        clients.insert(client, inside.clone());
                        tokio::spawn(bring_back(inside.clone(), outside.clone(), client, blocked.clone()));
                        inside
                    }
                };
                if !blocked.load(Ordering::Relaxed) {
                    passed.fetch_add(1, Ordering::Relaxed);
                    // A server that is gone is noticed by its client.
                    let _ = inside.send(&datagram[..length]).await;
                }
            }
        });
        relay
    }

    /// Lets so many datagrams pass to the server, and then none for this long.
    async fn interrupt(&self, after: usize, during: Duration) {
        while self.passed.load(Ordering::Relaxed) < after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.blocked.store(true, Ordering::Relaxed);
        tokio::time::sleep(during).await;
        self.blocked.store(false, Ordering::Relaxed);
    }
}

async fn bring_back(
    inside: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    client: SocketAddr,
    blocked: Arc<AtomicBool>,
) {
    let mut datagram = vec![0; 65_536];
    while let Ok(length) = inside.recv(&mut datagram).await {
        if !blocked.load(Ordering::Relaxed) {
            let _ = outside.send_to(&datagram[..length], client).await;
        }
    }
}

#[test]
fn an_edge_may_have_two_connections_or_one() {
    let trained = block_on(async {
        let fleet = Fleet::start(0, &[TWO]).await;
        assert!(fleet.data_address.is_some());
        let two = fleet.join("honest-0");
        let one = fleet.join_at("honest-1", None);
        train_with(fleet, [two, one]).await
    });
    assert_eq!(trained.refused, []);
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

#[test]
fn data_connections_of_strangers_are_turned_away() {
    let trained = block_on(async {
        let fleet = Fleet::start(0, &[TWO]).await;
        let (address, ca) = (fleet.data_address.expect("it listens for data"), fleet.authority.to_pem());
        // An edge that is there, and waits to speak: its data connection is what a stranger would like to be.
        let waiting = RawEdge::connect(fleet.address, &ca, PROTOCOL).await.expect("it can connect");
        for key in [[0; 32], [255; 32]] {
            let mut stranger = RawEdge::connect(address, &ca, DATA_PROTOCOL).await.expect("it can connect");
            stranger.write_frame(&key).await;
            let told = stranger.refusal().await;
            assert!(told.contains("its key is of no connection that waits"), "{told}");
        }
        let mut stranger = RawEdge::connect(address, &ca, DATA_PROTOCOL).await.expect("it can connect");
        stranger.write(&u32::MAX.to_le_bytes()).await;
        let told = stranger.refusal().await;
        assert!(told.contains("no key was shown"), "{told}");
        drop(waiting);
        train(fleet).await
    });
    let said = "opened a data connection without the key of a connection that waits for one";
    assert_eq!(trained.refused.len(), 3, "{:?}", trained.refused);
    assert!(trained.refused.iter().all(|(edge, reason)| edge.is_empty() && reason.ends_with(said)));
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

#[test]
fn the_loss_of_a_data_connection_is_repaired() {
    let sets = [
        TWO,
        "training.max_rounds=200",
        "training.aggregate_every=5",
        "fleet.checkpoint_every=5",
        "fleet.idle_timeout=1s",
        "fleet.rejoin_window=30s",
    ];
    let undisturbed = block_on(async { train(Fleet::start(0, &sets).await).await });
    assert_eq!(undisturbed.returned, Vec::<String>::new());
    let trained = block_on(async {
        let fleet = Fleet::start(0, &sets).await;
        let relay = Relay::to(fleet.data_address.expect("it listens for data")).await;
        let edges = [fleet.join_at("honest-0", Some(relay.address)), fleet.join("honest-1")];
        // By then a few rounds are done, and most are not; the silence is longer than a silent connection lives.
        let disturbing = relay.interrupt(100, Duration::from_millis(2500));
        let ((), trained) = tokio::join!(disturbing, train_with(fleet, edges));
        trained
    });
    assert_eq!(trained.returned, ["honest-0"], "its control connection has ended too, and both came back");
    assert_eq!(trained.summary.weights_sha256, undisturbed.summary.weights_sha256);
}
