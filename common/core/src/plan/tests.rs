use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::*;
use crate::random::{stream, unit_f64};

/// Four layers; everything in round milliseconds. With a whole worker, cut by cut:
///
/// | cut | edge | uplink | cloud | downlink | step | cloud FLOPs |
/// |---|---|---|---|---|---|---|
/// | 1 | 10 | 40 | 6 | 20 | 76 | 300 |
/// | 2 | 20 | 20 | 4 | 10 | 54 | 200 |
/// | 3 | 40 | 10 | 2 | 5 | 57 | 100 |
/// | 4 | 80 | - | - | - | 80 | 0 |
fn camera() -> EdgeInput {
    EdgeInput {
        name: "camera".to_owned(),
        forward_s: vec![0.004, 0.004, 0.008, 0.016],
        backward_s: vec![0.006, 0.006, 0.012, 0.024],
        up_bytes_per_s: 1e6,
        down_bytes_per_s: 2e6,
        rtt_s: 0.0,
        latency_overhead_s: 0.0,
        memory_limit: None,
        memory_by_cut: vec![0, 100, 200, 300, 400],
        current_cut: None,
        fixed_cut: None,
    }
}

fn cameras(count: usize) -> PlanInput {
    PlanInput {
        edges: (0..count).map(|index| EdgeInput { name: format!("camera-{index}"), ..camera() }).collect(),
        cloud: CloudInput {
            forward_s: vec![0.001; 4],
            backward_s: vec![0.001; 4],
            flops: vec![100.0; 4],
            workers: 1,
            capacity_bytes_per_s: None,
        },
        cut_bytes_up: vec![80_000, 40_000, 20_000, 10_000, 0],
        cut_bytes_down: vec![0, 40_000, 20_000, 10_000, 0],
        state_bytes: vec![0; 5],
        steps_between_aggregations: 50,
        depth: 1..=3,
        deadline: Deadline::Auto,
        objective: Objective::Deepest,
        margin: 0.0,
        hysteresis: 0.0,
    }
}

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-6 * right.abs()
}

fn planned(input: &PlanInput) -> Plan {
    plan(input).expect("a valid input")
}

fn cuts(plan: &Plan) -> Vec<usize> {
    plan.edges.iter().map(|edge| edge.cut).collect()
}

#[test]
fn one_edge_gets_the_cut_that_the_table_says() {
    let automatic = planned(&cameras(1));
    assert!(near(automatic.deadline_s, 0.054), "{}", automatic.deadline_s);
    let edge = &automatic.edges[0];
    assert_eq!((edge.cut, edge.feasible), (2, true));
    assert!(near(edge.step_s, 0.054) && near(edge.share, 1.0));
    let StepTerms { edge_forward, uplink, cloud, downlink, edge_backward } = edge.terms;
    assert!(near(edge_forward, 0.008) && near(edge_backward, 0.012));
    assert!(near(uplink, 0.020) && near(cloud, 0.004) && near(downlink, 0.010));
    assert!(near(edge.reserved_up, 1.25e6) && near(edge.reserved_down, 2.5e6));
    assert_eq!(edge.memory_bytes, 200);
    assert!(
        edge.reason.contains("cut 3 would take 57.0 ms (edge 40.0 ms, uplink 10.0 ms"),
        "{}",
        edge.reason
    );

    for (deadline, margin, depth, expected) in
        [(0.0571, 0.0, 1..=3, 3), (0.0571, 0.05, 1..=3, 2), (0.081, 0.0, 1..=4, 4), (0.081, 0.0, 1..=1, 1)]
    {
        let input = PlanInput { deadline: Deadline::Fixed(deadline), margin, depth, ..cameras(1) };
        assert_eq!(cuts(&planned(&input)), [expected], "{deadline} {margin}");
    }
}

#[test]
fn fastest_ignores_what_the_deadline_would_allow() {
    let input = PlanInput {
        objective: Objective::Fastest,
        deadline: Deadline::Fixed(1.0),
        depth: 0..=4,
        ..cameras(1)
    };
    // Cut 0: 80 ms up and 8 ms of cloud; cut 2 stays the quickest.
    assert_eq!(cuts(&planned(&input)), [2]);
}

#[test]
fn the_cloud_is_shared_and_the_terms_say_so() {
    // With two edges and one worker: both at cut 3 need 2 / (D - 55) each, so D = 59; both at cut 2 need
    // 4 / (D - 50) each, so D = 58; one at each: 4 / (D - 50) + 2 / (D - 55) = 1, D = 58.37.
    let plan = planned(&cameras(2));
    assert!(near(plan.deadline_s, 0.058), "{}", plan.deadline_s);
    assert_eq!(cuts(&plan), [2, 2]);
    for edge in &plan.edges {
        assert!(near(edge.share, 0.5) && near(edge.terms.cloud, 0.008) && edge.feasible);
        assert!(edge.slack_s >= 0.0 && edge.slack_s < 1e-8);
    }
    let workers = PlanInput { cloud: CloudInput { workers: 2, ..cameras(2).cloud }, ..cameras(2) };
    assert!(near(planned(&workers).deadline_s, 0.054));
}

#[test]
fn the_slowest_edge_sets_the_deadline_and_the_others_go_deep() {
    let mut input = cameras(2);
    let slow = &mut input.edges[0];
    slow.forward_s.iter_mut().chain(&mut slow.backward_s).for_each(|seconds| *seconds *= 4.0);
    input.cloud.workers = 2;
    let plan = planned(&input);
    // The slow edge: 40 + 40 + 6 + 20 = 106 at cut 1, 80 + 34 = 114 at cut 2.
    assert!(near(plan.deadline_s, 0.106));
    assert_eq!(cuts(&plan), [1, 3]);
    input.objective = Objective::Fastest;
    assert_eq!(cuts(&planned(&input)), [1, 2], "the other edge is quick although it need not be");
}

#[test]
fn weights_are_charged_against_the_deadline_but_are_no_latency() {
    let mut input = cameras(1);
    // 1 MB of state at cut 2 over 50 steps: 20 ms up and 10 ms down.
    input.state_bytes = vec![0, 0, 1_000_000, 2_000_000, 4_000_000];
    let plan = planned(&PlanInput { depth: 2..=2, ..input.clone() });
    let edge = &plan.edges[0];
    assert!(near(edge.weights_s, 0.030) && near(edge.step_s, 0.054) && near(plan.deadline_s, 0.084));
    assert!(near(edge.slack_s, 0.030));
    assert_eq!(cuts(&planned(&input)), [1], "76 ms and nothing to aggregate");
}

#[test]
fn round_trip_and_overhead_are_charged_to_transfers_only() {
    let mut input = cameras(1);
    (input.edges[0].rtt_s, input.edges[0].latency_overhead_s) = (0.010, 0.004);
    let edge = &planned(&input).edges[0];
    assert!(near(edge.terms.uplink, 0.027) && near(edge.terms.downlink, 0.017));
    let local = planned(&PlanInput { depth: 4..=4, ..input });
    assert!(near(local.edges[0].step_s, 0.080) && local.edges[0].share <= 0.0);
    assert!(near(local.deadline_s, 0.080));
}

#[test]
fn memory_limits_the_depth() {
    let mut input = PlanInput { deadline: Deadline::Fixed(0.1), ..cameras(1) };
    input.edges[0].memory_limit = Some(250);
    let plan = planned(&input);
    assert_eq!(cuts(&plan), [2]);
    assert!(plan.edges[0].reason.contains("cut 3 needs 0.0 MiB of memory"), "{}", plan.edges[0].reason);

    input.edges.push(EdgeInput { name: "tiny".to_owned(), memory_limit: Some(50), ..camera() });
    for deadline in [Deadline::Fixed(0.1), Deadline::Auto] {
        let plan = planned(&PlanInput { deadline, ..input.clone() });
        assert_eq!(cuts(&plan)[1], 1);
        assert!(plan.edges[0].feasible && !plan.edges[1].feasible);
        assert!(plan.edges[1].reason.starts_with("cut 1 needs least memory"), "{}", plan.edges[1].reason);
        assert!(plan.edges[1].step_s.is_finite());
    }
}

#[test]
fn an_edge_that_cannot_meet_the_deadline_is_told_what_would_help() {
    let input = PlanInput { deadline: Deadline::Fixed(0.050), margin: 0.25, ..cameras(1) };
    let plan = planned(&input);
    let edge = &plan.edges[0];
    assert_eq!((edge.cut, edge.feasible), (2, false));
    assert!(edge.slack_s < 0.0);
    // 40 ms before the margin. Cut 1 leaves 4 ms for 40 kB: 80 Mbit/s; cut 2 leaves 6 ms for 20 kB: 26.7;
    // cut 3 takes longer than that without its uplink. Compute: cut 2 would have 6 ms for 20 ms of work:
    // 3.33 times; cut 3 23 ms for 40 ms: 1.74 times.
    for part in
        ["50.0 ms (40.0 ms before", "takes 54.0 ms", "26.7 Mbit/s", "1.7 times", "a deadline of 67.5 ms"]
    {
        assert!(edge.reason.contains(part), "{part}: {}", edge.reason);
    }
    let helped = PlanInput { deadline: Deadline::Fixed(0.0676), ..input.clone() };
    assert!(planned(&helped).edges[0].feasible);
    let mut helped = input.clone();
    helped.edges[0].up_bytes_per_s = 26.8e6 / 8.0;
    assert!(planned(&helped).edges[0].feasible);
}

#[test]
fn a_crowded_cloud_turns_away_as_few_as_it_must() {
    // Each needs 4 / (56 - 50) = 0.67 at cut 2 but 2 / (56 - 55) = 2 at cut 3.
    let plan = planned(&PlanInput { deadline: Deadline::Fixed(0.056), ..cameras(2) });
    assert_eq!(plan.edges.iter().filter(|edge| edge.feasible).count(), 1);
    let late = plan.edges.iter().find(|edge| !edge.feasible).expect("one of two");
    assert!(late.share > 0.3 && late.step_s.is_finite());
    assert!(
        late.reason.contains("share of 0.67") && late.reason.contains("more cloud workers"),
        "{}",
        late.reason
    );
    let sum: f64 = plan.edges.iter().map(|edge| edge.share).sum();
    assert!(near(sum, 1.0));
}

#[test]
fn a_tight_capacity_slows_the_transfers_down() {
    let mut input = PlanInput { deadline: Deadline::Fixed(1.0), depth: 2..=2, ..cameras(4) };
    input.cloud.capacity_bytes_per_s = Some(2e6);
    let plan = planned(&input);
    for edge in &plan.edges {
        assert!(near(edge.terms.uplink, 0.040) && near(edge.terms.downlink, 0.040));
        assert!(near(edge.reserved_up, 0.5e6) && near(edge.reserved_down, 0.5e6));
    }
}

#[test]
fn a_fixed_cut_is_kept_whatever_the_depth() {
    let mut input = PlanInput { depth: 1..=2, ..cameras(2) };
    (input.edges[0].fixed_cut, input.edges[1].fixed_cut) = (Some(3), Some(0));
    let plan = planned(&input);
    assert_eq!(cuts(&plan), [3, 0]);
    assert!(plan.edges[0].reason.ends_with("it is fixed"));
}

#[test]
fn an_edge_stays_where_moving_gains_too_little() {
    let with = |current: usize, hysteresis: f64| {
        let mut input = PlanInput { deadline: Deadline::Fixed(0.080), hysteresis, ..cameras(1) };
        input.edges[0].current_cut = Some(current);
        cuts(&planned(&input))[0]
    };
    // From cut 2 to 3 the cloud is spared half of what it does.
    assert_eq!((with(2, 0.0), with(2, 0.4), with(2, 0.6)), (3, 3, 2));
    let fast = |current: usize, hysteresis: f64| {
        let mut input = PlanInput { objective: Objective::Fastest, hysteresis, ..cameras(1) };
        input.edges[0].current_cut = Some(current);
        cuts(&planned(&input))[0]
    };
    // Cut 3 takes 57 ms, cut 2 takes 54: 5.3 % less.
    assert_eq!((fast(3, 0.0), fast(3, 0.05), fast(3, 0.06)), (2, 2, 3));
}

#[test]
fn the_automatic_deadline_does_not_follow_jitter() {
    let mut input = PlanInput { hysteresis: 0.1, ..cameras(1) };
    input.edges[0].current_cut = Some(3);
    assert!(near(planned(&input).deadline_s, 0.057), "5 % above the least is kept");
    input.edges[0].current_cut = Some(1);
    assert!(near(planned(&input).deadline_s, 0.054), "40 % above is not");
    input.edges[0].current_cut = Some(4);
    assert!(near(planned(&input).deadline_s, 0.054), "a cut outside the depth cannot be kept");
}

#[test]
fn ties_go_to_fewer_bytes_then_to_the_smaller_cut() {
    // Layers 2 and 3 cost nothing: cuts 2, 3 and 4 differ in bytes only.
    let mut input = cameras(1);
    for layer in [2, 3] {
        input.edges[0].forward_s[layer] = 0.0;
        input.edges[0].backward_s[layer] = 0.0;
        input.cloud.forward_s[layer] = 0.0;
        input.cloud.backward_s[layer] = 0.0;
        input.cloud.flops[layer] = 0.0;
    }
    input.deadline = Deadline::Fixed(0.080);
    (input.cut_bytes_up[3], input.cut_bytes_down[3]) = (20_000, 20_000);
    assert_eq!(cuts(&planned(&input)), [2]);
    input.cut_bytes_up[3] = 19_999;
    assert_eq!(cuts(&planned(&input)), [3]);
}

#[test]
fn inputs_that_cannot_be_planned_with_are_refused_by_name() {
    type Change<'a> = &'a dyn Fn(&mut PlanInput);
    let refused = |change: Change| {
        let mut input = cameras(2);
        change(&mut input);
        plan(&input).expect_err("not a plan").to_string()
    };
    let cases: [(Change, &str); 15] = [
        (&|input| input.edges.clear(), "there is no edge"),
        (&|input| input.cloud.flops.clear(), "cloud: flops has no entries"),
        (&|input| input.edges[1].forward_s[2] = f64::NAN, "edge \"camera-1\": forward_s of layer 2 is NaN"),
        (&|input| input.edges[0].backward_s[0] = -0.1, "edge \"camera-0\": backward_s of layer 0 is -0.1"),
        (&|input| input.edges[1].up_bytes_per_s = 0.0, "edge \"camera-1\": up_bytes_per_s is 0"),
        (
            &|input| input.edges[1].down_bytes_per_s = f64::INFINITY,
            "edge \"camera-1\": down_bytes_per_s is inf",
        ),
        (&|input| input.edges[1].rtt_s = f64::NAN, "edge \"camera-1\": rtt_s is NaN"),
        (&|input| input.edges[1].current_cut = Some(5), "edge \"camera-1\": current_cut is 5"),
        (
            &|input| input.edges[0].memory_by_cut = vec![0; 4],
            "edge \"camera-0\": memory_by_cut has 4 entries",
        ),
        (&|input| input.cloud.workers = 0, "cloud: workers is 0"),
        (&|input| input.cloud.capacity_bytes_per_s = Some(f64::NAN), "cloud: capacity_bytes_per_s is NaN"),
        (
            &|input| input.cut_bytes_up = vec![1; 9],
            "plan: cut_bytes_up has 9 entries; a model of 4 layers needs 5",
        ),
        (&|input| input.deadline = Deadline::Fixed(0.0), "plan: deadline is 0"),
        (&|input| input.depth = 2..=5, "plan: depth is 2..=5"),
        (&|input| input.margin = f64::NAN, "plan: margin is NaN"),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.starts_with(expected), "{message}");
    }
}

/// A random fleet: times over two decades, links over two, one to three workers.
fn fleet(seed: u64, edges: usize, layers: usize) -> PlanInput {
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
        edges: (0..edges)
            .map(|index| EdgeInput {
                name: format!("edge-{index}"),
                forward_s: device(&mut decades, 1e-3),
                backward_s: device(&mut decades, 2e-3),
                up_bytes_per_s: decades(1e6, 1.5),
                down_bytes_per_s: decades(1e6, 1.5),
                rtt_s: decades(1e-3, 1.0),
                latency_overhead_s: 1e-3,
                memory_limit: None,
                memory_by_cut: (0..=layers as u64).collect(),
                current_cut: None,
                fixed_cut: None,
            })
            .collect(),
        cloud: CloudInput {
            forward_s: device(&mut decades, 5e-4),
            backward_s: device(&mut decades, 1e-3),
            flops: (0..layers).map(|_| decades(1e6, 1.0)).collect(),
            workers: 1 + (decades(1.0, 0.47) - 0.01) as usize % 3,
            capacity_bytes_per_s: None,
        },
        cut_bytes_up: bytes(&mut decades),
        cut_bytes_down: bytes(&mut decades),
        state_bytes: (0..=layers as u64).map(|cut| 10_000 * cut).collect(),
        steps_between_aggregations: 50,
        depth: 0..=layers,
        deadline: Deadline::Auto,
        objective: Objective::Deepest,
        margin: 0.1,
        hysteresis: 0.0,
    }
}

/// What is charged against the deadline besides the cloud, and the cloud's service: from the definition.
fn seconds(input: &PlanInput, edge: usize, cut: usize) -> (f64, f64) {
    let (layers, at) = (input.layers(), &input.edges[edge]);
    let compute: f64 = at.forward_s[..cut].iter().chain(&at.backward_s[..cut]).sum();
    let service: f64 = input.cloud.forward_s[cut..].iter().chain(&input.cloud.backward_s[cut..]).sum();
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
            assert!((edge.step_s + edge.weights_s) * (1.0 + input.margin) <= plan.deadline_s, "{edge:?}");
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
        let budget = plan.deadline_s / (1.0 + input.margin);
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
        let budget = automatic * looser / (1.0 + input.margin) * (1.0 - ROUNDING);
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
    fn fastest_is_as_good_as_brute_force(seed: u64, edges in 1..=3_usize, layers in 1..=5_usize) {
        let input = PlanInput { objective: Objective::Fastest, ..fleet(seed, edges, layers) };
        let plan = planned(&input);
        check_plan(&input, &plan);
        let budget = plan.deadline_s / (1.0 + input.margin);
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

#[test]
fn a_plan_survives_bincode() {
    let plan = planned(&cameras(3));
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(&plan, config).expect("plain data");
    let (read, used) = bincode::serde::decode_from_slice::<Plan, _>(&bytes, config).expect("same bytes");
    assert_eq!((read, used), (plan, bytes.len()));
}
