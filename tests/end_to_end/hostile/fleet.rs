//! A coordinator in this process, with real edges beside it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use partway_cloud::{Ended, ServeOptions, record::Summary, serve};
use partway_core::config::{Config, DeviceKind};
use partway_core::event::{Event, EventKind};
use partway_core::participant::Outcome;
use partway_core::profile::DeviceProfile;
use partway_datasets::own::Reading;
use partway_datasets::shard;
use partway_edge::JoinOptions;
use partway_net::Authority;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Samples are taken as they are, so that what an edge says of its own changes nothing for the others.
const CONFIG: &str = r#"
    name = "hostile"
    [model]
    arch = "mlp"
    [data]
    dataset = "synthetic"
    synthetic = { shape = [1, 8, 8], classes = 4, train_samples = 200, test_samples = 40 }
    standardize = "none"
    [training]
    batch_size = 8
    steps_per_round = 2
    aggregate_every = 1
    max_rounds = 2
    [plan]
    fixed_cut = 3
    [fleet]
    quorum = 0.01
    rejoin_window = "500ms"
    [[edge]]
    name = "honest"
    count = 2
"#;

/// Events that may wait for the test.
const EVENTS: usize = 4096;

pub(super) struct Fleet {
    pub(super) address: SocketAddr,
    /// With `wire.data_connection`.
    pub(super) data_address: Option<SocketAddr>,
    pub(super) authority: Authority,
    folder: TempDir,
    config: Config,
    serving: JoinHandle<Ended>,
    events: mpsc::Receiver<Event>,
}

/// How a training with hostile edges ended.
pub(super) struct Trained {
    pub(super) summary: Summary,
    /// Who was turned away, and why.
    pub(super) refused: Vec<(String, String)>,
    /// Who was left out, in name order.
    pub(super) dropped: Vec<String>,
    /// Who came back after its connection was lost.
    pub(super) returned: Vec<String>,
}

impl Fleet {
    /// Starts a coordinator that waits for two honest edges and so many others.
    pub(super) async fn start(others: usize, sets: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let members = format!("fleet.min_edges={}", 2 + others);
        // The configuration describes the honest edges only, and would not wait for more.
        let count = format!("edge.honest.count={}", 2 + others);
        let sets: Vec<String> = [count.as_str(), members.as_str()]
            .into_iter()
            .chain(sets.iter().copied())
            .map(str::to_owned)
            .collect();
        let config = Config::parse(CONFIG, "hostile.toml", &sets).expect("it is right");
        let dataset = partway_datasets::from_config(&config).expect("it is generated");
        for (edge, name) in ["honest-0", "honest-1"].into_iter().enumerate() {
            let part: Vec<usize> = (100 * edge..100 * (edge + 1)).collect();
            shard::write(&folder.path().join(name), &dataset.train.take(&part)).expect("written");
        }
        let authority = Authority::generate().expect("generated");
        authority.save(&folder.path().join("ca.pem")).expect("written");
        let options = ServeOptions {
            spec: config
                .model_spec(dataset.train.shape(), dataset.train.classes(), |_| {
                    unreachable!("it is built in")
                })
                .expect("it fits"),
            init: None,
            config: config.clone(),
            test: dataset.test,
            profile: DeviceProfile::default(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            listen_data: config.wire.data_connection.then_some((Ipv4Addr::LOCALHOST, 0).into()),
            identity: authority.issue(&["localhost".to_owned()]).expect("issued"),
            out: folder.path().join("out"),
            resume: false,
        };
        let (sender, mut events) = mpsc::channel(EVENTS);
        let serving = tokio::spawn(async move {
            let on_event = |event: &Event| sender.try_send(event.clone()).expect("there is room");
            serve(options, on_event, std::future::pending()).await.expect("it can start")
        });
        let first = events.recv().await.map(|event| event.kind);
        let Some(EventKind::Listening { address, data_address }) = first else {
            panic!("it does not listen: {first:?}")
        };
        let address = address.parse().expect("an address");
        let data_address = data_address.map(|address| address.parse().expect("an address"));
        Self { address, data_address, authority, folder, config, serving, events }
    }

    /// A real edge.
    pub(super) fn join(&self, name: &str) -> JoinHandle<Outcome> {
        self.join_as(name, "ca.pem", self.data_address)
    }

    /// A real edge that is told this address for data.
    pub(super) fn join_at(&self, name: &str, data_address: Option<SocketAddr>) -> JoinHandle<Outcome> {
        self.join_as(name, "ca.pem", data_address)
    }

    /// A real edge that trusts the authority in this file of the folder.
    pub(super) fn join_trusting(&self, name: &str, ca: &str) -> JoinHandle<Outcome> {
        self.join_as(name, ca, self.data_address)
    }

    fn join_as(&self, name: &str, ca: &str, data_address: Option<SocketAddr>) -> JoinHandle<Outcome> {
        let folder = self.folder.path();
        let options = JoinOptions {
            device: DeviceKind::Cpu,
            address: self.address,
            data_address,
            server_name: "localhost".to_owned(),
            ca: folder.join(ca),
            data: folder.join(name),
            reading: Reading::default(),
            state: folder.join(format!("{name}-state")),
            name: name.to_owned(),
            threads: 1,
            profile: DeviceProfile::default(),
            memory: None,
            uplink_hint: None,
            allow_raw_data: false,
            keep_labels: false,
            patience: Duration::from_mins(1),
            idle_timeout: self.config.fleet.idle_timeout.get(),
            congestion: self.config.wire.congestion,
            emulation: None,
        };
        tokio::spawn(async move {
            let joined = partway_edge::join(options, |_| {}, std::future::pending()).await;
            joined.expect("it can start").expect("nobody interrupts it")
        })
    }

    /// Saves another authority's certificate, under a name for [`Fleet::join_trusting`].
    pub(super) fn save_authority(&self, authority: &Authority, file: &str) {
        authority.save(&self.folder.path().join(file)).expect("written");
    }

    /// Waits for the end, which must be a good one.
    pub(super) async fn end(mut self) -> Trained {
        let ended = self.serving.await.expect("no panic");
        let Ended::Finished(summary) = ended else { panic!("it did not finish: {ended:?}") };
        let (mut refused, mut dropped, mut returned) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(Event { kind, .. }) = self.events.recv().await {
            match kind {
                EventKind::EdgeRefused { edge, reason } => refused.push((edge, reason)),
                EventKind::EdgeDropped { edge, .. } => dropped.push(edge),
                EventKind::EdgeResumed { edge, .. } => returned.push(edge),
                _ => {}
            }
        }
        dropped.sort();
        Trained { summary: *summary, refused, dropped, returned }
    }
}
