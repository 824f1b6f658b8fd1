//! `[fleet]`: who must be there, how long is waited, and what is kept for a restart.

use std::time::Duration;

use super::{
    number::{AtLeastOne, Share, literal},
    reader::section,
    units::Time,
};

section! {
    /// The `[fleet]` table.
    pub struct FleetConfig {
        /// Edges that must have asked before training starts, at least 1. Default: all that are
        /// described; required where none is. Example: `min_edges = 4`.
        pub min_edges: AtLeastOne = literal(AtLeastOne::new(1)),
        /// How long a connection may be silent before it is taken for lost, from 1 s to 24 h. Default `"15s"`.
        /// Example: `idle_timeout = "5s"`.
        pub idle_timeout: Time<1_000, 86_400_000> = literal(Time::new(Duration::from_secs(15))),
        /// How long the cloud waits for them. Default `"60s"`. Example: `gather_timeout = "2m"`.
        pub gather_timeout: Duration = Duration::from_mins(1),
        /// Share of the edges that a round needs, above 0 and at most 1. Default 1. Example:
        /// `quorum = 0.75`.
        pub quorum: Share = literal(Share::new(1.0)),
        /// How long an edge that was lost may take to come back. Default `"60s"`. Example:
        /// `rejoin_window = "30s"`.
        pub rejoin_window: Duration = Duration::from_mins(1),
        /// Rounds from one checkpoint to the next, a multiple of `training.aggregate_every`. Default:
        /// `training.aggregate_every`. Example: `checkpoint_every = 10`.
        pub checkpoint_every: AtLeastOne = literal(AtLeastOne::new(5)),
        /// Checkpoints that are kept, at least 1. Default 3. Example: `keep = 1`.
        pub keep: AtLeastOne = literal(AtLeastOne::new(3)),
    }
}

/// Whether so many of all edges are the share that is needed; nobody never is.
///
/// ```
/// use partway_core::config::is_quorum;
/// // Not the 55.00000000000001 that the product rounds to.
/// assert!(is_quorum(0.55, 55, 100) && !is_quorum(0.55, 54, 100));
/// ```
pub fn is_quorum(share: f64, edges: usize, all: usize) -> bool {
    edges > 0 && edges as f64 * (1.0 + 1e-12) >= share * all as f64
}
