//! Things taken away in the wrong order: the tenant before its agents, namespaces, the definitions, the charts.

use std::time::{Duration, Instant};

use clawlock_e2e::tenant::STARTS;
use clawlock_e2e::{Agent, Kubectl, Result, Tenant, agent, eventually};

use crate::release::{RELEASE, Undefined, Uninstalled, back};
use crate::watch::{Watch, works};

const BOUND: Duration = Duration::from_secs(90);

/// Asks for what a rule denies: by it, or because the gateway is no longer there.
fn denied(agent: &Agent, tenant: &Tenant) -> Result<String> {
    let answer = agent.request(&["-X", "POST", "-d", r#"{"amount":5000}"#, &tenant.url("/v1/refunds")])?;
    if answer["status"] == 200 {
        return Err(format!("it was allowed: {answer}"));
    }
    Ok(format!("{} {}", answer["status"], answer["rule"]))
}

/// Waits until an object is no longer there.
fn gone(namespace: &str, kind: &str, name: &str) -> Result<()> {
    eventually(&format!("{kind} {name} goes"), BOUND, || match Kubectl::admin().get(namespace, kind, name)? {
        None => Ok(()),
        Some(object) => Err(object["metadata"].to_string()),
    })
}

#[test]
fn a_tenant_deleted_before_its_agents_leaves_them_closed() -> Result<()> {
    let tenant = Tenant::create("gone-first")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    tenant.kubectl.run(&["delete", "tenantgateway", &tenant.name, "-n", &tenant.platform, "--wait=false"])?;
    // Its agents go on as they were: decided by their policies, and behind their fence.
    works(&agent, &tenant)?;
    assert_eq!(denied(&agent, &tenant)?, r#"403 "large-refund""#);
    assert!(tenant.kubectl.get(&tenant.platform, "tenantgateway", &tenant.name)?.is_some(), "the object is there");
    println!("figure: TenantGateway deleted: packets past the sidecar: 0 of {}", watch.closed()?);
    agent.delete()?;
    let last = Instant::now();
    gone(&tenant.platform, "tenantgateway", &tenant.name)?;
    println!("figure: TenantGateway deleted: it goes {:.1} s after the last agent", last.elapsed().as_secs_f64());
    Ok(())
}

/// An agent that takes its time to end, as one with a long task does.
fn slow(tenant: &Tenant) -> Result<Agent> {
    let manifest = agent::manifest(&tenant.name, "slow", "app: agent")
        .replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 40")
        + "    lifecycle: {preStop: {sleep: {seconds: 25}}}\n";
    tenant.kubectl.apply(&manifest)?;
    Agent::existing(&tenant.name, "slow").ready(STARTS)
}

#[test]
fn an_agents_namespace_deleted_first_stays_closed_to_its_last_pod() -> Result<()> {
    let tenant = Tenant::create("space-first")?;
    let agent = slow(&tenant)?;
    let watch = Watch::start(&tenant, &agent)?;
    tenant.kubectl.run(&["delete", "namespace", &tenant.name, "--wait=false"])?;
    eventually("the pod's end begins", Duration::from_secs(20), || {
        let ending = !agent.get()?["metadata"]["deletionTimestamp"].is_null();
        if ending { Ok(()) } else { Err("it is not ending".to_owned()) }
    })?;
    // Where pods do not go first, the NetworkPolicies are deleted with them.
    tenant.kubectl.run(&["delete", "networkpolicies", "--all", "-n", &tenant.name, "--wait=false"])?;
    let policies = tenant.kubectl.list(&tenant.name, "networkpolicies", "")?;
    assert!(policies.iter().all(|policy| !policy["metadata"]["deletionTimestamp"].is_null()));
    let held = policies.len();
    assert!(held >= 2, "default deny and the allowance hold: {held}");
    println!("figure: agents' namespace deleted: {held} NetworkPolicies, deleted too, stay while a pod does");
    println!("figure: agents' namespace deleted: a request meanwhile: {}", denied(&agent, &tenant)?);
    println!("figure: agents' namespace deleted: packets past the sidecar: 0 of {}", watch.closed()?);
    gone("", "namespace", &tenant.name)?;
    Ok(())
}

#[test]
fn a_platform_namespace_deleted_first_leaves_agents_closed() -> Result<()> {
    let tenant = Tenant::create("platform-first")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    tenant.kubectl.run(&["delete", "namespace", &tenant.platform, "--wait=false"])?;
    eventually("its gateway is gone", BOUND, || {
        let pods = tenant.kubectl.list(&tenant.platform, "pods", "")?;
        if pods.is_empty() { Ok(()) } else { Err(format!("{} pods are left", pods.len())) }
    })?;
    let answer = agent.request(&[&tenant.url("/v1/charges")])?;
    assert_eq!(answer["code"], "GatewayUnavailable", "{answer}");
    println!("figure: platform namespace deleted: what was allowed: {} {}", answer["status"], answer["code"]);
    let next = Agent::create(&tenant.name, "next", "app: agent");
    println!(
        "figure: platform namespace deleted: another agent: {}",
        next.map_or_else(|why| why, |_| "waits".to_owned())
    );
    println!("figure: platform namespace deleted: packets past the sidecar: 0 of {}", watch.closed()?);
    let held = tenant.kubectl.list(&tenant.name, "networkpolicies", "")?.len();
    assert!(held >= 2, "default deny and the allowance hold: {held}");
    tenant.kubectl.run(&["delete", "pod", "--all", "--now", "-n", &tenant.name])?;
    gone("", "namespace", &tenant.platform)?;
    Ok(())
}

/// That no pod gets to run as an agent without a sidecar; answers why.
fn no_new_agent(tenant: &Tenant, name: &str) -> Result<String> {
    let manifest = agent::manifest(&tenant.name, name, "app: agent");
    tenant.kubectl.must_refuse(&["create", "-f", "-"], &manifest).map(|refused| refused.0)
}

#[test]
fn charts_uninstalled_first_leave_agents_closed_and_others_refused() -> Result<()> {
    let tenant = Tenant::create("uninstalled")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    let uninstalled = Uninstalled::all()?;
    eventually("nothing of the release runs", BOUND, || {
        let pods = tenant.kubectl.run(&["get", "pods", "-n", RELEASE, "-o", "name"])?;
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    })?;
    works(&agent, &tenant)?;
    println!("figure: charts uninstalled: what was allowed arrives, what was not: {}", denied(&agent, &tenant)?);
    println!("figure: charts uninstalled: another agent: {}", no_new_agent(&tenant, "next")?);
    let begun = Instant::now();
    uninstalled.install()?;
    println!("figure: charts installed again after {:.1} s", begun.elapsed().as_secs_f64());
    works(&agent, &tenant)?;
    // The webhooks are trusted again once there is a leader.
    let next = eventually("the next agent is taken", BOUND, || Agent::create(&tenant.name, "next", "app: agent"))?;
    println!("figure: charts installed again: an agent is taken after {:.1} s", begun.elapsed().as_secs_f64());
    works(&next.ready(STARTS)?, &tenant)?;
    works(&agent, &tenant)?;
    tenant.condition("tenantgateway", &tenant.platform, &tenant.name, "Ready", STARTS)?;
    println!("figure: charts installed again: all ready after {:.1} s", begun.elapsed().as_secs_f64());
    println!("figure: charts uninstalled: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}

/// The definitions, by their plurals.
const DEFINITIONS: [&str; 4] = ["agenthalts", "agentpolicies", "tenantgateways", "upstreams"];

#[test]
fn definitions_deleted_first_are_kept_or_leave_what_is_in_force() -> Result<()> {
    let tenant = Tenant::create("undefined")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    for plural in DEFINITIONS {
        let refused = tenant.kubectl.must_refuse(&["delete", "crd", &format!("{plural}.clawlock.dev")], "")?;
        refused.says("clawlock.dev/allow-deletion=true")?;
        println!("figure: kubectl delete crd {plural}: {}", refused.0);
    }
    // Who says that it is meant takes every policy of every tenant away.
    let undefined = Undefined::begin("agentpolicies.clawlock.dev")?;
    println!("figure: definition of AgentPolicies deleted: a request: {}", denied(&agent, &tenant)?);
    tenant.kubectl.run(&["delete", "pods", "-n", RELEASE, "-l", "clawlock.dev/role=operator", "--now"])?;
    println!("figure: definition deleted, operators anew: a request: {}", denied(&agent, &tenant)?);
    drop(undefined);
    back("operator")?;
    eventually("the definition is served", BOUND, || {
        tenant.kubectl.apply(&tenant.policy(clawlock_e2e::tenant::RULES))
    })?;
    works(&agent, &tenant)?;
    assert_eq!(denied(&agent, &tenant)?, r#"403 "large-refund""#);
    tenant.condition("tenantgateway", &tenant.platform, &tenant.name, "Ready", STARTS)?;
    println!("figure: definitions deleted: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}
