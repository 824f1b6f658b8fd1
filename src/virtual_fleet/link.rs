//! One direction of a modelled link: a first-in-first-out queue at the link's rate, then a delay.
//!
//! What QUIC puts around the values, pacing at the sender, jitter and retransmissions are modelled;
//! congestion control is not: the sender always fills the link, as far as it may.

use std::time::Duration;

use partway_core::config::{EdgeConfig, LinkTrace, Mbps};
use partway_core::random::{self, Stream, unit_f64};

use super::rates::{Rates, bits_per_second};

/// Bytes of a message in a packet on a path of 1500 bytes.
const PACKET_PAYLOAD: u64 = 1_400;
/// What IP, UDP, QUIC's header, its frames and its authentication tag add to each packet, in bytes.
const PACKET_OVERHEAD: u64 = 75;
/// A packet is taken for lost once so many later ones have arrived (RFC 9002, section 6.1.1).
const REORDERING: u64 = 3;
/// How long a receiver may hold back an acknowledgement (RFC 9000, section 18.2).
const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_millis(25);
/// What a paced sender sends at once, at least, in bytes: as `partway_net::pacing` does.
const LEAST_BURST: u64 = 16 << 10;

/// How a message crosses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Crossing {
    /// When its last byte arrives.
    pub(super) arrives: Duration,
    /// How long its transfer takes by what the receiver measures: from the second half.
    pub(super) seconds: f64,
}

/// Why something does not cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The link has no rate any more: an outage that does not end.
    Stalled,
    /// A packet and what repeats it are lost for as long as a connection may be silent, which is over then.
    Silent {
        /// When.
        at: Duration,
    },
}

/// One direction.
#[derive(Clone, Debug)]
pub(super) struct Direction {
    rates: Rates,
    /// How long a connection may be silent.
    patience: Duration,
    rtt: Duration,
    jitter: Duration,
    loss: f64,
    random: Stream,
    /// When everything that was sent has left.
    free_at: Duration,
    /// When the last of it arrives: nothing overtakes.
    arrived_at: Duration,
}

/// Both directions of an edge's link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) up: Direction,
    pub(super) down: Direction,
    /// When the edge is out of reach, in order.
    pub(super) outages: Vec<(Duration, Duration)>,
}

impl Link {
    /// The link of an edge whose connections may be silent for `patience`. One that the configuration does not
    /// limit has `most_mbps`: the cloud's.
    pub(super) fn new(
        edge: &EdgeConfig,
        trace: Option<&LinkTrace>,
        most_mbps: f64,
        patience: Duration,
        seed: u64,
    ) -> Self {
        let steps = trace.map(LinkTrace::steps).unwrap_or_default();
        let first = |configured: Option<f64>, traced: Option<f64>| {
            bits_per_second(configured.or(traced).unwrap_or(most_mbps))
        };
        let up_first = first(edge.uplink_mbps.map(Mbps::get), steps.first().map(|step| step.up_mbps));
        let down_first =
            first(edge.downlink_mbps.map(Mbps::get), steps.first().and_then(|step| step.down_mbps));
        let up = Rates::new(up_first, steps.iter().map(|step| (step.at, bits_per_second(step.up_mbps))));
        let down = steps.iter().filter_map(|step| Some((step.at, bits_per_second(step.down_mbps?))));
        let down = Rates::new(down_first, down);
        let configured: Vec<_> = edge.down.iter().map(|outage| (outage.from(), outage.until())).collect();
        // Without acknowledgements from the other side nothing goes on in either direction.
        let stalled = up.without(&down.without(&configured).stalls());
        let outages = stalled.stalls();
        let direction = |rates: &Rates, name: &str| Direction {
            rates: rates.without(&outages),
            patience,
            rtt: edge.rtt.get(),
            jitter: edge.jitter.get(),
            loss: edge.loss.get(),
            random: random::stream(seed, &["virtual link", edge.name.as_str(), name]),
            free_at: Duration::ZERO,
            arrived_at: Duration::ZERO,
        };
        Self { up: direction(&up, "up"), down: direction(&down, "down"), outages }
    }

    /// The outage at a time.
    pub(super) fn outage_at(&self, at: Duration) -> Option<(Duration, Duration)> {
        let begun = self.outages.partition_point(|outage| outage.0 <= at);
        self.outages[..begun].last().copied().filter(|outage| at < outage.1)
    }
}

impl Direction {
    /// Forgets what was on its way: the connection is another one from now on.
    pub(super) fn reset(&mut self, now: Duration) {
        (self.free_at, self.arrived_at) = (now, now);
    }

    /// The least that anything takes.
    pub(super) fn delay(&self) -> Duration {
        self.rtt / 2
    }

    /// When all that was sent before `now` has arrived, and a packet that is sent then.
    pub(super) fn drained(&self, now: Duration) -> Duration {
        self.arrived_at.max(now + self.delay())
    }

    /// Sends `bytes` at `now`, at no more than `pace` bytes per second.
    ///
    /// # Errors
    /// If they never arrive.
    pub(super) fn send(&mut self, now: Duration, bytes: u64, pace: Option<f64>) -> Result<Crossing, Lost> {
        let start = self.free_at.max(now);
        let half = bytes / 2;
        let finish = |bits| self.rates.finish(start, bits).ok_or(Lost::Stalled);
        let (middle, end) = match pace {
            None => (finish(wire_bits(half))?, finish(wire_bits(bytes))?),
            Some(pace) => self.paced(now, bytes, half, pace).ok_or(Lost::Stalled)?,
        };
        let (end, repeated) =
            self.with_losses(start, end, bytes.div_ceil(PACKET_PAYLOAD).max(1)).map_err(|at| {
                // Nothing overtakes, so that nothing arrives before the connection has ended.
                (self.free_at, self.arrived_at) = (at, at);
                Lost::Silent { at }
            })?;
        let again = repeated * 8 * (PACKET_PAYLOAD + PACKET_OVERHEAD);
        self.free_at = self.rates.finish(end, again).ok_or(Lost::Stalled)?;
        let late = if self.jitter.is_zero() {
            Duration::ZERO
        } else {
            self.jitter.mul_f64(unit_f64(&mut self.random))
        };
        let arrives = (end + self.delay() + late).max(self.arrived_at);
        self.arrived_at = arrives;
        let second_half = (bytes - half).max(1);
        let seconds = (end + late).saturating_sub(middle).as_secs_f64() * (bytes as f64 / second_half as f64);
        Ok(Crossing { arrives, seconds })
    }

    /// When the first `half` bytes and all of them have left, if a token bucket of `pace` bytes per second
    /// lets pieces of a burst each go.
    fn paced(&self, now: Duration, bytes: u64, half: u64, pace: f64) -> Option<(Duration, Duration)> {
        let pace = (pace.round() as u64).max(1);
        let burst = (pace / 100).max(LEAST_BURST);
        let tokens_take = |bytes: u64| {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(pace);
            u64::try_from(nanos).ok().map(Duration::from_nanos)
        };
        let (mut released, mut left, mut sent) = (now, self.free_at.max(now), 0);
        let mut middle = left;
        while sent < bytes {
            let piece = burst.min(bytes - sent);
            if sent > 0 {
                released = released.checked_add(tokens_take(piece)?)?;
            }
            let start = released.max(left);
            if sent < half && half <= sent + piece {
                middle = self.rates.finish(start, wire_bits(half - sent))?;
            }
            left = self.rates.finish(start, wire_bits(piece))?;
            sent += piece;
        }
        Some((middle, left))
    }

    /// When packets that were sent from `start` to `end` have all been sent with success, and how many were
    /// sent more than once: a loss is noticed by later packets, or, at the end, by a timeout (RFC 9002). Fails with
    /// the end of the connection if a packet has not come through when that has been silent for too long.
    fn with_losses(
        &mut self,
        start: Duration,
        end: Duration,
        packets: u64,
    ) -> Result<(Duration, u64), Duration> {
        if self.loss <= 0.0 {
            return Ok((end, 0));
        }
        let timeout = self.rtt + (2 * self.jitter).max(Duration::from_millis(1)) + ACKNOWLEDGEMENT_DELAY;
        let span = end.saturating_sub(start).as_nanos();
        let sent_at = |packet: u64| {
            let nanos = span * u128::from(packet + 1) / u128::from(packets);
            start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let (mut done, mut repeated) = (end, 0);
        for packet in 0..packets {
            let mut lost = unit_f64(&mut self.random) < self.loss;
            let noticed_by_others = packet + REORDERING < packets;
            let mut again = if noticed_by_others {
                sent_at(packet + REORDERING) + self.rtt
            } else {
                sent_at(packet) + timeout
            };
            let silent_at = sent_at(packet).saturating_add(self.patience);
            let mut backoff = timeout;
            while lost {
                if again > silent_at {
                    return Err(silent_at);
                }
                repeated += 1;
                done = done.max(again);
                lost = unit_f64(&mut self.random) < self.loss;
                backoff = backoff.saturating_mul(2);
                again = again.saturating_add(backoff);
            }
        }
        Ok((done, repeated))
    }
}

/// Bits that so many bytes of a message take on the link, packets around them.
fn wire_bits(bytes: u64) -> u64 {
    8 * (bytes + bytes.div_ceil(PACKET_PAYLOAD) * PACKET_OVERHEAD)
}

#[cfg(test)]
mod tests;
