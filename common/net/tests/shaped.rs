//! Real QUIC over emulated links. Lower bounds are physics; upper bounds leave room for a busy machine.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use partway_core::config::Congestion;
use partway_net::{
    Authority, CloseReason, Connection, EmulatedLink, LinkProfile, Listener, Outgoing, Priority,
    TransportOptions, TrustedAuthority, connect,
};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const LIMIT: usize = 8 << 20;

struct World {
    listener: Listener,
    trusted: TrustedAuthority,
    options: TransportOptions,
}

impl World {
    fn new(options: TransportOptions) -> Self {
        let authority = Authority::generate().expect("an authority");
        let identity = authority.issue(&["localhost".to_owned()]).expect("an identity");
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(addr, &identity, options.clone()).expect("a free port");
        let trusted = TrustedAuthority::from_pem(&authority.to_pem(), "ca.pem").expect("a certificate");
        Self { listener, trusted, options }
    }

    async fn meet(&mut self, link: &EmulatedLink) -> (Connection, Connection) {
        let addr = self.listener.local_addr();
        let (client, accepted) = tokio::join!(
            connect(addr, "localhost", &self.trusted, &self.options, Some(link)),
            timeout(PATIENCE, self.listener.accept()),
        );
        let accepted = accepted.expect("in time").expect("open").expect("a client");
        (client.expect("a connection"), accepted)
    }
}

fn link(profile: &LinkProfile) -> EmulatedLink {
    EmulatedLink::start(profile).expect("the profile makes sense")
}

/// How long `bytes` take from one side to the other, until they are read.
async fn transfer(from: &Connection, to: &Connection, bytes: usize) -> Duration {
    let body: Bytes = (0..bytes).map(|at| at as u8).collect::<Vec<_>>().into();
    let tensor =
        Outgoing { header: Bytes::new(), body: body.clone(), priority: Priority::Activations, pace: None };
    let started = Instant::now();
    let (sent, received) = tokio::join!(from.send_tensor(tensor), timeout(PATIENCE, to.accept_tensor(LIMIT)));
    sent.expect("sent");
    assert_eq!(received.expect("in time").expect("received").body.as_bytes(), body);
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_takes_as_long_as_the_link_is_slow() {
    let rtt = Duration::from_millis(20);
    let profile = LinkProfile { up_mbps: Some(50.0), down_mbps: Some(100.0), rtt, ..LinkProfile::default() };
    let mut world = World::new(TransportOptions::default());
    let (client, accepted) = world.meet(&link(&profile)).await;
    assert!(client.min_rtt() >= rtt, "{:?}", client.min_rtt());
    assert!(client.rtt() < rtt * 3, "{:?}", client.rtt());
    for (from, to, mbps) in [(&client, &accepted, 50.0), (&accepted, &client, 100.0)] {
        let elapsed = transfer(from, to, 2_000_000).await;
        let least = Duration::from_secs_f64(2e6 * 8.0 / (mbps * 1e6)) + rtt / 2;
        assert!(elapsed >= least, "{elapsed:?} is less than {least:?}");
        // QUIC's slow start costs some round trips, headers 5 %.
        let most = least.mul_f64(1.6) + rtt * 8;
        assert!(elapsed <= most, "{elapsed:?} is more than {most:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_over_a_bad_link() {
    let profile = LinkProfile {
        up_mbps: Some(20.0),
        down_mbps: Some(20.0),
        rtt: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        loss: 0.02,
        queue_bytes: Some(20_000),
        seed: 7,
        ..LinkProfile::default()
    };
    let mut world = World::new(TransportOptions::default());
    let (client, accepted) = world.meet(&link(&profile)).await;
    transfer(&client, &accepted, 500_000).await;
    transfer(&accepted, &client, 500_000).await;
    assert!(client.counters().lost_packets > 0, "nothing was lost at 2 % and a short queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_one_link_share_its_rate() {
    let profile = LinkProfile { up_mbps: Some(20.0), ..LinkProfile::default() };
    let link = link(&profile);
    let mut world = World::new(TransportOptions::default());
    let (one, one_accepted) = world.meet(&link).await;
    let (two, two_accepted) = world.meet(&link).await;
    let started = Instant::now();
    tokio::join!(transfer(&one, &one_accepted, 500_000), transfer(&two, &two_accepted, 500_000));
    let least = Duration::from_secs_f64(1e6 * 8.0 / 20e6);
    assert!(started.elapsed() >= least, "{:?} is less than {least:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_the_connection_and_its_end_lets_the_client_return() {
    let second = Duration::from_secs(1);
    let profile = LinkProfile { down: vec![(second, second * 3)], ..LinkProfile::default() };
    let link = link(&profile);
    let started = Instant::now();
    let options = TransportOptions {
        idle_timeout: second,
        keep_alive: Duration::from_millis(200),
        ..TransportOptions::default()
    };
    let mut world = World::new(options);
    let (client, accepted) = world.meet(&link).await;
    transfer(&client, &accepted, 10_000).await;
    let ended = tokio::join!(timeout(PATIENCE, client.closed()), timeout(PATIENCE, accepted.closed()));
    assert_eq!(ended, (Ok(CloseReason::TimedOut), Ok(CloseReason::TimedOut)));
    assert!((second..second * 3).contains(&started.elapsed()), "{:?}", started.elapsed());
    tokio::time::sleep_until(started + second * 3).await;
    let (client, accepted) = world.meet(&link).await;
    transfer(&client, &accepted, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_farewell_gets_over_the_link() {
    let profile =
        LinkProfile { up_mbps: Some(10.0), rtt: Duration::from_millis(100), ..LinkProfile::default() };
    let mut world = World::new(TransportOptions::default());
    let (client, accepted) = world.meet(&link(&profile)).await;
    client.shutdown(5, "done").await;
    let reason = timeout(Duration::from_secs(5), accepted.closed()).await.expect("before the idle timeout");
    assert_eq!(reason, CloseReason::ByPeer { code: 5, reason: "done".to_owned() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emulated_link_has_no_packets_that_a_real_one_would_not_carry() {
    let profile = LinkProfile { rtt: Duration::from_millis(2), ..LinkProfile::default() };
    let mut world = World::new(TransportOptions::default());
    let (client, accepted) = world.meet(&link(&profile)).await;
    transfer(&client, &accepted, 1_000_000).await;
    transfer(&accepted, &client, 1_000_000).await;
    assert!(client.largest_payload() <= 1472, "{}", client.largest_payload());
    assert!(accepted.largest_payload() <= 1472, "{}", accepted.largest_payload());
}

/// Where packets are lost at random, Cubic takes each for a full queue: by the model of Mathis et al. (1997) some 2 Mbit/s
/// are left here of 20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bbr_keeps_up_its_rate_where_packets_are_lost_at_random() {
    let profile = LinkProfile {
        up_mbps: Some(20.0),
        down_mbps: Some(20.0),
        rtt: Duration::from_millis(40),
        loss: 0.03,
        seed: 5,
        ..LinkProfile::default()
    };
    let mut took = Vec::new();
    for congestion in [Congestion::Cubic, Congestion::Bbr] {
        let mut world = World::new(TransportOptions { congestion, ..TransportOptions::default() });
        let (client, accepted) = world.meet(&link(&profile)).await;
        took.push(transfer(&client, &accepted, 1_000_000).await);
    }
    assert!(took[1] * 3 < took[0] * 2, "BBR took {:?}, Cubic {:?}", took[1], took[0]);
}
