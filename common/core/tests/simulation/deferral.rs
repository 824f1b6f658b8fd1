//! Edges that become slow and are not waited for, whatever else goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partway_core::coordinator::{Cuts, Outcome, Stragglers};
use partway_core::event::{EventKind, Recovery};
use partway_core::plan::Deadline;

use crate::network::Dice;
use crate::retold::Retold;
use crate::scenario::{Fault, LAYERS, Report, Scenario, bits};

/// A round takes a second or so, and may take twelve.
const DEFER: Stragglers = Stragglers::Defer { factor: 40.0 };
const DEADLINE: Deadline = Deadline::Fixed(0.1);

/// A job takes several seconds, a round half a minute.
const CRAWLING: u32 = 500;

/// The final model is the one that the events tell of.
fn assert_retold(scenario: &Scenario, report: &Report) {
    let mut retold = Retold::new(scenario);
    for event in &report.events {
        retold.observe(&event.kind);
    }
    if let Outcome::Finished { state, rounds, .. } = &report.outcome {
        assert_eq!(*rounds, retold.global.1);
        assert!(
            bits(state) == bits(&retold.global.0),
            "the final model is not the one that the events tell of"
        );
    }
}

fn run(scenario: &Scenario) -> Report {
    let report = scenario.run();
    assert_retold(scenario, &report);
    report
}

fn finished(scenario: &Scenario) -> Report {
    let report = run(scenario);
    let outcome = &report.outcome;
    assert!(matches!(outcome, Outcome::Finished { rounds, .. } if *rounds == scenario.rounds), "{outcome:?}");
    report
}

fn count(report: &Report, is_it: impl Fn(&EventKind) -> bool) -> usize {
    report.events.iter().filter(|event| is_it(&event.kind)).count()
}

fn deferrals(report: &Report) -> usize {
    count(report, |kind| matches!(kind, EventKind::EdgeDeferred { .. }))
}

fn catch_ups(report: &Report) -> usize {
    count(report, |kind| matches!(kind, EventKind::EdgeCaughtUp { .. }))
}

/// Whether an edge is in each of the global models.
fn contributes(report: &Report, name: &str) -> Vec<bool> {
    let aggregated = report.events.iter().filter_map(|event| match &event.kind {
        EventKind::Aggregated { weights, .. } => Some(weights.iter().any(|(edge, _)| edge == name)),
        _ => None,
    });
    aggregated.collect()
}

/// Edges that are as different as real ones, and with a quorum without the slowest.
fn fleet(seed: u64) -> Scenario {
    let base = match seed % 6 {
        0 => Scenario::new(seed).in_one_part(),
        1 => Scenario::new(seed).in_one_part().any_depth(),
        2 => Scenario::new(seed).in_one_part().cut_at(LAYERS),
        3 => Scenario { reset_moments: true, workers: 1, ..Scenario::new(seed).in_one_part().any_depth() },
        4 => Scenario { holdout: Some(0.1), ..Scenario::new(seed).in_one_part() },
        _ => Scenario { cuts: Cuts::Planned, ..Scenario::new(seed).in_one_part() },
    };
    let base = if seed % 4 == 3 { base.labels_on_the_edge() } else { base };
    let late = Scenario { deadline: DEADLINE, stragglers: DEFER, ..base };
    Scenario { quorum: 0.5, rounds: 60, aggregate_every: 5, ..late }
}

/// Barn slows down in the first round.
fn slowed(scenario: Scenario, slowness: u32) -> Scenario {
    let trained_at = scenario.run().trained_at();
    scenario.fault(trained_at + Duration::from_millis(50), Fault::Slow { edge: 1, slowness })
}

#[test]
fn where_nobody_is_late_it_is_as_if_all_were_waited_for() {
    for seed in 0..24 {
        // Rates that a jittery link seems to have after a few small tensors foretell steps of many seconds.
        let stragglers = Stragglers::Defer { factor: 1000.0 };
        let defer = Scenario { rounds: 8, stragglers, ..fleet(seed) };
        let wait = Scenario { stragglers: Stragglers::Wait, ..defer.clone() }.run_exactly();
        let report = defer.run_exactly();
        assert_eq!(deferrals(&report), 0);
        assert_eq!(report.events, wait.events);
    }
}

#[test]
fn a_straggler_holds_nobody_up_and_what_it_does_counts_later() {
    let (mut late, mut missed) = (0, 0);
    for seed in 0..24 {
        let scenario = slowed(Scenario { rounds: 150, ..fleet(seed) }, CRAWLING);
        let waited = Scenario { stragglers: Stragglers::Wait, ..scenario.clone() }.run();
        let report = finished(&scenario);
        let (took, would) = (report.ended_at, waited.ended_at);
        assert!(took * 4 < would, "{took:?} of {would:?}");
        assert!(deferrals(&report) > 0);
        assert_eq!(count(&report, |kind| matches!(kind, EventKind::EdgeDropped { .. })), 0);
        let contributes = contributes(&report, "barn");
        assert!(contributes.contains(&true) && catch_ups(&report) > 0);
        late += catch_ups(&report);
        missed += contributes.iter().filter(|is_in| !**is_in).count();
    }
    assert!(late > 50 && missed > 100, "it caught up {late} times, and missed {missed} global models");
}

#[test]
fn one_that_never_comes_holds_nobody_up() {
    for seed in 0..12 {
        let report = finished(&slowed(fleet(seed), 100_000_000));
        assert_eq!((deferrals(&report), catch_ups(&report)), (1, 0));
        assert!(!contributes(&report, "barn").contains(&true));
    }
}

/// What was reserved for it is free again, and it begins anew where it can.
#[test]
fn one_that_is_behind_for_too_long_is_dropped() {
    for seed in 0..6 {
        let scenario = Scenario { rounds: 100, aggregate_every: 1, ..fleet(seed) };
        let report = finished(&slowed(scenario, 100_000_000));
        let dropped = |kind: &EventKind| match kind {
            EventKind::EdgeDropped { edge, reason, .. } => {
                assert_eq!(
                    (edge.as_str(), reason.as_str()),
                    ("barn", "it was behind by more than 64 aggregations")
                );
                true
            }
            _ => false,
        };
        // It is given another round, and deferred in that again.
        assert_eq!((count(&report, dropped), deferrals(&report), catch_ups(&report)), (1, 2, 0));
    }
}

/// It is late once, in a round before an aggregation, and has caught up before that.
#[test]
fn what_is_late_for_a_round_can_be_in_time_for_the_aggregation() {
    let mut in_time = 0;
    for seed in 0..24 {
        let scenario = slowed(Scenario { rounds: 200, aggregate_every: 200, ..fleet(seed) }, CRAWLING);
        let at = scenario.run().first(|kind| matches!(kind, EventKind::EdgeDeferred { .. }));
        let report =
            finished(&scenario.fault(at + Duration::from_millis(1), Fault::Slow { edge: 1, slowness: 1 }));
        let barn = |event: &&partway_core::event::Event| matches!(&event.kind, EventKind::Planned { edges, .. } if edges.iter().any(|planned| planned.edge == "barn"));
        let rounds = report.events.iter().filter(barn).count();
        assert!(rounds > 20, "it takes part again: {rounds}");
        assert_eq!(report.recoveries().first(), Some(&("barn", Recovery::Readmitted)));
        in_time += usize::from(contributes(&report, "barn") == [true]);
    }
    assert_eq!(in_time, 24, "in the one global model that there is");
}

/// The others are not enough without it.
#[test]
fn a_quorum_is_waited_for() {
    for seed in 0..12 {
        let scenario = slowed(Scenario { rounds: 3, quorum: 0.9, ..fleet(seed) }, CRAWLING);
        assert_eq!(deferrals(&finished(&scenario)), 0);
        let trained_at = scenario.run().trained_at();
        let two = Fault::Slow { edge: 2, slowness: CRAWLING };
        let two = Scenario { quorum: 0.6, ..scenario }.fault(trained_at + Duration::from_millis(50), two);
        let report = finished(&two);
        let aggregated = report.events.iter().filter_map(|event| match &event.kind {
            EventKind::Aggregated { weights, .. } => Some(weights.len()),
            _ => None,
        });
        assert!(aggregated.min() >= Some(2));
    }
}

/// The only one that was in time goes for good, when the others have been left behind.
#[test]
fn those_left_behind_go_on_when_nobody_else_is_left() {
    let mut began_again = 0;
    for seed in 0..24 {
        let scenario = slowed(Scenario { quorum: 0.3, rounds: 6, ..fleet(seed) }, CRAWLING);
        let slow = Fault::Slow { edge: 2, slowness: CRAWLING };
        let scenario = scenario.clone().fault(scenario.faults[0].0, slow);
        let deferred = scenario.run().first(|kind| matches!(kind, EventKind::EdgeDeferred { .. }));
        let gone = Fault::Crash { edge: 0, restart: None, folder_lost: false };
        let report = finished(&scenario.fault(deferred + Duration::from_millis(1), gone));
        assert!(deferrals(&report) >= 2);
        let dropped =
            count(&report, |kind| matches!(kind, EventKind::EdgeDropped { edge, .. } if edge == "attic"));
        assert_eq!(dropped, 1);
        assert!(
            contributes(&report, "barn").contains(&true) && contributes(&report, "cellar").contains(&true)
        );
        let rounds = count(&report, |kind| matches!(kind, EventKind::RoundDone { .. }));
        began_again += count(&report, |kind| matches!(kind, EventKind::Planned { .. })) - rounds;
    }
    assert!(began_again > 12, "rounds of which nobody was left began again {began_again} times");
}

#[test]
fn a_deferred_edge_keeps_what_is_reserved_for_it() {
    let (mut plans, mbps) = (0, 8.0 * 2e-3);
    for seed in 0..12 {
        let scenario = Scenario { capacity: Some(mbps * 1e6 / 8.0), rounds: 100, ..fleet(6 * seed + 5) };
        let report = finished(&slowed(scenario, CRAWLING));
        let (mut reserved, mut behind) = (BTreeMap::new(), BTreeSet::new());
        for event in &report.events {
            match &event.kind {
                EventKind::EdgeDeferred { edge, .. } => drop(behind.insert(edge.clone())),
                EventKind::EdgeCaughtUp { edge, .. } => drop(behind.remove(edge)),
                EventKind::Planned { edges, .. } => {
                    reserved.retain(|edge, _| behind.contains(edge));
                    let rates = edges
                        .iter()
                        .map(|at| (at.edge.clone(), (at.reserved_up_mbps, at.reserved_down_mbps)));
                    reserved.extend(rates);
                    let sum =
                        reserved.values().fold((0.0, 0.0), |sum, rates| (sum.0 + rates.0, sum.1 + rates.1));
                    assert!(sum.0.max(sum.1) <= mbps * (1.0 + 1e-9), "{reserved:?}");
                    plans += usize::from(!behind.is_empty() && sum.0 > 0.9 * mbps);
                }
                _ => {}
            }
        }
    }
    assert!(plans > 100, "of {plans} plans all was reserved, some of it to a deferred edge");
}

/// With a factor that real edges miss now and then, whatever happens to connections and processes of those that come
/// back.
#[test]
fn stragglers_crash_and_vanish_and_come_back() {
    let (mut deferred, mut rolled_back, mut connected) = (0, 0, 0);
    for seed in 0..160 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario {
            stragglers: Stragglers::Defer { factor: 2.0 + dice.below(20) as f64 },
            rounds: 20 + dice.below(20) as u32,
            aggregate_every: 1 + dice.below(6) as u32,
            copies: if dice.chance(0.5) { 0.3 } else { 0.0 },
            ..fleet(seed)
        };
        let ends = scenario.run().ended_at;
        for _ in 0..2 + dice.below(8) {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(10) {
                0 => Fault::CrashCloud { restart: dice.ms(0, 3000) },
                1..4 => Fault::Crash { edge, restart: Some(dice.ms(0, 3000)), folder_lost: dice.chance(0.2) },
                4..7 => Fault::Slow { edge, slowness: 1 << dice.below(11) },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 3000) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        let report = finished(&scenario);
        deferred += deferrals(&report);
        for (_, how) in recoveries_behind(&report) {
            rolled_back += u32::from(how == Recovery::RolledBack);
            connected += u32::from(how == Recovery::Connection);
        }
    }
    assert!(
        deferred > 400 && rolled_back > 5 && connected > 5,
        "{deferred} were deferred, {rolled_back} rolled back and {connected} reconnected while they were"
    );
}

/// How edges came back while they finished a round that the others had left behind.
fn recoveries_behind(report: &Report) -> Vec<(String, Recovery)> {
    let (mut behind, mut recoveries) = (BTreeSet::new(), Vec::new());
    for event in &report.events {
        match &event.kind {
            EventKind::EdgeDeferred { edge, .. } => {
                behind.insert(edge.clone());
            }
            EventKind::EdgeCaughtUp { edge, .. } | EventKind::EdgeDropped { edge, .. } => {
                behind.remove(edge);
            }
            EventKind::ModelDetermined { .. } => behind.clear(),
            EventKind::EdgeResumed { edge, how, .. } if behind.contains(edge) => {
                recoveries.push((edge.clone(), *how));
            }
            _ => {}
        }
    }
    recoveries
}

/// Edges stay away for longer than the window, or for good, deferred or not: the run ends.
#[test]
fn stragglers_that_do_not_come_back_are_dropped() {
    let (mut dropped, mut aborted) = (0, 0);
    for seed in 0..160 {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario {
            stragglers: Stragglers::Defer { factor: 2.0 + dice.below(20) as f64 },
            quorum: [0.3, 0.6][dice.below(2) as usize],
            rounds: 20 + dice.below(20) as u32,
            aggregate_every: 1 + dice.below(6) as u32,
            ..fleet(seed)
        };
        let ends = scenario.run().ended_at;
        for _ in 0..3 + dice.below(6) {
            let edge = dice.below(3) as usize;
            let fault = match dice.below(8) {
                0..3 => {
                    let restart = dice.chance(0.7).then(|| dice.ms(0, 90_000));
                    Fault::Crash { edge, restart, folder_lost: dice.chance(0.4) }
                }
                3..6 => Fault::Slow { edge, slowness: 1 << dice.below(14) },
                _ => Fault::Cut { edge, unreachable: dice.ms(0, 70_000) },
            };
            scenario = scenario.fault(dice.between(Duration::ZERO, ends * 2), fault);
        }
        let report = run(&scenario);
        dropped += count(&report, |kind| matches!(kind, EventKind::EdgeDropped { .. }));
        if let Some(reason) = report.aborted() {
            assert!(reason.contains("did not come back within"), "seed {seed}: {reason}");
            aborted += 1;
        }
    }
    assert!(
        dropped > 50 && (10..200).contains(&aborted),
        "{dropped} were dropped, {aborted} runs ended early"
    );
}

/// Barn crawls from the second round on, in which it goes on from layers of its own, and is left behind; cellar takes its time over the first global model, whose
/// evaluation starts at the returned time.
fn long_evaluation(seed: u64) -> (Scenario, Duration) {
    let scenario = Scenario {
        holdout: Some(0.1),
        deadline: DEADLINE,
        stragglers: DEFER,
        quorum: 0.5,
        rounds: 20,
        aggregate_every: 5,
        ..Scenario::new(seed).in_one_part()
    };
    let second = scenario.run().first(|kind| matches!(kind, EventKind::Planned { round: 2, .. }));
    let crawls = Fault::Slow { edge: 1, slowness: CRAWLING };
    let scenario = scenario.fault(second + Duration::from_millis(50), crawls);
    let evaluates_at = scenario.run().first(|kind| matches!(kind, EventKind::Aggregated { .. }));
    let slow = Fault::Slow { edge: 2, slowness: 100_000 };
    (scenario.fault(evaluates_at, slow), evaluates_at)
}

/// Whether something happened to barn while the first global model was evaluated.
fn during_first_evaluation(report: &Report, is_it: impl Fn(&EventKind) -> bool) -> bool {
    let evaluated = |kind: &EventKind| matches!(kind, EventKind::Evaluated { .. });
    let aggregated = |kind: &EventKind| matches!(kind, EventKind::Aggregated { .. });
    let (from, until) = (report.first(aggregated).as_secs_f64(), report.first(evaluated).as_secs_f64());
    report.events.iter().any(|event| from < event.at && event.at < until && is_it(&event.kind))
}

#[test]
fn one_that_loses_its_state_while_others_evaluate_evaluates_with_them() {
    let mut asked = 0;
    for seed in 0..24 {
        let (scenario, evaluates_at) = long_evaluation(seed);
        let restart = Some(Duration::from_millis(20));
        let lost = Fault::Crash { edge: 1, restart, folder_lost: true };
        let faster = Fault::Slow { edge: 1, slowness: 1 };
        let at = evaluates_at + Duration::from_millis(30);
        let report = finished(&scenario.fault(at, lost).fault(at, faster));
        let gives_up = |kind: &EventKind| matches!(kind, EventKind::EdgeResumed { edge, how: Recovery::StateLost, .. } if edge == "barn");
        let answers =
            |kind: &EventKind| matches!(kind, EventKind::EdgeEvaluated { edge, .. } if edge == "barn");
        if during_first_evaluation(&report, gives_up) {
            assert!(during_first_evaluation(&report, answers), "seed {seed}");
            asked += 1;
        }
    }
    assert!(asked > 12, "{asked} lost their state during the evaluation");
}
