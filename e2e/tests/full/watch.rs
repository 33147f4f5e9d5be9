//! Packets that are tried while something is broken.

use std::time::Duration;

use clawlock_e2e::agent::Lines;
use clawlock_e2e::tenant::STARTS;
use clawlock_e2e::{Agent, Result, Tenant, eventually};
use serde_json::Value;

/// Tries a connection past the sidecar again and again, in an agent's pod.
pub(crate) struct Watch {
    lines: Lines,
    agent: Agent,
    elsewhere: Agent,
    address: String,
}

impl Watch {
    /// Shows that the upstream's pod answers a pod of its own namespace, and starts to try it from the agent's.
    pub(crate) fn start(tenant: &Tenant, agent: &Agent) -> Result<Self> {
        let address = upstream(tenant)?;
        let elsewhere = Agent::create(&tenant.origin, "elsewhere", "app: elsewhere")?.ready(STARTS)?;
        answers(&elsewhere, &address)?;
        let lines = agent.start(&["knock", "tcp", &address])?;
        Ok(Self { lines, agent: agent.clone(), elsewhere, address })
    }

    /// Ends it; fails when a single try got through, when none was made, or when nobody was there to answer.
    pub(crate) fn closed(mut self) -> Result<Value> {
        self.agent.tools(&["stop"])?;
        let sum = self.lines.until(|line| line["tries"].is_u64())?;
        if sum["answered"] != 0 || sum["tries"] == 0 {
            return Err(format!("packets got out, or none was tried: {sum}"));
        }
        answers(&self.elsewhere, &self.address)?;
        Ok(sum["tries"].clone())
    }
}

/// The address of the upstream's pod.
pub(crate) fn upstream(tenant: &Tenant) -> Result<String> {
    let pod = tenant.upstream_agent().get()?;
    let ip = pod.pointer("/status/podIP").and_then(Value::as_str).ok_or("the upstream has no address")?;
    Ok(format!("{ip}:8443"))
}

fn answers(elsewhere: &Agent, address: &str) -> Result<()> {
    match elsewhere.reach("tcp", address)?.as_str() {
        "answered" => Ok(()),
        other => Err(format!("from elsewhere {address} is {other}: that it is not reached says nothing")),
    }
}

/// Waits until an allowed request arrives at the upstream.
pub(crate) fn works(agent: &Agent, tenant: &Tenant) -> Result<()> {
    eventually("an allowed request arrives", Duration::from_secs(120), || {
        let answer = agent.request(&[&tenant.url("/v1/charges")])?;
        if answer["status"] == 200 { Ok(()) } else { Err(answer.to_string()) }
    })
}
