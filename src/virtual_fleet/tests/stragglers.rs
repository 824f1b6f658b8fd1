//! An edge that becomes ten times slower, under each policy.

use partway_core::event::{Event, EventKind};

use super::fixture::{Ran, SMALL, run};
use crate::run::supervise::End;

/// Three edges that do most of a step themselves, over fast links; two of them are enough.
fn fleet(sets: &[&str], threads: usize) -> Ran {
    let robot = "[[edge]]\nname = \"robot\"\nprofile = \"DEVICE\"\nuplink_mbps = 100\ndownlink_mbps = 100\n";
    let links = ["edge.camera.count=2", "edge.camera.uplink_mbps=100", "edge.camera.downlink_mbps=100"];
    let rest = ["edge.camera.rtt=1ms", "plan.fixed_cut=5", "fleet.quorum=0.6", "training.max_rounds=40"];
    run(&format!("{SMALL}\n{robot}"), &[&links[..], &rest, sets].concat(), threads)
}

/// A deadline that everybody keeps who is not slow, in milliseconds.
fn deadline(undisturbed: &Ran) -> String {
    let latencies = ["camera-0", "camera-1", "robot"].map(|name| undisturbed.latencies(name)).concat();
    let longest = latencies.iter().map(|(_, latency)| *latency).fold(0.0, f64::max);
    format!("plan.deadline={}us", (longest * 1.2e3) as u64)
}

/// The robot is slow for as long as some twenty rounds take, from the middle of the third.
fn slow(undisturbed: &Ran) -> String {
    let ends = undisturbed.events().into_iter().filter_map(|event| match event.kind {
        EventKind::RoundDone { .. } => Some(event.at),
        _ => None,
    });
    let ends: Vec<f64> = ends.collect();
    let (from, until) = (f64::midpoint(ends[1], ends[2]), ends[2] + 20.0 * (ends[2] - ends[1]));
    format!("edge.robot.slow=[[\"{}us\", \"{}us\", 10]]", (from * 1e6) as u64, (until * 1e6) as u64)
}

/// The global models that an edge is in: how many in all, and whether the first and the last are among them.
fn contributions(ran: &Ran, name: &str) -> (usize, bool, bool) {
    let is_in: Vec<bool> = ran
        .events()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::Aggregated { weights, .. } => Some(weights.iter().any(|(edge, _)| edge == name)),
            _ => None,
        })
        .collect();
    assert_eq!(is_in.len(), 20);
    (is_in.iter().filter(|is_in| **is_in).count(), is_in[0], is_in[19])
}

#[test]
fn a_straggler_holds_up_those_only_who_wait_for_it() {
    let undisturbed = fleet(&[], 2);
    let (deadline, slow) = (deadline(&undisturbed), slow(&undisturbed));
    let under = |policy: &str| fleet(&[&deadline, &slow, &format!("plan.on_straggler={policy}")], 2);
    let (wait, drop, defer) = (under("wait"), under("drop"), under("defer"));
    for ran in [&wait, &drop, &defer] {
        assert_eq!((ran.end.clone(), ran.summary.rounds), (Ok(End::Finished), 40));
        assert!(ran.latencies("robot").iter().any(|step| step.1 > 100.0), "it is slow");
    }
    assert_eq!(contributions(&wait, "robot").0, 20);
    let seconds = |ran: &Ran| ran.summary.seconds_clock;
    assert!(seconds(&drop) < seconds(&wait) && seconds(&defer) < seconds(&wait));

    let robot =
        |ran: &Ran| ran.summary.edges.iter().find(|edge| edge.name == "robot").cloned().expect("it joined");
    assert!(robot(&drop).dropped && robot(&drop).deferred == 0);
    let (models, first, last) = contributions(&drop, "robot");
    assert!(models < 20 && first && last, "in time, then slow, then in time again: {models}");

    let deferred = |kind: &EventKind| matches!(kind, EventKind::EdgeDeferred { edge, .. } if edge == "robot");
    let caught_up =
        |kind: &EventKind| matches!(kind, EventKind::EdgeCaughtUp { edge, .. } if edge == "robot");
    let count =
        |is_it: &dyn Fn(&EventKind) -> bool| defer.events().iter().filter(|event| is_it(&event.kind)).count();
    assert!(count(&deferred) > 0 && count(&deferred) == count(&caught_up));
    assert!(!robot(&defer).dropped && robot(&defer).deferred as usize == count(&deferred));
    assert!(contributions(&defer, "robot").1 && contributions(&defer, "robot").2);
    // All that it did is in a global model, in three steps a round.
    assert_eq!(robot(&defer).steps as usize, defer.latencies("robot").len());
    assert!((robot(&drop).steps as usize) < drop.latencies("robot").len(), "what was dropped is lost");
}

/// Once its steps are known to be too slow, the others do not wait until it is late.
#[test]
fn one_that_stays_slow_is_not_waited_for_again_and_again() {
    let undisturbed = fleet(&[], 2);
    let (deadline, end) = (deadline(&undisturbed), undisturbed.summary.seconds_total);
    let slow = format!("edge.robot.slow=[[\"{}us\", \"1h\", 10]]", (end * 1e6 / 10.0) as u64);
    let ran = fleet(&[&deadline, &slow, "plan.on_straggler=defer"], 2);
    let longest = |ran: &Ran, after: f64| {
        let seconds = |event: &Event| match event.kind {
            EventKind::RoundDone { seconds, .. } if event.at > after => Some(seconds),
            _ => None,
        };
        ran.events().iter().filter_map(seconds).fold(0.0, f64::max)
    };
    let deferrals = ran.events().into_iter().filter_map(|event| match event.kind {
        EventKind::EdgeDeferred { reason, .. } => Some((event.at, reason)),
        _ => None,
    });
    let deferrals: Vec<(f64, String)> = deferrals.collect();
    let is_expected = |reason: &str| reason.starts_with("it is expected to take more than 3 times");
    let known = deferrals.iter().position(|(_, reason)| is_expected(reason)).expect("its steps are measured");
    assert!(known > 0 && deferrals[known..].iter().all(|(_, reason)| is_expected(reason)), "{deferrals:?}");
    assert!(longest(&ran, 0.0) > 3.0 * longest(&undisturbed, 0.0));
    assert!(longest(&ran, deferrals[known].0) < 1.2 * longest(&undisturbed, 0.0));
    assert!(contributions(&ran, "robot").0 > 2, "and its work counts");
}

#[test]
fn who_is_late_is_the_same_on_any_number_of_threads() {
    let undisturbed = fleet(&[], 2);
    let (deadline, slow) = (deadline(&undisturbed), slow(&undisturbed));
    for policy in ["plan.on_straggler=drop", "plan.on_straggler=defer"] {
        let adam = "training.optimizer={ kind = \"adam\", lr = 0.001 }";
        for more in ["edge.camera.jitter=1ms", "data.evaluate=edges", adam] {
            let sets = [deadline.as_str(), &slow, policy, more];
            let (one, two) = (fleet(&sets, 1), fleet(&sets, 2));
            assert_eq!((one.end.clone(), one.summary.rounds), (Ok(End::Finished), 40), "{sets:?}");
            assert!(one.log == two.log, "{sets:?}: the logs differ");
            assert_eq!(one.weights(), two.weights(), "{sets:?}");
            let late = |kind: &EventKind| {
                matches!(kind, EventKind::EdgeDeferred { .. } | EventKind::EdgeDropped { .. })
            };
            assert!(one.has(late), "{sets:?}");
        }
    }
}

#[test]
fn where_nobody_is_late_every_policy_gives_the_same_run() {
    let undisturbed = fleet(&[], 2);
    let deadline = deadline(&undisturbed);
    let under = |policy: &str| fleet(&[&deadline, &format!("plan.on_straggler={policy}")], 2);
    let wait = under("wait");
    for policy in ["drop", "defer"] {
        let ran = under(policy);
        assert!(ran.log == wait.log, "{policy}: the logs differ");
        assert_eq!(ran.weights(), wait.weights());
    }
}
