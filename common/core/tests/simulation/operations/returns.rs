//! An edge that comes back after its process was started again, operation by operation.

use partway_core::coordinator::{Cuts, Job, Replan, Settings, session_of};
use partway_core::event::EventKind;
use partway_core::model::ModelCost;
use partway_core::plan::Deadline;
use partway_core::wire::{EdgeMessage, ResumePoint, TrainingRequest};

use super::bench::{Bench, Operation};
use super::request;
use crate::fake_model::{FakeModel, MOMENTS};
use crate::scenario::{LAYERS, REJOIN_WINDOW, Scenario};

/// A round is one step, and its model is averaged at its end.
fn of_two(scenario: Scenario) -> Scenario {
    Scenario { min_edges: 2, aggregate_every: 1, steps: 1, ..scenario.in_one_part() }
}

/// Barn and cellar, at their first round.
fn both_train(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
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
    ask_with(bench, request(name, 20), completed);
}

fn ask_with(bench: &mut Bench, request: TrainingRequest, completed: Option<(u32, u32)>) {
    bench.operate(Operation::Connect);
    let session = session_of(1, &request.name);
    let resume = Some(ResumePoint { session, completed, prepared: false, live: None });
    let again = EdgeMessage::TrainingRequest(TrainingRequest { resume, ..request });
    bench.operate(Operation::Say(bench.peers.len() - 1, again));
}

fn say_ready(bench: &mut Bench) {
    let ready = EdgeMessage::Ready { downlink: None, evaluates_not: None };
    bench.operate(Operation::Say(bench.peers.len() - 1, ready));
}

/// Half of its model is in the cloud, and is not finite: it cannot know before it is told.
#[test]
fn one_whose_model_has_diverged_is_told_so_whenever_it_comes_back() {
    let scenario = of_two(Scenario::new(1)).cut_at(LAYERS - 1);
    let mut bench = both_train(scenario.settings(&FakeModel::new(), 1));
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

/// It may have been killed for what it took.
#[test]
fn one_that_has_less_memory_than_before_gets_a_cut_that_fits_it() {
    for replan in [Replan::EveryRound, Replan::OnChange] {
        let deadline = Deadline::Fixed(10.0);
        let scenario = Scenario { cuts: Cuts::Planned, deadline, ..of_two(Scenario::new(1)) };
        let settings = Settings { replan, ..scenario.settings(&FakeModel::new(), 1) };
        let cost = ModelCost::of(&settings.spec);
        let batch = settings.batch_size.into();
        let memory = |cut| cost.edge_memory_bytes(cut, None, batch, MOMENTS as u64);
        let limit = memory(LAYERS - 1) - 1;
        let mut bench = both_train(settings);
        train(&mut bench, 0);
        bench.operate(Operation::Disconnect(0));
        ask_with(
            &mut bench,
            TrainingRequest { memory_limit: Some(limit), ..request("barn", 20) },
            Some((0, 0)),
        );
        say_ready(&mut bench);
        train(&mut bench, 0);
        bench.finish_all();
        let cuts = bench.events.iter().filter_map(|kind| match kind {
            EventKind::Planned { edges, .. } => Some(edges.iter().map(|edge| edge.cut as usize).collect()),
            _ => None,
        });
        let cuts: Vec<Vec<usize>> = cuts.collect();
        let [first, next] = &cuts[..] else { panic!("two rounds: {cuts:?}") };
        assert_eq!(first, &[LAYERS - 1; 2]);
        assert!(memory(next[0]) <= limit && next[1] == LAYERS - 1, "{replan:?}: {next:?}");
    }
}
