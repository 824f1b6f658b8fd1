//! Plans of steps whose micro-batches overlap, against every combination of cuts, by a time of its own: each
//! micro-batch through each stage, one after the other.

use proptest::prelude::*;

use super::properties::fleet;
use super::*;

/// What is charged against the deadline where the cloud gives a share and the link is the edge's own.
fn charged(input: &PlanInput, edge: usize, cut: usize, share: f64) -> f64 {
    let at = &input.edges[edge];
    charged_at(input, edge, cut, [at.up_bytes_per_s, at.down_bytes_per_s, share])
}

/// Likewise at these rates up and down and this share, from the definition.
fn charged_at(input: &PlanInput, edge: usize, cut: usize, [up_rate, down_rate, share]: [f64; 3]) -> f64 {
    let (layers, at) = (input.layers(), &input.edges[edge]);
    let device = &input.devices[at.device];
    let forward = at.forward_factor * device.forward_s[cut];
    let backward = at.backward_factor * device.backward_s[cut];
    let both = 1.0 / up_rate + 1.0 / down_rate;
    let weights = input.state_bytes[cut] as f64 * both / input.steps_between_aggregations as f64;
    if cut == layers {
        return (1.0 + at.margin) * (forward + backward + weights);
    }
    let service = input.cloud.service_s[cut];
    let one_way = f64::midpoint(at.rtt_s, at.latency_overhead_s);
    let k = f64::from(input.micro_batches);
    let (up, down) = (input.cut_bytes_up[cut] as f64, input.cut_bytes_down[cut] as f64);
    let (up, down) = (up / up_rate / k, down / down_rate / k);
    let (mut sent, mut served, mut answered, mut edge) = (0.0_f64, 0.0_f64, 0.0_f64, forward);
    for index in 1..=input.micro_batches {
        sent = sent.max(f64::from(index) * forward / k) + up;
        served = served.max(sent + one_way) + service / share / k;
        answered = answered.max(served) + down;
        edge = edge.max(answered + one_way) + backward / k;
    }
    (1.0 + at.margin) * (edge + weights)
}

fn halved(mut low: f64, mut high: f64, is_high: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if is_high(middle) { high = middle } else { low = middle }
    }
    high
}

/// The least share with which an edge is in time; infinite if none is.
fn needed(input: &PlanInput, edge: usize, cut: usize, deadline: f64) -> f64 {
    let in_time = |share: f64| charged(input, edge, cut, share) <= deadline;
    if cut == input.layers() {
        return if in_time(1.0) { 0.0 } else { f64::INFINITY };
    }
    if in_time(1.0) { halved(0.0, 1.0, in_time) } else { f64::INFINITY }
}

fn combinations(input: &PlanInput) -> Vec<Vec<usize>> {
    input.edges.iter().fold(vec![Vec::new()], |shorter, _| {
        let longer = |cuts: &Vec<usize>| {
            let cuts = cuts.clone();
            input.depth.clone().map(move |cut| [cuts.as_slice(), &[cut]].concat())
        };
        shorter.iter().flat_map(longer).collect()
    })
}

fn fits(input: &PlanInput, cuts: &[usize], deadline: f64) -> bool {
    let shares = cuts.iter().enumerate().map(|(edge, &cut)| needed(input, edge, cut, deadline));
    shares.sum::<f64>() <= input.cloud.workers as f64
}

/// The least sum of times of a combination within a deadline, by a price of shares, each share by ternary search.
fn least_sum(input: &PlanInput, cuts: &[usize], deadline: f64) -> f64 {
    let needs: Vec<f64> =
        cuts.iter().enumerate().map(|(edge, &cut)| needed(input, edge, cut, deadline)).collect();
    let share = |edge: usize, price: f64| {
        if cuts[edge] == input.layers() {
            return 0.0;
        }
        let cost = |share: f64| charged(input, edge, cuts[edge], share) + price * share;
        let (mut low, mut high) = (needs[edge].max(1e-9), 1.0);
        for _ in 0..100 {
            let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
            if cost(left) <= cost(right) { high = right } else { low = left }
        }
        high
    };
    let total = |price: f64| (0..cuts.len()).map(|edge| share(edge, price)).sum::<f64>();
    let price = halved(-12.0, 6.0, |power| total(10_f64.powf(power)) <= input.cloud.workers as f64);
    (0..cuts.len()).map(|edge| charged(input, edge, cuts[edge], share(edge, 10_f64.powf(price)))).sum()
}

fn input(seed: u64, edges: usize, layers: usize, parts: u32) -> PlanInput {
    PlanInput { micro_batches: parts, ..fleet(seed, edges, layers) }
}

/// That times and terms are what they are said to be, and the deadline is met.
fn check(input: &PlanInput, plan: &Plan) {
    for (index, edge) in plan.edges.iter().enumerate() {
        let stated = (edge.step_s + edge.weights_s + edge.moving_s) * (1.0 + edge.margin);
        let share = if edge.share > 0.0 { edge.share } else { 1.0 };
        if input.cloud.capacity_bytes_per_s.is_none() {
            let charged = charged(input, index, edge.cut, share);
            assert!((stated - charged).abs() <= 1e-9 * charged, "{stated} is not {charged}: {edge:?}");
        }
        assert!(edge.step_s <= edge.terms.total() * (1.0 + 1e-12), "{edge:?}");
        assert!(!edge.feasible || stated <= plan.deadline_s * (1.0 + 1e-9), "{edge:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_deadline_is_the_least_of_any_cuts(
        seed: u64, edges in 1..4_usize, layers in 1..5_usize, parts in 1..13_u32,
    ) {
        let input = input(seed, edges, layers, parts);
        let all = combinations(&input);
        let least = halved(0.0, 1e3, |deadline| all.iter().any(|cuts| fits(&input, cuts, deadline)));
        let plan = planned(&input);
        check(&input, &plan);
        prop_assert!((plan.deadline_s / least - 1.0).abs() < 1e-6, "{} is not {least}", plan.deadline_s);
        prop_assert!(plan.edges.iter().all(|edge| edge.feasible));
        let unsplit = planned(&PlanInput { micro_batches: 1, ..input });
        prop_assert!(plan.deadline_s <= unsplit.deadline_s * (1.0 + 1e-9), "overlapping costs nothing here");
    }

    #[test]
    fn no_cuts_are_better(
        seed: u64, edges in 1..4_usize, layers in 1..5_usize, parts in 2..13_u32, looser in 1.001..3.0_f64,
    ) {
        let mut input = input(seed, edges, layers, parts);
        input.deadline = Deadline::Fixed(planned(&input).deadline_s * looser);
        let deepest = planned(&input);
        check(&input, &deepest);
        let all: Vec<Vec<usize>> =
            combinations(&input).into_iter().filter(|cuts| fits(&input, cuts, deepest.deadline_s)).collect();
        let flops = |cuts: &Vec<usize>| -> f64 {
            cuts.iter().map(|&cut| input.cloud.flops[cut..].iter().sum::<f64>()).sum()
        };
        let least = all.iter().map(flops).fold(f64::INFINITY, f64::min);
        prop_assert!(deepest.objective <= least * (1.0 + 1e-9), "{} above {least}", deepest.objective);

        let fastest = planned(&PlanInput { objective: Objective::Fastest, ..input.clone() });
        check(&input, &fastest);
        let slowest =
            fastest.edges.iter().map(|edge| (edge.step_s + edge.weights_s) * (1.0 + edge.margin)).fold(0.0, f64::max);
        let sums = all
            .iter()
            .filter(|cuts| fits(&input, cuts, slowest * (1.0 + 1e-9)))
            .map(|cuts| least_sum(&input, cuts, slowest * (1.0 + 1e-9)));
        let least = sums.fold(f64::INFINITY, f64::min);
        prop_assert!(fastest.objective <= least * (1.0 + 1e-3), "{} above {least}", fastest.objective);
    }

    #[test]
    fn what_would_fix_a_late_edge_does(seed: u64, layers in 1..6_usize, parts in 1..13_u32, part in 0.2..0.99_f64) {
        let mut input = input(seed, 1, layers, parts);
        input.depth = 0..=layers - 1;
        input.deadline = Deadline::Fixed(part * planned(&input).deadline_s);
        let Some(fixes) = planned(&input).edges[0].fixes else { return Ok(()) };
        let with = |change: &dyn Fn(&mut PlanInput)| {
            let mut input = input.clone();
            change(&mut input);
            planned(&input).edges[0].feasible
        };
        for factor in [1.0 + 1e-6, 1.0 - 1e-3] {
            let is_enough = factor > 1.0;
            if let Some(rate) = fixes.up_bytes_per_s {
                prop_assert_eq!(with(&|input| input.edges[0].up_bytes_per_s = factor * rate), is_enough);
            }
            if let Some(rate) = fixes.down_bytes_per_s {
                prop_assert_eq!(with(&|input| input.edges[0].down_bytes_per_s = factor * rate), is_enough);
            }
            if let Some(speed) = fixes.compute_speed {
                let slower = |input: &mut PlanInput| {
                    let at = &mut input.edges[0];
                    at.forward_factor /= factor * speed;
                    at.backward_factor /= factor * speed;
                };
                prop_assert_eq!(with(&slower), is_enough);
            }
            if let Some(seconds) = fixes.deadline_s {
                prop_assert_eq!(with(&|input| input.deadline = Deadline::Fixed(factor * seconds)), is_enough);
            }
        }
    }

    /// Two edges with too little network for both, against every way to divide it, in steps that become small.
    #[test]
    fn no_division_of_a_scarce_network_is_better(
        seed: u64, layers in 1..5_usize, parts in 2..13_u32, part in 0.2..0.9_f64,
    ) {
        let mut input = input(seed, 2, layers, parts);
        let links: f64 = input.edges.iter().map(|edge| edge.up_bytes_per_s.max(edge.down_bytes_per_s)).sum();
        input.cloud.capacity_bytes_per_s = Some(part * links);
        let plan = planned(&input);
        check(&input, &plan);
        prop_assert!(plan.edges.iter().all(|edge| edge.feasible));
        let capacity = [part * links, part * links, input.cloud.workers as f64];
        let used = |amount: fn(&EdgePlan) -> f64| plan.edges.iter().map(amount).sum::<f64>();
        let used = [used(|edge| edge.reserved_up), used(|edge| edge.reserved_down), used(|edge| edge.share)];
        prop_assert!(used.iter().zip(&capacity).all(|(used, capacity)| *used <= capacity * (1.0 + 1e-9)));

        let slowest = |first: [f64; 3]| {
            let quickest = |edge: usize| {
                let at = &input.edges[edge];
                let caps = [at.up_bytes_per_s, at.down_bytes_per_s, 1.0];
                let amounts = std::array::from_fn(|i| {
                    let taken = if edge == 0 { first[i] } else { 1.0 - first[i] };
                    (taken * capacity[i]).clamp(1e-9 * caps[i], caps[i])
                });
                input.depth.clone().map(|cut| charged_at(&input, edge, cut, amounts)).fold(f64::INFINITY, f64::min)
            };
            quickest(0).max(quickest(1))
        };
        let (mut centre, mut width) = ([0.5; 3], 0.5);
        let mut least = slowest(centre);
        for _ in 0..12 {
            let around = centre;
            for at in 0..9_usize.pow(3) {
                let steps = [at % 9, at / 9 % 9, at / 81];
                let first = std::array::from_fn(|i| {
                    (around[i] + width * (steps[i] as f64 - 4.0) / 4.0).clamp(0.0, 1.0)
                });
                if slowest(first) < least {
                    (least, centre) = (slowest(first), first);
                }
            }
            width *= 0.5;
        }
        prop_assert!(plan.deadline_s <= 1.01 * least, "{} against {least}", plan.deadline_s);
        prop_assert!(plan.deadline_bound_s <= least * (1.0 + 1e-6), "{} above {least}", plan.deadline_bound_s);
    }
}
