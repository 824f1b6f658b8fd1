//! Cases small enough to check by hand.

use super::*;

mod brute_force;
mod explanations;
mod micro_batches;
pub(super) mod properties;

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
        device: 0,
        forward_factor: 1.0,
        backward_factor: 1.0,
        forward_call_s: 0.0,
        backward_call_s: 0.0,
        margin: 0.0,
        up_bytes_per_s: 1e6,
        down_bytes_per_s: 2e6,
        rtt_s: 0.0,
        latency_overhead_s: 0.0,
        memory_limit: None,
        current_cut: None,
        fixed_cut: None,
    }
}

fn cameras(count: usize) -> PlanInput {
    PlanInput {
        devices: vec![DeviceInput::of_layers(
            &[0.004, 0.004, 0.008, 0.016],
            &[0.006, 0.006, 0.012, 0.024],
            0.0,
        )],
        edges: (0..count).map(|index| EdgeInput { name: format!("camera-{index}"), ..camera() }).collect(),
        cloud: CloudInput {
            service_s: CloudInput::service_of_layers(&[0.001; 4], &[0.001; 4]),
            flops: vec![100.0; 4],
            workers: 1,
            capacity_bytes_per_s: None,
        },
        cut_bytes_up: vec![80_000, 40_000, 20_000, 10_000, 0],
        cut_bytes_down: vec![0, 40_000, 20_000, 10_000, 0],
        state_bytes: vec![0; 5],
        memory_by_cut: vec![0, 100, 200, 300, 400],
        steps_between_moves: None,
        steps_between_aggregations: 50,
        micro_batches: 1,
        depth: 1..=3,
        deadline: Deadline::Auto,
        objective: Objective::Deepest,
        hysteresis: 0.0,
    }
}

/// The same with a margin for every edge.
fn with_margin(margin: f64, mut input: PlanInput) -> PlanInput {
    input.edges.iter_mut().for_each(|edge| edge.margin = margin);
    input
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
        let input =
            PlanInput { deadline: Deadline::Fixed(deadline), depth, ..with_margin(margin, cameras(1)) };
        assert_eq!(cuts(&planned(&input)), [expected], "{deadline} {margin}");
    }
}

#[test]
fn fastest_ignores_what_the_deadline_would_allow() {
    let input = PlanInput {
        objective: Objective::Fastest,
        deadline: Deadline::Fixed(1.0),
        micro_batches: 1,
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
    (input.edges[0].forward_factor, input.edges[0].backward_factor) = (4.0, 4.0);
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
fn a_move_is_charged_over_the_round_unless_everybody_gets_a_global_model() {
    let mut input = cameras(1);
    input.edges[0].current_cut = Some(3);
    // 100 kB up over 10 steps: 10 ms a step.
    input.state_bytes = vec![0, 0, 100_000, 200_000, 200_000];
    input.steps_between_aggregations = 1_000_000_000;
    input.steps_between_moves = Some(10);
    let plan = planned(&input);
    let edge = &plan.edges[0];
    assert!(edge.cut == 3 && near(plan.deadline_s, 0.057), "{plan:?}");
    input.steps_between_moves = Some(100);
    let plan = planned(&input);
    assert!(plan.edges[0].cut == 2 && near(plan.edges[0].moving_s, 0.001) && near(plan.deadline_s, 0.055));
    assert!(near(plan.edges[0].step_s, 0.054), "it is no part of a step: {plan:?}");
    input.steps_between_moves = None;
    assert!(near(planned(&input).deadline_s, 0.054));
    // What comes down takes the downlink: 100 kB over 10 steps at 2 MB/s.
    let mut deeper = PlanInput { deadline: Deadline::Fixed(0.07), steps_between_moves: Some(10), ..input };
    deeper.edges[0].current_cut = Some(2);
    let plan = planned(&deeper);
    assert!(plan.edges[0].cut == 3 && near(plan.edges[0].moving_s, 0.005), "{plan:?}");
}

#[test]
fn every_edge_has_its_own_margin() {
    let mut input = PlanInput { deadline: Deadline::Fixed(0.060), ..cameras(2) };
    input.cloud.workers = 2;
    input.edges[1].margin = 0.10;
    // Cut 3 takes 57 ms, with 10 % more than the deadline; cut 2 takes 54, 59.4 with it.
    let plan = planned(&input);
    assert_eq!(cuts(&plan), [3, 2]);
    assert!(near(plan.edges[1].step_s, 0.054), "the prediction is without it");
}

#[test]
fn a_crowded_cloud_turns_away_as_few_as_it_must() {
    // Each needs 4 / (56 - 50) = 0.67 at cut 2 but 2 / (56 - 55) = 2 at cut 3.
    let plan = planned(&PlanInput { deadline: Deadline::Fixed(0.056), ..cameras(2) });
    assert_eq!(plan.edges.iter().filter(|edge| edge.feasible).count(), 1);
    let late = plan.edges.iter().find(|edge| !edge.feasible).expect("one of two");
    assert!(late.share > 0.3 && late.step_s.is_finite());
    // Together they can meet 58 ms, or 56 ms with 4/3 of a worker.
    let fixes = late.fixes.expect("it misses the deadline");
    assert!(fixes.cloud_workers == Some(2) && near(fixes.deadline_s.expect("computed"), 0.058));
    assert!(plan.common_deadline_s.is_some_and(|seconds| near(seconds, 0.058)));
    for part in ["share of 0.67", "2 cloud workers, or a deadline of 58.0 ms for all"] {
        assert!(late.reason.contains(part), "{}", late.reason);
    }
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
    input.devices[0] = DeviceInput::of_layers(&[0.004, 0.004, 0.0, 0.0], &[0.006, 0.006, 0.0, 0.0], 0.0);
    let cloud_s = [0.001, 0.001, 0.0, 0.0];
    input.cloud.service_s = CloudInput::service_of_layers(&cloud_s, &cloud_s);
    input.cloud.flops[2..].fill(0.0);
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
    let cases: [(Change, &str); 20] = [
        (&|input| input.edges.clear(), "there is no edge"),
        (&|input| input.cloud.flops.clear(), "cloud: flops has no entries"),
        (&|input| input.devices[0].forward_s[2] = f64::NAN, "device 0: forward_s at cut 2 is NaN"),
        (&|input| input.devices[0].backward_s[0] = -0.1, "device 0: backward_s at cut 0 is -0.1"),
        (&|input| input.edges[1].up_bytes_per_s = 0.0, "edge \"camera-1\": up_bytes_per_s is 0"),
        (
            &|input| input.edges[1].down_bytes_per_s = f64::INFINITY,
            "edge \"camera-1\": down_bytes_per_s is inf",
        ),
        (&|input| input.edges[1].rtt_s = f64::NAN, "edge \"camera-1\": rtt_s is NaN"),
        (&|input| input.edges[1].current_cut = Some(5), "edge \"camera-1\": current_cut is 5"),
        (&|input| input.memory_by_cut = vec![0; 4], "plan: memory_by_cut has 4 entries"),
        (&|input| input.cloud.service_s[4] = 0.1, "cloud: service_s at cut 4 is 0.1; it must be at most 0"),
        (
            &|input| input.cloud.service_s[2] = 0.1,
            "cloud: service_s at cut 2 is 0.1; it must be at most 0.006",
        ),
        (&|input| input.cloud.workers = 0, "cloud: workers is 0"),
        (&|input| input.cloud.capacity_bytes_per_s = Some(f64::NAN), "cloud: capacity_bytes_per_s is NaN"),
        (
            &|input| input.cut_bytes_up = vec![1; 9],
            "plan: cut_bytes_up has 9 entries; a model of 4 layers needs 5",
        ),
        (&|input| input.deadline = Deadline::Fixed(0.0), "plan: deadline is 0"),
        (&|input| input.depth = 2..=5, "plan: depth is 2..=5"),
        (&|input| input.edges[1].margin = f64::NAN, "edge \"camera-1\": margin is NaN"),
        (&|input| input.edges[1].device = 1, "edge \"camera-1\": device is 1"),
        (&|input| input.edges[1].backward_factor = -1.0, "edge \"camera-1\": backward_factor is -1"),
        (&|input| input.steps_between_moves = Some(0), "plan: steps_between_moves is 0"),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.starts_with(expected), "{message}");
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
