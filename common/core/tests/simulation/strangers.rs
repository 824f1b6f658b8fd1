//! Edges that ask to take part at every moment: late ones, and two of the same name.

use partway_core::participant::Outcome;

use crate::scenario::{EdgeSetup, Scenario};

/// Starts one more edge at moments spread over the run, which must not disturb the others. Returns how
/// often it was turned away.
fn join(name: &str, moments: u32) -> u32 {
    let scenario = Scenario::new(2);
    let undisturbed = scenario.run();
    let is_finished = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Finished { .. }));
    let mut turned_away = 0;
    for at in 0..moments {
        let starts_at = undisturbed.ended_at * at / moments;
        let setup = EdgeSetup { name: name.into(), starts_at: Some(starts_at), ..scenario.edges[0].clone() };
        let mut scenario = scenario.clone();
        scenario.edges.push(setup);
        let report = scenario.run();
        assert_eq!(report.aborted(), None);
        let finished = report.edges.iter().filter(|outcome| is_finished(outcome)).count();
        assert!(finished >= 3, "{:?}", report.edges);
        if starts_at > undisturbed.gathered_at() {
            assert!(report.edges[..3].iter().all(is_finished), "{:?}", report.edges);
        }
        turned_away += u32::from(!report.edges.iter().all(is_finished));
    }
    turned_away
}

#[test]
fn an_edge_that_comes_late_is_refused_and_disturbs_nobody() {
    let turned_away = join("porch", 60);
    assert!(turned_away > 40, "the porch was turned away only {turned_away} times");
}

/// It is put off until the run is over, and may hear of that as the others do.
#[test]
fn a_second_edge_of_the_same_name_is_put_off_and_disturbs_nobody() {
    let turned_away = join("attic", 60);
    assert!(turned_away > 20, "the second attic was turned away only {turned_away} times");
}
