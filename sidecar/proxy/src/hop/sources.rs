//! How much each address may do before anybody there has proven an identity: some at once, some per minute.
//!
//! Addresses cannot be forged here, since a handshake needs answers; in a cluster each pod has one. So a
//! pod that floods runs into its own bounds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::SOURCES;

/// Why an address has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has too many open.
    #[error("the address has too many open at once")]
    AtOnce,
    /// It came too often.
    #[error("the address came too often within a minute")]
    PerMinute,
    /// Too many addresses are being counted.
    #[error("too many addresses at once")]
    Addresses,
}

/// Bounds of one address.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open at once.
    pub at_once: u32,
    /// Begun per minute, and in one go after a pause.
    pub per_minute: u32,
}

/// Counts by address.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

struct Inner {
    bounds: Bounds,
    of: Mutex<HashMap<IpAddr, Source>>,
}

struct Source {
    open: u32,
    bucket: Bucket,
}

/// A place of an address, given back when it is dropped.
pub struct Seat {
    sources: Sources,
    address: IpAddr,
}

impl Sources {
    /// Nobody yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner { bounds, of: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Source>> {
        self.0.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an address.
    ///
    /// # Errors
    /// When it has as many as it may, or came too often.
    pub fn admit(&self, address: IpAddr) -> Result<Seat, Refused> {
        self.admit_at(address.to_canonical(), Instant::now())
    }

    fn admit_at(&self, address: IpAddr, now: Instant) -> Result<Seat, Refused> {
        let Bounds { at_once, per_minute } = self.0.bounds;
        let mut of = self.lock();
        if of.len() >= SOURCES && !of.contains_key(&address) {
            // Who has nothing open and may do everything again need not be remembered.
            of.retain(|_, source| source.open > 0 || !source.bucket.is_full(now));
            if of.len() >= SOURCES {
                return Err(Refused::Addresses);
            }
        }
        let source = of.entry(address).or_insert_with(|| Source {
            open: 0,
            bucket: Bucket::new(f64::from(per_minute) / 60.0, f64::from(per_minute), now),
        });
        if source.open >= at_once {
            return Err(Refused::AtOnce);
        }
        if !source.bucket.take(1.0, now) {
            return Err(Refused::PerMinute);
        }
        source.open += 1;
        Ok(Seat { sources: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(source) = self.sources.lock().get_mut(&self.address) {
            source.open = source.open.saturating_sub(1);
        }
    }
}

/// A token bucket.
pub(super) struct Bucket {
    per_second: f64,
    size: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(per_second: f64, size: f64, now: Instant) -> Self {
        Self { per_second, size, left: size, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.size);
        self.at = self.at.max(now);
    }

    fn take(&mut self, amount: f64, now: Instant) -> bool {
        self.refill(now);
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }

    /// Whether nothing is owed.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.size
    }

    /// Takes an amount at once, and answers how long to wait until it is paid for.
    pub(super) fn borrow(&mut self, amount: f64, now: Instant) -> Duration {
        self.refill(now);
        self.left -= amount;
        if self.left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.left / self.per_second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const BOUNDS: Bounds = Bounds { at_once: 2, per_minute: 60 };

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn an_address_has_so_many_at_once_and_others_do_not_feel_it() {
        let (sources, now) = (Sources::new(BOUNDS), Instant::now());
        let first = sources.admit_at(address(1), now).unwrap();
        let _second = sources.admit_at(address(1), now).unwrap();
        assert_eq!(sources.admit_at(address(1), now).err(), Some(Refused::AtOnce));
        assert!(sources.admit_at(address(2), now).is_ok());
        drop(first);
        assert!(sources.admit_at(address(1), now).is_ok());
    }

    #[test]
    fn an_address_comes_so_often_per_minute() {
        let (sources, now) = (Sources::new(BOUNDS), Instant::now());
        for _ in 0..60 {
            drop(sources.admit_at(address(1), now).unwrap());
        }
        assert_eq!(sources.admit_at(address(1), now).err(), Some(Refused::PerMinute));
        assert!(sources.admit_at(address(1), now + Duration::from_secs(1)).is_ok());
        assert_eq!(sources.admit_at(address(1), now + Duration::from_secs(1)).err(), Some(Refused::PerMinute));
    }

    #[test]
    fn the_same_address_as_ipv4_and_as_ipv6_is_one() {
        let sources = Sources::new(Bounds { at_once: 1, per_minute: 60 });
        let _held = sources.admit(address(1)).unwrap();
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        assert_eq!(sources.admit(mapped).err(), Some(Refused::AtOnce));
    }

    #[test]
    fn the_number_of_addresses_is_bounded_and_forgets_the_idle() {
        let (sources, now) = (Sources::new(BOUNDS), Instant::now());
        let nth = |n: usize| IpAddr::from(Ipv4Addr::from(u32::try_from(n).unwrap()));
        let held: Vec<Seat> = (0..SOURCES).map(|n| sources.admit_at(nth(n), now).unwrap()).collect();
        assert_eq!(sources.admit_at(nth(SOURCES), now).err(), Some(Refused::Addresses));
        assert!(sources.admit_at(nth(1), now).is_ok(), "one that is known goes on");
        drop(held);
        assert_eq!(sources.admit_at(nth(SOURCES), now).err(), Some(Refused::Addresses), "their minute is not over");
        assert!(sources.admit_at(nth(SOURCES), now + Duration::from_secs(2)).is_ok());
        assert_eq!(sources.lock().len(), 1);
    }
}
