//! Parts that are killed, and objects that are deleted: denied or unchanged, healed alone, never open.

use std::time::Duration;

use clawlock_e2e::{Agent, Kubectl, Result, Tenant, eventually};
use serde_json::Value;

use crate::watch::Watch;

const RELEASE: &str = "clawlock-system";

fn upstream_address(tenant: &Tenant) -> Result<String> {
    let pod = tenant.upstream_agent().get()?;
    let ip = pod.pointer("/status/podIP").and_then(Value::as_str).ok_or("the upstream has no address")?;
    Ok(format!("{ip}:8443"))
}

fn works(agent: &Agent, tenant: &Tenant) -> Result<()> {
    eventually("an allowed request arrives", Duration::from_secs(120), || {
        let answer = agent.request(&[&tenant.url("/v1/charges")])?;
        if answer["status"] == 200 { Ok(()) } else { Err(answer.to_string()) }
    })
}

fn kill(role: &str, namespace: &str) -> Result<()> {
    let selector = format!("clawlock.dev/role={role}");
    Kubectl::admin().run(&["delete", "pods", "-n", namespace, "-l", &selector, "--grace-period=0", "--force"]).map(drop)
}

#[test]
fn parts_that_are_killed_come_back_and_nothing_opens() -> Result<()> {
    let tenant = Tenant::create("kills")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&agent, &upstream_address(&tenant)?)?;
    for (role, namespace) in [("gateway", tenant.platform.as_str()), ("operator", RELEASE), ("webhook", RELEASE)] {
        kill(role, namespace)?;
        works(&agent, &tenant)?;
        println!("{role} killed: an allowed request arrives again");
    }
    kill("operator", RELEASE)?;
    kill("webhook", RELEASE)?;
    works(&agent, &tenant)?;
    // While the webhook is away no agent is taken; then the next one is.
    eventually("the next agent is taken", Duration::from_secs(120), || tenant.agent("next"))?;
    println!("packets past the sidecar: {}", watch.closed(&agent)?);
    Ok(())
}

#[test]
fn objects_that_are_deleted_come_back_and_nothing_opens() -> Result<()> {
    let tenant = Tenant::create("deletes")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&agent, &upstream_address(&tenant)?)?;
    let mut objects = Vec::new();
    for namespace in [tenant.platform.as_str(), tenant.name.as_str()] {
        let kinds = "statefulsets,services,serviceaccounts,rolebindings,poddisruptionbudgets,networkpolicies";
        for object in tenant.kubectl.list(namespace, kinds, "app.kubernetes.io/managed-by=clawlock-operator")? {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            objects.push((namespace.to_owned(), text("/kind"), text("/metadata/name")));
        }
    }
    assert!(objects.len() >= 8, "{objects:?}");
    for (namespace, kind, name) in objects {
        tenant.kubectl.run(&["delete", &kind, &name, "-n", &namespace, "--wait=false"])?;
        eventually(&format!("{kind} {namespace}/{name} is there again"), Duration::from_secs(60), || {
            // A NetworkPolicy stays, with its end marked, until the last agent behind it is gone.
            let object = tenant.kubectl.get(&namespace, &kind, &name)?.ok_or("it is not there")?;
            let stays = kind == "NetworkPolicy" || object["metadata"]["deletionTimestamp"].is_null();
            if stays { Ok(()) } else { Err("it is being deleted".to_owned()) }
        })?;
        works(&agent, &tenant)?;
        println!("{kind} {name} deleted: it is there again, and an allowed request arrives");
    }
    println!("packets past the sidecar: {}", watch.closed(&agent)?);
    Ok(())
}
