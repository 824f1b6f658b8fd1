//! Pacing: a token bucket that holds a sender to a reserved rate.
//!
//! The arithmetic is [`TokenBucket`], pure, with time as an argument; [`Pacer`] waits on it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// A rate in bytes of payload per second: what is written into streams, without packet headers.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct BytesPerSecond(f64);

impl BytesPerSecond {
    /// `rate` bytes per second; `None` unless it is finite and above zero.
    pub fn new(rate: f64) -> Option<Self> {
        (rate.is_finite() && rate > 0.0).then_some(Self(rate))
    }

    /// From megabits (10^6 bits) per second; `None` unless finite and above zero.
    pub fn from_mbps(mbps: f64) -> Option<Self> {
        Self::new(mbps * 1e6 / 8.0)
    }

    /// Bytes per second.
    pub fn get(self) -> f64 {
        self.0
    }

    /// What may be sent at once: 10 ms at this rate, and at least 16 KiB. Less would make the timer's
    /// resolution of a millisecond the limit; more would overrun short queues on the way.
    pub fn burst(self) -> usize {
        ((self.0 * 0.01) as usize).max(16 << 10)
    }
}

/// A token bucket: tokens (bytes) arrive at the rate, up to a burst; sending takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBucket {
    rate: BytesPerSecond,
    tokens: f64,
    updated: Duration,
}

impl TokenBucket {
    /// A full bucket at time `now` (since any fixed origin).
    pub fn new(rate: BytesPerSecond, now: Duration) -> Self {
        Self { rate, tokens: rate.burst() as f64, updated: now }
    }

    /// The rate at which tokens arrive.
    pub fn rate(&self) -> BytesPerSecond {
        self.rate
    }

    /// Changes the rate from `now` on; tokens above the new burst are lost.
    pub fn set_rate(&mut self, rate: BytesPerSecond, now: Duration) {
        self.refill(now);
        self.rate = rate;
        self.tokens = self.tokens.min(rate.burst() as f64);
    }

    /// Takes `bytes` tokens, or says how long to wait before trying again.
    ///
    /// More than a burst is taken as soon as the bucket is full; the debt delays what follows, so the
    /// average rate holds for any sizes.
    pub fn take(&mut self, bytes: usize, now: Duration) -> Result<(), Duration> {
        self.refill(now);
        let needed = bytes.min(self.rate.burst()) as f64;
        let missing = needed - self.tokens;
        // Half a byte absorbs the rounding of time to nanoseconds.
        if missing <= 0.5 {
            self.tokens -= bytes as f64;
            return Ok(());
        }
        Err(Duration::try_from_secs_f64(missing / self.rate.0).unwrap_or(Duration::MAX))
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.updated).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate.0).min(self.rate.burst() as f64);
        self.updated = self.updated.max(now);
    }
}

/// Makes senders wait for tokens, in the order in which they asked; the rate can change at any time.
#[derive(Debug)]
pub struct Pacer {
    origin: Instant,
    bucket: Mutex<Option<TokenBucket>>,
    changed: Notify,
    // Fair: the one who waits longest goes first, whatever it asks for.
    turn: tokio::sync::Mutex<()>,
}

impl Pacer {
    /// A pacer at `rate`; `None` lets everything pass.
    pub fn new(rate: Option<BytesPerSecond>) -> Self {
        Self {
            origin: Instant::now(),
            bucket: Mutex::new(rate.map(|rate| TokenBucket::new(rate, Duration::ZERO))),
            changed: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The rate now; `None` lets everything pass.
    pub fn rate(&self) -> Option<BytesPerSecond> {
        self.bucket().as_ref().map(TokenBucket::rate)
    }

    /// Changes the rate, also for those who are waiting.
    pub fn set_rate(&self, rate: Option<BytesPerSecond>) {
        let now = self.origin.elapsed();
        {
            let mut bucket = self.bucket();
            match (bucket.as_mut(), rate) {
                (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
                _ => *bucket = rate.map(|rate| TokenBucket::new(rate, now)),
            }
        }
        self.changed.notify_one();
    }

    /// Waits until `bytes` may be sent, and takes their tokens. True if it had to wait. Dropping the
    /// future takes nothing.
    pub async fn take(&self, bytes: usize) -> bool {
        let _turn = self.turn.lock().await;
        let mut waited = false;
        loop {
            let taken = match self.bucket().as_mut() {
                None => Ok(()),
                Some(bucket) => bucket.take(bytes, self.origin.elapsed()),
            };
            let Err(wait) = taken else { return waited };
            waited = true;
            tokio::select! {
                () = sleep(wait) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Option<TokenBucket>> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(bytes: f64) -> BytesPerSecond {
        BytesPerSecond::new(bytes).expect("a usable rate")
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_waits() {
        let mut bucket = TokenBucket::new(rate(1e6), Duration::ZERO);
        assert_eq!(rate(1e6).burst(), 16384);
        assert_eq!(bucket.take(16384, Duration::ZERO), Ok(()));
        assert_eq!(bucket.take(10_000, Duration::ZERO), Err(millis(10)));
        assert!(bucket.take(10_000, millis(9)).is_err());
        assert_eq!(bucket.take(10_000, millis(10)), Ok(()));
    }

    #[test]
    fn the_burst_grows_with_the_rate() {
        assert_eq!(rate(100e6).burst(), 1_000_000);
        assert_eq!(rate(1.0).burst(), 16384);
    }

    #[test]
    fn a_new_rate_holds_from_its_moment_on() {
        let mut bucket = TokenBucket::new(rate(1e6), Duration::ZERO);
        assert_eq!(bucket.take(16384, Duration::ZERO), Ok(()));
        bucket.set_rate(rate(2e6), millis(5));
        assert_eq!(bucket.take(9_000, millis(5)), Err(millis(2)));
        assert_eq!(bucket.take(9_000, millis(7)), Ok(()));
    }

    #[test]
    fn rates_that_mean_nothing_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(BytesPerSecond::new(bad), None);
        }
        assert_eq!(BytesPerSecond::from_mbps(8.0), BytesPerSecond::new(1e6));
    }

    #[tokio::test(start_paused = true)]
    async fn senders_share_the_rate() {
        let pacer = Pacer::new(Some(rate(1e6)));
        let start = Instant::now();
        let send = async || {
            for _ in 0..50 {
                pacer.take(10_000).await;
            }
        };
        tokio::join!(send(), send());
        let seconds = start.elapsed().as_secs_f64();
        assert!((0.98..1.1).contains(&seconds), "1 MB at 1 MB/s took {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_reaches_a_sender_that_waits() {
        let pacer = Pacer::new(Some(rate(1.0)));
        pacer.take(16384).await;
        let start = Instant::now();
        let (waited, ()) = tokio::join!(pacer.take(10_000), async {
            sleep(millis(100)).await;
            pacer.set_rate(None);
        });
        assert!(waited);
        assert!(start.elapsed() < millis(200), "{:?}", start.elapsed());
    }

    proptest! {
        /// Over any window, no more passes than the rate gives, plus one burst.
        #[test]
        fn the_average_rate_holds(
            bytes_per_second in 1e3..1e9_f64,
            asks in prop::collection::vec((1..60_000_usize, 0..20_u64), 1..100),
        ) {
            let rate = rate(bytes_per_second);
            let mut bucket = TokenBucket::new(rate, Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut sent: Vec<(Duration, f64)> = Vec::new();
            for (bytes, pause) in asks {
                now += millis(pause);
                if let Err(wait) = bucket.take(bytes, now) {
                    now += wait;
                    prop_assert_eq!(bucket.take(bytes, now), Ok(()), "the wait was too short");
                }
                sent.push((now, bytes as f64));
            }
            for first in 0..sent.len() {
                let mut total = 0.0;
                for &(at, bytes) in &sent[first..] {
                    // What passes last may be larger than a burst: it is paid for afterwards.
                    let allowed = bytes_per_second * at.abs_diff(sent[first].0).as_secs_f64() + rate.burst() as f64;
                    prop_assert!(total <= allowed + 2.0 + 1e-6 * allowed, "{total} of {allowed}");
                    total += bytes;
                }
            }
        }
    }
}
