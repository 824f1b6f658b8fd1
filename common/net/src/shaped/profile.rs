//! What an emulated link is like, and which values make sense.

use std::time::Duration;

use thiserror::Error;

use super::link::{Link, Rate};

/// An edge's emulated link to the cloud. "Up" leaves the edge, "down" reaches it.
///
/// Times are since the link's start, so that a connection made later meets the same link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkProfile {
    /// Uplink rate in megabits (10^6 bits) per second, packet headers included. `None`: unlimited.
    pub up_mbps: Option<f64>,
    /// Downlink rate, likewise.
    pub down_mbps: Option<f64>,
    /// Delay there and back without jitter and queueing; half of it each way.
    pub rtt: Duration,
    /// Each datagram is late by up to so much more, uniformly, each way; none overtakes another.
    pub jitter: Duration,
    /// Probability that a datagram is lost, each way, from 0 to below 1.
    pub loss: f64,
    /// What waits or is being sent, in bytes each way; what does not fit is dropped.
    /// `None`: 128 KiB, or 100 ms at the rate if that is more.
    pub queue_bytes: Option<usize>,
    /// Uplink rates in megabits per second, each from its time on; the last holds. Before the first
    /// time `up_mbps` holds, or else the first rate. 0 stalls the link.
    pub trace: Option<Vec<(Duration, f64)>>,
    /// Downlink rates, likewise.
    pub down_trace: Option<Vec<(Duration, f64)>>,
    /// When the edge is out of reach, from and to: everything is dropped, both ways.
    pub down: Vec<(Duration, Duration)>,
    /// Seed of jitter and loss.
    pub seed: u64,
}

/// A value in a [`LinkProfile`] that makes no sense.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ProfileError {
    /// A rate is no positive number.
    #[error("{key} = {mbps}: a rate must be a finite number above zero")]
    Rate {
        /// `up_mbps` or `down_mbps`.
        key: &'static str,
        /// The value given.
        mbps: f64,
    },
    /// The loss is no probability, or nothing would arrive.
    #[error("loss = {0}: the share of lost datagrams must be from 0 to below 1")]
    Loss(f64),
    /// A delay beyond anything a connection survives.
    #[error("{key} = {value:?}: at most one minute")]
    Delay {
        /// `rtt` or `jitter`.
        key: &'static str,
        /// The value given.
        value: Duration,
    },
    /// The trace has no entry.
    #[error("trace is empty: give at least one time with its rate, or leave the trace out")]
    EmptyTrace,
    /// An entry of the trace is wrong.
    #[error(
        "trace entry {index} ({at:?}, {mbps} Mbit/s): times must increase, rates be finite and not negative"
    )]
    Trace {
        /// Its place, from 0.
        index: usize,
        /// Its time.
        at: Duration,
        /// Its rate.
        mbps: f64,
    },
    /// An outage ends before it starts.
    #[error("down entry {index} ({from:?} to {to:?}) must end after it starts")]
    Down {
        /// Its place, from 0.
        index: usize,
        /// Its start.
        from: Duration,
        /// Its end.
        to: Duration,
    },
}

impl LinkProfile {
    /// The uplink of a checked profile.
    pub fn up_link(&self) -> Result<Link, ProfileError> {
        self.check()?;
        Ok(Link::new(self, rate(self.up_mbps, self.trace.as_deref())))
    }

    /// The downlink of a checked profile.
    pub fn down_link(&self) -> Result<Link, ProfileError> {
        self.check()?;
        Ok(Link::new(self, rate(self.down_mbps, self.down_trace.as_deref())))
    }

    fn check(&self) -> Result<(), ProfileError> {
        for (key, rate) in [("up_mbps", self.up_mbps), ("down_mbps", self.down_mbps)] {
            if let Some(mbps) = rate.filter(|mbps| !(mbps.is_finite() && *mbps > 0.0)) {
                return Err(ProfileError::Rate { key, mbps });
            }
        }
        if !(0.0..1.0).contains(&self.loss) {
            return Err(ProfileError::Loss(self.loss));
        }
        for (key, value) in [("rtt", self.rtt), ("jitter", self.jitter)] {
            if value > Duration::from_mins(1) {
                return Err(ProfileError::Delay { key, value });
            }
        }
        for trace in [&self.trace, &self.down_trace].into_iter().flatten() {
            if trace.is_empty() {
                return Err(ProfileError::EmptyTrace);
            }
            for (index, &(at, mbps)) in trace.iter().enumerate() {
                let increases = index == 0 || trace[index - 1].0 < at;
                if !increases || !mbps.is_finite() || mbps < 0.0 {
                    return Err(ProfileError::Trace { index, at, mbps });
                }
            }
        }
        for (index, &(from, to)) in self.down.iter().enumerate() {
            if from >= to {
                return Err(ProfileError::Down { index, from, to });
            }
        }
        Ok(())
    }
}

/// A constant rate, or one that follows a trace.
fn rate(mbps: Option<f64>, trace: Option<&[(Duration, f64)]>) -> Rate {
    match trace {
        None => mbps.map_or(Rate::Unlimited, Rate::constant_mbps),
        Some(trace) => Rate::steps_mbps(mbps, trace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut LinkProfile)) -> Option<ProfileError> {
        let mut profile = LinkProfile::default();
        change(&mut profile);
        let error = profile.up_link().err();
        assert_eq!(error.is_some(), profile.down_link().is_err(), "both directions check the whole profile");
        error
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(refused(|_| ()), None);
        let rate = |mbps| refused(move |p| p.down_mbps = Some(mbps));
        assert_eq!(rate(0.0), Some(ProfileError::Rate { key: "down_mbps", mbps: 0.0 }));
        assert!(matches!(rate(f64::NAN), Some(ProfileError::Rate { .. })));
        assert_eq!(refused(|p| p.loss = 1.0), Some(ProfileError::Loss(1.0)));
        assert!(matches!(refused(|p| p.loss = f64::NAN), Some(ProfileError::Loss(_))));
        assert!(matches!(refused(|p| p.rtt = Duration::MAX), Some(ProfileError::Delay { key: "rtt", .. })));
        assert_eq!(refused(|p| p.trace = Some(vec![])), Some(ProfileError::EmptyTrace));
        assert_eq!(refused(|p| p.down_trace = Some(vec![])), Some(ProfileError::EmptyTrace));
        let same_time = vec![(second, 1.0), (second, 2.0)];
        assert!(matches!(refused(|p| p.trace = Some(same_time)), Some(ProfileError::Trace { index: 1, .. })));
        assert!(matches!(refused(|p| p.down = vec![(second, second)]), Some(ProfileError::Down { .. })));
    }
}
