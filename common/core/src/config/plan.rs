//! `[plan]`: where the cuts may be and what they are chosen for.

use std::time::Duration;

use toml::Value;

use super::{
    number::{Factor, Margin, literal},
    reader::section,
    setting::{Plain, named},
};

section! {
    /// The `[plan]` table.
    pub struct PlanConfig {
        /// The latency that a step may take: a time above 0 and at most 100000h, or the least that all edges can meet.
        /// Default `"auto"`. Example: `deadline = "250ms"`.
        pub deadline: Deadline = Deadline::Auto,
        /// What is minimized under the deadline. Default `"deepest"`. Example: `objective = "fastest"`.
        pub objective: Objective = Objective::Deepest,
        /// When cuts are chosen anew. Default `"every-round"`. Example: `replan = "never"`.
        pub replan: Replan = Replan::EveryRound,
        /// One cut for all edges, in layers, instead of planning; or `"random"`, one per edge and round (one
        /// per aggregation for all edges with `training.algorithm = "splitfed-v2"`). Default: planning.
        /// Example: `fixed_cut = 3`.
        pub fixed_cut: Option<FixedCut>,
        /// The smallest cut, in layers; 0 needs `data.allow_raw_data`. Default 1 (0 with
        /// `fixed_cut = 0`). Example: `min_depth = 2`.
        pub min_depth: Depth = literal(Depth::new(1)),
        /// The largest cut, in layers; L, the number of layers, needs `allow_local`. Default L - 1.
        /// Example: `max_depth = 11`.
        pub max_depth: Option<Depth>,
        /// Whether an edge may train the whole model: permits cut L. Default false. Example:
        /// `allow_local = true`.
        pub allow_local: bool = false,
        /// Share added to predicted times until prediction errors are known, from 0 to 100. Default 0.15.
        /// Example: `margin = 0.3`.
        pub margin: Margin = literal(Margin::new(0.15)),
        /// What happens to an edge that takes too long. Default `"wait"`. Example:
        /// `on_straggler = "defer"`.
        pub on_straggler: OnStraggler = OnStraggler::Wait,
        /// How many times the planned duration of a round is too long, at least 1. Default 3. Example:
        /// `straggler_factor = 2.0`.
        pub straggler_factor: Factor = literal(Factor::new(3.0)),
    }
}

/// A cut, in layers.
pub type Depth = super::number::Whole<0, 4096>;

named! {
    /// What the planner minimizes under the deadline.
    pub enum Objective {
        /// The cloud's FLOPs per step, over all edges.
        Deepest = "deepest",
        /// The largest step time, then their sum.
        Fastest = "fastest",
    }
}

named! {
    /// When cuts are chosen anew.
    pub enum Replan {
        /// Between any two rounds.
        EveryRound = "every-round",
        /// When a link, a device or the fleet has changed its state.
        OnChange = "on-change",
        /// Not after the first round.
        Never = "never",
    }
}

named! {
    /// What happens to an edge that takes longer than `straggler_factor` planned rounds.
    pub enum OnStraggler {
        /// The round waits for it.
        Wait = "wait",
        /// It is left out until the next aggregation.
        Drop = "drop",
        /// The others go on; it finishes its round, and its model counts at the next aggregation.
        Defer = "defer",
    }
}

/// The latency that a step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The least that all edges can meet.
    Auto,
    /// This, above 0 and at most 100000 hours.
    Fixed(Duration),
}

/// Eleven years: longer than any step, and short enough to be planned with.
const LONGEST_DEADLINE: Duration = Duration::from_hours(100_000);

impl Plain for Deadline {
    fn allowed() -> String {
        "\"auto\", or a time above 0 and at most 100000h with its unit in quotes, such as \"250ms\"".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "auto" => Some(Self::Auto),
            _ => Duration::parse(value)
                .filter(|time| !time.is_zero() && *time <= LONGEST_DEADLINE)
                .map(Self::Fixed),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Auto => "auto".into(),
            Self::Fixed(time) => time.to_value(),
        }
    }
}

/// A cut that is not planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixedCut {
    /// This one for every edge, in layers.
    At(usize),
    /// Drawn per edge and round, or for all edges per aggregation where their cut is common; for tests.
    Random,
}

impl Plain for FixedCut {
    fn allowed() -> String {
        format!("\"random\", or {}", Depth::allowed())
    }

    fn parse(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("random") => Some(Self::Random),
            _ => Depth::parse(value).map(|cut| Self::At(cut.get())),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Random => "random".into(),
            Self::At(cut) => (*cut as u64).to_value(),
        }
    }
}
