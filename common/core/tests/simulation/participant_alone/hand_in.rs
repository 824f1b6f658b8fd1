//! The others go on without an edge, and its model is wanted at the end of its round: whenever it is told so, it
//! ends the round once, and sends its part of the model.

use super::*;

const WANTED: CloudMessage = CloudMessage::HandIn { round: 4, attempt: 1 };

fn ready(restored: Option<Completed>) -> Participant {
    let mut edge = participant(restored.map(|completed| Restored { session: 1, completed: Some(completed) }));
    edge.handle_message(NOW, assignment(1, Some(standardizer())));
    edge.handle_computed(NOW, Computed::Prepared);
    actions(&mut edge);
    edge
}

/// A round of local training that no aggregation follows.
fn local() -> CloudMessage {
    let CloudMessage::Round(plan) = plan(4, 1, LAYERS as u32, StartFrom::Initial) else { panic!("a plan") };
    CloudMessage::Round(RoundPlan { aggregate: false, ..plan })
}

/// Does what it asks for; uploads are wanted where the job says so. The jobs, and the kinds of what it sends.
fn proceed(edge: &mut Participant) -> (Vec<Job>, Vec<&'static str>) {
    let (mut jobs, mut sent) = (Vec::new(), Vec::new());
    for action in actions(edge) {
        match action {
            Action::Compute(job) => jobs.push(job),
            Action::Send(EdgeMessage::RoundDone { round: 4, attempt: 1, .. }) => sent.push("done"),
            Action::SendTensor { tensor, .. } => {
                sent.push(if tensor.header.step == 3 { "model" } else { "other" });
            }
            _ => {}
        }
    }
    (jobs, sent)
}

fn ended(aggregate: bool) -> Computed {
    let uploads = if aggregate { vec![tensor(TensorKind::State, (4, 1, 3))] } else { Vec::new() };
    Computed::RoundEnded { round: 4, attempt: 1, uploads, peak_rss_bytes: 0 }
}

/// Up to the job that ends the round; told so before step `told_at`, if there is one.
fn at_the_end(told_at: Option<u32>) -> (Participant, bool) {
    let mut edge = ready(None);
    edge.handle_message(NOW, local());
    let mut step = 0;
    loop {
        let (mut jobs, _) = proceed(&mut edge);
        match jobs.pop().expect("it is at work") {
            Job::EndRound { plan } => return (edge, plan.aggregate),
            job => {
                if told_at == Some(step) {
                    edge.handle_message(NOW, WANTED);
                }
                step += 1;
                edge.handle_computed(NOW, answer(job));
            }
        }
    }
}

#[test]
fn told_before_the_end_it_ends_the_round_with_its_model() {
    for told_at in 0..4 {
        let (mut edge, aggregate) = at_the_end(Some(told_at));
        assert!(aggregate, "told before step {told_at}");
        edge.handle_computed(NOW, ended(aggregate));
        assert_eq!(proceed(&mut edge).1, ["model", "done"]);
        edge.handle_message(NOW, WANTED);
        assert!(proceed(&mut edge).0.is_empty(), "it has been told");
    }
    assert!(!at_the_end(None).1);
}

#[test]
fn told_at_the_end_it_sends_what_is_durable() {
    for told_early in [true, false] {
        let (mut edge, aggregate) = at_the_end(None);
        let mut asked = Vec::new();
        if told_early {
            edge.handle_message(NOW, WANTED);
            asked.extend(proceed(&mut edge).0);
        }
        edge.handle_computed(NOW, ended(aggregate));
        assert_eq!(proceed(&mut edge).1, ["done"]);
        edge.handle_message(NOW, WANTED);
        asked.extend(proceed(&mut edge).0);
        let upload = Completed { round: 4, attempt: 1, cut: LAYERS as u32, aggregate: true, steps: 3 };
        assert!(matches!(&asked[..], [Job::Upload(completed)] if *completed == upload), "{asked:?}");
        edge.handle_computed(NOW, ended(true));
        assert_eq!(proceed(&mut edge).1, ["model", "done"]);
        // Both are lost with the connection.
        edge.handle_disconnect(NOW, "lost");
        edge.handle_connected(NOW);
        actions(&mut edge);
        edge.handle_message(NOW, CloudMessage::Resumed);
        assert_eq!(proceed(&mut edge).1, ["model", "done"]);
    }
}

#[test]
fn told_after_a_restart_it_sends_what_its_folder_holds() {
    let completed = Completed { round: 4, attempt: 1, cut: 2, aggregate: false, steps: 3 };
    let mut edge = ready(Some(completed));
    edge.handle_message(NOW, CloudMessage::HandIn { round: 4, attempt: 0 });
    assert!(proceed(&mut edge).0.is_empty(), "an attempt that was given up");
    edge.handle_message(NOW, WANTED);
    let (jobs, _) = proceed(&mut edge);
    assert!(
        matches!(&jobs[..], [Job::Upload(Completed { round: 4, attempt: 1, aggregate: true, .. })]),
        "{jobs:?}"
    );
    edge.handle_computed(NOW, ended(true));
    assert_eq!(proceed(&mut edge).1, ["model", "done"]);
}
