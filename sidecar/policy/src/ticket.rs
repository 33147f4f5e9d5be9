//! Trusted time: when an assignment ends, although the wall clock may lie.
//!
//! The time is the larger of the wall clock and the signed issue time plus the boot time that passed
//! since the assignment arrived. Turning the wall clock back therefore revives nothing. Pure: the
//! caller reads the clocks and hands the readings in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::document::Assignment;

/// One look at both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Wall clock in milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// Time since boot in milliseconds, suspend included (`CLOCK_BOOTTIME`).
    pub boot_ms: u64,
}

/// A time that never goes back. Shared by everything that reads it.
#[derive(Debug)]
pub struct TrustedTime {
    /// The largest `issue time - boot time at receipt` so far, `i64::MIN` when there is none.
    offset: AtomicI64,
    /// The largest time so far.
    latest: AtomicU64,
}

impl Default for TrustedTime {
    fn default() -> Self {
        Self::new()
    }
}

impl TrustedTime {
    /// No assignment was received yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { offset: AtomicI64::new(i64::MIN), latest: AtomicU64::new(0) }
    }

    /// Takes note of an assignment that has just arrived and whose signature was verified. Only a
    /// verified issue time may come here: it moves the time forward for good.
    pub fn install(&self, issued_at_ms: u64, reading: Reading) {
        let at = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        self.offset.fetch_max(at(issued_at_ms).saturating_sub(at(reading.boot_ms)), Ordering::AcqRel);
        let _ = self.now_ms(reading);
    }

    /// The time in milliseconds since the Unix epoch.
    #[must_use = "it is the time"]
    pub fn now_ms(&self, reading: Reading) -> u64 {
        let boot = i64::try_from(reading.boot_ms).unwrap_or(i64::MAX);
        let offset = self.offset.load(Ordering::Acquire);
        let signed = if offset == i64::MIN { 0 } else { offset.saturating_add(boot) };
        let now = reading.wall_ms.max(u64::try_from(signed).unwrap_or(0));
        self.latest.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// Whether an assignment's validity has ended.
    #[must_use]
    pub fn is_expired(&self, assignment: &Assignment, reading: Reading) -> bool {
        self.now_ms(reading) >= assignment.not_after_ms
    }
}
