//! Emulated devices: a slower processor and a link of one's choice, on any machine.

use std::time::Duration;

use partway_model::Spent;
use partway_net::LinkProfile;

/// What to pretend this device is.
#[derive(Clone, Debug, PartialEq)]
pub struct Emulation {
    /// Speed, as a share of one thread of this machine, or of its graphics processor.
    pub speed: f64,
    /// The link under QUIC.
    pub link: LinkProfile,
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
    fn stretches_processor_time_and_not_waiting() {
        let spent = Spent { device: Duration::from_millis(10), wall: Duration::from_millis(30) };
        assert_eq!(stretched(spent, 0.1), Duration::from_millis(100));
        assert_eq!(stretched(spent, 0.5), Duration::from_millis(30));
    }
}
