//! A node, as its root has it.

use std::time::Duration;

use clawlock_e2e::node::run;
use clawlock_e2e::{Agent, Kubectl, Result, Tenant, agent, eventually};
use serde_json::Value;

/// The node of a pod.
pub(crate) fn of(pod: &Value) -> Result<String> {
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str);
    node.map(str::to_owned).ok_or_else(|| format!("on no node: {}", pod["metadata"]["name"]))
}

/// Kills a container of a pod with SIGKILL, as the node's root.
pub(crate) fn kill(pod: &Value, container: &str) -> Result<()> {
    let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let mut all = statuses.iter().filter_map(|list| pod.pointer(list).and_then(Value::as_array)).flatten();
    let found = all.find(|status| status["name"] == container && !status["state"]["running"].is_null());
    let id = found.and_then(|status| status["containerID"].as_str()).and_then(|id| id.strip_prefix("containerd://"));
    let id = id.ok_or_else(|| format!("container {container} of {} does not run", pod["metadata"]["name"]))?;
    run(&of(pod)?, &["ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", id]).map(drop)
}

/// A node that has no pod of the tenant's gateway.
pub(crate) fn without_gateway(tenant: &Tenant) -> Result<String> {
    let gateways = tenant.kubectl.list(&tenant.platform, "pods", "clawlock.dev/role=gateway")?;
    let taken = gateways.iter().map(of).collect::<Result<Vec<_>>>()?;
    let nodes = tenant.kubectl.list("", "nodes", "")?;
    let names = nodes.iter().filter_map(|node| node.pointer("/metadata/name").and_then(Value::as_str));
    let free = names.map(str::to_owned).find(|name| !taken.contains(name));
    free.ok_or_else(|| format!("all nodes have a gateway: {taken:?}"))
}

/// Creates an agent on a node, without waiting for it.
pub(crate) fn agent_on(node: &str, tenant: &Tenant, name: &str) -> Result<Agent> {
    let selector = format!("spec:\n  nodeSelector: {{kubernetes.io/hostname: {node}}}\n");
    let manifest = agent::manifest(&tenant.name, name, "app: agent").replacen("spec:\n", &selector, 1);
    tenant.kubectl.apply(&manifest)?;
    Ok(Agent::existing(&tenant.name, name))
}

/// The network's agent of a node, stopped for as long as this lives.
pub(crate) struct Unenforced {
    node: String,
}

impl Unenforced {
    /// Stops it. What it has told the kernel stays.
    pub(crate) fn on(node: &str) -> Result<Self> {
        let this = Self { node: node.to_owned() };
        Kubectl::admin().run(&["label", "node", node, "netpol=off", "--overwrite"])?;
        eventually("the network's agent is gone", Duration::from_secs(60), || match this.pods()?.as_slice() {
            [] => Ok(()),
            pods => Err(format!("{} is there", pods[0]["metadata"]["name"])),
        })?;
        Ok(this)
    }

    /// Takes away what it has told the kernel.
    pub(crate) fn forget(&self) -> Result<()> {
        run(&self.node, &["nft", "delete", "table", "inet", "netpol"]).map(drop)
    }

    fn pods(&self) -> Result<Vec<Value>> {
        let mut pods = Kubectl::admin().list("kube-system", "pods", "app=netpol")?;
        pods.retain(|pod| pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(&self.node));
        Ok(pods)
    }

    fn enforce(&self) -> Result<()> {
        Kubectl::admin().run(&["label", "node", &self.node, "netpol-"])?;
        eventually("the node enforces again", Duration::from_secs(60), || {
            run(&self.node, &["nft", "list", "table", "inet", "netpol"])?;
            let running = self.pods()?.iter().any(|pod| pod["status"]["phase"] == "Running");
            if running { Ok(()) } else { Err("the network's agent does not run".to_owned()) }
        })
    }
}

impl Drop for Unenforced {
    fn drop(&mut self) {
        // Also when a test fails: the next one needs the network.
        if let Err(why) = self.enforce() {
            eprintln!("{} does not enforce: {why}", self.node);
        }
    }
}
