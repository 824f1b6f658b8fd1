//! Which state a device and its links are in.

use super::EdgeOutlook;
use crate::link::{LinkEstimator, LinkState};

/// A device that has become slower or faster by this factor is in another state.
const DEVICE_CHANGE: f64 = 1.2;

/// What a plan was made for, of one edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// How often its links had been found in another state.
    link_changes: (u32, u32),
    are_measured: (bool, bool),
    /// By how much its device was off, as a logarithm, at the cut that was measured last.
    device: (Option<usize>, f64),
    /// How often it had been found to have become faster or slower.
    device_changes: u32,
    /// What it had for training, in bytes.
    memory_limit: Option<u64>,
}

impl State {
    pub(super) fn of(edge: &EdgeOutlook) -> Self {
        Self {
            link_changes: (edge.up.changes(), edge.down.changes()),
            are_measured: (is_measured(&edge.up), is_measured(&edge.down)),
            device: (edge.corrections.edge_backward.latest_cut(), edge.corrections.edge_backward.logarithm()),
            device_changes: edge.corrections.edge_backward.changes(),
            memory_limit: edge.memory_limit,
        }
    }

    /// Whether the same plan is still right.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        // Elsewhere a device is off by something else: that is no change of it.
        let is_device_like = match (self.device, other.device) {
            ((cut, off), (other_cut, other_off)) if cut == other_cut => {
                (off - other_off).abs() < DEVICE_CHANGE.ln()
            }
            _ => self.device_changes == other.device_changes,
        };
        let is_memory_like = self.memory_limit == other.memory_limit;
        self.link_changes == other.link_changes
            && self.are_measured == other.are_measured
            && is_device_like
            && is_memory_like
    }
}

/// How often an edge's device or links have been found in another state.
pub(super) fn changes(edge: &EdgeOutlook) -> u32 {
    let corrections = &edge.corrections;
    let device = corrections.edge_forward.changes() + corrections.edge_backward.changes();
    device + edge.up.changes() + edge.down.changes()
}

fn is_measured(link: &LinkEstimator) -> bool {
    link.state() == LinkState::Measured
}
