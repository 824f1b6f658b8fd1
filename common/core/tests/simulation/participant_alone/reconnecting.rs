//! A new connection takes large tensors only once the coordinator knows whose it is.

use super::*;

fn tensors(edge: &mut Participant) -> usize {
    actions(edge).iter().filter(|action| matches!(action, Action::SendTensor { .. })).count()
}

/// In the forward pass of its first step.
fn in_a_step() -> (Participant, Job) {
    let mut edge = participant(None);
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
    edge.handle_computed(NOW, Computed::Prepared);
    edge.handle_message(NOW, plan(0, 0, 1, StartFrom::Initial));
    loop {
        let job = actions(&mut edge).into_iter().rev().find_map(|action| match action {
            Action::Compute(job) => Some(job),
            _ => None,
        });
        match job.expect("it is at work") {
            job @ Job::Forward { .. } => return (edge, job),
            job => edge.handle_computed(NOW, answer(job)),
        }
    }
}

#[test]
fn activations_wait_until_the_coordinator_knows_the_connection() {
    let (mut edge, forward) = in_a_step();
    edge.handle_disconnect(NOW, "timed out");
    edge.handle_connected(NOW);
    edge.handle_computed(NOW, answer(forward));
    assert_eq!(tensors(&mut edge), 0, "the coordinator has not said anything yet");
    edge.handle_message(NOW, CloudMessage::Resumed);
    assert_eq!(tensors(&mut edge), 1);
    edge.handle_disconnect(NOW, "timed out");
    edge.handle_connected(NOW);
    edge.handle_message(NOW, CloudMessage::Resumed);
    assert_eq!(tensors(&mut edge), 1, "they are unanswered still");
}

#[test]
fn activations_go_at_once_where_the_connection_is_known() {
    let (mut edge, forward) = in_a_step();
    edge.handle_computed(NOW, answer(forward));
    assert_eq!(tensors(&mut edge), 1);
}
