//! Packets that are tried while something is broken.

use clawlock_e2e::agent::Lines;
use clawlock_e2e::{Agent, Result};
use serde_json::Value;

/// Tries a connection past the sidecar again and again, in the pod.
pub(crate) struct Watch(Lines);

impl Watch {
    /// Starts to try. The address must be one that answers elsewhere.
    pub(crate) fn start(agent: &Agent, address: &str) -> Result<Self> {
        agent.start(&["knock", "tcp", address]).map(Self)
    }

    /// Ends it; fails when a single try got through, or when none was made.
    pub(crate) fn closed(mut self, agent: &Agent) -> Result<Value> {
        agent.tools(&["stop"])?;
        let sum = self.0.until(|line| line["tries"].is_u64())?;
        if sum["answered"] != 0 || sum["tries"] == 0 {
            return Err(format!("packets got out, or none was tried: {sum}"));
        }
        Ok(sum)
    }
}
