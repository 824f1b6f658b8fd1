//! What would let an edge meet a deadline that it cannot: one change at a time, computed.

use serde::{Deserialize, Serialize};

use super::EdgeInput;
use super::explain::{mib, ms};
use super::options::{LinkRates, Tables};

/// The least change of each sort with which an edge, with a cloud worker and its links to itself, meets the
/// deadline; `None` where that alone does not help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fixes {
    /// Uplink rate, bytes per second.
    pub up_bytes_per_s: Option<f64>,
    /// Downlink rate, bytes per second.
    pub down_bytes_per_s: Option<f64>,
    /// How many times as fast it would have to compute.
    pub compute_speed: Option<f64>,
    /// Memory for a cut that would be in time, bytes; only if that is more than its limit.
    pub memory_bytes: Option<u64>,
    /// Cloud workers with which all edges that could alone would meet it.
    pub cloud_workers: Option<u64>,
    /// Deadline, seconds; where the edges are in each other's way, the least that all can meet.
    pub deadline_s: Option<f64>,
}

impl Fixes {
    /// The fixes for one edge under a deadline.
    pub(super) fn of(tables: &Tables, edge: &EdgeInput, deadline_s: f64) -> Self {
        let links = LinkRates { up: edge.up_bytes_per_s, down: edge.down_bytes_per_s };
        let deadline = deadline_s * (1.0 - super::ROUNDING);
        let cuts = || tables.cuts(edge).filter(|&cut| tables.fits(edge, cut));
        let least = |value: &dyn Fn(usize) -> Option<f64>| cuts().filter_map(value).min_by(f64::total_cmp);
        let factor = 1.0 + edge.margin;
        let total = |cut: usize| factor * tables.charged_s(edge, cut, links, 1.0);
        // How many times as much of a resource it needs, where it would take `without` with any amount.
        let needed = |cut: usize, rates: LinkRates, compute: f64| {
            let without = tables.bounds(edge, cut, rates, compute);
            let mut parts = tables.bounds(edge, cut, links, 1.0).into_iter().zip(without);
            parts.try_fold(0.0_f64, |most, (now, without)| {
                let (part, left) = (now - without, deadline - without);
                (left > 0.0).then(|| most.max(part / left))
            })
        };
        let any = f64::INFINITY;
        let up = |cut: usize| needed(cut, LinkRates { up: any, ..links }, 1.0).map(|more| more * links.up);
        let down =
            |cut: usize| needed(cut, LinkRates { down: any, ..links }, 1.0).map(|more| more * links.down);
        let speed = |cut: usize| needed(cut, links, 0.0);
        let memory = tables
            .cuts(edge)
            .filter(|&cut| !tables.fits(edge, cut) && total(cut) <= deadline)
            .map(|cut| tables.input.memory_by_cut[cut])
            .min();
        Self {
            up_bytes_per_s: least(&up).filter(|rate| *rate > links.up),
            down_bytes_per_s: least(&down).filter(|rate| *rate > links.down),
            compute_speed: least(&speed).filter(|speed| *speed > 1.0),
            memory_bytes: memory,
            cloud_workers: None,
            deadline_s: least(&|cut| Some(total(cut))).filter(|seconds| *seconds > deadline),
        }
    }

    /// The memory that the least cut needs, or, if that is in time, the least that is.
    pub(super) fn memory(tables: &Tables, edge: &EdgeInput, deadline_s: f64) -> Self {
        let in_time = Self::of(tables, edge, deadline_s).memory_bytes;
        let least = || tables.cuts(edge).map(|cut| tables.input.memory_by_cut[cut]).min();
        Self { memory_bytes: in_time.or_else(least), ..Self::default() }
    }

    /// `an uplink of .., or ..`.
    pub(super) fn in_words(&self) -> String {
        let rate = |name: &str, rate: f64| format!("{name} of {:.1} Mbit/s", rounded_up(rate * 8e-6));
        let ways = [
            self.up_bytes_per_s.map(|bytes| rate("an uplink", bytes)),
            self.down_bytes_per_s.map(|bytes| rate("a downlink", bytes)),
            self.compute_speed.map(|speed| format!("{:.1} times the compute speed", rounded_up(speed))),
            self.memory_bytes.map(|bytes| format!("{} of memory", mib(bytes))),
            self.deadline_s.map(|seconds| format!("a deadline of {}", ms(rounded_up(seconds * 1e3) / 1e3))),
        ];
        ways.into_iter().flatten().collect::<Vec<_>>().join(", or ")
    }
}

/// Up to the next tenth, so that what is said suffices.
fn rounded_up(value: f64) -> f64 {
    (value * 10.0 - 1e-6).ceil() / 10.0
}
