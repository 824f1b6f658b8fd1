//! One direction of a link as a pure model: time and randomness are arguments, so that a real socket
//! and a virtual clock can drive the same one.

use std::{collections::VecDeque, time::Duration};

use partway_core::random::unit_f64;
use rand::Rng;

use super::profile::LinkProfile;

/// What IPv4 and UDP add to each datagram, in bytes.
pub const DATAGRAM_OVERHEAD: usize = 28;

/// The least that a queue holds by default: a burst of some ninety full datagrams.
const SMALLEST_QUEUE: usize = 128 << 10;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time since the link's start.
    Deliver(Duration),
    /// It never arrives.
    Drop(DropCause),
}

/// Why a datagram never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// The queue was full.
    QueueFull,
    /// Lost on the way, at random.
    Lost,
    /// The edge was out of reach when it was sent or would have arrived.
    OutOfReach,
}

/// One direction of a link: a first-in-first-out queue before a serializing sender, then a delay.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    rate: Rate,
    delay: Duration,
    jitter: Duration,
    loss: f64,
    queue_bytes: Option<usize>,
    out_of_reach: Vec<(Duration, Duration)>,
    /// When the sender is done with all that it accepted. Virtual: late timers never lower the rate.
    free_at: Duration,
    last_delivery: Duration,
    /// What is not yet sent: when it will be, and its bytes.
    waiting: VecDeque<(Duration, usize)>,
    backlog: usize,
}

impl Link {
    pub(super) fn new(profile: &LinkProfile, rate: Rate) -> Self {
        Self {
            rate,
            delay: profile.rtt / 2,
            jitter: profile.jitter,
            loss: profile.loss,
            queue_bytes: profile.queue_bytes,
            out_of_reach: profile.down.clone(),
            free_at: Duration::ZERO,
            last_delivery: Duration::ZERO,
            waiting: VecDeque::new(),
            backlog: 0,
        }
    }

    /// Sends a datagram of `payload` bytes at `now`, the time since the link's start, which never goes
    /// back. Random draws depend on the order of calls only.
    pub fn send(&mut self, now: Duration, payload: usize, rng: &mut impl Rng) -> Fate {
        while let Some(&(sent_at, bytes)) = self.waiting.front()
            && sent_at <= now
        {
            self.backlog -= bytes;
            self.waiting.pop_front();
        }
        if self.is_out_of_reach(now) {
            return Fate::Drop(DropCause::OutOfReach);
        }
        let bytes = payload + DATAGRAM_OVERHEAD;
        // An idle sender takes any size; only what waits needs room.
        if !self.waiting.is_empty() && self.backlog + bytes > self.queue_limit(now) {
            return Fate::Drop(DropCause::QueueFull);
        }
        let Some(sent_at) = self.rate.finish(self.free_at.max(now), bytes) else {
            return Fate::Drop(DropCause::QueueFull);
        };
        self.free_at = sent_at;
        if sent_at > now {
            self.waiting.push_back((sent_at, bytes));
            self.backlog += bytes;
        }
        // What is lost on the way has used its share of the rate.
        let lost = unit_f64(rng) < self.loss;
        let late = self.jitter.mul_f64(unit_f64(rng));
        if lost {
            return Fate::Drop(DropCause::Lost);
        }
        let arrival = (sent_at + self.delay + late).max(self.last_delivery);
        if self.is_out_of_reach(arrival) {
            return Fate::Drop(DropCause::OutOfReach);
        }
        self.last_delivery = arrival;
        Fate::Deliver(arrival)
    }

    fn is_out_of_reach(&self, at: Duration) -> bool {
        self.out_of_reach.iter().any(|&(from, to)| (from..to).contains(&at))
    }

    fn queue_limit(&self, now: Duration) -> usize {
        self.queue_bytes.unwrap_or_else(|| SMALLEST_QUEUE.max((self.rate.at(now) * 0.1) as usize))
    }
}

/// Bytes per second over time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rate {
    Unlimited,
    /// Each rate from its time on, the first from zero; never empty.
    Steps(Vec<(Duration, f64)>),
}

impl Rate {
    pub(super) fn constant_mbps(mbps: f64) -> Self {
        Self::Steps(vec![(Duration::ZERO, mbps * 1e6 / 8.0)])
    }

    /// A trace; `before` holds until its first time.
    pub(super) fn steps_mbps(before: Option<f64>, trace: &[(Duration, f64)]) -> Self {
        let first = trace.first().filter(|(at, _)| !at.is_zero());
        let start = first.map(|&(_, mbps)| (Duration::ZERO, before.unwrap_or(mbps)));
        let steps = start.into_iter().chain(trace.iter().copied());
        Self::Steps(steps.map(|(at, mbps)| (at, mbps * 1e6 / 8.0)).collect())
    }

    fn at(&self, time: Duration) -> f64 {
        match self {
            Self::Unlimited => f64::INFINITY,
            Self::Steps(steps) => steps[step_at(steps, time)].1,
        }
    }

    /// When `bytes` are sent whose sending starts at `start`; `None` if never.
    fn finish(&self, start: Duration, bytes: usize) -> Option<Duration> {
        let Self::Steps(steps) = self else { return Some(start) };
        let (mut at, mut left) = (start, bytes as f64);
        for (index, &(_, rate)) in steps.iter().enumerate().skip(step_at(steps, start)) {
            let until = steps.get(index + 1).map(|&(next, _)| next);
            // A stalled link takes forever, which is no duration.
            let done = Duration::try_from_secs_f64(left.max(0.0) / rate)
                .ok()
                .and_then(|needed| at.checked_add(needed));
            match (done, until) {
                (Some(done), None) => return Some(done),
                (Some(done), Some(until)) if done <= until => return Some(done),
                (_, Some(until)) => {
                    left -= rate * until.saturating_sub(at).as_secs_f64();
                    at = until;
                }
                (None, None) => return None,
            }
        }
        None
    }
}

/// The last step that has begun at `time`; the first begins at zero.
fn step_at(steps: &[(Duration, f64)], time: Duration) -> usize {
    steps.partition_point(|&(from, _)| from <= time).saturating_sub(1)
}
