//! A link's rate over time, in whole bits per second: times come out the same on every machine.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// Bits per second, each from its time on, the first from zero; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    steps: Vec<(Duration, u64)>,
}

/// Bits per second from Mbit/s.
pub(super) fn bits_per_second(mbps: f64) -> u64 {
    (mbps * 1e6).round() as u64
}

impl Rates {
    /// `first` from zero on, then `steps`, each with its time, in ascending order.
    pub(super) fn new(first: u64, steps: impl IntoIterator<Item = (Duration, u64)>) -> Self {
        let mut all = vec![(Duration::ZERO, first)];
        for (at, rate) in steps {
            if at.is_zero() {
                all[0].1 = rate;
            } else {
                all.push((at, rate));
            }
        }
        Self { steps: all }
    }

    /// The same rates with none during outages, which are in ascending order.
    #[must_use]
    pub(super) fn without(&self, outages: &[(Duration, Duration)]) -> Self {
        let mut times: Vec<Duration> = self.steps.iter().map(|step| step.0).collect();
        times.extend(outages.iter().flat_map(|&(from, until)| [from, until]));
        times.sort_unstable();
        times.dedup();
        let rate = |at: Duration| {
            // Outages are few or follow each other: the last that has begun is the one to look at.
            let begun = outages.partition_point(|outage| outage.0 <= at);
            let is_out = begun > 0 && at < outages[begun - 1].1;
            if is_out { 0 } else { self.at(at) }
        };
        Self { steps: times.into_iter().map(|at| (at, rate(at))).collect() }
    }

    /// When there is no rate, from and until; the last may never end.
    pub(super) fn stalls(&self) -> Vec<(Duration, Duration)> {
        let mut stalls: Vec<(Duration, Duration)> = Vec::new();
        for (index, &(at, rate)) in self.steps.iter().enumerate() {
            if rate > 0 {
                continue;
            }
            let until = self.steps.get(index + 1).map_or(Duration::MAX, |next| next.0);
            match stalls.last_mut() {
                Some(last) if last.1 == at => last.1 = until,
                _ => stalls.push((at, until)),
            }
        }
        stalls
    }

    /// The rate at a time.
    pub(super) fn at(&self, time: Duration) -> u64 {
        self.steps[self.index_at(time)].1
    }

    /// When `bits` are sent whose sending starts at `start`; `None` if never.
    pub(super) fn finish(&self, start: Duration, bits: u64) -> Option<Duration> {
        let (mut at, mut left) = (start, u128::from(bits) * NANOS);
        for (index, &(_, rate)) in self.steps.iter().enumerate().skip(self.index_at(start)) {
            let until = self.steps.get(index + 1).map(|next| next.0);
            let rate = u128::from(rate);
            if rate > 0 {
                let needed = u64::try_from(left.div_ceil(rate)).ok().map(Duration::from_nanos)?;
                let done = at.checked_add(needed)?;
                if until.is_none_or(|until| done <= until) {
                    return Some(done);
                }
            } else if left == 0 {
                return Some(at);
            }
            let until = until?;
            left -= (rate * until.saturating_sub(at).as_nanos()).min(left);
            at = until;
        }
        None
    }

    /// The last step that has begun.
    fn index_at(&self, time: Duration) -> usize {
        self.steps.partition_point(|step| step.0 <= time).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn sending_follows_the_rate() {
        let rates = Rates::new(1000, [(seconds(2), 500), (seconds(4), 0), (seconds(5), 2000)]);
        assert_eq!(rates.finish(Duration::ZERO, 1000), Some(seconds(1)));
        assert_eq!(rates.finish(seconds(1), 1500), Some(seconds(3)), "1000 by 2 s, 500 by 3 s");
        assert_eq!(rates.finish(Duration::ZERO, 3000 + 2000), Some(seconds(6)), "across the stall");
        assert_eq!(rates.finish(Duration::ZERO, 1), Some(Duration::from_millis(1)));
        assert_eq!(rates.stalls(), [(seconds(4), seconds(5))]);
        assert_eq!(Rates::new(0, []).finish(seconds(1), 1), None);
        assert_eq!(Rates::new(0, []).stalls(), [(Duration::ZERO, Duration::MAX)]);
    }

    #[test]
    fn nothing_is_sent_during_an_outage() {
        let rates = Rates::new(100, [(seconds(10), 50)])
            .without(&[(seconds(1), seconds(3)), (seconds(8), seconds(12))]);
        assert_eq!(rates.finish(Duration::ZERO, 200), Some(seconds(4)));
        assert_eq!(rates.finish(seconds(7), 150), Some(seconds(13)), "100 by 8 s, 50 at the later rate");
        assert_eq!(rates.stalls(), [(seconds(1), seconds(3)), (seconds(8), seconds(12))]);
        assert_eq!((rates.at(seconds(3)), rates.at(seconds(11)), rates.at(seconds(12))), (100, 0, 50));
    }
}
