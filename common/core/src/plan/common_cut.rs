//! One cut for all edges, whose batches all update one server-side model: `SplitFed`'s second variant (Thapa et
//! al. 2020, arXiv 2004.12088).
//!
//! Every common cut that is allowed is planned as any other plan is; the best of these is taken. The
//! shared model serves one step after another, in turn. The wait for the turn is the algorithm's and no
//! part of a step's latency, so every step has a whole worker.

use super::{CloudInput, Deadline, Objective, Plan, PlanError, PlanInput, plan};

/// Plans every edge at one common cut: of those with which most edges meet the deadline the one with the
/// best objective; ties go to fewer bytes, then to the smaller cut. The automatic deadline is the least
/// that some common cut lets all meet.
///
/// Edges with a fixed cut must all have the same.
///
/// # Errors
/// As [`plan`].
pub fn plan_common_cut(input: PlanInput) -> Result<Plan, PlanError> {
    let workers = input.edges.len().max(1);
    let mut input = PlanInput { cloud: CloudInput { workers, ..input.cloud }, ..input };
    input.check()?;
    if input.edges.iter().any(|edge| edge.fixed_cut.is_some()) {
        return plan(&input);
    }
    let cuts = input.depth.clone();
    let (deadline, hysteresis) = (input.deadline, input.hysteresis);
    let current = input.edges[0].current_cut.filter(|cut| cuts.contains(cut));
    let current = current.filter(|cut| input.edges.iter().all(|edge| edge.current_cut == Some(*cut)));
    let mut at = |cut: usize, deadline: Deadline| {
        (input.depth, input.deadline) = (cut..=cut, deadline);
        plan(&input)
    };

    let least = cuts.clone().map(|cut| at(cut, Deadline::Auto)).collect::<Result<Vec<Plan>, _>>()?;
    let least_of = |cut: usize| &least[cut - cuts.start()];
    let deadline_s = match deadline {
        Deadline::Fixed(seconds) => seconds,
        Deadline::Auto => {
            let rank = |plan: &Plan, factor: f64| (missing(plan), plan.deadline_s * factor);
            let best = first_by(&least, |plan| rank(plan, 1.0));
            let kept = current.map(least_of);
            kept.filter(|plan| rank(plan, 1.0 - hysteresis) < rank(best, 1.0)).unwrap_or(best).deadline_s
        }
    };

    let plans =
        cuts.clone().map(|cut| at(cut, Deadline::Fixed(deadline_s))).collect::<Result<Vec<Plan>, _>>()?;
    let cost = |plan: &Plan| cost(&input, plan);
    let of_moving = current.map_or((0.0, 0.0), |cut| {
        let (first, second) = cost(&plans[cut - cuts.start()]);
        (hysteresis * first, hysteresis * second)
    });
    let rank = |plan: &Plan| {
        let cut = plan.edges[0].cut;
        let (first, second) = cost(plan);
        let moved = if current == Some(cut) { (0.0, 0.0) } else { of_moving };
        let bytes = input.cut_bytes_up[cut].saturating_add(input.cut_bytes_down[cut]);
        (missing(plan), first + moved.0, second + moved.1, bytes, cut)
    };
    let mut best = first_by(&plans, rank).clone();
    let chosen = best.edges[0].cut;
    let mut why = "; all edges have one cut".to_owned();
    for cut in [chosen + 1, chosen.wrapping_sub(1)].into_iter().filter(|cut| cuts.contains(cut)) {
        why += &compared(&input, &plans[cut - cuts.start()], least_of(cut), &best);
    }
    for edge in &mut best.edges {
        edge.reason += &why;
    }
    Ok(best)
}

/// The plan of least rank, of which there is at least one.
fn first_by<R: PartialOrd>(plans: &[Plan], rank: impl Fn(&Plan) -> R) -> &Plan {
    plans.iter().fold(&plans[0], |best, plan| if rank(plan) < rank(best) { plan } else { best })
}

/// Edges that miss the deadline or lack the memory.
fn missing(plan: &Plan) -> usize {
    plan.edges.iter().filter(|edge| !edge.feasible).count()
}

/// What the objective minimizes: first the one, then the other. While edges miss the deadline, the largest
/// step time comes first under either.
fn cost(input: &PlanInput, plan: &Plan) -> (f64, f64) {
    let seconds = || plan.edges.iter().map(|edge| edge.step_s + edge.weights_s + edge.moving_s);
    let largest = seconds().fold(0.0, f64::max);
    match input.objective {
        Objective::Fastest => (largest, seconds().sum()),
        Objective::Deepest if missing(plan) > 0 => (largest, cloud_flops(input, plan)),
        Objective::Deepest => (cloud_flops(input, plan), 0.0),
    }
}

fn cloud_flops(input: &PlanInput, plan: &Plan) -> f64 {
    let flops: f64 = plan.edges.first().map_or(0.0, |edge| input.cloud.flops[edge.cut..].iter().sum());
    flops * plan.edges.len() as f64
}

/// What speaks against another common cut.
fn compared(input: &PlanInput, other: &Plan, least: &Plan, chosen: &Plan) -> String {
    let cut = other.edges[0].cut;
    let more = (cloud_flops(input, other) - cloud_flops(input, chosen)) / 1e6;
    if missing(other) > missing(chosen) {
        let milliseconds = 1e3 * least.deadline_s;
        return match missing(least) {
            0 => format!("; cut {cut} for all would need a deadline of {milliseconds:.1} ms"),
            count => format!("; cut {cut} for all does not fit the memory of {count} edges"),
        };
    }
    match input.objective {
        Objective::Deepest if missing(chosen) == 0 && more > 0.0 => {
            format!("; cut {cut} for all would leave the cloud {more:.2} MFLOP more")
        }
        _ => format!("; the slowest edge would take {:.1} ms at cut {cut}", 1e3 * largest_step_s(other)),
    }
}

fn largest_step_s(plan: &Plan) -> f64 {
    plan.edges.iter().map(|edge| edge.step_s).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::tests::properties::{fleet, seconds};

    /// The largest time of any edge at a common cut, each with a worker of its own.
    fn largest(input: &PlanInput, cut: usize) -> f64 {
        let times = (0..input.edges.len()).map(|edge| {
            let (other, service) = seconds(input, edge, cut);
            other + service
        });
        times.fold(0.0, f64::max)
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-6 * right
    }

    proptest! {
        #[test]
        fn the_deadline_is_the_least_of_any_common_cut(seed in any::<u64>(), edges in 1..6_usize, layers in 1..7_usize) {
            let input = fleet(seed, edges, layers);
            let least = (0..=layers).map(|cut| largest(&input, cut)).fold(f64::INFINITY, f64::min);
            let margin = input.edges[0].margin;
            let plan = plan_common_cut(input).expect("a valid input");
            prop_assert!(near(plan.deadline_s, least * (1.0 + margin)), "{} {least}", plan.deadline_s);
            prop_assert!(plan.edges.iter().all(|edge| edge.feasible && edge.cut == plan.edges[0].cut));
        }

        #[test]
        fn the_deepest_common_cut_that_all_meet_is_taken(
            seed in any::<u64>(), edges in 1..6_usize, layers in 1..7_usize, stretch in 1.0..4.0_f64,
        ) {
            let mut input = fleet(seed, edges, layers);
            let least = (0..=layers).map(|cut| largest(&input, cut)).fold(f64::INFINITY, f64::min);
            let budget = 1.001 * stretch * least;
            input.deadline = Deadline::Fixed(budget * (1.0 + input.edges[0].margin));
            let deepest = (0..=layers).filter(|cut| largest(&input, *cut) <= budget).max();
            let plan = plan_common_cut(input).expect("a valid input");
            prop_assert_eq!(plan.edges.iter().map(|edge| Some(edge.cut)).collect::<Vec<_>>(), vec![deepest; edges]);
            prop_assert!(plan.edges.iter().all(|edge| edge.feasible));
        }

        #[test]
        fn the_fastest_common_cut_has_the_least_largest_step(
            seed in any::<u64>(), edges in 1..6_usize, layers in 1..7_usize,
        ) {
            let input = PlanInput { objective: Objective::Fastest, ..fleet(seed, edges, layers) };
            let least = (0..=layers).map(|cut| largest(&input, cut)).fold(f64::INFINITY, f64::min);
            let plan = plan_common_cut(input.clone()).expect("a valid input");
            prop_assert!(near(largest(&input, plan.edges[0].cut), least));
        }

        #[test]
        fn a_plan_from_its_own_cut_does_not_move(
            seed in any::<u64>(), edges in 1..6_usize, layers in 1..7_usize, fastest in any::<bool>(),
        ) {
            let objective = if fastest { Objective::Fastest } else { Objective::Deepest };
            let mut input = PlanInput { objective, hysteresis: 0.05, ..fleet(seed, edges, layers) };
            let first = plan_common_cut(input.clone()).expect("a valid input");
            for edge in &mut input.edges {
                edge.current_cut = Some(first.edges[0].cut);
            }
            let second = plan_common_cut(input).expect("a valid input");
            prop_assert_eq!(second.edges[0].cut, first.edges[0].cut);
        }
    }

    #[test]
    fn an_edge_without_memory_sets_no_cut_that_the_others_lack() {
        let mut input = fleet(3, 3, 4);
        // Cut 2 needs 2, and only cuts up to 2 fit the middle edge.
        input.edges[1].memory_limit = Some(2);
        input.deadline = Deadline::Fixed(1e6);
        let plan = plan_common_cut(input).expect("a valid input");
        assert!(plan.edges.iter().all(|edge| edge.cut == 2 && edge.feasible), "{plan:?}");
        assert!(
            plan.edges[0].reason.contains("cut 3 for all does not fit the memory of 1 edges"),
            "{plan:?}"
        );
    }

    #[test]
    fn a_deadline_that_nobody_meets_gives_the_cut_with_the_least_largest_step() {
        let mut input = fleet(4, 3, 5);
        input.deadline = Deadline::Fixed(1e-9);
        let least = (0..=5).map(|cut| largest(&input, cut)).fold(f64::INFINITY, f64::min);
        let plan = plan_common_cut(input.clone()).expect("a valid input");
        assert!(plan.edges.iter().all(|edge| !edge.feasible));
        assert!(near(largest(&input, plan.edges[0].cut), least));
    }

    #[test]
    fn a_cut_that_is_fixed_is_kept() {
        let mut input = fleet(5, 2, 4);
        for edge in &mut input.edges {
            edge.fixed_cut = Some(3);
        }
        let plan = plan_common_cut(input).expect("a valid input");
        assert!(plan.edges.iter().all(|edge| edge.cut == 3 && (edge.share - 1.0).abs() < 1e-9));
    }
}
