//! How long a plan takes and how far it may be from the best, for fleets of ten to ten thousand edges over 50 layers:
//! `cargo bench -p partway-core --bench plans -- [LARGEST]`.
//!
//! Ratios are to the next smaller fleet: 10 is linear, 100 would be quadratic.

use std::error::Error;
use std::time::Instant;

use partway_core::plan::{
    CloudInput, Deadline, DeviceInput, EdgeInput, Objective, Plan, PlanError, PlanInput, plan,
};
use partway_core::random::{stream, unit_f64};

/// As in the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LAYERS: usize = 50;
/// Kinds of devices: from a server core to a thirty-second of it.
const KINDS: usize = 6;
const REPETITIONS: usize = 9;

/// Median seconds of planning, and the last plan.
#[expect(clippy::disallowed_methods, reason = "what is measured here is time")]
fn timed(input: &PlanInput) -> Result<(f64, Plan), PlanError> {
    let mut seconds = Vec::with_capacity(REPETITIONS);
    let mut last = plan(input)?;
    for _ in 0..REPETITIONS {
        let begun = Instant::now();
        last = plan(input)?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok((seconds[REPETITIONS / 2], last))
}

/// Unequal edges on unequal links, with a network and workers that grow with the fleet. `part`: of what all
/// links carry together, what the cloud's network does.
fn fleet(edges: usize, part: f64) -> PlanInput {
    let mut rng = stream(7, &["plan speed"]);
    let mut draw = |least: f64, most: f64| least * (most / least).powf(unit_f64(&mut rng));
    // A convolutional network: activations shrink by steps, weights grow.
    let shrink = |layer: usize| 0.5_f64.powf((layer / 10) as f64);
    let flops: Vec<f64> = (0..LAYERS).map(|_| draw(5e7, 5e8)).collect();
    let seconds = |kind: usize, share: f64| -> Vec<f64> {
        let pace = share * 1e-11 * 2_f64.powf(kind as f64);
        flops.iter().map(|flops| pace * flops).collect()
    };
    let device = |kind: usize| DeviceInput::of_layers(&seconds(kind, 1.0), &seconds(kind, 2.0), 0.0);
    let devices: Vec<DeviceInput> = (0..KINDS).map(device).collect();
    let bytes = |cut: usize| (2e6 * shrink(cut)) as u64 + 32;
    let edges: Vec<EdgeInput> = (0..edges)
        .map(|index| EdgeInput {
            name: format!("edge-{index}"),
            device: index % KINDS,
            forward_factor: draw(0.8, 1.25),
            backward_factor: draw(0.8, 1.25),
            forward_call_s: 0.0,
            backward_call_s: 0.0,
            margin: draw(0.05, 0.3),
            up_bytes_per_s: draw(2e6, 2e7),
            down_bytes_per_s: draw(4e6, 4e7),
            rtt_s: draw(2e-3, 5e-2),
            latency_overhead_s: 1e-3,
            memory_limit: (index % 7 == 0).then_some(300_000_000),
            current_cut: Some(1 + index % (LAYERS - 1)),
            fixed_cut: None,
        })
        .collect();
    let links: f64 = edges.iter().map(|edge| edge.up_bytes_per_s).sum();
    PlanInput {
        cloud: CloudInput {
            service_s: CloudInput::service_of_layers(&seconds(0, 1.0), &seconds(0, 2.0)),
            flops,
            workers: 1 + edges.len() / 20,
            capacity_bytes_per_s: Some(part * links),
        },
        cut_bytes_up: (0..=LAYERS).map(bytes).collect(),
        cut_bytes_down: (0..=LAYERS).map(bytes).collect(),
        state_bytes: (0..=LAYERS).map(|cut| 20_000 * (cut * cut) as u64).collect(),
        memory_by_cut: (0..=LAYERS).map(|cut| 10_000_000 * cut as u64).collect(),
        steps_between_aggregations: 50,
        steps_between_moves: Some(10),
        micro_batches: 1,
        depth: 1..=LAYERS - 1,
        deadline: Deadline::Auto,
        objective: Objective::Deepest,
        hysteresis: 0.0,
        devices,
        edges,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let largest =
        std::env::args().skip(1).find(|text| text != "--bench").map_or(Ok(10_000), |text| text.parse())?;
    println!(
        "{:<9} {:<18} {:<14} {:>6} {:>9} {:>6} {:>8} {:>12} {:>9}",
        "objective", "network", "deadline", "edges", "ms", "ratio", "gap %", "deadline ms", "feasible"
    );
    for objective in [Objective::Deepest, Objective::Fastest] {
        for (network, part) in [("carries all", 10.0), ("a fifth of it", 0.2), ("a fiftieth of it", 0.02)] {
            for looser in [None, Some(1.5), Some(0.9)] {
                let mut before: Option<f64> = None;
                for edges in [10, 100, 1_000, 10_000].into_iter().filter(|&edges| edges <= largest) {
                    let mut input = PlanInput { objective, ..fleet(edges, part) };
                    if let Some(factor) = looser {
                        input.deadline = Deadline::Fixed(factor * plan(&input)?.deadline_s);
                    }
                    let (seconds, plan) = timed(&input)?;
                    println!(
                        "{:<9} {network:<18} {:<14} {edges:>6} {:>9.3} {:>6} {:>8.3} {:>12.1} {:>9}",
                        format!("{objective:?}").to_lowercase(),
                        looser.map_or("least".to_owned(), |factor| format!("{factor} of it")),
                        1e3 * seconds,
                        before.map_or(String::new(), |before| format!("{:.1}", seconds / before)),
                        100.0 * plan.optimality_gap,
                        1e3 * plan.deadline_s,
                        plan.edges.iter().filter(|edge| edge.feasible).count(),
                    );
                    before = Some(seconds);
                }
            }
        }
    }
    Ok(())
}
