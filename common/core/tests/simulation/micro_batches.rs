//! Steps in several parts, of which the participant alone is told in orders that are rare between two machines.

use partway_core::micro_batch::MicroBatch;
use partway_core::participant::{Action, Computed, Job, Outcome, Participant};
use partway_core::wire::{CloudMessage, EdgeMessage, StartFrom, TensorKind};

use crate::participant_alone::{
    NOW, actions, assignment, assignment_with, part, participant, plan_in_parts, standardizer,
};
use crate::scenario::LAYERS;

/// A participant in the first step of a round in three parts, of which so many have been forwarded.
fn in_parts(forwarded: u32) -> Participant {
    in_parts_of(assignment(1, Some(standardizer())), forwarded)
}

/// Likewise, where the last two layers are on the edge with the labels.
fn in_parts_with_a_tail(forwarded: u32) -> Participant {
    in_parts_of(assignment_with(1, Some(standardizer()), Some(LAYERS as u32 - 2)), forwarded)
}

fn in_parts_of(assignment: CloudMessage, forwarded: u32) -> Participant {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment);
    edge.handle_computed(NOW, Computed::Prepared);
    edge.handle_message(NOW, plan_in_parts(0, 0, 2, StartFrom::Initial, 3));
    edge.handle_computed(NOW, Computed::Begun { round: 0, attempt: 0, moved: None });
    for index in 0..forwarded {
        let micro_batch = MicroBatch { index, of: 3 };
        let activations = part(TensorKind::Activations, (0, 0, 0), index as u16);
        edge.handle_computed(
            NOW,
            Computed::Forwarded { round: 0, attempt: 0, step: 0, micro_batch, activations, seconds: 0.1 },
        );
    }
    edge
}

fn sent(actions: &[Action]) -> Vec<u16> {
    let of = |action: &Action| match action {
        Action::SendTensor { tensor, .. } => Some(tensor.header.micro_batch),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn taken_back(actions: &[Action]) -> Vec<u32> {
    let of = |action: &Action| match action {
        Action::Compute(Job::Backward { micro_batch, .. }) => Some(micro_batch.index),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn micro_batches_come_back_in_their_order_after_all_have_gone_forward() {
    let mut edge = in_parts(2);
    let asked = actions(&mut edge);
    assert_eq!(sent(&asked), [0, 1]);
    let next = |action: &Action| {
        matches!(action, Action::Compute(Job::Forward { micro_batch: MicroBatch { index: 2, of: 3 }, .. }))
    };
    assert!(asked.iter().any(next), "{asked:?}");
    let gradient = |index| part(TensorKind::CutGradient, (0, 0, 0), index);
    for index in [2, 1, 1, 0] {
        edge.handle_tensor(NOW, gradient(index), 0.1);
    }
    assert_eq!(taken_back(&actions(&mut edge)), [] as [u32; 0], "the last one is still to go forward");
    let (micro_batch, activations) =
        (MicroBatch { index: 2, of: 3 }, part(TensorKind::Activations, (0, 0, 0), 2));
    let last = Computed::Forwarded { round: 0, attempt: 0, step: 0, micro_batch, activations, seconds: 0.1 };
    edge.handle_computed(NOW, last);
    let mut asked = actions(&mut edge);
    assert_eq!((sent(&asked), taken_back(&asked)), (vec![2], vec![0]));
    for index in 0..3 {
        let micro_batch = MicroBatch { index, of: 3 };
        edge.handle_computed(
            NOW,
            Computed::Backwarded { round: 0, attempt: 0, step: 0, micro_batch, seconds: 0.2 },
        );
        asked = actions(&mut edge);
        if index == 0 {
            assert_eq!(taken_back(&asked), [1]);
            // The gradient of the last came before it was sent: it answers nothing.
            edge.handle_computed(
                NOW,
                Computed::Backwarded { round: 0, attempt: 0, step: 0, micro_batch, seconds: 0.2 },
            );
            assert_eq!(taken_back(&actions(&mut edge)), [] as [u32; 0], "a result counts once");
        }
        if index == 1 {
            assert_eq!(taken_back(&asked), [] as [u32; 0]);
            edge.handle_tensor(NOW, gradient(2), 0.1);
            assert_eq!(taken_back(&actions(&mut edge)), [2]);
        }
    }
    let report = asked.iter().find_map(|action| match action {
        Action::Send(EdgeMessage::StepsDone { reports, .. }) => reports.first().copied(),
        _ => None,
    });
    let report = report.expect("the step is done");
    assert!((report.forward_s - 0.3).abs() < 1e-12 && (report.backward_s - 0.6).abs() < 1e-12, "{report:?}");
    let downlink = report.downlink.expect("three gradients came");
    assert_eq!(downlink.bytes, 3 * gradient(0).wire_bytes());
}

#[test]
fn what_was_not_answered_is_sent_again_part_by_part() {
    let mut edge = in_parts(3);
    edge.handle_tensor(NOW, part(TensorKind::CutGradient, (0, 0, 0), 1), 0.1);
    actions(&mut edge);
    edge.handle_disconnect(NOW, "lost");
    edge.handle_connected(NOW);
    actions(&mut edge);
    edge.handle_message(NOW, CloudMessage::Resumed);
    assert_eq!(sent(&actions(&mut edge)), [0, 2]);
}

/// What is computed next, as its kind and which micro-batch.
fn computed_next(actions: &[Action]) -> Vec<(char, u32)> {
    let of = |action: &Action| match action {
        Action::Compute(Job::Forward { micro_batch, .. }) => Some(('f', micro_batch.index)),
        Action::Compute(Job::Tail { micro_batch, .. }) => Some(('t', micro_batch.index)),
        Action::Compute(Job::Backward { micro_batch, .. }) => Some(('b', micro_batch.index)),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn tail_stepped(index: u32, loss: f32) -> Computed {
    Computed::TailStepped {
        round: 0,
        attempt: 0,
        step: 0,
        micro_batch: MicroBatch { index, of: 3 },
        gradient: part(TensorKind::TailGradient, (0, 0, 0), index as u16),
        loss,
        correct: 2,
        seconds: 0.1,
    }
}

fn backwarded(index: u32) -> Computed {
    let micro_batch = MicroBatch { index, of: 3 };
    Computed::Backwarded { round: 0, attempt: 0, step: 0, micro_batch, seconds: 0.2 }
}

#[test]
fn micro_batches_pass_the_last_layers_in_their_order_and_before_others_come_back() {
    let mut edge = in_parts_with_a_tail(2);
    actions(&mut edge);
    let passed = |index| part(TensorKind::TailActivations, (0, 0, 0), index);
    let gradient = |index| part(TensorKind::CutGradient, (0, 0, 0), index);
    for index in [1, 0, 0] {
        edge.handle_tensor(NOW, passed(index), 0.1);
    }
    // The cloud cannot have the gradient of what has not passed the last layers.
    edge.handle_tensor(NOW, gradient(0), 0.1);
    assert_eq!(computed_next(&actions(&mut edge)), [], "the last one is still to go forward");
    let (micro_batch, activations) =
        (MicroBatch { index: 2, of: 3 }, part(TensorKind::Activations, (0, 0, 0), 2));
    let last = Computed::Forwarded { round: 0, attempt: 0, step: 0, micro_batch, activations, seconds: 0.1 };
    edge.handle_computed(NOW, last);
    assert_eq!(computed_next(&actions(&mut edge)), [('t', 0)]);
    edge.handle_computed(NOW, tail_stepped(0, 3.0));
    let asked = actions(&mut edge);
    assert_eq!((sent(&asked), computed_next(&asked)), (vec![0], vec![('t', 1)]));
    edge.handle_computed(NOW, tail_stepped(0, 3.0));
    assert_eq!(computed_next(&actions(&mut edge)), [], "a result counts once");
    edge.handle_tensor(NOW, gradient(0), 0.1);
    edge.handle_tensor(NOW, passed(2), 0.1);
    edge.handle_computed(NOW, tail_stepped(1, 6.0));
    assert_eq!(computed_next(&actions(&mut edge)), [('t', 2)], "the cloud waits for it");
    edge.handle_computed(NOW, tail_stepped(2, 9.0));
    assert_eq!(computed_next(&actions(&mut edge)), [('b', 0)]);
    edge.handle_computed(NOW, backwarded(0));
    assert_eq!(computed_next(&actions(&mut edge)), []);
    edge.handle_tensor(NOW, gradient(2), 0.1);
    edge.handle_tensor(NOW, gradient(1), 0.1);
    edge.handle_computed(NOW, backwarded(1));
    edge.handle_computed(NOW, backwarded(2));
    let report = actions(&mut edge).into_iter().find_map(|action| match action {
        Action::Send(EdgeMessage::StepsDone { reports, .. }) => reports.first().copied(),
        _ => None,
    });
    let report = report.expect("the step is done");
    let (loss, correct) = report.local.expect("the edge has the labels");
    assert!((loss - 6.0).abs() < 1e-6 && correct == 6, "{report:?}");
    assert!((report.forward_s - 0.3).abs() < 1e-12 && (report.backward_s - 0.9).abs() < 1e-12, "{report:?}");
    let downlink = report.downlink.expect("six tensors came");
    assert_eq!(downlink.bytes, 3 * (gradient(0).wire_bytes() + passed(0).wire_bytes()));
}

#[test]
fn what_was_not_answered_is_sent_again_wherever_it_is_on_its_way() {
    let mut edge = in_parts_with_a_tail(3);
    edge.handle_tensor(NOW, part(TensorKind::TailActivations, (0, 0, 0), 0), 0.1);
    edge.handle_computed(NOW, tail_stepped(0, 1.0));
    actions(&mut edge);
    edge.handle_disconnect(NOW, "lost");
    edge.handle_connected(NOW);
    actions(&mut edge);
    edge.handle_message(NOW, CloudMessage::Resumed);
    let kinds = actions(&mut edge).into_iter().filter_map(|action| match action {
        Action::SendTensor { tensor, .. } => Some((tensor.header.kind, tensor.header.micro_batch)),
        _ => None,
    });
    let activations = TensorKind::Activations;
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [(TensorKind::TailGradient, 0), (activations, 1), (activations, 2)]
    );
}

#[test]
fn a_batch_that_has_no_such_parts_is_not_trained() {
    for parts in [0, 5, 24] {
        let mut edge = participant(None);
        edge.handle_message(NOW, assignment(1, Some(standardizer())));
        edge.handle_computed(NOW, Computed::Prepared);
        edge.handle_message(NOW, plan_in_parts(0, 0, 2, StartFrom::Initial, parts));
        let failed = |action: &Action| matches!(action, Action::Finish(Outcome::Failed { .. }));
        assert!(actions(&mut edge).iter().any(failed), "{parts} parts of twelve samples");
    }
}
