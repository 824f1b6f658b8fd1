//! An edge that comes back after its process was started again, operation by operation.

use partway_core::coordinator::{Job, session_of};
use partway_core::event::EventKind;
use partway_core::wire::{EdgeMessage, ResumePoint, TrainingRequest};

use super::bench::{Bench, Operation};
use super::request;
use crate::fake_model::FakeModel;
use crate::scenario::{LAYERS, REJOIN_WINDOW, Scenario};

/// Barn and cellar, at a round of one step, whose model is averaged at its end.
fn both_train(scenario: Scenario) -> Bench {
    let scenario =
        Scenario { min_edges: 2, aggregate_every: 1, steps: 1, ..scenario.in_one_part().cut_at(LAYERS - 1) };
    let mut bench = Bench::new(scenario.settings(&FakeModel::new(), 1));
    for _ in ["barn", "cellar"] {
        bench.operate(Operation::Connect);
    }
    // They ask, measure, and are ready.
    for edge in [0, 1].repeat(3) {
        bench.operate(Operation::Proceed(edge));
    }
    bench
}

/// An edge does its step, and sends what is asked for at the end of the round.
fn train(bench: &mut Bench, number: usize) {
    bench.operate(Operation::Proceed(number));
    bench.finish(|job| matches!(job, Job::Step(_)));
    bench.operate(Operation::Proceed(number));
}

/// A new process of an edge asks to go on behind this end of a round; its connection is the last.
pub(super) fn ask_again(bench: &mut Bench, name: &str, completed: Option<(u32, u32)>) {
    bench.operate(Operation::Connect);
    let resume = Some(ResumePoint { session: session_of(1, name), completed, prepared: false, live: None });
    let again = EdgeMessage::TrainingRequest(TrainingRequest { resume, ..request(name, 20) });
    bench.operate(Operation::Say(bench.peers.len() - 1, again));
}

fn say_ready(bench: &mut Bench) {
    let ready = EdgeMessage::Ready { downlink: None, evaluates_not: None };
    bench.operate(Operation::Say(bench.peers.len() - 1, ready));
}

/// Half of its model is in the cloud, and is not finite: it cannot know before it is told.
#[test]
fn one_whose_model_has_diverged_is_told_so_whenever_it_comes_back() {
    let mut bench = both_train(Scenario::new(1));
    train(&mut bench, 0);
    for _ in ["in the round", "after a restart"] {
        let export = bench.first(|job| matches!(job, Job::Export { .. }));
        bench.operate(Operation::Spoil(export));
        let told = bench.refused.pop().expect("it is turned away");
        assert!(told.contains("its weights are not finite"), "{told}");
        ask_again(&mut bench, "barn", Some((0, 0)));
        say_ready(&mut bench);
        let done = EdgeMessage::RoundDone { round: 0, attempt: 0, peak_rss_bytes: 0 };
        bench.operate(Operation::Say(bench.peers.len() - 1, done));
    }
    let export = bench.first(|job| matches!(job, Job::Export { .. }));
    bench.operate(Operation::Spoil(export));
    bench.operate(Operation::Wait(REJOIN_WINDOW.as_millis() as u64));
    let why = "it was turned away because round 1: its weights are not finite";
    let ends = |kind: &EventKind| matches!(kind, EventKind::Aborted { reason } if reason.contains(why));
    assert!(bench.finished && bench.events.iter().any(ends), "{:?}", bench.events.last());
}
