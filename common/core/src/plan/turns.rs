//! Edges that take turns: each is planned as if it were alone, as it is while it trains.

use super::{Deadline, Plan, PlanError, PlanInput, plan};

/// Plans every edge with all workers and links to itself, all under one deadline. The automatic one is the
/// least that each can meet, so the slowest edge sets it.
///
/// # Errors
/// As [`plan`].
pub fn plan_turns(input: &PlanInput) -> Result<Plan, PlanError> {
    input.check()?;
    let mut alone = PlanInput { edges: Vec::new(), ..input.clone() };
    let mut at = |deadline: Deadline| {
        let mut plans = Vec::with_capacity(input.edges.len());
        for edge in &input.edges {
            (alone.edges, alone.deadline) = (vec![edge.clone()], deadline);
            plans.push(plan(&alone)?);
        }
        Ok::<_, PlanError>(plans)
    };
    let deadline_s = match input.deadline {
        Deadline::Fixed(seconds) => seconds,
        Deadline::Auto => {
            let least = at(Deadline::Auto)?;
            let slowest =
                |plans: &mut dyn Iterator<Item = &Plan>| plans.map(|plan| plan.deadline_s).reduce(f64::max);
            // An edge that no cut fits does not set the deadline of those that train.
            let fitting =
                slowest(&mut least.iter().filter(|plan| plan.edges.iter().all(|edge| edge.feasible)));
            fitting.or_else(|| slowest(&mut least.iter())).ok_or(PlanError::NoEdges)?
        }
    };
    let plans = at(Deadline::Fixed(deadline_s))?;
    let sum = |value: fn(&Plan) -> f64| plans.iter().map(value).sum();
    Ok(Plan {
        deadline_s,
        optimality_gap: plans.iter().map(|plan| plan.optimality_gap).fold(0.0, f64::max),
        objective: sum(|plan| plan.objective),
        dual_bound: sum(|plan| plan.dual_bound),
        common_deadline_s: plans.iter().filter_map(|plan| plan.common_deadline_s).reduce(f64::max),
        deadline_bound_s: if input.deadline == Deadline::Auto { deadline_s } else { 0.0 },
        edges: plans.into_iter().flat_map(|plan| plan.edges).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Objective;
    use crate::plan::tests::properties::{fleet, seconds};

    /// An edge's time at a cut with a worker of its own.
    fn alone(input: &PlanInput, edge: usize, cut: usize) -> f64 {
        let (other, service) = seconds(input, edge, cut);
        other + service
    }

    proptest! {
        #[test]
        fn every_edge_goes_as_deep_as_the_slowest_lets_it(seed in any::<u64>(), edges in 1..6_usize, layers in 1..7_usize) {
            let input = fleet(seed, edges, layers);
            let fastest = |edge| (0..=layers).map(|cut| alone(&input, edge, cut)).fold(f64::INFINITY, f64::min);
            let slowest = (0..edges).map(fastest).fold(0.0, f64::max);
            let plan = plan_turns(&input).expect("a valid input");
            prop_assert!((plan.deadline_s / (slowest * (1.0 + input.edges[0].margin)) - 1.0).abs() < 1e-6);
            for (edge, planned) in plan.edges.iter().enumerate() {
                let deepest = (0..=layers).filter(|cut| alone(&input, edge, *cut) <= slowest * (1.0 + 1e-8)).max();
                prop_assert_eq!(Some(planned.cut), deepest);
                prop_assert!(planned.feasible);
            }
        }

        #[test]
        fn the_others_change_nothing_but_the_deadline(seed in any::<u64>(), layers in 1..7_usize) {
            let together = PlanInput { objective: Objective::Fastest, deadline: Deadline::Fixed(1e6), ..fleet(seed, 4, layers) };
            let plan = plan_turns(&together).expect("a valid input");
            for (edge, planned) in together.edges.iter().zip(&plan.edges) {
                let alone = PlanInput { edges: vec![edge.clone()], ..together.clone() };
                prop_assert_eq!(&plan_turns(&alone).expect("a valid input").edges[0], planned);
            }
        }
    }

    #[test]
    fn an_edge_without_memory_does_not_set_the_deadline() {
        let mut input = fleet(7, 2, 3);
        let expected = plan_turns(&PlanInput { edges: vec![input.edges[0].clone()], ..input.clone() });
        input.memory_by_cut = vec![9; 4];
        input.edges[1].memory_limit = Some(1);
        let plan = plan_turns(&input).expect("a valid input");
        assert_eq!(plan.deadline_s.to_bits(), expected.expect("a valid input").deadline_s.to_bits());
        assert_eq!((plan.edges[0].feasible, plan.edges[1].feasible), (true, false));
    }
}
