//! Edges that break the rules are turned away with a reason; the others train as if they had never come.

mod data_connection;
mod fleet;
mod raw_edge;

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Poll;

use partway_core::codec::{ActivationCodec, BatchShape, Codec, TopK};
use partway_core::link::Transfer;
use partway_core::participant::Outcome;
use partway_core::profile::DeviceProfile;
use partway_core::standardize::Transform;
use partway_core::statistics::ChannelStatistics;
use partway_core::wire::{
    EdgeMessage, MAX_MESSAGE_BYTES, PROTOCOL_VERSION, RoundPlan, TensorHeader, TensorKind, TensorMessage,
    TrainingRequest, encode_activations, message,
};
use partway_net::Authority;

use fleet::{Fleet, Trained};
use raw_edge::{PROTOCOL, RawEdge};

/// Activations of one step at the cut, behind the first two layers with parameters: batch x width.
const ACTIVATIONS: usize = 8 * 128;

fn request(name: &str) -> TrainingRequest {
    TrainingRequest {
        version: PROTOCOL_VERSION,
        name: name.to_owned(),
        samples: 1_000_000,
        labels: vec![250_000; 4],
        class_names: None,
        shape: [1, 8, 8],
        profile: DeviceProfile::default(),
        memory_limit: None,
        uplink_hint: None,
        resume: None,
    }
}

fn statistics() -> Vec<ChannelStatistics> {
    let mut channel = ChannelStatistics::default();
    channel.push_all(&[0.0, 1.0]);
    vec![channel]
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// Waits for all of them, at work at the same time.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<Pin<Box<_>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in waiting.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(result) = future.as_mut().poll(context)
            {
                *done = Some(result);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Both honest edges train to the end.
async fn train(fleet: Fleet) -> Trained {
    let honest = ["honest-0", "honest-1"].map(|name| fleet.join(name));
    train_with(fleet, honest).await
}

async fn train_with(fleet: Fleet, honest: [tokio::task::JoinHandle<Outcome>; 2]) -> Trained {
    let trained = fleet.end().await;
    for edge in honest {
        let outcome = edge.await.expect("no panic");
        assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
    }
    trained
}

/// The weights that the honest edges end with by themselves.
fn weights_without_others() -> Option<String> {
    static WEIGHTS: OnceLock<Option<String>> = OnceLock::new();
    let train = || block_on(async { train(Fleet::start(0, &[]).await).await });
    WEIGHTS.get_or_init(|| train().summary.weights_sha256).clone()
}

/// One who connects, does something and is turned away before it has a name.
async fn turned_away(fleet: &Fleet, misdeed: impl AsyncFnOnce(&mut RawEdge)) -> String {
    let ca = fleet.authority.to_pem();
    let mut edge = RawEdge::connect(fleet.address, &ca, PROTOCOL).await.expect("it can connect");
    misdeed(&mut edge).await;
    edge.refusal().await
}

#[test]
fn connections_that_break_the_rules_are_turned_away() {
    let trained = block_on(async {
        let fleet = Fleet::start(0, &[]).await;
        let mut told = Vec::new();
        let newer = TrainingRequest { version: PROTOCOL_VERSION + 1, ..request("newer") };
        let newer = EdgeMessage::TrainingRequest(newer);
        told.push(turned_away(&fleet, async |edge| edge.say(&newer).await).await);
        // The first two numbers are what every version agrees on; the rest need not be understood.
        told.push(turned_away(&fleet, async |edge| edge.write_frame(&[0, 7, 200, 201, 202]).await).await);
        let early = EdgeMessage::Statistics { of: Transform::Identity, channels: statistics() };
        told.push(turned_away(&fleet, async |edge| edge.say(&early).await).await);
        told.push(turned_away(&fleet, async |edge| edge.write_frame(b"GET / HTTP/1.1").await).await);
        let whole = message::encode(&EdgeMessage::TrainingRequest(request("x"))).expect("a short message");
        told.push(
            turned_away(&fleet, async |edge| edge.write_frame(&[&whole[..], b"more"].concat()).await).await,
        );
        told.push(turned_away(&fleet, async |edge| edge.write_frame(&whole[..whole.len() - 3]).await).await);
        let cut_off = async |edge: &mut RawEdge| {
            edge.write(&[&100_u32.to_le_bytes(), &whole[..10]].concat()).await;
            edge.finish_control();
        };
        told.push(turned_away(&fleet, cut_off).await);
        told.push(turned_away(&fleet, async |edge| edge.write(&u32::MAX.to_le_bytes()).await).await);
        for name in ["", "\u{1b}]0;cleared\u{7}"] {
            let misnamed = EdgeMessage::TrainingRequest(request(name));
            told.push(turned_away(&fleet, async |edge| edge.say(&misnamed).await).await);
        }
        let large = EdgeMessage::TrainingRequest(TrainingRequest { shape: [3, 32, 32], ..request("large") });
        told.push(turned_away(&fleet, async |edge| edge.say(&large).await).await);

        let expected = [
            "the edge speaks protocol version 2, this coordinator 1",
            "the edge speaks protocol version 7, this coordinator 1",
            "the first message must be a training request",
            "the control message of 14 bytes cannot be decoded",
            "ends after",
            "cannot be decoded",
            "the control stream ended after 10 of 100 bytes of a message",
            "a control message of 4294967295 bytes is over the limit",
            "`` cannot be an edge's name, which is of 1 to 64 letters, digits, `-`, `_` and `.`",
            "`\\u{1b}]0;cleared\\u{7}` cannot be an edge's name",
            "has samples of shape [3, 32, 32], but model `mlp` takes [1, 8, 8]",
        ];
        assert_eq!(told.len(), expected.len());
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told:?} instead of {expected:?}");
        }
        let trained = train(fleet).await;
        let refused: Vec<&String> = trained.refused.iter().map(|(_, reason)| reason).collect();
        assert_eq!(refused, told.iter().collect::<Vec<_>>(), "what they are told is what is recorded");
        trained
    });
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

#[test]
fn wrong_certificates_and_other_protocols_are_turned_away() {
    let trained = block_on(async {
        let fleet = Fleet::start(0, &[]).await;
        let other = Authority::generate().expect("generated");
        fleet.save_authority(&other, "other.pem");
        let outcome = fleet.join_trusting("honest-0", "other.pem").await.expect("no panic");
        let Outcome::Failed { reason } = outcome else { panic!("it trusts another: {outcome:?}") };
        assert!(reason.contains("was not issued by the CA in"), "{reason}");
        let ca = fleet.authority.to_pem();
        let refused = RawEdge::connect(fleet.address, &ca, "partway/2").await;
        assert!(refused.is_err(), "another protocol");
        train(fleet).await
    });
    // The coordinator hears of failed handshakes in either order.
    let refused: Vec<&str> = trained.refused.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    for expected in ["does not trust this coordinator's certificate", "does not speak \"partway/1\""] {
        assert!(refused.iter().any(|reason| reason.contains(expected)), "{refused:?} without {expected:?}");
    }
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

fn header(plan: &RoundPlan, kind: TensorKind) -> TensorHeader {
    TensorHeader { round: plan.round, attempt: plan.attempt, ..TensorHeader::new(kind, Codec::F32) }
}

fn activations(plan: &RoundPlan, values: Vec<f32>, label: u32) -> TensorMessage {
    TensorMessage::encode(header(plan, TensorKind::Activations), values, &[label; 8])
}

/// A tenth of each sample's activations, for samples of `len` values.
fn selected(plan: &RoundPlan, len: usize) -> TensorMessage {
    let codec = ActivationCodec { values: Codec::F32, top_k: Some(TopK { fraction: 0.1, alpha: 0.0 }) };
    let shape = BatchShape::of(8, &[len]);
    let header = header(plan, TensorKind::Activations);
    encode_activations(header, codec, vec![0.5; 8 * len], shape, &[1; 8], &mut TopK::draws(1, "x", 0, 0)).0
}

/// What members do in their first round, by their names, and what is said of it.
const MISDEEDS: &[(&str, &str)] = &[
    ("announces-too-much", "a tensor's body has 1099511627776 bytes, at most"),
    ("ends-at-once", "it ended its round after 0 of 2 steps"),
    ("infinite", "value 0 of the activations at cut 3 is inf, which is not a finite number"),
    ("last-of-all-steps", "it sent step 4294967296 of round 1, where 0 of 2 steps were served"),
    ("late-step", "it sent step 2 of round 1, where 0 of 2 steps were served"),
    ("long-body", "a tensor's body goes on after its 4128 bytes"),
    ("long-message", "ends after"),
    ("no-tensor", "a tensor's stream begins with [47, 45], not with [50, 57]"),
    ("not-a-number", "value 0 of the activations at cut 3 is NaN, which is not a finite number"),
    ("other-batch", "selected from 64 values in each of 8 samples, but there are 128 in each of 8"),
    ("other-header", "the activations of round 1, step 1 have 4128 bytes, but their header says 8224"),
    ("other-shape", "activations"),
    ("poisoned-weights", "round 1: its weights are not finite"),
    ("short-body", "a tensor's body ended after 4124 of 4128 bytes"),
    ("short-message", "the control stream ended after 3 of 50 bytes of a message"),
    ("stray-index", "the indices of sample 0 are not 13 increasing ones below 128"),
    ("twice", "it asked to take part a second time on one connection"),
    ("unknown-label", "label"),
    ("wrong-direction", "it sent a cut gradient"),
];

async fn misbehave(edge: &mut RawEdge, name: &str, plan: &RoundPlan) {
    let good = || activations(plan, vec![0.5; ACTIVATIONS], 1);
    let bytes = |tensor: &TensorMessage| tensor.body.as_ref().to_vec();
    match name {
        "announces-too-much" => edge.write_tensor(good().header, 1 << 40, &bytes(&good())).await,
        "ends-at-once" => {
            let (round, attempt) = (plan.round, plan.attempt);
            edge.say(&EdgeMessage::RoundDone { round, attempt, peak_rss_bytes: 0 }).await;
        }
        "infinite" => edge.send_tensor(activations(plan, vec![f32::INFINITY; ACTIVATIONS], 1)).await,
        "last-of-all-steps" | "late-step" => {
            let step = if name == "late-step" { 1 } else { u32::MAX };
            let late = TensorHeader { step, ..good().header };
            edge.send_tensor(TensorMessage { header: late, ..good() }).await;
        }
        "long-body" => edge.write_tensor(good().header, 4128, &[&bytes(&good())[..], b"more"].concat()).await,
        "long-message" => {
            let ready = message::encode(&EdgeMessage::Ready { downlink: None, evaluates_not: None })
                .expect("a short message");
            edge.write_frame(&[&ready[..], b"more"].concat()).await;
        }
        "no-tensor" => edge.write_stream(b"GET / HTTP/1.1\r\n\r\n").await,
        "not-a-number" => edge.send_tensor(activations(plan, vec![f32::NAN; ACTIVATIONS], 1)).await,
        "other-batch" => edge.send_tensor(selected(plan, 64)).await,
        "other-header" => {
            let twice = TensorHeader { values: 2 * good().header.values, ..good().header };
            edge.write_tensor(twice, 4128, &bytes(&good())).await;
        }
        "other-shape" => edge.send_tensor(activations(plan, vec![0.5; 3], 1)).await,
        "poisoned-weights" => {
            let layers = TensorHeader { step: plan.steps, last_layer: 3, ..header(plan, TensorKind::State) };
            let values = vec![f32::NAN; 2 * (64 * 128 + 128)];
            edge.send_tensor(TensorMessage::encode(layers, values, &[])).await;
        }
        "short-body" => edge.write_tensor(good().header, 4128, &bytes(&good())[4..]).await,
        "short-message" => {
            edge.write(&[50, 0, 0, 0, 1, 2, 3]).await;
            edge.finish_control();
        }
        "stray-index" => {
            let tensor = selected(plan, 128);
            let mut body = bytes(&tensor);
            // The first byte behind three counts has the first eight values' bits.
            body[12] = 0;
            edge.write_tensor(tensor.header, body.len() as u64, &body).await;
        }
        "twice" => edge.say(&EdgeMessage::TrainingRequest(request(name))).await,
        "unknown-label" => edge.send_tensor(activations(plan, vec![0.5; ACTIVATIONS], 4)).await,
        "wrong-direction" => {
            let gradient = header(plan, TensorKind::CutGradient);
            edge.send_tensor(TensorMessage::encode(gradient, vec![0.5; ACTIVATIONS], &[])).await;
        }
        _ => panic!("no such misdeed: {name}"),
    }
}

/// An edge that takes part properly, until its first round has begun.
async fn member(fleet: &Fleet, request: TrainingRequest, channels: Vec<ChannelStatistics>) -> RawEdge {
    let ca = fleet.authority.to_pem();
    let mut edge = RawEdge::connect(fleet.address, &ca, PROTOCOL).await.expect("it can connect");
    edge.say(&EdgeMessage::TrainingRequest(request)).await;
    edge.hear().await.expect("an assignment");
    edge.say(&EdgeMessage::Statistics { of: Transform::Identity, channels }).await;
    edge
}

#[test]
fn members_that_break_the_rules_are_left_out() {
    let trained = block_on(async {
        let fleet = Fleet::start(MISDEEDS.len(), &[]).await;
        let honest = ["honest-0", "honest-1"].map(|name| fleet.join(name));
        let members = MISDEEDS.iter().map(|(name, _)| async {
            let mut edge = member(&fleet, request(name), statistics()).await;
            edge.hear().await.expect("a standardizer");
            edge.say(&EdgeMessage::Ready { downlink: None, evaluates_not: None }).await;
            let plan = edge.next_round().await;
            misbehave(&mut edge, name, &plan).await;
            edge.refusal().await
        });
        let told = join_all(members).await;
        for ((name, expected), told) in MISDEEDS.iter().zip(&told) {
            assert!(told.contains(expected), "{name} was told {told:?} instead of {expected:?}");
        }
        let mut trained = train_with(fleet, honest).await;
        trained.refused.sort();
        let expected: Vec<(String, String)> =
            MISDEEDS.iter().map(|(name, _)| (*name).to_owned()).zip(told).collect();
        assert_eq!(trained.refused, expected, "what they are told is what is recorded");
        trained
    });
    assert_eq!(trained.dropped, MISDEEDS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

#[test]
fn members_whose_data_makes_no_sense_are_left_out() {
    let trained = block_on(async {
        let fleet = Fleet::start(3, &[]).await;
        let honest = ["honest-0", "honest-1"].map(|name| fleet.join(name));
        let reports = [
            ("empty", vec![ChannelStatistics::default()]),
            ("nan-mean", vec![ChannelStatistics { mean: f64::NAN, ..statistics()[0] }]),
            ("two-channels", [statistics(), statistics()].concat()),
        ];
        let fleet_of = &fleet;
        let members = reports.into_iter().map(|(name, channels)| async move {
            member(fleet_of, request(name), channels).await.refusal().await
        });
        let told = join_all(members).await;
        let expected = [
            "its data cannot be standardized: channel 0",
            "its data cannot be standardized: channel 0: mean NaN",
            "it sent statistics of 2 channels, its samples have 1",
        ];
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told:?} instead of {expected:?}");
        }
        train_with(fleet, honest).await
    });
    assert_eq!(trained.dropped, ["empty", "nan-mean", "two-channels"]);
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

/// Anybody can connect and ask; what it says then is repeated to it and to the operator, behind a few words.
#[test]
fn a_reason_as_long_as_a_message_stops_nobody() {
    let trained = block_on(async {
        let fleet = Fleet::start(0, &[]).await;
        let ca = fleet.authority.to_pem();
        let mut edge = RawEdge::connect(fleet.address, &ca, PROTOCOL).await.expect("it can connect");
        edge.say(&EdgeMessage::TrainingRequest(request("talker"))).await;
        edge.say(&EdgeMessage::Declined { reason: "x".repeat(MAX_MESSAGE_BYTES - 16) }).await;
        let told = edge.refusal().await;
        assert!(told.starts_with("it cannot take part: xxx") && told.len() < 2048, "{} bytes", told.len());
        train(fleet).await
    });
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

#[test]
fn claims_beyond_all_bounds_stop_nobody() {
    let trained = block_on(async {
        let fleet = Fleet::start(1, &[]).await;
        let honest = ["honest-0", "honest-1"].map(|name| fleet.join(name));
        let profile = "source = \"made up\"\n\
                       [kinds.linear]\nforward = { fixed = 1e300 }\nbackward = { fixed = 1e300 }";
        let profile = toml::from_str(profile).expect("finite numbers are accepted");
        let request = TrainingRequest { profile, uplink_hint: Some(1e300), ..request("boaster") };
        let mut edge = member(&fleet, request, statistics()).await;
        edge.hear().await.expect("a standardizer");
        let downlink = Some(Transfer { bytes: u64::MAX, seconds: 1e-300, paced_at: None });
        edge.say(&EdgeMessage::Ready { downlink, evaluates_not: None }).await;
        let plan = edge.next_round().await;
        misbehave(&mut edge, "wrong-direction", &plan).await;
        edge.refusal().await;
        train_with(fleet, honest).await
    });
    assert_eq!(trained.dropped, ["boaster"]);
    assert_eq!(trained.summary.weights_sha256, weights_without_others());
}

/// Nothing but the copies of those that take part could tell what frozen layers are.
#[test]
fn frozen_layers_that_an_edge_has_changed_are_not_taken() {
    let trained = block_on(async {
        let fleet = Fleet::start(1, &["model.freeze=2"]).await;
        let honest = ["honest-0", "honest-1"].map(|name| fleet.join(name));
        let mut edge = member(&fleet, request("thaws"), statistics()).await;
        edge.hear().await.expect("a standardizer");
        edge.say(&EdgeMessage::Ready { downlink: None, evaluates_not: None }).await;
        let plan = edge.next_round().await;
        let layers = TensorHeader { step: plan.steps, last_layer: 3, ..header(&plan, TensorKind::State) };
        edge.send_tensor(TensorMessage::encode(layers, vec![0.5; 64 * 128 + 128], &[])).await;
        let told = edge.refusal().await;
        assert!(told.ends_with("of which the first 2 are frozen"), "{told}");
        train_with(fleet, honest).await
    });
    assert_eq!(trained.dropped, ["thaws"]);
}
