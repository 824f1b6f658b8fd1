//! What a plan says of an edge: why it cannot, what would help, and what the cuts beside its own would cost.

use super::*;

#[test]
fn an_edge_that_cannot_meet_the_deadline_is_told_what_would_help() {
    let input = PlanInput { deadline: Deadline::Fixed(0.050), ..with_margin(0.25, cameras(1)) };
    let plan = planned(&input);
    let edge = &plan.edges[0];
    assert_eq!((edge.cut, edge.feasible), (2, false));
    assert!(edge.slack_s < 0.0);
    // 40 ms before the margin. Cut 1 leaves 4 ms for 40 kB: 80 Mbit/s; cut 2 leaves 6 ms for 20 kB: 26.7;
    // cut 3 takes longer than that without its uplink. Compute: cut 2 would have 6 ms for 20 ms of work:
    // 3.33 times; cut 3 23 ms for 40 ms: 1.74 times, said as 1.8.
    for part in
        ["50.0 ms (40.0 ms before", "takes 54.0 ms", "26.7 Mbit/s", "1.8 times", "a deadline of 67.5 ms"]
    {
        assert!(edge.reason.contains(part), "{part}: {}", edge.reason);
    }
    let fixes = edge.fixes.expect("it misses the deadline");
    assert!(near(fixes.up_bytes_per_s.expect("computed"), 10.0e6 / 3.0) && fixes.memory_bytes.is_none());
    // Cut 2 has 40 - 44 = -4 ms left for its downlink, cut 3 40 - 52: no downlink helps.
    assert_eq!(fixes.down_bytes_per_s, None);
    assert!(near(plan.common_deadline_s.expect("computed"), 0.0675));
    let helped = PlanInput { deadline: Deadline::Fixed(0.0676), ..input.clone() };
    assert!(planned(&helped).edges[0].feasible);
    let mut helped = input.clone();
    helped.edges[0].up_bytes_per_s = 26.8e6 / 8.0;
    assert!(planned(&helped).edges[0].feasible);
}

/// Each fix alone, with a thousandth more, lets the edge meet the deadline; with a thousandth less it does not.
#[test]
fn what_is_said_to_help_does_and_less_does_not() {
    for (deadline, limit) in
        [(0.050, None), (0.045, None), (0.0541, Some(150)), (0.030, Some(350)), (0.001, None)]
    {
        let mut input = PlanInput { deadline: Deadline::Fixed(deadline), ..with_margin(0.1, cameras(1)) };
        (input.edges[0].memory_limit, input.state_bytes) = (limit, vec![0, 1_000, 2_000, 4_000, 8_000]);
        let plan = planned(&input);
        assert!(!plan.edges[0].feasible);
        let fixes = plan.edges[0].fixes.expect("it misses the deadline");
        for (factor, expected) in [(1.001, true), (0.999, false)] {
            let meets = |change: &dyn Fn(&mut PlanInput)| {
                let mut helped = input.clone();
                change(&mut helped);
                assert_eq!(planned(&helped).edges[0].feasible, expected, "{deadline} {fixes:?}");
            };
            if let Some(rate) = fixes.up_bytes_per_s {
                meets(&|input| input.edges[0].up_bytes_per_s = factor * rate);
            }
            if let Some(rate) = fixes.down_bytes_per_s {
                meets(&|input| input.edges[0].down_bytes_per_s = factor * rate);
            }
            if let Some(speed) = fixes.compute_speed {
                meets(&|input| {
                    input.edges[0].forward_factor = 1.0 / (factor * speed);
                    input.edges[0].backward_factor = 1.0 / (factor * speed);
                });
            }
            if let Some(seconds) = fixes.deadline_s {
                meets(&|input| input.deadline = Deadline::Fixed(factor * seconds));
            }
            if let Some(bytes) = fixes.memory_bytes {
                meets(&|input| input.edges[0].memory_limit = Some(bytes - u64::from(!expected)));
            }
        }
    }
}

#[test]
fn neighbours_say_what_they_break_or_cost() {
    let mut input = PlanInput { deadline: Deadline::Fixed(0.0555), ..cameras(1) };
    let neighbours = |input: &PlanInput| planned(input).edges.remove(0).neighbours;
    let at = neighbours(&input);
    assert_eq!(at.iter().map(|at| at.cut).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(at.iter().map(|at| at.obstacle).collect::<Vec<_>>(), [Some(Obstacle::Deadline); 2]);
    assert!(near(at[1].charged_s, 0.057) && near(at[1].terms.edge_backward, 0.024));
    assert!(near(at[1].cloud_flops_more, -100.0) && at[1].memory_bytes == 300);
    input.deadline = Deadline::Fixed(0.070);
    input.edges[0].memory_limit = Some(250);
    assert_eq!(neighbours(&input)[1].obstacle, Some(Obstacle::Memory));
    input.depth = 2..=2;
    assert_eq!(
        neighbours(&input).iter().map(|at| at.obstacle).collect::<Vec<_>>(),
        [Some(Obstacle::Depth); 2]
    );
    let reason =
        planned(&PlanInput { deadline: Deadline::Fixed(0.0555), ..cameras(1) }).edges.remove(0).reason;
    assert!(
        reason.contains("1.5 ms too long with the margin, most of it edge compute (20.0 ms more)"),
        "{reason}"
    );
}
