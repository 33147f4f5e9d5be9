//! A network that stops enforcing: no agent starts, and those that run lose their proxy.

use std::process::Command;
use std::time::Duration;

use clawlock_e2e::{Agent, Kubectl, Result, Tenant, agent, eventually};

fn docker(args: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(args).output().map_err(|error| format!("docker: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
}

/// The agent of the network on a node, stopped for as long as this lives.
struct Stopped {
    node: String,
}

impl Stopped {
    fn on(node: &str) -> Result<Self> {
        Kubectl::admin().run(&["label", "node", node, "netpol=off", "--overwrite"])?;
        let stopped = Self { node: node.to_owned() };
        eventually("the network's agent is gone", Duration::from_secs(60), || {
            let pods = Kubectl::admin().run(&["get", "pods", "-n", "kube-system", "-o", "wide"])?;
            let there = pods.lines().any(|line| line.starts_with("netpol") && line.contains(node));
            if there { Err(pods) } else { Ok(()) }
        })?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The next test would tell if this failed.
        drop(Kubectl::admin().run(&["label", "node", &self.node, "netpol-"]));
    }
}

fn on_node(tenant: &Tenant, name: &str, node: &str) -> Result<Agent> {
    let selector = format!("spec:\n  nodeSelector: {{kubernetes.io/hostname: {node}}}\n");
    let manifest = agent::manifest(&tenant.name, name, "app: agent").replacen("spec:\n", &selector, 1);
    tenant.kubectl.apply(&manifest)?;
    Ok(Agent::existing(&tenant.name, name))
}

#[test]
fn without_an_enforcer_no_agent_starts_and_running_ones_close() -> Result<()> {
    let tenant = Tenant::create("unenforced")?;
    let node = &tenant.kubectl.worker()?;
    let running = on_node(&tenant, "running", node)?.ready(Duration::from_secs(120))?;
    assert_eq!(running.request(&[&tenant.url("/v1/charges")])?["status"], 200);

    let stopped = Stopped::on(node)?;
    // A pod that comes now is in no table of the node: its packets pass, so it must not start.
    let late = on_node(&tenant, "late", node)?;
    eventually("the late pod's sidecar says why it waits", Duration::from_secs(60), || {
        let log = late.logs("clawlock")?;
        if log.contains("answered") { Ok(()) } else { Err(log) }
    })?;
    let started = late.get()?.pointer("/status/containerStatuses/0/state/running").is_some();
    assert!(!started, "an agent started on a node that does not enforce");

    // The table gone as well: what runs is open to the network, and its proxy closes.
    docker(&["exec", node, "nft", "delete", "table", "inet", "netpol"])?;
    eventually("the running agent's proxy has closed", Duration::from_secs(60), || {
        let answer = running.request(&[&tenant.url("/v1/charges")])?;
        if answer["status"] == 200 { Err(answer.to_string()) } else { Ok(()) }
    })?;
    let seen = ("EgressIsolated", "False");
    let condition =
        tenant.condition_is("tenantgateway", &tenant.platform, &tenant.name, seen, Duration::from_secs(60))?;
    println!("status: {}", condition["message"]);

    drop(stopped);
    eventually("it heals alone", Duration::from_secs(120), || {
        let answer = running.request(&[&tenant.url("/v1/charges")])?;
        if answer["status"] == 200 { Ok(()) } else { Err(answer.to_string()) }
    })?;
    late.ready(Duration::from_secs(120))?;
    Ok(())
}
