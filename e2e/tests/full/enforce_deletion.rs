//! Things taken away in the wrong order: the tenant before its agents, the definitions, the charts.

use std::time::Duration;

use clawlock_e2e::{Agent, Result, Tenant, eventually};
use serde_json::Value;

fn reaches(agent: &Agent, tenant: &Tenant) -> Result<String> {
    let pod = tenant.upstream_agent().get()?;
    let ip = pod.pointer("/status/podIP").and_then(Value::as_str).ok_or("the upstream has no address")?;
    agent.reach("tcp", &format!("{ip}:8443"))
}

#[test]
fn a_tenant_deleted_before_its_agents_leaves_them_closed() -> Result<()> {
    let tenant = Tenant::create("gone-first")?;
    let agent = tenant.agent("agent")?;
    tenant.kubectl.run(&["delete", "tenantgateway", &tenant.name, "-n", &tenant.platform, "--wait=false"])?;
    // Its agents go on as they were: decided by their policies, and behind their fence.
    let blocked = agent.request(&["-X", "POST", "-d", r#"{"amount":5000}"#, &tenant.url("/v1/refunds")])?;
    assert_eq!(blocked["status"], 403, "{blocked}");
    assert_eq!(reaches(&agent, &tenant)?, "dropped", "the NetworkPolicies stay until the last agent is gone");
    assert!(tenant.kubectl.get(&tenant.platform, "tenantgateway", &tenant.name)?.is_some(), "so does the object");
    agent.delete()?;
    eventually("the object goes with the last agent", Duration::from_secs(60), || {
        match tenant.kubectl.get(&tenant.platform, "tenantgateway", &tenant.name)? {
            None => Ok(()),
            Some(object) => Err(object["metadata"].to_string()),
        }
    })
}
