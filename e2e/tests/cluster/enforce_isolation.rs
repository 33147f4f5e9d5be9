//! What leaves an agent's pod past the sidecar: nothing. Every address is first reached from a pod elsewhere.

use std::time::Duration;

use clawlock_e2e::{Agent, Kubectl, Result, Tenant, agent};
use serde_json::Value;

/// Addresses that an agent might want, with the network to ask by.
fn targets(tenant: &Tenant) -> Result<Vec<(&'static str, &'static str, String)>> {
    let kubectl = Kubectl::admin();
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let service = |namespace: &str, name: &str| -> Result<String> {
        let service = kubectl.get(namespace, "service", name)?.ok_or_else(|| format!("service {namespace}/{name}"))?;
        Ok(text(&service, "/spec/clusterIP"))
    };
    let first = |namespace: &str, selector: &str| -> Result<String> {
        let pods = kubectl.list(namespace, "pods", selector)?;
        let pod = pods.first().ok_or_else(|| format!("no pod {selector} in {namespace}"))?;
        Ok(text(pod, "/status/podIP"))
    };
    let dns = service("kube-system", "kube-dns")?;
    let dns_pod = first("kube-system", "k8s-app=kube-dns")?;
    let mut targets = vec![
        ("the API server", "tcp", format!("{}:443", service("default", "kubernetes")?)),
        ("the cluster's DNS by TCP", "tcp", format!("{dns}:53")),
        ("a DNS pod by TCP", "tcp", format!("{dns_pod}:53")),
        ("the upstream itself", "tcp", format!("{}:8443", first(&tenant.origin, "app=payments")?)),
        (
            "the operator's control API",
            "tcp",
            format!("{}:8444", first("clawlock-system", "clawlock.dev/role=operator")?),
        ),
        ("the webhook", "tcp", format!("{}:9443", first("clawlock-system", "clawlock.dev/role=webhook")?)),
        ("the tripwire by TCP", "tcp", format!("{}:53", first("clawlock-system", "clawlock.dev/role=tripwire")?)),
        ("the tripwire by UDP", "udp", format!("{}:53", first("clawlock-system", "clawlock.dev/role=tripwire")?)),
    ];
    if let Ok(outside) = std::env::var("E2E_OUTSIDE") {
        targets.push(("an address outside the cluster", "tcp", format!("{outside}:8080")));
    }
    for node in kubectl.list("", "nodes", "")? {
        let addresses = node.pointer("/status/addresses").and_then(Value::as_array).cloned().unwrap_or_default();
        let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
        let address = internal.map(|address| text(address, "/address")).unwrap_or_default();
        targets.push(("a node's kubelet", "tcp", format!("{address}:10250")));
    }
    Ok(targets)
}

#[test]
fn direct_connections_are_dropped() -> Result<()> {
    let tenant = Tenant::create("isolation")?;
    let agent = tenant.agent("agent")?;
    let own_node = agent.get()?.pointer("/status/hostIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    let elsewhere = Agent::create("default", "isolation-control", "app: control")?.ready(Duration::from_secs(60))?;

    let mut wrong = Vec::new();
    for (what, network, address) in targets(&tenant)? {
        let control = elsewhere.reach(network, &address)?;
        let outcome = agent.reach(network, &address)?;
        println!("{what:35} {network} {address:25} from elsewhere: {control}, from the agent: {outcome}");
        // What the cluster's own policies keep from everybody shows nothing here; it has a control of its own below.
        let reachable = control == "answered" || what.starts_with("the operator");
        // A pod's own node is always allowed by the API of NetworkPolicy.
        let own = address.starts_with(&format!("{own_node}:"));
        if !reachable || (outcome != "dropped" && !own) {
            wrong.push(format!("{what} {address}: from elsewhere {control}, from the agent {outcome}"));
        }
    }
    elsewhere.delete()?;
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn a_pod_that_is_not_injected_reaches_nothing() -> Result<()> {
    let tenant = Tenant::create("exempt")?;
    let exemption = "  agents:\n    exemptions:\n    - {name: batch, podSelector: {matchLabels: {role: batch}}}\n";
    tenant.kubectl.apply(&tenant.gateway(exemption))?;
    tenant.condition("tenantgateway", &tenant.platform, &tenant.name, "Ready", Duration::from_secs(60))?;
    let batch = clawlock_e2e::eventually("the exempted pod is taken", Duration::from_secs(30), || {
        Agent::create(&tenant.name, "batch", "role: batch")
    })?;
    let batch = batch.ready(Duration::from_secs(60))?;
    let init = batch.get()?.pointer("/spec/initContainers").and_then(Value::as_array).map_or(0, Vec::len);
    assert_eq!(init, 0, "an exempted pod has no sidecar");
    let gateways = tenant.kubectl.list(&tenant.platform, "pods", "clawlock.dev/role=gateway")?;
    let gateway =
        gateways.first().and_then(|pod| pod.pointer("/status/podIP")).and_then(Value::as_str).unwrap_or_default();
    for (network, address) in targets(&tenant)?.into_iter().map(|(_, network, address)| (network, address)).take(4) {
        assert_eq!(batch.reach(network, &address)?, "dropped", "{address}");
    }
    assert_eq!(batch.reach("tcp", &format!("{gateway}:8443"))?, "dropped", "its tenant's gateway");
    Ok(())
}

#[test]
fn another_tenants_gateway_and_pods_are_out_of_reach() -> Result<()> {
    let (one, other) = (Tenant::create("one")?, Tenant::create("other")?);
    let (agent, neighbour) = (one.agent("agent")?, other.agent("agent")?);
    let ip = |pod: &Value| pod.pointer("/status/podIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    let gateways = one.kubectl.list(&other.platform, "pods", "clawlock.dev/role=gateway")?;
    let own = one.kubectl.list(&one.platform, "pods", "clawlock.dev/role=gateway")?;
    let (gateway, own) = (gateways.first().map(ip).unwrap_or_default(), own.first().map(ip).unwrap_or_default());
    // The control: the own gateway answers on the same port.
    assert_eq!(agent.reach("tcp", &format!("{own}:8443"))?, "answered");
    assert_eq!(agent.reach("tcp", &format!("{gateway}:8443"))?, "dropped");
    assert_eq!(agent.reach("tcp", &format!("{}:15020", ip(&neighbour.get()?)))?, "dropped");
    Ok(())
}

#[test]
fn sockets_that_a_network_policy_does_not_know_are_refused() -> Result<()> {
    let tenant = Tenant::create("sockets")?;
    let agent = tenant.agent("agent")?;
    let raw = agent.say(&["raw"])?;
    println!("sockets in a pod under restricted: {raw}");
    for kind in ["raw-icmp", "packet"] {
        assert_ne!(raw[kind], "open", "{kind}: dropped capabilities refuse it");
    }
    Ok(())
}

#[test]
fn the_agents_manifest_says_nothing_about_clawlock() {
    assert!(!agent::manifest("a", "b", "app: agent").contains("clawlock.dev"));
}
