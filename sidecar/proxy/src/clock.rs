//! Readings of the machine's clocks, for [`clawlock_policy::ticket`] to make trusted time of.

use std::time::{SystemTime, UNIX_EPOCH};

use clawlock_policy::ticket::Reading;
use rustix::time::{ClockId, clock_gettime};

/// Reads the clocks.
pub trait Clock: Send + Sync {
    /// The wall clock and the time since boot (suspended time included), both in milliseconds.
    fn read(&self) -> Reading;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn read(&self) -> Reading {
        // A wall clock before 1970 reads as 0: trusted time then rests on boot time alone.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let millis = u64::try_from(boot.tv_nsec / 1_000_000).unwrap_or_default();
        Reading { wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX), boot_ms: seconds * 1000 + millis }
    }
}
