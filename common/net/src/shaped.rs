//! Emulated links under QUIC: a UDP socket that delays, queues, drops and serializes datagrams, so that
//! congestion control and every estimator above see what they would see on a real link.

pub mod link;
pub mod profile;
mod socket;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use partway_core::random;
use rand_chacha::ChaCha12Rng;
use tokio::time::Instant;

use link::{Fate, Link};
use profile::{LinkProfile, ProfileError};
pub(crate) use socket::ShapedSocket;

/// A running emulated link. Clones are the same link: sockets that share it share its rate, and a socket
/// made later, after a reconnect, meets its trace and outages where they are by then.
#[derive(Clone)]
pub struct EmulatedLink {
    start: Instant,
    up: Arc<Mutex<Direction>>,
    down: Arc<Mutex<Direction>>,
}

struct Direction {
    link: Link,
    rng: ChaCha12Rng,
}

impl EmulatedLink {
    /// A link that starts now.
    pub fn start(profile: &LinkProfile) -> Result<Self, ProfileError> {
        let direction = |name, link| {
            let rng = random::stream(profile.seed, &["emulated link", name]);
            Arc::new(Mutex::new(Direction { link, rng }))
        };
        Ok(Self {
            start: Instant::now(),
            up: direction("up", profile.up_link()?),
            down: direction("down", profile.down_link()?),
        })
    }

    /// When a datagram of `payload` bytes that is sent now leaves the link; `None` if it is dropped.
    fn send_up(&self, payload: usize) -> Option<Instant> {
        self.send(&self.up, payload)
    }

    /// When a datagram of `payload` bytes that arrives now gets through; `None` if it is dropped.
    fn send_down(&self, payload: usize) -> Option<Instant> {
        self.send(&self.down, payload)
    }

    fn send(&self, direction: &Mutex<Direction>, payload: usize) -> Option<Instant> {
        let mut direction = lock(direction);
        let Direction { link, rng } = &mut *direction;
        match link.send(self.start.elapsed(), payload, rng) {
            Fate::Deliver(at) => self.start.checked_add(at),
            Fate::Drop(_) => None,
        }
    }
}

impl fmt::Debug for EmulatedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatedLink").field("start", &self.start).finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves these plain values usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
