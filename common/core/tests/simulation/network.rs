//! Connections as QUIC gives them: control messages in order, every tensor on its own, nothing after a
//! cut; and, where asked for, a network that delivers things twice or late.

use std::time::Duration;

use partway_core::random;
use rand_chacha::ChaCha12Rng;

/// The simulation's dice: every draw from one seeded stream, in the order of events.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha12Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(random::stream(seed, &["simulation"]))
    }

    /// Uniform between two times.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(random::unit_f64(&mut self.0))
    }

    /// Uniform between two numbers of milliseconds.
    pub(crate) fn ms(&mut self, least: u64, most: u64) -> Duration {
        self.between(Duration::from_millis(least), Duration::from_millis(most))
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        random::unit_f64(&mut self.0) < probability
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        random::below(&mut self.0, bound)
    }
}

/// What lies between an edge and the cloud, each way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    /// Up to so much more, drawn anew for everything that is sent.
    pub(crate) jitter: Duration,
    pub(crate) bytes_per_s: f64,
    /// How likely a message or tensor is delivered again, up to `LATEST_COPY` later.
    pub(crate) copies: f64,
}

/// How much later than the first a copy may come.
const LATEST_COPY: Duration = Duration::from_secs(2);

impl Link {
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        Self {
            latency: dice.ms(1, 20),
            // A link on which much overtakes much is one of four.
            jitter: if dice.chance(0.25) { dice.ms(60, 800) } else { dice.ms(0, 60) },
            bytes_per_s: 1e3 * (100 + dice.below(2000)) as f64,
            copies: 0.0,
        }
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipe {
    /// When the last control message arrives.
    pub(crate) busy_until: Duration,
    /// Nothing arrives from then on.
    pub(crate) dead_from: Duration,
}

impl Pipe {
    pub(crate) fn new(now: Duration) -> Self {
        Self { busy_until: now, dead_from: Duration::MAX }
    }

    /// When a control message that is sent now arrives.
    pub(crate) fn message(&mut self, now: Duration, link: &Link, dice: &mut Dice) -> Duration {
        let arrives = now + link.latency + dice.between(Duration::ZERO, link.jitter);
        self.busy_until = self.busy_until.max(arrives) + Duration::from_micros(1);
        self.busy_until
    }
}

impl Link {
    /// How long a tensor takes, from its first byte sent to its last byte received.
    pub(crate) fn tensor(&self, bytes: u64, dice: &mut Dice) -> Duration {
        let transfer = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        self.latency + transfer + dice.between(Duration::ZERO, self.jitter)
    }

    /// How much later a copy arrives, if there is one.
    pub(crate) fn copy(&self, dice: &mut Dice) -> Option<Duration> {
        (self.copies > 0.0 && dice.chance(self.copies)).then(|| dice.between(Duration::ZERO, LATEST_COPY))
    }
}

/// A connection between an edge's process and the coordinator's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) edge: usize,
    /// Which process of that edge, and which run of the coordinator.
    pub(crate) process: u32,
    pub(crate) run: u32,
    pub(crate) link: Link,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
}
