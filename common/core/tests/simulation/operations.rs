//! Lists of random operations against the coordinator alone: well-behaved edges, edges that send
//! anything at any time, results in any order. It never panics, never asks for more than a bounded
//! number of things, and ends once everybody is gone.

mod behind;
mod bench;
mod blocks;
mod hangs;
mod returns;
mod stepped;

use std::time::Duration;

use partway_core::codec::Codec;
use partway_core::coordinator::{Computed, Job, Stragglers, session_of};
use partway_core::event::EventKind;
use partway_core::link::Transfer;
use partway_core::model::state::state_len;
use partway_core::standardize::{Method, Transform};
use partway_core::statistics::ChannelStatistics;
use partway_core::wire::{
    EdgeMessage, MAX_MESSAGE_BYTES, PROTOCOL_VERSION, ResumePoint, Score, StepReport, TensorHeader,
    TensorKind, TensorMessage, TrainingRequest,
};
use proptest::prelude::*;

use bench::{Bench, NAMES, Operation};

use crate::fake_model::{FakeModel, MOMENTS};
use crate::scenario::{LAYERS, REJOIN_WINDOW, Scenario, device};

/// Longer than any coordinator of this size prints itself.
const MOST_BYTES: usize = 1 << 20;

fn request(name: &str, samples: u64) -> TrainingRequest {
    TrainingRequest {
        version: PROTOCOL_VERSION,
        name: name.into(),
        samples,
        labels: vec![samples],
        class_names: None,
        shape: [1, 2, 2],
        profile: device(),
        memory_limit: None,
        uplink_hint: None,
        resume: None,
    }
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(0.01), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e300), 0.0..1.0]
}

fn transfer() -> impl Strategy<Value = Transfer> {
    (any::<u64>(), number(), proptest::option::of(number())).prop_map(|(bytes, seconds, paced_at)| Transfer {
        bytes,
        seconds,
        paced_at,
    })
}

/// Round, attempt and step: mostly such as there are.
fn ids() -> impl Strategy<Value = (u32, u32, u32)> {
    prop_oneof![9 => (0..4u32, 0..3u32, 0..4u32), 1 => any::<(u32, u32, u32)>()]
}

fn resume() -> impl Strategy<Value = ResumePoint> {
    let place = || proptest::option::of(ids().prop_map(|(round, attempt, _)| (round, attempt)));
    (1..3u64, place(), any::<bool>(), place()).prop_map(|(session, completed, prepared, live)| ResumePoint {
        session,
        completed,
        prepared,
        live,
    })
}

/// Why not, in a word or in many.
fn reason() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(1), 1 => Just(4000)].prop_map(|length| "x".repeat(length))
}

fn message() -> impl Strategy<Value = EdgeMessage> {
    let channel = (any::<u64>(), number(), number(), number(), number())
        .prop_map(|(count, mean, m2, min, max)| ChannelStatistics { count, mean, m2, min, max });
    let transform = prop_oneof![
        Just(Transform::Identity),
        number().prop_map(|shift| Transform::Log1p { shifts: vec![shift as f32] })
    ];
    let score = prop_oneof![
        4 => (0..4u64, number(), 0..4u64).prop_map(|(correct, loss_sum, samples)| {
            Ok(Score { correct, loss_sum, samples })
        }),
        1 => reason().prop_map(Err)
    ];
    let report = (number(), number(), number(), proptest::option::of(transfer()));
    prop_oneof![
        (0..NAMES.len(), 0..3u64, proptest::option::of(resume())).prop_map(|(name, samples, resume)| {
            let resume = resume.map(|resume: ResumePoint| match resume.session {
                1 => ResumePoint { session: session_of(1, NAMES[name]), ..resume },
                _ => resume,
            });
            EdgeMessage::TrainingRequest(TrainingRequest { resume, ..request(NAMES[name], 20 + samples) })
        }),
        (transform, proptest::collection::vec(channel, 0..3))
            .prop_map(|(of, channels)| EdgeMessage::Statistics { of, channels }),
        (proptest::option::of(transfer()), proptest::option::of(reason()))
            .prop_map(|(downlink, evaluates_not)| EdgeMessage::Ready { downlink, evaluates_not }),
        (ids(), score).prop_map(|((round, _, _), result)| EdgeMessage::Evaluated { round, result }),
        reason().prop_map(|reason| EdgeMessage::Declined { reason }),
        (ids(), report, 0..100usize).prop_map(|((round, attempt, step), times, count)| {
            let (forward_s, backward_s, latency_s, downlink) = times;
            let report = StepReport { step, forward_s, backward_s, latency_s, downlink, local: None };
            EdgeMessage::StepsDone { round, attempt, reports: vec![report; count] }
        }),
        ids().prop_map(|(round, attempt, _)| EdgeMessage::RoundDone { round, attempt, peak_rss_bytes: 1 }),
    ]
}

fn tensor() -> impl Strategy<Value = TensorMessage> {
    let layers = (0..=LAYERS as u16 + 1, 0..=LAYERS as u16 + 1);
    let kind = prop_oneof![
        4 => Just(TensorKind::State),
        4 => Just(TensorKind::Activations),
        1 => Just(TensorKind::Probe),
        1 => Just(TensorKind::CutGradient),
        1 => Just(TensorKind::TailActivations),
        4 => Just(TensorKind::TailGradient),
        1 => Just(TensorKind::Model)
    ];
    let value = prop_oneof![9 => Just(0.5f32), 1 => Just(f32::NAN)];
    (kind, (ids(), 0..4u16), layers, any::<bool>(), value, any::<[bool; 2]>()).prop_map(
        |(kind, ((round, attempt, step), micro_batch), (left, right), fits, value, [half, labels])| {
            let (first_layer, last_layer) = (left.min(right), left.max(right));
            let spec = FakeModel::new().spec;
            let layers = usize::from(first_layer)..usize::from(last_layer).min(LAYERS);
            let values = if fits && !layers.is_empty() { state_len(&spec, layers, MOMENTS) } else { 3 };
            let codec = if half { Codec::F16 } else { Codec::F32 };
            let header = TensorHeader {
                round,
                attempt,
                step,
                micro_batch,
                first_layer,
                last_layer,
                ..TensorHeader::new(kind, codec)
            };
            let labels = if labels { &[1][..] } else { &[] };
            TensorMessage::encode(header, vec![value; values], labels)
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => Just(Operation::Connect),
        1 => any::<usize>().prop_map(Operation::Disconnect),
        30 => any::<usize>().prop_map(Operation::Proceed),
        20 => any::<usize>().prop_map(Operation::Finish),
        2 => any::<usize>().prop_map(Operation::Repeat),
        1 => any::<usize>().prop_map(Operation::Spoil),
        1 => (0..40_000u64).prop_map(Operation::Wait),
        2 => (any::<usize>(), message()).prop_map(|(to, message)| Operation::Say(to, message)),
        2 => (any::<usize>(), tensor()).prop_map(|(to, tensor)| Operation::Send(to, tensor)),
        1 => any::<usize>().prop_map(Operation::Malformed),
    ]
}

fn two_edges(quorum: f64) -> Bench {
    bench_of_two(&Scenario { quorum, steps: 2, ..Scenario::new(1) })
}

/// Two edges that have asked to take part.
fn bench_of_two(scenario: &Scenario) -> Bench {
    let scenario = Scenario { min_edges: 2, ..scenario.clone() };
    let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
    for operation in [Operation::Connect, Operation::Connect, Operation::Proceed(0), Operation::Proceed(1)] {
        bench.operate(operation);
    }
    bench
}

#[test]
fn data_that_cannot_be_standardized_concerns_its_own_edge_only() {
    let mut bench = two_edges(0.5);
    bench.operate(Operation::Proceed(0));
    let channels = vec![ChannelStatistics { mean: f64::NAN, count: 1, ..ChannelStatistics::default() }];
    bench.operate(Operation::Say(1, EdgeMessage::Statistics { of: Transform::Identity, channels }));
    assert!(!bench.finished && bench.peers.len() == 1);
    bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
    bench.operate(Operation::Proceed(0));
    assert!(bench.peers[&1].plan.is_some(), "the other edge trains");
}

#[test]
fn a_link_that_is_said_to_be_absurd_stops_nobody() {
    for (bytes, seconds) in [(1, 1e30), (u64::MAX, 1e-30)] {
        let mut bench = two_edges(1.0);
        bench.operate(Operation::Proceed(0));
        bench.operate(Operation::Proceed(1));
        let downlink = Some(Transfer { bytes, seconds, paced_at: None });
        bench.operate(Operation::Say(0, EdgeMessage::Ready { downlink, evaluates_not: None }));
        bench.operate(Operation::Proceed(1));
        let training = bench.peers.values().filter(|peer| peer.plan.is_some()).count();
        assert_eq!(training, 2, "both train");
    }
}

#[test]
fn a_name_is_taken_over_with_its_own_session_only() {
    for (of, taken_over) in [("cellar", false), ("barn", true)] {
        let mut bench = two_edges(1.0);
        bench.operate(Operation::Connect);
        let session = session_of(1, of);
        let resume = Some(ResumePoint { session, completed: None, prepared: false, live: None });
        let barn = TrainingRequest { resume, ..request("barn", 20) };
        bench.operate(Operation::Say(2, EdgeMessage::TrainingRequest(barn)));
        assert_eq!(bench.peers.contains_key(&1), !taken_over, "barn's own connection");
        assert_eq!(bench.peers.contains_key(&3), taken_over, "who says to be barn");
    }
}

#[test]
fn however_much_an_edge_says_the_others_hear_of_it_in_short() {
    for said in ["x".repeat(MAX_MESSAGE_BYTES - 64), "\u{1b}[31mred".to_owned()] {
        let mut bench = two_edges(1.0);
        bench.operate(Operation::Say(0, EdgeMessage::Declined { reason: said }));
        let told = bench.refused.pop().expect("it is turned away");
        assert!(told.starts_with("it cannot take part: ") && told.len() < 2048, "{} bytes", told.len());
        assert!(!told.contains('\u{1b}'), "{told:?} is for a terminal");
        // The other one hears why the run ends; the bench sees to it that this can be sent.
        bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
        let ends = |kind: &EventKind| matches!(kind, EventKind::Aborted { reason } if reason.contains(&told));
        assert!(bench.finished && bench.events.iter().any(ends));
    }
}

#[test]
fn a_model_that_could_not_be_made_is_not_announced() {
    let scenario = Scenario { steps: 1, aggregate_every: 1, ..Scenario::new(1).in_one_part().cut_at(2) };
    let mut bench = bench_of_two(&scenario);
    for number in [0, 1].repeat(4) {
        bench.operate(Operation::Proceed(number));
    }
    bench.finish(|job| matches!(job, Job::Step(_)));
    bench.finish(|job| matches!(job, Job::Step(_)));
    for number in [0, 1] {
        bench.operate(Operation::Proceed(number));
    }
    bench.finish(|job| matches!(job, Job::Export { .. }));
    bench.finish(|job| matches!(job, Job::Export { .. }));
    bench.first(|job| matches!(job, Job::Aggregate { .. }));
    let reason = "there is no memory".into();
    bench.coordinator.handle_computed(Duration::from_secs(1), Computed::Failed { reason });
    bench.operate(Operation::Wait(0));
    assert!(bench.finished && matches!(bench.events.last(), Some(EventKind::Aborted { .. })));
    assert!(!bench.events.iter().any(|kind| matches!(kind, EventKind::Aggregated { .. })));
}

/// What the first edge is told when it sends this tensor as its first.
fn told_after(scenario: &Scenario, kind: TensorKind, labels: &[u32]) -> Option<String> {
    let mut bench = bench_of_two(scenario);
    for number in [0, 1, 0, 1] {
        bench.operate(Operation::Proceed(number));
    }
    assert!(bench.peers.values().all(|peer| peer.plan.is_some()), "both train");
    let tensor = TensorMessage::encode(TensorHeader::new(kind, Codec::F32), vec![1.0], labels);
    bench.operate(Operation::Send(0, tensor));
    bench.refused.pop()
}

#[test]
fn labels_are_sent_where_they_are_wanted_only() {
    let (cloud, edge) = (Scenario::new(1), Scenario::new(1).labels_on_the_edge());
    assert_eq!(told_after(&cloud, TensorKind::Activations, &[1]), None);
    assert_eq!(told_after(&edge, TensorKind::Activations, &[]), None);
    let told = told_after(&edge, TensorKind::Activations, &[1]).expect("it has sent a label");
    assert!(told.contains("labels, which stay on the edges"), "{told}");
    let told = told_after(&cloud, TensorKind::TailGradient, &[]).expect("there is no tail");
    assert!(told.contains("a gradient where the cloud has the labels"), "{told}");
    let told = told_after(&edge, TensorKind::TailGradient, &[]).expect("nothing has gone forward");
    assert!(told.contains("0 of 3 steps were served"), "{told}");
}

#[test]
fn how_many_samples_an_edge_has_of_each_label_is_forgotten_where_labels_stay() {
    for (scenario, known) in [(Scenario::new(1), 2), (Scenario::new(1).labels_on_the_edge(), 0)] {
        let bench = bench_of_two(&scenario);
        let of_labels =
            |event: &&EventKind| matches!(event, EventKind::EdgeJoined { labels, .. } if !labels.is_empty());
        assert_eq!(bench.events.iter().filter(of_labels).count(), known);
    }
}

#[test]
fn a_score_that_cannot_be_concerns_its_own_edge_only() {
    for (correct, loss_sum, samples) in
        [(3, 1.0, 2), (1, f64::NAN, 2), (1, -1.0, 2), (1, 1.0, 3), (0, 0.0, 0)]
    {
        let scenario = Scenario {
            holdout: Some(0.1),
            quorum: 0.5,
            min_edges: 2,
            steps: 1,
            rounds: 1,
            ..Scenario::new(1)
        };
        let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
        bench.operate(Operation::Connect);
        bench.operate(Operation::Connect);
        for turn in 0..40 {
            // Whoever owes a score keeps it.
            for (number, peer) in [(0, 1), (1, 2)] {
                if bench.peers[&peer].owes_score.is_none() {
                    bench.operate(Operation::Proceed(number));
                }
            }
            bench.operate(Operation::Finish(turn));
        }
        assert!(bench.peers.values().all(|peer| peer.owes_score == Some(0)), "both are asked");
        let result = Ok(Score { correct, loss_sum, samples });
        bench.operate(Operation::Say(0, EdgeMessage::Evaluated { round: 0, result }));
        assert!(!bench.finished && bench.peers.len() == 1, "it is turned away");
        bench.operate(Operation::Proceed(0));
        assert!(!bench.finished, "it may come back");
        bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
        assert!(bench.finished, "the other one's part is enough");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_list_of_operations_breaks_the_coordinator(
        operations in proptest::collection::vec(operation(), 0..300),
        kind in 0..5,
        seed in any::<u64>(),
        target in proptest::option::of(0.0..0.5),
        holdout in proptest::option::of(Just(0.1)),
        log in any::<bool>(),
        stragglers in prop_oneof![
            Just(Stragglers::Wait),
            (1.0..100.0).prop_map(|factor| Stragglers::Drop { factor }),
            (1.0..100.0).prop_map(|factor| Stragglers::Defer { factor }),
        ],
    ) {
        let base = match kind {
            0 => Scenario::centralized(seed),
            1 => Scenario::shared_behind_a_cut(seed),
            2 => Scenario::handed_on(seed),
            3 => Scenario::new(seed).any_depth(),
            _ => Scenario::new(seed).any_depth().labels_on_the_edge(),
        };
        let scenario = Scenario {
            quorum: 0.3,
            min_edges: 2,
            rounds: 4,
            aggregate_every: 2,
            steps: 2,
            target_accuracy: target,
            holdout,
            stragglers,
            standardization: if log { Method::Log } else { Method::Zscore },
            ..base
        };
        let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
        // Two edges to begin with.
        let begin = [Operation::Connect, Operation::Connect, Operation::Proceed(0), Operation::Proceed(1)];
        for operation in begin.into_iter().chain(operations) {
            bench.operate(operation);
        }
        prop_assert!(format!("{:?}", bench.coordinator).len() < MOST_BYTES, "it keeps too much");
        bench.wind_down();
    }
}
