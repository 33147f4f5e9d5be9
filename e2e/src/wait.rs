//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

use crate::Result;

/// How often a condition is looked at: often enough to measure hundreds of milliseconds, seldom enough to leave the
/// cluster's two cores to the cluster.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks until the answer is there.
///
/// # Errors
/// With what was waited for and the last reason, when the deadline has passed.
#[expect(clippy::disallowed_methods, reason = "this is the one place that waits, and it waits for a condition")]
pub fn eventually<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(why) if started.elapsed() >= deadline => {
                return Err(format!("{what}: not within {} s; last: {why}", deadline.as_secs()));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
