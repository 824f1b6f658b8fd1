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
    /// By how much its device was off, as a logarithm.
    device: f64,
}

impl State {
    pub(super) fn of(edge: &EdgeOutlook) -> Self {
        Self {
            link_changes: (edge.up.changes(), edge.down.changes()),
            are_measured: (is_measured(&edge.up), is_measured(&edge.down)),
            device: edge.corrections.edge_backward.logarithm(),
        }
    }

    /// Whether the same plan is still right.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.link_changes == other.link_changes
            && self.are_measured == other.are_measured
            && (self.device - other.device).abs() < DEVICE_CHANGE.ln()
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
