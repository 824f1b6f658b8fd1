//! Emulated devices: a slower processor and a link of one's choice, on any machine.

use std::time::{Duration, Instant};

use partway_model::Spent;
use partway_net::LinkProfile;

/// What to pretend this device is.
#[derive(Clone, Debug, PartialEq)]
pub struct Emulation {
    /// Speed, as a share of one thread of this machine, or of its graphics processor.
    pub speed: f64,
    /// When it is slower than that, from and until since the worker's start, and how many times; in order.
    pub slow: Vec<(Duration, Duration, f64)>,
    /// The link under QUIC.
    pub link: LinkProfile,
}

/// The emulated speed over time.
pub(crate) struct Speed {
    usual: f64,
    slow: Vec<(Duration, Duration, f64)>,
    begun: Instant,
}

impl Speed {
    /// That of a device that starts now.
    pub(crate) fn starting(emulation: &Emulation) -> Self {
        Self { usual: emulation.speed, slow: emulation.slow.clone(), begun: Instant::now() }
    }

    /// The speed of work that starts now.
    pub(crate) fn now(&self) -> f64 {
        self.after(self.begun.elapsed())
    }

    fn after(&self, elapsed: Duration) -> f64 {
        let slowdown = self.slow.iter().find(|(from, until, _)| (*from..*until).contains(&elapsed));
        self.usual / slowdown.map_or(1.0, |(_, _, times)| *times)
    }
}

/// How long work takes on a device of this speed: the time that was measured of this machine's device,
/// stretched. Waiting for a processor, which other processes of the experiment hold, hides inside it.
pub(crate) fn stretched(spent: Spent, speed: f64) -> Duration {
    spent.device.div_f64(speed).max(spent.wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_slower_for_a_while() {
        let second = Duration::from_secs(1);
        let slow = vec![(second, 2 * second, 10.0), (3 * second, 4 * second, 2.0)];
        let speed = Speed { usual: 0.5, slow, begun: Instant::now() };
        let speeds = [0, 1, 2, 3, 4].map(|seconds| speed.after(seconds * second));
        assert_eq!(speeds.map(f64::to_bits), [0.5, 0.05, 0.5, 0.25, 0.5].map(f64::to_bits));
    }

    #[test]
    fn stretches_processor_time_and_not_waiting() {
        let spent = Spent { device: Duration::from_millis(10), wall: Duration::from_millis(30) };
        assert_eq!(stretched(spent, 0.1), Duration::from_millis(100));
        assert_eq!(stretched(spent, 0.5), Duration::from_millis(30));
    }
}
