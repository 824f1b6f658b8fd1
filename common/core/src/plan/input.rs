//! What the planner is told, and the check that every number of it can be planned with.

use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

use super::{Deadline, Objective};

/// Everything a plan depends on. Seconds, bytes and FLOPs are per step: of a whole batch.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanInput {
    /// The kinds of devices that the edges are.
    pub devices: Vec<DeviceInput>,
    /// The edges, at least one.
    pub edges: Vec<EdgeInput>,
    /// The cloud.
    pub cloud: CloudInput,
    /// Bytes of activations, labels and header at cut `c`: L + 1 entries.
    pub cut_bytes_up: Vec<u64>,
    /// Bytes of the cut gradient and header at cut `c`: L + 1 entries.
    pub cut_bytes_down: Vec<u64>,
    /// Bytes of the weights, moments and buffers of layers `[0, c)`: L + 1 entries.
    pub state_bytes: Vec<u64>,
    /// Bytes that the client-side model takes at cut `c`: L + 1 entries.
    pub memory_by_cut: Vec<u64>,
    /// Over how many steps the transfer of `state_bytes` is spread: `aggregate_every * steps_per_round`.
    pub steps_between_aggregations: u64,
    /// Over how many steps the transfer of the layers that a new cut moves is spread: those of a round.
    /// `None` where nothing moves: every edge gets a global model anyway.
    pub steps_between_moves: Option<u64>,
    /// Micro-batches that each step's batch is split into, which overlap; times and bytes are of all of them together.
    pub micro_batches: u32,
    /// Which cuts are allowed, within `0..=L`.
    pub depth: RangeInclusive<usize>,
    /// The latency that a step may take.
    pub deadline: Deadline,
    /// What to optimise under it.
    pub objective: Objective,
    /// In `0..1`. An edge whose current cut still meets the deadline moves only if that improves its part
    /// of the objective by at least this share: moving counts as if it cost so much. The automatic
    /// deadline likewise shrinks only by this share or more.
    pub hysteresis: f64,
}

/// What a kind of device takes.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInput {
    /// Predicted seconds of the forward pass of layers `[0, c)`: L + 1 entries. Up to L - 1 in the micro-batches of a
    /// step, at L, where nothing crosses the wire, in one piece.
    pub forward_s: Vec<f64>,
    /// Likewise of the backward pass and the optimizer's step, with all of the layers that stay on the edge at every cut,
    /// behind those that can be cut: the ones with the labels.
    pub backward_s: Vec<f64>,
}

impl DeviceInput {
    /// That of a device on which layers cost nothing but their own seconds, whatever they are called with: `forward_s`
    /// and `backward_s` have L entries; `tail_s` are those of the layers that stay behind them.
    pub fn of_layers(forward_s: &[f64], backward_s: &[f64], tail_s: f64) -> Self {
        let mut backward_s = prefix_sums(backward_s);
        for seconds in &mut backward_s {
            *seconds += tail_s;
        }
        Self { forward_s: prefix_sums(forward_s), backward_s }
    }
}

/// What is known of one edge.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeInput {
    /// Its name.
    pub name: String,
    /// Index of its kind in [`PlanInput::devices`].
    pub device: usize,
    /// How many times as long as its kind this edge takes forward.
    pub forward_factor: f64,
    /// Likewise backward, and for the layers that stay.
    pub backward_factor: f64,
    /// What every call, a micro-batch's forward pass, costs on it beside what its kind's table says, in the table's
    /// seconds: before the factor.
    pub forward_call_s: f64,
    /// Likewise of a backward pass.
    pub backward_call_s: f64,
    /// Its step meets the deadline if `predicted * (1 + margin)` does.
    pub margin: f64,
    /// The uplink's estimated rate.
    pub up_bytes_per_s: f64,
    /// The downlink's estimated rate.
    pub down_bytes_per_s: f64,
    /// Round-trip times of a step; half is charged to each direction.
    pub rtt_s: f64,
    /// What a step's transfers cost besides rate and round trip (streams, framing, wake-ups); half of
    /// it is charged to each direction.
    pub latency_overhead_s: f64,
    /// Bytes that the client-side model may take.
    pub memory_limit: Option<u64>,
    /// Where it is cut now.
    pub current_cut: Option<usize>,
    /// Where it must be cut, whatever `depth` says.
    pub fixed_cut: Option<usize>,
}

/// What is known of the cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudInput {
    /// Predicted seconds for which a step at cut `c` keeps a worker busy, with forward and backward pass and optimizer
    /// step of layers `[c, L)`: L + 1 entries that never rise, the last 0.
    pub service_s: Vec<f64>,
    /// FLOPs of each layer, forward and backward: L entries.
    pub flops: Vec<f64>,
    /// How many replicas train at the same time.
    pub workers: usize,
    /// What all edges together may send, and what may be sent to all together, each.
    pub capacity_bytes_per_s: Option<f64>,
}

impl CloudInput {
    /// [`service_s`](Self::service_s) where layers cost nothing but their own seconds, L entries each.
    pub fn service_of_layers(forward_s: &[f64], backward_s: &[f64]) -> Vec<f64> {
        let both: Vec<f64> =
            forward_s.iter().zip(backward_s).map(|(forward, backward)| forward + backward).collect();
        suffix_sums(&both)
    }
}

/// `[0, v0, v0 + v1, ..]`.
fn prefix_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; values.len() + 1];
    for (index, value) in values.iter().enumerate() {
        sums[index + 1] = sums[index] + value;
    }
    sums
}

/// `[.., v(n-2) + v(n-1), v(n-1), 0]`.
pub(super) fn suffix_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; values.len() + 1];
    for (index, value) in values.iter().enumerate().rev() {
        sums[index] = sums[index + 1] + value;
    }
    sums
}

/// Why there is no plan.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PlanError {
    /// The list of edges is empty.
    #[error("there is no edge to plan for")]
    NoEdges,
    /// The model has no layers.
    #[error("cloud: flops has no entries; a plan needs at least one layer")]
    NoLayers,
    /// A number that cannot be planned with.
    #[error("{place}: {field} is {value}; it must be {allowed}")]
    OutOfRange {
        /// Which edge or device, or "cloud", or "plan".
        place: String,
        /// Which field, with the index where there is one per layer or cut.
        field: String,
        /// What it held.
        value: String,
        /// What it may hold.
        allowed: String,
    },
    /// A table of the wrong length.
    #[error("{place}: {field} has {found} entries; a model of {layers} layers needs {expected}")]
    Length {
        /// Which edge or device, or "cloud", or "plan".
        place: String,
        /// Which field.
        field: &'static str,
        /// How many entries it has.
        found: usize,
        /// How many it should have.
        expected: usize,
        /// L.
        layers: usize,
    },
}

/// A range of numbers, in words and as a test.
struct Range {
    least: f64,
    most: f64,
    words: &'static str,
}

/// Sums of thousands of such times stay finite and exact enough.
pub(crate) const MOST_SECONDS: f64 = 1e9;
/// By how much an edge can differ from its kind of device.
pub(crate) const MOST_FACTOR: f64 = 1e9;
/// Bytes per second that can be planned with.
pub(crate) const LEAST_RATE: f64 = 1.0;
pub(crate) const MOST_RATE: f64 = 1e15;
const SECONDS: Range = Range { least: 0.0, most: MOST_SECONDS, words: "finite and within 0..=1e9 seconds" };
const RATE: Range =
    Range { least: LEAST_RATE, most: MOST_RATE, words: "finite and within 1..=1e15 bytes per second" };
const FLOPS: Range = Range { least: 0.0, most: 1e24, words: "finite and within 0..=1e24 FLOPs" };
const MARGIN: Range = Range { least: 0.0, most: 100.0, words: "finite and within 0..=100" };
const HYSTERESIS: Range = Range { least: 0.0, most: 0.999, words: "within 0..=0.999" };
const DEADLINE: Range = Range { least: 1e-9, most: 1e9, words: "finite and within 1e-9..=1e9 seconds" };
const FACTOR: Range = Range { least: 0.0, most: MOST_FACTOR, words: "finite and within 0..=1e9" };
const STEPS: Range = Range { least: 1.0, most: f64::MAX, words: "at least 1" };
const PARTS: Range = Range { least: 1.0, most: 1e6, words: "within 1..=1e6" };
const WORKERS: Range = Range { least: 1.0, most: 1e6, words: "within 1..=1e6" };

impl PlanInput {
    /// How many layers the model has: L.
    pub fn layers(&self) -> usize {
        self.cloud.flops.len()
    }

    pub(super) fn check(&self) -> Result<(), PlanError> {
        if self.edges.is_empty() {
            return Err(PlanError::NoEdges);
        }
        let layers = self.layers();
        if layers == 0 {
            return Err(PlanError::NoLayers);
        }
        let plan = Place { owner: Owner::Plan, layers };
        plan.number("micro_batches", self.micro_batches.into(), &PARTS)?;
        plan.number("hysteresis", self.hysteresis, &HYSTERESIS)?;
        plan.number("steps_between_aggregations", self.steps_between_aggregations as f64, &STEPS)?;
        if let Some(steps) = self.steps_between_moves {
            plan.number("steps_between_moves", steps as f64, &STEPS)?;
        }
        if let Deadline::Fixed(seconds) = self.deadline {
            plan.number("deadline", seconds, &DEADLINE)?;
        }
        let (least, most) = (*self.depth.start(), *self.depth.end());
        if least > most || most > layers {
            return Err(plan.out_of_range(
                "depth",
                format!("{least}..={most}"),
                format!("a range within 0..={layers} that is not empty"),
            ));
        }
        plan.length("cut_bytes_up", self.cut_bytes_up.len(), layers + 1)?;
        plan.length("cut_bytes_down", self.cut_bytes_down.len(), layers + 1)?;
        plan.length("state_bytes", self.state_bytes.len(), layers + 1)?;
        plan.length("memory_by_cut", self.memory_by_cut.len(), layers + 1)?;

        let cloud = Place { owner: Owner::Cloud, layers };
        cloud.per_cut("service_s", &self.cloud.service_s, &SECONDS)?;
        // The later layers are a part of all, and after the last there is none.
        for (index, pair) in self.cloud.service_s.windows(2).enumerate() {
            let most = if index + 1 == layers { 0.0 } else { pair[0] };
            if pair[1] > most {
                let field = format!("service_s at cut {}", index + 1);
                return Err(cloud.out_of_range(&field, pair[1].to_string(), format!("at most {most}")));
            }
        }
        cloud.per_layer("flops", &self.cloud.flops, &FLOPS)?;
        cloud.number("workers", self.cloud.workers as f64, &WORKERS)?;
        if let Some(capacity) = self.cloud.capacity_bytes_per_s {
            cloud.number("capacity_bytes_per_s", capacity, &RATE)?;
        }
        for (index, device) in self.devices.iter().enumerate() {
            let place = Place { owner: Owner::Device(index), layers };
            place.per_cut("forward_s", &device.forward_s, &SECONDS)?;
            place.per_cut("backward_s", &device.backward_s, &SECONDS)?;
        }
        self.edges.iter().try_for_each(|edge| edge.check(layers, self.devices.len()))
    }
}

impl EdgeInput {
    fn check(&self, layers: usize, devices: usize) -> Result<(), PlanError> {
        let place = Place { owner: Owner::Edge(&self.name), layers };
        if self.device >= devices {
            let allowed = format!("below the number of devices, {devices}");
            return Err(place.out_of_range("device", self.device.to_string(), allowed));
        }
        place.number("forward_factor", self.forward_factor, &FACTOR)?;
        place.number("backward_factor", self.backward_factor, &FACTOR)?;
        place.number("forward_call_s", self.forward_call_s, &SECONDS)?;
        place.number("backward_call_s", self.backward_call_s, &SECONDS)?;
        place.number("margin", self.margin, &MARGIN)?;
        place.number("up_bytes_per_s", self.up_bytes_per_s, &RATE)?;
        place.number("down_bytes_per_s", self.down_bytes_per_s, &RATE)?;
        place.number("rtt_s", self.rtt_s, &SECONDS)?;
        place.number("latency_overhead_s", self.latency_overhead_s, &SECONDS)?;
        for (field, cut) in [("current_cut", self.current_cut), ("fixed_cut", self.fixed_cut)] {
            if let Some(cut) = cut.filter(|cut| *cut > layers) {
                return Err(place.out_of_range(field, cut.to_string(), format!("within 0..={layers}")));
            }
        }
        Ok(())
    }
}

/// Who a field belongs to, for messages; made into words only when there is something wrong.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Plan,
    Cloud,
    Device(usize),
    Edge(&'a str),
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan => f.write_str("plan"),
            Self::Cloud => f.write_str("cloud"),
            Self::Device(index) => write!(f, "device {index}"),
            Self::Edge(name) => write!(f, "edge {name:?}"),
        }
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    owner: Owner<'a>,
    layers: usize,
}

impl Place<'_> {
    fn number(&self, field: &str, value: f64, range: &Range) -> Result<(), PlanError> {
        if (range.least..=range.most).contains(&value) {
            return Ok(());
        }
        Err(self.out_of_range(field, value.to_string(), range.words.to_owned()))
    }

    fn per_layer(&self, field: &'static str, values: &[f64], range: &Range) -> Result<(), PlanError> {
        self.length(field, values.len(), self.layers)?;
        self.each(field, "of layer", values, range)
    }

    fn per_cut(&self, field: &'static str, values: &[f64], range: &Range) -> Result<(), PlanError> {
        self.length(field, values.len(), self.layers + 1)?;
        self.each(field, "at cut", values, range)
    }

    fn each(&self, field: &str, index: &str, values: &[f64], range: &Range) -> Result<(), PlanError> {
        match values.iter().position(|value| !(range.least..=range.most).contains(value)) {
            None => Ok(()),
            Some(at) => self.number(&format!("{field} {index} {at}"), values[at], range),
        }
    }

    fn length(&self, field: &'static str, found: usize, expected: usize) -> Result<(), PlanError> {
        if found == expected {
            return Ok(());
        }
        Err(PlanError::Length { place: self.owner.to_string(), field, found, expected, layers: self.layers })
    }

    fn out_of_range(&self, field: &str, value: String, allowed: String) -> PlanError {
        PlanError::OutOfRange { place: self.owner.to_string(), field: field.to_owned(), value, allowed }
    }
}
