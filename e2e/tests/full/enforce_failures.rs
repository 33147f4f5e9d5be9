//! Parts that are killed, and objects that are deleted: denied or unchanged, healed alone, never open.

use std::time::{Duration, Instant};

use clawlock_e2e::{Kubectl, Result, Tenant, eventually};
use serde_json::Value;

use crate::watch::{Watch, works};

const RELEASE: &str = "clawlock-system";

fn kill(role: &str, namespace: &str) -> Result<()> {
    let selector = format!("clawlock.dev/role={role}");
    Kubectl::admin().run(&["delete", "pods", "-n", namespace, "-l", &selector, "--grace-period=0", "--force"]).map(drop)
}

/// Waits until all replicas of a part of the release are there.
fn back(role: &str) -> Result<()> {
    let deployment = format!("deployment/clawlock-{role}");
    Kubectl::admin().run(&["rollout", "status", "-n", RELEASE, &deployment, "--timeout=120s"]).map(drop)
}

#[test]
fn parts_that_are_killed_come_back_and_nothing_opens() -> Result<()> {
    let tenant = Tenant::create("kills")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    for (role, namespace) in [("gateway", tenant.platform.as_str()), ("operator", RELEASE), ("webhook", RELEASE)] {
        kill(role, namespace)?;
        let killed = Instant::now();
        works(&agent, &tenant)?;
        println!("figure: {role} killed: an allowed request arrives after {:.1} s", killed.elapsed().as_secs_f64());
    }
    back("operator")?;
    back("webhook")?;
    kill("operator", RELEASE)?;
    kill("webhook", RELEASE)?;
    let killed = Instant::now();
    works(&agent, &tenant)?;
    println!(
        "figure: operator and webhooks killed: an allowed request arrives after {:.1} s",
        killed.elapsed().as_secs_f64()
    );
    // While the webhook is away no agent is taken; then the next one is.
    let next = eventually("the next agent is taken", Duration::from_secs(120), || {
        clawlock_e2e::Agent::create(&tenant.name, "next", "app: agent")
    })?;
    println!("figure: operator and webhooks killed: an agent is taken after {:.1} s", killed.elapsed().as_secs_f64());
    works(&next.ready(clawlock_e2e::tenant::STARTS)?, &tenant)?;
    println!("figure: operator and webhooks killed: that agent works after {:.1} s", killed.elapsed().as_secs_f64());
    println!("figure: parts killed: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}

#[test]
fn objects_that_are_deleted_come_back_and_nothing_opens() -> Result<()> {
    let tenant = Tenant::create("deletes")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
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
        let before = tenant.kubectl.get(&namespace, &kind, &name)?.ok_or("it was not there")?;
        tenant.kubectl.run(&["delete", &kind, &name, "-n", &namespace, "--wait=false"])?;
        let deleted = Instant::now();
        let stays = eventually(&format!("{kind} {namespace}/{name} is there again"), Duration::from_secs(60), || {
            // A NetworkPolicy of agents stays, with its end marked, until the last one behind it is gone.
            let object = tenant.kubectl.get(&namespace, &kind, &name)?.ok_or("it is not there")?;
            let ending = !object["metadata"]["deletionTimestamp"].is_null();
            let same = object["metadata"]["uid"] == before["metadata"]["uid"];
            match (kind.as_str(), ending, same) {
                ("NetworkPolicy", true, true) => Ok(true),
                (_, false, false) => Ok(false),
                _ => Err(format!("ending: {ending}, the one of before: {same}")),
            }
        })?;
        works(&agent, &tenant)?;
        let how = if stays { "stays in force" } else { "is there again" };
        let after = deleted.elapsed().as_secs_f64();
        println!("figure: {kind} {name} deleted: {how}, and an allowed request has arrived after {after:.1} s");
    }
    println!("figure: objects deleted: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}
