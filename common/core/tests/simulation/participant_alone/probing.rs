//! Probes of a round that the edge trains alone.

use super::*;

const PROBE_BYTES: u32 = 4096;

fn local(probe_bytes: u32) -> CloudMessage {
    let CloudMessage::Round(plan) = plan(0, 0, LAYERS as u32, StartFrom::Initial) else { panic!("a plan") };
    CloudMessage::Round(RoundPlan { probe_bytes, ..plan })
}

fn stepped(step: u32) -> Computed {
    Computed::LocalStepped { round: 0, attempt: 0, step, loss: 1.0, correct: 1, seconds: 0.1 }
}

/// Begins the round, and goes through its three steps; `at` each, `between` happens. The steps with which probes were
/// sent, and the steps whose reports have a downlink transfer.
fn train(probe_bytes: u32, mut between: impl FnMut(&mut Participant, u32)) -> (Vec<u32>, Vec<u32>) {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
    edge.handle_computed(NOW, Computed::Prepared);
    edge.handle_message(NOW, local(probe_bytes));
    actions(&mut edge);
    edge.handle_computed(NOW, Computed::Begun { round: 0, attempt: 0, moved: None });
    for step in 0..3 {
        between(&mut edge, step);
        edge.handle_computed(NOW, stepped(step));
    }
    let (mut probed, mut told) = (Vec::new(), Vec::new());
    for action in actions(&mut edge) {
        match action {
            Action::SendTensor { tensor, pace } if tensor.header.kind == TensorKind::Probe => {
                assert!(pace.is_none() && tensor.header.values == probe_bytes / 4);
                probed.push(tensor.header.step);
            }
            Action::Send(EdgeMessage::StepsDone { reports, .. }) => {
                told.extend(reports.iter().filter(|report| report.downlink.is_some()).map(|it| it.step));
            }
            _ => {}
        }
    }
    (probed, told)
}

#[test]
fn they_travel_beside_the_first_step_and_the_middle_one() {
    assert_eq!(train(PROBE_BYTES, |_, _| {}), (vec![0, 1], vec![]));
    assert_eq!(train(0, |_, _| {}), (vec![], vec![]), "none was asked for");
}

#[test]
fn what_comes_down_is_told_once_with_the_next_report() {
    let come = |wanted: u32, ids: (u32, u32, u32)| {
        train(0, move |edge, step| {
            if step == wanted {
                edge.handle_tensor(NOW, tensor(TensorKind::Probe, ids), 0.1);
            }
        })
    };
    assert_eq!(come(1, (0, 0, 0)), (vec![], vec![1]));
    for other in [(1, 0, 0), (0, 1, 0)] {
        assert_eq!(come(1, other), (vec![], vec![]), "it is of another round or attempt");
    }
}

#[test]
fn they_are_lost_with_the_connection() {
    let (probed, _) = train(PROBE_BYTES, |edge, step| {
        if step == 1 {
            actions(edge);
            edge.handle_disconnect(NOW, "timed out");
            edge.handle_connected(NOW);
            edge.handle_message(NOW, CloudMessage::Resumed);
        }
    });
    assert!(probed.is_empty(), "{probed:?}");
}

#[test]
fn no_plan_makes_an_edge_send_more_than_a_little() {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
    edge.handle_computed(NOW, Computed::Prepared);
    edge.handle_message(NOW, local(u32::MAX));
    edge.handle_computed(NOW, Computed::Begun { round: 0, attempt: 0, moved: None });
    let bytes = actions(&mut edge).into_iter().filter_map(|action| match action {
        Action::SendTensor { tensor, .. } => Some(tensor.wire_bytes()),
        _ => None,
    });
    assert!(bytes.sum::<u64>() < 1 << 20);
}
