//! Requests at a rate from an agent's pod, while something is changed under them.

use std::time::Duration;

use serde_json::Value;

use crate::agent::Lines;
use crate::{Agent, Result};

/// Requests that are being sent.
pub struct Load {
    agent: Agent,
    lines: Lines,
    failures: Vec<Value>,
    total: Option<Value>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Total {
    /// Requests that were sent.
    pub sent: u64,
    /// Those that were not answered with 200.
    pub failed: u64,
    failures: Vec<Value>,
    sum: Value,
}

impl Load {
    /// Starts to send so many requests a second, and waits until the first second is over. It goes on until it is
    /// stopped, or the bound has passed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(agent: &Agent, rate: u32, bound: Duration, url: &str) -> Result<Self> {
        let (rate, bound) = (rate.to_string(), format!("{}s", bound.as_secs()));
        let lines = agent.start(&["load", "-rate", &rate, "-for", &bound, url])?;
        let mut load = Self { agent: agent.clone(), lines, failures: Vec::new(), total: None };
        load.second()?;
        Ok(load)
    }

    /// Waits until the next second is over. Answers whether there was one more.
    ///
    /// # Errors
    /// When the program in the pod has ended without a sum.
    pub fn second(&mut self) -> Result<bool> {
        while self.total.is_none() {
            let line = self.lines.read()?;
            if line["failure"].is_object() {
                self.failures.push(line["failure"].clone());
            } else if line["sent"].is_u64() {
                self.total = Some(line);
            } else {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the program in the pod has ended without a sum.
    pub fn stop(self) -> Result<Total> {
        self.agent.tools(&["stop"])?;
        self.finish()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the program in the pod has ended without a sum.
    pub fn finish(mut self) -> Result<Total> {
        while self.second()? {}
        let sum = self.total.take().ok_or("the load has no sum")?;
        let number = |key: &str| sum[key].as_u64().unwrap_or_default();
        Ok(Total { sent: number("sent"), failed: number("failed"), failures: self.failures, sum })
    }
}

impl Total {
    /// Fails when a single request did, or when there were fewer than so many.
    ///
    /// # Errors
    /// With the failures.
    pub fn none_failed(&self, least: u64) -> Result<()> {
        if self.failed == 0 && self.sent >= least {
            return Ok(());
        }
        let failures: Vec<String> = self.failures.iter().map(Value::to_string).collect();
        Err(format!("{self}, where at least {least} and none failed were wanted:\n{}", failures.join("\n")))
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |key: &str| self.sum[key].as_u64().unwrap_or_default();
        let (sent, failed) = (self.sent, self.failed);
        let (p50, p99, slowest) = (number("p50Ms"), number("p99Ms"), number("slowestMs"));
        let rate = sent.saturating_mul(1000) / number("tookMs").max(1);
        write!(
            to,
            "{sent} requests, {rate} a second, {failed} failed; median {p50} ms, p99 {p99} ms, slowest {slowest} ms"
        )
    }
}
