//! The load generator: raw HTTP/1.1 over kept-alive or new connections, on one thread.
//!
//! It writes prepared bytes and reads just enough of an answer to know its status and its end, so
//! that it costs less than what it measures. Latency goes into a histogram with two significant
//! digits more than the table shows.

mod client;
mod drive;
mod local;

pub(crate) use client::{Connection, Style, Target};
pub(crate) use drive::{closed_loop, fresh_loop, hold, open_loop};

use hdrhistogram::Histogram;

/// What one run of the load generator saw.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Requests that were answered with status 200.
    pub(crate) requests: u64,
    /// How long it ran, in seconds.
    pub(crate) seconds: f64,
    /// Latencies in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Sample {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        // A count of requests is far below 2^53.
        u32::try_from(self.requests).map_or(f64::INFINITY, f64::from) / self.seconds
    }

    /// A quantile of the latency in microseconds.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        // Hours in nanoseconds would not fit; seconds do.
        u32::try_from(self.latency.value_at_quantile(quantile)).map_or(f64::INFINITY, f64::from) / 1000.0
    }
}

/// A histogram from 100 ns to 4 s, the longest that a run waits for an answer.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 4_000_000_000, 3).expect("the bounds are constants that hdrhistogram accepts")
}
