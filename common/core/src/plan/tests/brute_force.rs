//! Small fleets against every combination of cuts, each with the best rates and shares by a method of its own:
//! prices that rise with demand, and what an edge takes at them by bisection.

use proptest::prelude::*;
use rand::Rng;

use super::*;
use crate::random::{below, stream, unit_f64};

/// Three resources: uplinks, downlinks, workers.
type Three = [f64; 3];

/// One edge at one cut, by the definition, with its margin.
#[derive(Clone, Copy)]
struct Ask {
    fixed: f64,
    work: Three,
    caps: Three,
}

/// Two to four edges over three to eight layers; links from ample to scarce, one to three workers, limits of
/// memory and of depth.
fn small_fleet(seed: u64) -> PlanInput {
    let mut rng = stream(seed, &["small fleet"]);
    let edges = 2 + below(&mut rng, 3) as usize;
    let layers = 3 + below(&mut rng, 6) as usize;
    let decades = |rng: &mut dyn FnMut() -> f64, least: f64, count: f64| least * 10_f64.powf(count * rng());
    let chance = |rng: &mut dyn Rng, share: f64| f64::from(rng.next_u32()) < share * 2_f64.powi(32);
    let least_depth = below(&mut rng, 3) as usize;
    let most_depth = (least_depth + 1 + below(&mut rng, 8) as usize).min(layers);
    let has_memory = chance(&mut rng, 0.3);
    let moves = chance(&mut rng, 0.3);
    let capacity_part = chance(&mut rng, 0.7).then(|| 0.15 + 1.2 * unit_f64(&mut rng));
    let workers = 1 + below(&mut rng, 3) as usize;
    let mut draw = || unit_f64(&mut rng);
    let mut device = |unit: f64| -> Vec<f64> {
        let pace = decades(&mut draw, unit, 1.5);
        (0..layers).map(|_| pace * decades(&mut draw, 1.0, 0.7)).collect()
    };
    let (forward, backward) = (device(5e-4), device(1e-3));
    let devices: Vec<DeviceInput> =
        (0..edges).map(|_| DeviceInput::of_layers(&device(1e-3), &device(2e-3), 0.0)).collect();
    let bytes = |draw: &mut dyn FnMut() -> f64| -> Vec<u64> {
        (0..=layers).map(|_| decades(draw, 1e4, 1.5) as u64).collect()
    };
    let edges: Vec<EdgeInput> = (0..edges)
        .map(|index| EdgeInput {
            name: format!("edge-{index}"),
            device: index,
            forward_factor: decades(&mut draw, 0.5, 0.6),
            backward_factor: decades(&mut draw, 0.5, 0.6),
            forward_call_s: 1e-3 * draw(),
            backward_call_s: 1e-3 * draw(),
            margin: 0.3 * draw(),
            up_bytes_per_s: decades(&mut draw, 3e5, 1.5),
            down_bytes_per_s: decades(&mut draw, 3e5, 1.5),
            rtt_s: decades(&mut draw, 1e-3, 1.0),
            latency_overhead_s: 1e-3,
            memory_limit: has_memory.then(|| (layers as f64 * (0.3 + draw())) as u64),
            current_cut: moves.then(|| (draw() * layers as f64) as usize),
            fixed_cut: None,
        })
        .collect();
    let links: f64 = edges.iter().map(|edge| edge.up_bytes_per_s.max(edge.down_bytes_per_s)).sum();
    PlanInput {
        cloud: CloudInput {
            service_s: CloudInput::service_of_layers(&forward, &backward),
            flops: (0..layers).map(|_| decades(&mut draw, 1e6, 1.0)).collect(),
            workers,
            capacity_bytes_per_s: capacity_part.map(|part| part * links),
        },
        cut_bytes_up: bytes(&mut draw),
        cut_bytes_down: bytes(&mut draw),
        state_bytes: (0..=layers as u64).map(|cut| 20_000 * cut).collect(),
        memory_by_cut: (0..=layers as u64).collect(),
        steps_between_aggregations: 50,
        steps_between_moves: moves.then_some(10),
        micro_batches: 1,
        depth: least_depth..=most_depth,
        deadline: Deadline::Auto,
        objective: Objective::Deepest,
        hysteresis: 0.0,
        devices,
        edges,
    }
}

fn ask(input: &PlanInput, edge: usize, cut: usize) -> Ask {
    let (at, layers) = (&input.edges[edge], input.layers());
    let device = &input.devices[at.device];
    let of = |factor: f64, table: &[f64], call: f64| {
        if table[cut] > 0.0 { factor * (table[cut] + call) } else { 0.0 }
    };
    let compute = of(at.forward_factor, &device.forward_s, at.forward_call_s)
        + of(at.backward_factor, &device.backward_s, at.backward_call_s);
    let weights = input.state_bytes[cut] as f64 / input.steps_between_aggregations as f64;
    let (mut up, mut down) = (weights, weights);
    if let (Some(steps), Some(now)) = (input.steps_between_moves, at.current_cut) {
        let moved = (input.state_bytes[cut] as f64 - input.state_bytes[now] as f64) / steps as f64;
        *(if moved < 0.0 { &mut up } else { &mut down }) += moved.abs();
    }
    let mut fixed = compute;
    if cut < layers {
        up += input.cut_bytes_up[cut] as f64;
        down += input.cut_bytes_down[cut] as f64;
        fixed += at.rtt_s + at.latency_overhead_s;
    }
    let service = input.cloud.service_s[cut];
    let factor = 1.0 + at.margin;
    Ask {
        fixed: factor * fixed,
        work: [factor * up, factor * down, factor * service],
        caps: [at.up_bytes_per_s, at.down_bytes_per_s, 1.0],
    }
}

fn capacity(input: &PlanInput) -> Three {
    let link = input.cloud.capacity_bytes_per_s.unwrap_or(1e18);
    [link, link, input.cloud.workers as f64]
}

impl Ask {
    fn time(&self, amounts: &Three) -> f64 {
        self.fixed + (0..3).filter(|&i| self.work[i] > 0.0).map(|i| self.work[i] / amounts[i]).sum::<f64>()
    }

    /// What costs least at these prices and takes `seconds`: an amount is the root of `weight * work / price`, up to
    /// its cap, with the weight that makes the time right, by bisection. With `own` the time itself costs, too,
    /// so that the weight is at least 1.
    fn take(&self, prices: &Three, seconds: f64, own: bool) -> Option<Three> {
        let at = |weight: f64| -> Three {
            std::array::from_fn(|i| (weight * self.work[i] / prices[i]).sqrt().min(self.caps[i]))
        };
        if self.time(&self.caps) > seconds {
            return None;
        }
        if own && self.time(&at(1.0)) <= seconds {
            return Some(at(1.0));
        }
        let (mut low, mut high) = (1e-30_f64, 1e30_f64);
        for _ in 0..60 {
            let middle = (low * high).sqrt();
            if self.time(&at(middle)) <= seconds { high = middle } else { low = middle }
        }
        Some(at(high))
    }
}

fn loads(amounts: &[Three], capacity: &Three) -> Three {
    std::array::from_fn(|i| amounts.iter().map(|amount| amount[i]).sum::<f64>() / capacity[i])
}

/// Amounts with which all take `seconds` at most, by prices that rise with the demand.
fn feasible(asks: &[Ask], capacity: &Three, seconds: f64) -> Option<Vec<Three>> {
    let mut shares = [1.0 / 3.0; 3];
    for round in 0..200 {
        let prices = std::array::from_fn(|i| shares[i] / capacity[i]);
        let amounts: Vec<Three> =
            asks.iter().map(|ask| ask.take(&prices, seconds, false)).collect::<Option<_>>()?;
        let loads = loads(&amounts, capacity);
        if loads.iter().all(|load| *load <= 1.0) {
            return Some(amounts);
        }
        if shares.iter().zip(&loads).map(|(share, load)| share * load).sum::<f64>() > 1.0 + 1e-9 {
            return None;
        }
        let step = 1.0 / (1.0 + 0.02 * f64::from(round));
        shares = std::array::from_fn(|i| (shares[i] * loads[i].max(1e-3).powf(step)).max(1e-12));
        let sum: f64 = shares.iter().sum();
        shares = shares.map(|share| share / sum);
    }
    None
}

/// The least sum of times within `seconds` of a combination, or a little above it.
fn least_sum(asks: &[Ask], capacity: &Three, seconds: f64, worth: f64) -> Option<f64> {
    let tighter = seconds * 0.999;
    let enough = feasible(asks, capacity, tighter)?;
    let sum =
        |amounts: &[Three]| asks.iter().zip(amounts).map(|(ask, amounts)| ask.time(amounts)).sum::<f64>();
    let mut best = sum(&enough);
    let mut prices: Three = std::array::from_fn(|i| best / capacity[i]);
    for round in 0..150 {
        let amounts: Vec<Three> =
            asks.iter().map(|ask| ask.take(&prices, tighter, true)).collect::<Option<_>>()?;
        let loads = loads(&amounts, capacity);
        let spent: f64 = (0..3).map(|i| prices[i] * capacity[i] * (loads[i] - 1.0)).sum();
        if sum(&amounts) + spent >= worth {
            break;
        }
        let scale = loads.iter().copied().fold(1.0, f64::max);
        let fitting: Vec<Three> = amounts.iter().map(|amount| amount.map(|value| value / scale)).collect();
        if asks.iter().zip(&fitting).all(|(ask, amounts)| ask.time(amounts) <= seconds) {
            best = best.min(sum(&fitting));
        }
        let step = 2.0 / (1.0 + 0.05 * f64::from(round));
        prices = std::array::from_fn(|i| prices[i] * loads[i].clamp(0.05, 20.0).powf(step));
    }
    Some(best)
}

/// Every combination of cuts that depth and memory allow, with what it costs at least and its asks.
fn combinations(input: &PlanInput, cost: impl Fn(usize, usize, &Ask) -> f64) -> Vec<(f64, Vec<Ask>)> {
    let mut all: Vec<(f64, Vec<Ask>)> = vec![(0.0, Vec::new())];
    for (index, edge) in input.edges.iter().enumerate() {
        let fits = |cut: &usize| edge.memory_limit.is_none_or(|limit| input.memory_by_cut[*cut] <= limit);
        let options: Vec<(f64, Ask)> = input
            .depth
            .clone()
            .filter(fits)
            .map(|cut| {
                let ask = ask(input, index, cut);
                (cost(index, cut, &ask), ask)
            })
            .collect();
        all = all
            .iter()
            .flat_map(|(sum, asks)| {
                options.iter().map(move |(cost, ask)| (sum + cost, [asks.as_slice(), &[*ask]].concat()))
            })
            .collect();
    }
    all.sort_by(|left, right| left.0.total_cmp(&right.0));
    all
}

/// The shortest deadline that all can meet.
fn least_deadline(input: &PlanInput) -> Option<f64> {
    let capacity = capacity(input);
    let mut best: Option<f64> = None;
    for (_, asks) in combinations(input, |_, _, ask| ask.time(&ask.caps)) {
        let alone = asks.iter().map(|ask| ask.time(&ask.caps)).fold(0.0, f64::max);
        if best.is_some_and(|best| alone >= best * 0.999) {
            continue;
        }
        let mut high = best.map_or(1e6, |best| best * 0.999);
        if feasible(&asks, &capacity, high).is_none() {
            continue;
        }
        let mut low = alone;
        while high - low > 5e-4 * high {
            let middle = f64::midpoint(low, high);
            if feasible(&asks, &capacity, middle).is_some() { high = middle } else { low = middle }
        }
        best = Some(high);
    }
    best
}

/// The least cloud FLOPs or sum of times within a deadline.
fn best_within(input: &PlanInput, deadline: f64) -> Option<f64> {
    let capacity = capacity(input);
    match input.objective {
        Objective::Deepest => combinations(input, |_, cut, _| input.cloud.flops[cut..].iter().sum())
            .into_iter()
            .find(|(_, asks)| feasible(asks, &capacity, deadline).is_some())
            .map(|(cost, _)| cost),
        Objective::Fastest => {
            let mut best: Option<f64> = None;
            for (alone, asks) in combinations(input, |_, _, ask| ask.time(&ask.caps)) {
                if best.is_some_and(|best| alone >= best) {
                    break;
                }
                let sum = least_sum(&asks, &capacity, deadline, best.unwrap_or(f64::INFINITY));
                best = best.into_iter().chain(sum).min_by(f64::total_cmp);
            }
            best
        }
    }
}

/// That the plan keeps what it promises, by the definition.
fn check_promises(input: &PlanInput, plan: &Plan) {
    let capacity = capacity(input);
    let amounts: Vec<Three> =
        plan.edges.iter().map(|edge| [edge.reserved_up, edge.reserved_down, edge.share]).collect();
    assert!(loads(&amounts, &capacity).iter().all(|load| *load <= 1.0 + 1e-9), "{plan:?}");
    for (index, edge) in plan.edges.iter().enumerate().filter(|(_, edge)| edge.feasible) {
        let charged = (edge.step_s + edge.weights_s + edge.moving_s) * (1.0 + edge.margin);
        assert!(charged <= plan.deadline_s * (1.0 + 1e-9), "{edge:?}");
        let ask = ask(input, index, edge.cut);
        let with_reserved = ask.time(&std::array::from_fn(|i| amounts[index][i].min(ask.caps[i])));
        assert!(with_reserved <= charged * (1.0 + 1e-6), "{with_reserved} against {charged}: {edge:?}");
        assert!(input.depth.contains(&edge.cut));
        assert!(input.edges[index].memory_limit.is_none_or(|limit| edge.memory_bytes <= limit));
    }
}

fn objective(input: &PlanInput, plan: &Plan) -> f64 {
    match input.objective {
        Objective::Deepest => {
            plan.edges.iter().map(|edge| input.cloud.flops[edge.cut..].iter().sum::<f64>()).sum()
        }
        Objective::Fastest => plan
            .edges
            .iter()
            .map(|edge| (edge.step_s + edge.weights_s + edge.moving_s) * (1.0 + edge.margin))
            .sum(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_joint_plan_is_as_good_as_every_combination(seed: u64, fastest: bool, looser in proptest::option::of(0.8..2.5_f64)) {
        let mut input = small_fleet(seed);
        input.objective = if fastest { Objective::Fastest } else { Objective::Deepest };
        let automatic = planned(&input);
        let Some(least) = least_deadline(&input) else {
            // Some edge has no memory for any cut.
            prop_assert!(automatic.edges.iter().any(|edge| !edge.feasible));
            return Ok(());
        };
        check_promises(&input, &automatic);
        prop_assert!(automatic.edges.iter().all(|edge| edge.feasible));
        prop_assert!(automatic.deadline_s <= 1.01 * least, "{} against {least}", automatic.deadline_s);
        prop_assert!(automatic.deadline_bound_s <= least * (1.0 + 1e-6), "{} above {least}", automatic.deadline_bound_s);

        let plan = match looser {
            None => automatic,
            Some(factor) => {
                input.deadline = Deadline::Fixed(factor * least);
                planned(&input)
            }
        };
        check_promises(&input, &plan);
        let all_meet = plan.edges.iter().all(|edge| edge.feasible);
        // For the fastest plan nobody may take longer than the least deadline that all can meet.
        let within = if fastest { plan.deadline_s.min(least * 1.001) } else { plan.deadline_s };
        match best_within(&input, within * 0.999) {
            Some(best) => {
                prop_assert!(all_meet, "brute force meets {}: {plan:?}", plan.deadline_s);
                let found = objective(&input, &plan);
                prop_assert!(found <= 1.01 * best, "{found} against {best}");
                prop_assert!(plan.dual_bound <= best * (1.0 + 1e-6), "{} above {best}", plan.dual_bound);
            }
            None => prop_assert!(!all_meet || within * 0.998 < least * 1.002),
        }
    }
}
