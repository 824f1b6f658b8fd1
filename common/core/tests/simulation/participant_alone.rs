//! The participant alone, told things in orders that are rare between two machines.

mod hand_in;
mod probing;
mod reconnecting;

use std::time::Duration;

use partway_core::codec::Codec;
use partway_core::micro_batch::MicroBatch;
use partway_core::model::state::state_len;
use partway_core::participant::{Action, Completed, Computed, Job, Outcome, Participant, Restored};
use partway_core::standardize::{Affine, Method, Standardizer, Transform};
use partway_core::statistics::ChannelStatistics;
use partway_core::wire::{
    Assignment, CloudMessage, EdgeMessage, PROTOCOL_VERSION, RoundPlan, Score, StartFrom, TensorHeader,
    TensorKind, TensorMessage, TrainingRequest,
};
use proptest::prelude::*;

use crate::fake_model::{FakeModel, MOMENTS};
use crate::scenario::{LAYERS, PATIENCE, Scenario, device};

pub(crate) const NOW: Duration = Duration::from_secs(1);

pub(crate) fn participant(restored: Option<Restored>) -> Participant {
    let request = TrainingRequest {
        version: PROTOCOL_VERSION,
        name: "attic".into(),
        samples: 30,
        labels: vec![30],
        class_names: None,
        shape: [1, 2, 2],
        profile: device(),
        memory_limit: None,
        uplink_hint: None,
        resume: None,
    };
    let mut participant = Participant::new(Duration::ZERO, request, restored, PATIENCE);
    participant.handle_connected(Duration::ZERO);
    actions(&mut participant);
    participant
}

pub(crate) fn actions(participant: &mut Participant) -> Vec<Action> {
    std::iter::from_fn(|| participant.poll_action()).collect()
}

pub(crate) fn standardizer() -> Standardizer {
    Standardizer {
        method: Method::Zscore,
        transform: Transform::Identity,
        channels: vec![Affine { offset: 0.0, scale: 1.0 }],
    }
}

pub(crate) fn assignment(session: u64, standardizer: Option<Standardizer>) -> CloudMessage {
    assignment_with(session, standardizer, None)
}

/// With the labels on the edge, if there is a tail.
pub(crate) fn assignment_with(session: u64, known: Option<Standardizer>, tail: Option<u32>) -> CloudMessage {
    let model = FakeModel::new();
    let settings = Scenario::new(1).settings(&model, 1);
    CloudMessage::Assignment(Box::new(Assignment {
        session,
        seed: settings.seed,
        model: settings.spec,
        standardization: settings.standardization,
        measure: Transform::Identity,
        standardizer: known,
        holdout: Some(0.1),
        optimizer: settings.optimizer,
        batch_size: 12,
        steps_per_round: 3,
        least_cut: 1,
        tail,
        probe_bytes: 64,
    }))
}

fn tensor(kind: TensorKind, ids: (u32, u32, u32)) -> TensorMessage {
    part(kind, ids, 0)
}

pub(crate) fn part(
    kind: TensorKind,
    (round, attempt, step): (u32, u32, u32),
    micro_batch: u16,
) -> TensorMessage {
    let layers = 0..2;
    let ids = TensorHeader { round, attempt, step, micro_batch, ..TensorHeader::new(kind, Codec::F32) };
    let header = TensorHeader { last_layer: 2, ..ids };
    let values = vec![0.5; state_len(&FakeModel::new().spec, layers, MOMENTS)];
    TensorMessage::encode(header, values, &[])
}

fn plan(round: u32, attempt: u32, cut: u32, start: StartFrom) -> CloudMessage {
    plan_in_parts(round, attempt, cut, start, 1)
}

pub(crate) fn plan_in_parts(
    round: u32,
    attempt: u32,
    cut: u32,
    start: StartFrom,
    in_flight: u32,
) -> CloudMessage {
    CloudMessage::Round(RoundPlan {
        round,
        attempt,
        cut,
        steps: 3,
        optimizer_steps: 0,
        start,
        aggregate: true,
        activations: Codec::F32.into(),
        gradients: Codec::F32,
        in_flight,
        pace: None,
        deadline_s: 1.0,
        probe_bytes: 0,
    })
}

fn measured(of: Transform) -> Computed {
    Computed::Statistics { of, channels: vec![ChannelStatistics::default()] }
}

fn is_ready(action: &Action) -> bool {
    matches!(action, Action::Send(EdgeMessage::Ready { .. }))
}

#[test]
fn a_probe_that_overtakes_the_assignment_is_not_waited_for_again() {
    let mut edge = participant(None);
    edge.handle_tensor(NOW, tensor(TensorKind::Probe, (0, 0, 0)), 0.1);
    edge.handle_message(NOW, assignment(1, None));
    edge.handle_computed(NOW, measured(Transform::Identity));
    edge.handle_message(NOW, CloudMessage::Standardize(standardizer()));
    assert!(!actions(&mut edge).iter().any(is_ready));
    edge.handle_computed(NOW, Computed::Prepared);
    assert!(actions(&mut edge).iter().any(is_ready));
}

#[test]
fn what_an_earlier_connection_asked_for_does_not_answer_this_one() {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
    edge.handle_disconnect(NOW, "timed out");
    edge.handle_connected(NOW);
    // The coordinator has begun another session in the meantime, and knows no standardizer yet.
    edge.handle_message(NOW, assignment(2, None));
    edge.handle_tensor(NOW, tensor(TensorKind::Probe, (0, 0, 0)), 0.1);
    edge.handle_computed(NOW, Computed::Prepared);
    assert!(!actions(&mut edge).iter().any(is_ready), "this was session 1's preparation");
    edge.handle_message(NOW, CloudMessage::Standardize(standardizer()));
    edge.handle_computed(NOW, Computed::Prepared);
    assert_eq!(actions(&mut edge).iter().filter(|action| is_ready(action)).count(), 1);
    edge.handle_tensor(NOW, tensor(TensorKind::Probe, (0, 0, 0)), 0.1);
    assert!(!actions(&mut edge).iter().any(is_ready), "it has said so");
}

#[test]
fn a_late_copy_of_layers_does_not_displace_those_that_are_needed() {
    let completed = Completed { round: 2, attempt: 0, cut: 1, aggregate: false, steps: 3 };
    let mut edge = participant(Some(Restored { session: 1, completed: Some(completed) }));
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
    edge.handle_computed(NOW, Computed::Prepared);
    edge.handle_tensor(NOW, tensor(TensorKind::State, (3, 1, 0)), 0.1);
    edge.handle_tensor(NOW, tensor(TensorKind::State, (3, 0, 0)), 0.1);
    edge.handle_message(NOW, plan(3, 1, 2, StartFrom::Own { upload_moved: false }));
    let begins = |action: &Action| matches!(action, Action::Compute(Job::Begin { blocks, .. }) if matches!(&blocks[..], [block] if block.header.attempt == 1));
    assert!(actions(&mut edge).iter().any(begins));
    // A copy of what it has begun with is not kept for a round to come.
    edge.handle_tensor(NOW, tensor(TensorKind::State, (3, 1, 0)), 0.1);
    assert!(!actions(&mut edge).iter().any(begins));
}

#[test]
fn a_model_is_evaluated_once_and_its_answer_belongs_to_its_session() {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
    edge.handle_computed(NOW, Computed::Prepared);
    actions(&mut edge);
    edge.handle_tensor(NOW, tensor(TensorKind::Model, (4, 0, 0)), 0.1);
    let job = actions(&mut edge).into_iter().find_map(|action| match action {
        Action::Compute(job @ Job::Evaluate { .. }) => Some(job),
        _ => None,
    });
    let computed = answer(job.expect("it evaluates"));
    edge.handle_computed(NOW, computed.clone());
    let is_answer = |action: &Action| matches!(action, Action::Send(EdgeMessage::Evaluated { round: 4, .. }));
    assert!(actions(&mut edge).iter().any(is_answer));
    // The answer was lost, and it is asked again.
    edge.handle_tensor(NOW, tensor(TensorKind::Model, (4, 0, 0)), 0.1);
    let again = actions(&mut edge);
    assert!(again.len() == 1 && is_answer(&again[0]), "{again:?}");
    edge.handle_tensor(NOW, tensor(TensorKind::Model, (3, 0, 0)), 0.1);
    assert!(actions(&mut edge).is_empty(), "a copy of an earlier one");
    // Another coordinator's model of that round is another one.
    edge.handle_disconnect(NOW, "lost");
    edge.handle_connected(NOW);
    edge.handle_message(NOW, assignment(2, Some(standardizer())));
    edge.handle_computed(NOW, computed);
    assert!(!actions(&mut edge).iter().any(is_answer));
}

#[test]
fn an_edge_that_is_put_off_asks_again_until_its_patience_is_over() {
    let mut edge = participant(None);
    let (mut now, mut asked) = (Duration::ZERO, 0);
    while asked < 1000 {
        edge.handle_message(now, CloudMessage::NotYet { reason: "the name is taken".into() });
        edge.handle_disconnect(now, "closed");
        match actions(&mut edge).pop() {
            Some(Action::SetTimer(Some(at))) => now = at,
            Some(Action::Finish(Outcome::Failed { reason })) => {
                assert!(reason.contains("the name is taken"), "{reason}");
                break;
            }
            other => panic!("{other:?}"),
        }
        edge.handle_timeout(now);
        edge.handle_connected(now);
        actions(&mut edge);
        asked += 1;
    }
    assert!(now < PATIENCE + Duration::from_secs(3));
    assert!((30..100).contains(&asked), "it asked {asked} times");
}

/// What an edge says to this plan, after this assignment, if its operator keeps the labels.
fn declined(tail: Option<u32>, cut: u32) -> Option<String> {
    let mut edge = participant(None).with_raw_data(true).with_labels_kept(true);
    edge.handle_message(NOW, assignment_with(1, Some(standardizer()), tail));
    edge.handle_computed(NOW, Computed::Prepared);
    edge.handle_message(NOW, plan(0, 0, cut, StartFrom::Initial));
    let declined = |action| match action {
        Action::Send(EdgeMessage::Declined { reason }) => Some(reason),
        _ => None,
    };
    actions(&mut edge).into_iter().find_map(declined)
}

#[test]
fn an_edge_that_keeps_its_labels_declines_to_send_them() {
    let reason = declined(None, 2).expect("labels would leave");
    assert!(reason.contains("asked for labels (cut 2 of `fake`)"), "{reason}");
    assert_eq!(declined(Some(6), 2), None, "they stay");
    assert_eq!(declined(None, LAYERS as u32), None, "the whole model is here");
    let reason = declined(Some(6), 7).expect("there is no such cut");
    assert!(reason.contains("does not fit the model"), "{reason}");
}

#[test]
fn a_tail_that_the_model_does_not_have_is_declined() {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment_with(1, Some(standardizer()), Some(LAYERS as u32)));
    let declines = |action: &Action| matches!(action, Action::Send(EdgeMessage::Declined { .. }));
    assert!(actions(&mut edge).iter().any(declines));
}

/// Something that a participant may be told.
#[derive(Clone, Debug)]
enum Told {
    Connected,
    Lost,
    Timeout,
    Malformed,
    Message(CloudMessage),
    Tensor(TensorMessage),
    /// The driver's answer to the oldest job, or one that it never asked for.
    Computed(Option<Computed>),
}

fn ids() -> impl Strategy<Value = (u32, u32, u32)> {
    prop_oneof![9 => (0..3u32, 0..3u32, 0..4u32), 1 => any::<(u32, u32, u32)>()]
}

fn told() -> impl Strategy<Value = Told> {
    let start = prop_oneof![
        Just(StartFrom::Initial),
        Just(StartFrom::Cloud),
        any::<bool>().prop_map(|upload_moved| StartFrom::Own { upload_moved })
    ];
    let message = prop_oneof![
        3 => (1..3u64, any::<bool>(), any::<bool>()).prop_map(|(session, known, labels_stay)| {
            assignment_with(session, known.then(standardizer), labels_stay.then_some(4))
        }),
        1 => Just(CloudMessage::Measure(Transform::Log1p { shifts: vec![-1.0] })),
        3 => Just(CloudMessage::Standardize(standardizer())),
        3 => Just(CloudMessage::Resumed),
        12 => (ids(), 1..=LAYERS as u32, start, 0..6u32).prop_map(|((round, attempt, _), cut, start, parts)| {
            plan_in_parts(round, attempt, cut, start, parts)
        }),
        3 => ids().prop_map(|(round, attempt, _)| CloudMessage::HandIn { round, attempt }),
        1 => Just(CloudMessage::NotYet { reason: "later".into() }),
    ];
    let kind = prop_oneof![
        1 => Just(TensorKind::Probe),
        4 => Just(TensorKind::State),
        6 => Just(TensorKind::CutGradient),
        6 => Just(TensorKind::TailActivations),
        2 => Just(TensorKind::Model),
    ];
    let computed = (ids(), 0..3u32).prop_map(|((round, attempt, step), index)| {
        let micro_batch = MicroBatch { index, of: 3 };
        Computed::Backwarded { round, attempt, step, micro_batch, seconds: 0.1 }
    });
    prop_oneof![
        2 => Just(Told::Connected),
        1 => Just(Told::Lost),
        1 => Just(Told::Timeout),
        1 => Just(Told::Malformed),
        8 => message.prop_map(Told::Message),
        6 => (kind, ids(), 0..4u16).prop_map(|(kind, ids, index)| Told::Tensor(part(kind, ids, index))),
        20 => Just(Told::Computed(None)),
        1 => computed.prop_map(|computed| Told::Computed(Some(computed))),
    ]
}

fn answer(job: Job) -> Computed {
    let of = |plan: &RoundPlan| (plan.round, plan.attempt);
    match job {
        Job::Statistics { of, .. } => measured(of),
        Job::Prepare { .. } => Computed::Prepared,
        Job::Begin { plan, .. } => {
            let ((round, attempt), upload) = (of(&plan), plan.start == StartFrom::Own { upload_moved: true });
            let moved = upload.then(|| tensor(TensorKind::State, (round, attempt, 0)));
            Computed::Begun { round, attempt, moved }
        }
        Job::Forward { plan, step, micro_batch } => {
            let ((round, attempt), index) = (of(&plan), micro_batch.index as u16);
            let activations = part(TensorKind::Activations, (round, attempt, step), index);
            Computed::Forwarded { round, attempt, step, micro_batch, activations, seconds: 0.1 }
        }
        Job::Tail { plan, step, micro_batch, .. } => {
            let ((round, attempt), index) = (of(&plan), micro_batch.index as u16);
            let gradient = part(TensorKind::TailGradient, (round, attempt, step), index);
            let (loss, correct, seconds) = (1.0, 1, 0.1);
            Computed::TailStepped { round, attempt, step, micro_batch, gradient, loss, correct, seconds }
        }
        Job::Backward { plan, step, micro_batch, .. } => {
            let (round, attempt) = of(&plan);
            Computed::Backwarded { round, attempt, step, micro_batch, seconds: 0.1 }
        }
        Job::LocalStep { plan, step } => {
            let (round, attempt) = of(&plan);
            Computed::LocalStepped { round, attempt, step, loss: 1.0, correct: 1, seconds: 0.1 }
        }
        Job::EndRound { plan } => {
            let (round, attempt) = of(&plan);
            let uploads = vec![tensor(TensorKind::State, (round, attempt, plan.steps))];
            Computed::RoundEnded { round, attempt, uploads, peak_rss_bytes: 0 }
        }
        Job::Upload(Completed { round, attempt, .. }) => {
            Computed::RoundEnded { round, attempt, uploads: Vec::new(), peak_rss_bytes: 0 }
        }
        Job::Evaluate { session, model } => {
            Computed::Evaluated { session, round: model.header.round, result: Ok(Score::default()) }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_it_is_told_breaks_it(all in proptest::collection::vec(told(), 0..200)) {
        let mut edge = participant(None);
        let (mut now, mut jobs, mut ended) = (Duration::ZERO, std::collections::VecDeque::new(), false);
        for told in all {
            now += Duration::from_millis(10);
            match told {
                Told::Connected => edge.handle_connected(now),
                Told::Lost => edge.handle_disconnect(now, "lost"),
                Told::Timeout => edge.handle_timeout(now),
                Told::Malformed => edge.handle_malformed("noise"),
                Told::Message(message) => edge.handle_message(now, message),
                Told::Tensor(tensor) => edge.handle_tensor(now, tensor, 0.1),
                Told::Computed(Some(computed)) => edge.handle_computed(now, computed),
                Told::Computed(None) => {
                    if let Some(job) = jobs.pop_front() {
                        edge.handle_computed(now, answer(job));
                    }
                }
            }
            let asked = actions(&mut edge);
            prop_assert!(asked.len() < 20, "it asks for too much: {asked:?}");
            prop_assert!(!ended || asked.is_empty(), "{asked:?} follows the end");
            for action in asked {
                match action {
                    Action::Compute(job) => jobs.push_back(job),
                    Action::Finish(_) => ended = true,
                    _ => {}
                }
            }
        }
    }
}
