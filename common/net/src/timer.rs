//! The one timer of an event loop.

use std::future::pending;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Waits until `at` after `begun`; for ever if there is nothing to wait for.
pub async fn expired(begun: Instant, at: Option<Duration>) {
    match at {
        Some(at) => sleep_until((begun + at).into()).await,
        None => pending().await,
    }
}
