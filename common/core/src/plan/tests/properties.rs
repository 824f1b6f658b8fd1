//! Random fleets: against brute force, and what must hold of every plan.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::*;
use crate::random::{stream, unit_f64};

/// A random fleet: times over two decades, links over two, one to three workers.
pub(crate) fn fleet(seed: u64, edges: usize, layers: usize) -> PlanInput {
    let mut rng = stream(seed, &["fleet"]);
    let mut decades = |least: f64, count: f64| least * 10_f64.powf(count * unit_f64(&mut rng));
    let device = |decades: &mut dyn FnMut(f64, f64) -> f64, unit: f64| -> Vec<f64> {
        let pace = decades(unit, 1.5);
        (0..layers).map(|_| pace * decades(1.0, 0.7)).collect()
    };
    let bytes = |decades: &mut dyn FnMut(f64, f64) -> f64| -> Vec<u64> {
        (0..=layers).map(|_| decades(1e4, 1.5) as u64).collect()
    };
    PlanInput {
        devices: (0..edges)
            .map(|index| {
                let forward_s = device(&mut decades, 1e-3);
                DeviceInput::of_layers(&forward_s, &device(&mut decades, 2e-3), [0.0, 2e-3][index % 2])
            })
            .collect(),
        edges: (0..edges)
            .map(|index| EdgeInput {
                name: format!("edge-{index}"),
                device: index,
                forward_factor: 1.0,
                backward_factor: 1.0,
                forward_call_s: 0.0,
                backward_call_s: 0.0,
                margin: 0.1,
                up_bytes_per_s: decades(1e6, 1.5),
                down_bytes_per_s: decades(1e6, 1.5),
                rtt_s: decades(1e-3, 1.0),
                latency_overhead_s: 1e-3,
                memory_limit: None,
                current_cut: None,
                fixed_cut: None,
            })
            .collect(),
        cloud: CloudInput {
            service_s: {
                let forward_s = device(&mut decades, 5e-4);
                CloudInput::service_of_layers(&forward_s, &device(&mut decades, 1e-3))
            },
            flops: (0..layers).map(|_| decades(1e6, 1.0)).collect(),
            workers: 1 + (decades(1.0, 0.47) - 0.01) as usize % 3,
            capacity_bytes_per_s: None,
        },
        cut_bytes_up: bytes(&mut decades),
        cut_bytes_down: bytes(&mut decades),
        state_bytes: (0..=layers as u64).map(|cut| 10_000 * cut).collect(),
        memory_by_cut: (0..=layers as u64).collect(),
        steps_between_aggregations: 50,
        steps_between_moves: None,
        micro_batches: 1,
        depth: 0..=layers,
        deadline: Deadline::Auto,
        objective: Objective::Deepest,
        hysteresis: 0.0,
    }
}

/// What is charged against the deadline besides the cloud, and the cloud's service: from the definition.
pub(crate) fn seconds(input: &PlanInput, edge: usize, cut: usize) -> (f64, f64) {
    let (layers, at) = (input.layers(), &input.edges[edge]);
    let device = &input.devices[at.device];
    let compute = at.forward_factor * device.forward_s[cut] + at.backward_factor * device.backward_s[cut];
    let service = input.cloud.service_s[cut];
    let both = 1.0 / at.up_bytes_per_s + 1.0 / at.down_bytes_per_s;
    let weights = input.state_bytes[cut] as f64 * both / input.steps_between_aggregations as f64;
    let transfer = input.cut_bytes_up[cut] as f64 / at.up_bytes_per_s
        + input.cut_bytes_down[cut] as f64 / at.down_bytes_per_s
        + at.rtt_s
        + at.latency_overhead_s;
    (compute + weights + if cut < layers { transfer } else { 0.0 }, service)
}

/// Every combination of one cut per edge.
fn combinations(edges: usize, depth: RangeInclusive<usize>) -> Vec<Vec<usize>> {
    (0..edges).fold(vec![Vec::new()], |shorter, _| {
        let longer = |combination: &Vec<usize>| {
            let combination = combination.clone();
            depth.clone().map(move |cut| [combination.clone(), vec![cut]].concat())
        };
        shorter.iter().flat_map(longer).collect()
    })
}

/// The shares that a combination needs at least, if they exist.
fn shares_needed(input: &PlanInput, combination: &[usize], budget: f64) -> Option<Vec<f64>> {
    let needs: Vec<f64> = (0..combination.len())
        .map(|edge| {
            let (other, service) = seconds(input, edge, combination[edge]);
            if other > budget {
                f64::INFINITY
            } else if service > 0.0 {
                service / (budget - other)
            } else {
                0.0
            }
        })
        .collect();
    let fits =
        needs.iter().all(|need| *need <= 1.0) && needs.iter().sum::<f64>() <= input.cloud.workers as f64;
    fits.then_some(needs)
}

fn flops(input: &PlanInput, combination: &[usize]) -> f64 {
    combination.iter().map(|&cut| input.cloud.flops[cut..].iter().sum::<f64>()).sum()
}

/// The least sum of times of a combination under the budget, by bisection on the price of a share.
fn least_sum(input: &PlanInput, combination: &[usize], budget: f64) -> Option<f64> {
    let needs = shares_needed(input, combination, budget)?;
    let terms: Vec<(f64, f64)> =
        combination.iter().enumerate().map(|(edge, &cut)| seconds(input, edge, cut)).collect();
    let shares = |price: f64| -> Vec<f64> {
        let share = |(&(_, service), need): (&(f64, f64), &f64)| (service / price).sqrt().max(*need).min(1.0);
        terms.iter().zip(&needs).map(share).collect()
    };
    let (mut low, mut high) = (1e-12, 1e12);
    for _ in 0..200 {
        let price = f64::sqrt(low * high);
        if shares(price).iter().sum::<f64>() <= input.cloud.workers as f64 {
            high = price;
        } else {
            low = price;
        }
    }
    let time = |(&(other, service), share): (&(f64, f64), f64)| {
        other + if service > 0.0 { service / share } else { 0.0 }
    };
    Some(terms.iter().zip(shares(high)).map(time).sum())
}

fn total_flops(input: &PlanInput, plan: &Plan) -> f64 {
    flops(input, &cuts(plan))
}

/// What must hold of every plan.
fn check_plan(input: &PlanInput, plan: &Plan) {
    let shares: f64 = plan.edges.iter().map(|edge| edge.share).sum();
    assert!(shares <= input.cloud.workers as f64 * (1.0 + 1e-9), "shares add up to {shares}");
    if let Some(capacity) = input.cloud.capacity_bytes_per_s {
        assert!(plan.edges.iter().map(|edge| edge.reserved_up).sum::<f64>() <= capacity * (1.0 + 1e-9));
        assert!(plan.edges.iter().map(|edge| edge.reserved_down).sum::<f64>() <= capacity * (1.0 + 1e-9));
    }
    for (edge, input_edge) in plan.edges.iter().zip(&input.edges) {
        assert!((0.0..=1.0).contains(&edge.share) && edge.step_s.is_finite() && !edge.reason.is_empty());
        assert!(input.depth.contains(&edge.cut));
        assert!(near(edge.terms.total(), edge.step_s) && near(edge.slack_s + edge.step_s, plan.deadline_s));
        if edge.feasible {
            assert!(
                (edge.step_s + edge.weights_s + edge.moving_s) * (1.0 + input_edge.margin)
                    <= plan.deadline_s * (1.0 + 1e-12),
                "{edge:?}"
            );
            assert!(input_edge.memory_limit.is_none_or(|limit| edge.memory_bytes <= limit));
            if edge.cut < input.layers() {
                // The reserved rate moves the bytes in the time that the deadline leaves for them.
                let one_way = f64::midpoint(input_edge.rtt_s, input_edge.latency_overhead_s);
                let left = plan.deadline_s - (edge.step_s - edge.terms.uplink) - one_way;
                assert!(edge.reserved_up * left >= input.cut_bytes_up[edge.cut] as f64 * (1.0 - 1e-6));
            }
        }
    }
    assert!((0.0..=1.0).contains(&plan.optimality_gap));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_automatic_deadline_is_the_least(seed: u64, edges in 1..=4_usize, layers in 1..=5_usize) {
        let input = fleet(seed, edges, layers);
        let plan = planned(&input);
        check_plan(&input, &plan);
        prop_assert!(plan.edges.iter().all(|edge| edge.feasible));
        let budget = plan.deadline_s / (1.0 + input.edges[0].margin);
        let feasible = |budget: f64| {
            combinations(edges, input.depth.clone()).iter().any(|cuts| shares_needed(&input, cuts, budget).is_some())
        };
        prop_assert!(feasible(budget * (1.0 + 1e-7)));
        prop_assert!(!feasible(budget * (1.0 - 1e-7)));
    }

    #[test]
    fn deepest_is_as_good_as_brute_force(
        seed: u64, edges in 1..=4_usize, layers in 1..=5_usize, looser in 0.7..3.0_f64,
    ) {
        let automatic = planned(&fleet(seed, edges, layers)).deadline_s;
        let input = PlanInput { deadline: Deadline::Fixed(automatic * looser), ..fleet(seed, edges, layers) };
        let plan = planned(&input);
        check_plan(&input, &plan);
        let budget = automatic * looser / (1.0 + input.edges[0].margin) * (1.0 - ROUNDING);
        let best = combinations(edges, input.depth.clone())
            .iter()
            .filter(|cuts| shares_needed(&input, cuts, budget).is_some())
            .map(|cuts| flops(&input, cuts))
            .min_by(f64::total_cmp);
        prop_assert_eq!(best.is_some(), plan.edges.iter().all(|edge| edge.feasible));
        if let Some(best) = best {
            prop_assert!((total_flops(&input, &plan) - best).abs() <= 1e-9 * best.max(1.0), "{plan:?}, best {best}");
            prop_assert!(plan.optimality_gap <= 0.0);
        }
    }

    #[test]
    fn fastest_is_as_good_as_brute_force(
        seed: u64, edges in 1..=4_usize, layers in 1..=5_usize, delay in 0.0..0.5_f64,
    ) {
        let mut input = PlanInput { objective: Objective::Fastest, ..fleet(seed, edges, layers) };
        // One slow edge sets the deadline and leaves the others room to choose.
        input.devices[0].forward_s[1..].iter_mut().for_each(|seconds| *seconds += delay);
        input.edges[0].rtt_s += delay;
        let plan = planned(&input);
        check_plan(&input, &plan);
        let budget = plan.deadline_s / (1.0 + input.edges[0].margin);
        let best = combinations(edges, input.depth.clone())
            .iter()
            .filter_map(|cuts| least_sum(&input, cuts, budget))
            .min_by(f64::total_cmp)
            .expect("the plan itself is one");
        let sum: f64 = plan.edges.iter().map(|edge| edge.step_s + edge.weights_s).sum();
        prop_assert!(sum <= best * (1.0 + 1e-6), "{sum} against {best}");
        prop_assert!(plan.optimality_gap <= 0.0);
        // A looser deadline changes nothing: fastest is fastest.
        let loose = planned(&PlanInput { deadline: Deadline::Fixed(plan.deadline_s * 2.0), ..input });
        prop_assert_eq!(cuts(&loose), cuts(&plan));
    }

    #[test]
    fn more_time_more_workers_and_faster_links_never_hurt(seed: u64, edges in 1..=4_usize, more in 1.0..3.0_f64) {
        let input = fleet(seed, edges, 5);
        let plan = planned(&input);
        let later = planned(&PlanInput { deadline: Deadline::Fixed(plan.deadline_s * more), ..input.clone() });
        prop_assert!(total_flops(&input, &later) <= total_flops(&input, &plan) * (1.0 + 1e-9));
        let mut better = input.clone();
        better.cloud.workers += 1;
        prop_assert!(planned(&better).deadline_s <= plan.deadline_s * (1.0 + 1e-7));
        let mut better = input;
        better.edges.iter_mut().for_each(|edge| edge.up_bytes_per_s *= more);
        prop_assert!(planned(&better).deadline_s <= plan.deadline_s * (1.0 + 1e-7));
    }

    #[test]
    fn every_plan_is_sound(
        seed: u64,
        edges in 1..40_usize,
        layers in 1..12_usize,
        deadline in proptest::option::of(1e-3..1.0_f64),
        fastest: bool,
        capacity in proptest::option::of(1e6..1e9_f64),
        memory in proptest::option::of(0..12_u64),
        current in proptest::option::of(0..12_usize),
        hysteresis in 0.0..0.5_f64,
    ) {
        let mut input = fleet(seed, edges, layers);
        input.deadline = deadline.map_or(Deadline::Auto, Deadline::Fixed);
        input.objective = if fastest { Objective::Fastest } else { Objective::Deepest };
        input.cloud.capacity_bytes_per_s = capacity;
        input.hysteresis = hysteresis;
        input.depth = 1.min(layers - 1)..=layers;
        input.edges[0].memory_limit = memory;
        input.edges.iter_mut().for_each(|edge| edge.current_cut = current.map(|cut| cut.min(layers)));
        let plan = planned(&input);
        check_plan(&input, &plan);
        if deadline.is_none() {
            prop_assert!(plan.edges[1..].iter().all(|edge| edge.feasible));
        }
    }

    #[test]
    fn planned_again_from_its_own_cuts_nothing_moves(
        seed: u64, edges in 1..=6_usize, looser in 1.0..3.0_f64, start in 0..=5_usize, hysteresis in 0.01..0.5_f64,
    ) {
        let mut input = PlanInput { hysteresis, ..fleet(seed, edges, 5) };
        input.edges.iter_mut().for_each(|edge| edge.current_cut = Some(start));
        input.deadline = Deadline::Fixed(planned(&input).deadline_s * looser);
        let first = planned(&input);
        for (edge, planned) in input.edges.iter_mut().zip(&first.edges) {
            edge.current_cut = Some(planned.cut);
        }
        prop_assert_eq!(cuts(&planned(&input)), cuts(&first));
    }
}

#[test]
fn hundreds_of_edges_on_a_scarce_network_come_close_to_the_bound() {
    for objective in [Objective::Deepest, Objective::Fastest] {
        let mut input = PlanInput { objective, ..fleet(7, 400, 30) };
        input.cloud.workers = 20;
        let links: f64 = input.edges.iter().map(|edge| edge.up_bytes_per_s).sum();
        for part in [0.5, 0.1] {
            input.cloud.capacity_bytes_per_s = Some(part * links);
            let automatic = planned(&input);
            check_plan(&input, &automatic);
            let looser = Deadline::Fixed(automatic.deadline_s * 1.3);
            let plan = planned(&PlanInput { deadline: looser, ..input.clone() });
            check_plan(&input, &plan);
            for plan in [&automatic, &plan] {
                assert!(plan.edges.iter().all(|edge| edge.feasible));
                assert!(plan.optimality_gap < 0.02, "{objective:?} {part}: {}", plan.optimality_gap);
                assert!(plan.dual_bound <= plan.objective * (1.0 + 1e-9));
            }
        }
    }
}

#[test]
fn a_thousand_edges_come_close_to_the_bound() {
    for objective in [Objective::Deepest, Objective::Fastest] {
        let mut input = PlanInput { objective, ..fleet(7, 1000, 50) };
        input.cloud.workers = 40;
        let automatic = planned(&input);
        check_plan(&input, &automatic);
        let looser = PlanInput { deadline: Deadline::Fixed(automatic.deadline_s * 1.3), ..input };
        let plan = planned(&looser);
        check_plan(&looser, &plan);
        assert!(plan.optimality_gap < 0.01, "{objective:?}: {}", plan.optimality_gap);
    }
}
