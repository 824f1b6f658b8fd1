//! Steps in several parts, of which the participant alone is told in orders that are rare between two machines.

use partway_core::micro_batch::MicroBatch;
use partway_core::participant::{Action, Computed, Job, Outcome, Participant};
use partway_core::wire::{CloudMessage, EdgeMessage, StartFrom, TensorKind};

use crate::participant_alone::{NOW, actions, assignment, part, participant, plan_in_parts, standardizer};

/// A participant in the first step of a round in three parts, of which so many have been forwarded.
fn in_parts(forwarded: u32) -> Participant {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
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
