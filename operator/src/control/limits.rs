//! Bounds of the control API. Nobody reaches it but through a gateway, which caps each pod; these hold for
//! what comes through all the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::since_boot;

/// Connections at once: ten thousand agents, and those that reconnect.
pub(crate) const CONNECTIONS: usize = 12_000;
/// Handshakes of one tenant at once. Each costs about a millisecond of one core.
pub(crate) const HANDSHAKES: usize = 64;
/// Connections of one tenant without a client certificate at once: pods that ask for their first one.
pub(crate) const UNPROVEN: usize = 512;
/// Longest that a handshake may take, and the wait for its turn.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest life of a connection without a stream: one request for a certificate.
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// How often a connection is tried, and how long an answer may take: one that died unnoticed is missed.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A pod that asks for a stream sooner than the watch shows it is waited for this long.
pub(crate) const KNOWN_TIMEOUT: Duration = Duration::from_secs(4);
/// Requests at once on one connection: a stream and a request for a certificate, with room.
pub(crate) const REQUESTS: u32 = 8;
/// Longest that a request for a certificate may take to arrive.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest list of headers in bytes; clients send some 200.
pub(crate) const HEADERS: u32 = 8 * 1024;
/// Bytes that wait for a client that reads slowly.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;
/// Flow-control window of what clients send; they send little.
pub(crate) const WINDOW: u32 = 64 * 1024;
/// Lines that wait to be sent on one stream.
pub(crate) const QUEUE: usize = 16;
/// A client that takes nothing for this long is gone.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// The first message must be there within this time.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence ends after this time; a client that hears nothing for 60 s reconnects.
pub(crate) const PING: Duration = Duration::from_secs(20);
/// A stream ends after this long, so that streams spread over the replicas; each by up to a fifth earlier
/// or later, so that they do not all come back at once.
pub(crate) const AGE: Duration = Duration::from_secs(1800);
/// Streams of one pod at once: the new one, and the old one that nobody has missed yet.
pub(crate) const STREAMS_PER_POD: usize = 2;
/// Messages a stream may send in one minute: acknowledgements of every edit, and reports every 15 s.
pub(crate) const MESSAGES: Rate = Rate { burst: 600, per: Duration::from_millis(20) };
/// The same for a gateway, which acknowledges for every pod of its tenant.
pub(crate) const GATEWAY_MESSAGES: Rate = Rate { burst: 50_000, per: Duration::from_micros(200) };
/// Certificates of one pod: with the shortest life of 60 s, three a minute, and a few after a restart.
pub(crate) const CERTIFICATES_PER_POD: Rate = Rate { burst: 6, per: Duration::from_secs(10) };
/// Requests for a certificate of one tenant before their tokens were proven: a thousand pods in 20 s.
pub(crate) const CERTIFICATES_PER_TENANT: Rate = Rate { burst: 200, per: Duration::from_millis(20) };
/// Questions to the API server at once.
pub(crate) const REVIEWS: usize = 16;
/// Longest wait for the API server's answer, and for a turn.
pub(crate) const REVIEW_TIMEOUT: Duration = Duration::from_secs(8);
/// Most keys that a limiter remembers.
const MAX_KEYS: usize = 20_000;

/// How often something may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// At once.
    pub(crate) burst: u32,
    /// Time for one more.
    pub(crate) per: Duration,
}

/// A bucket of tokens that fills with time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// The time at which it was, or will be, empty: full buckets lie a whole burst in the past.
    empty_at: Duration,
}

impl Bucket {
    /// A full one.
    pub(crate) fn full(rate: Rate, now: Duration) -> Self {
        Self { rate, empty_at: now.saturating_sub(rate.per * rate.burst) }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let Rate { burst, per } = self.rate;
        let earliest = now.saturating_sub(per * burst);
        let next = self.empty_at.max(earliest) + per;
        if next > now {
            return false;
        }
        self.empty_at = next;
        true
    }

    /// How long it takes until there is one more, with room for a clock that counts milliseconds.
    pub(crate) fn pause(&self) -> Duration {
        self.rate.per.max(Duration::from_millis(1))
    }

    fn is_full(&self, now: Duration) -> bool {
        self.empty_at + self.rate.per * self.rate.burst <= now
    }
}

/// A bucket per key.
pub(crate) struct Limiter<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// Everybody may do so at this rate.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Whether `key` may do so once more, now.
    pub(crate) fn take(&self, key: K) -> bool {
        self.take_at(key, since_boot())
    }

    fn take_at(&self, key: K, now: Duration) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
            // Who has done nothing for a while need not be remembered.
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= MAX_KEYS {
                return false;
            }
        }
        buckets.entry(key).or_insert_with(|| Bucket::full(self.rate, now)).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per: Duration::from_secs(10) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100_000 + seconds)
    }

    #[test]
    fn a_burst_then_one_at_a_time() {
        let limiter = Limiter::new(RATE);
        let taken: Vec<bool> = (0..4).map(|_| limiter.take_at("a", at(0))).collect();
        assert_eq!(taken, [true, true, true, false]);
        assert!(!limiter.take_at("a", at(9)));
        assert!(limiter.take_at("a", at(10)));
        assert!(!limiter.take_at("a", at(10)));
        assert!(limiter.take_at("b", at(10)), "others have a bucket of their own");
    }

    #[test]
    fn resting_fills_the_bucket_and_no_further() {
        let limiter = Limiter::new(RATE);
        (0..3).for_each(|_| assert!(limiter.take_at("a", at(0))));
        let taken = (0..9).filter(|_| limiter.take_at("a", at(9000))).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn soon_after_boot_buckets_are_full_as_well() {
        let mut bucket = Bucket::full(RATE, Duration::from_secs(31));
        assert!(bucket.take(Duration::from_secs(31)));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(RATE);
        for key in 0..MAX_KEYS {
            assert!(limiter.take_at(key, at(0)));
        }
        assert!(!limiter.take_at(MAX_KEYS, at(0)));
        assert!(limiter.take_at(MAX_KEYS, at(3600)));
    }
}
