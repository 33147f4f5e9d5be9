//! Parts that are killed, and objects that are deleted: denied or unchanged, healed alone, never open.

use std::time::{Duration, Instant};

use clawlock_e2e::tenant::STARTS;
use clawlock_e2e::{Agent, Result, Tenant, eventually};
use serde_json::Value;

use crate::node;
use crate::release::{RELEASE, back};
use crate::watch::{Watch, works};

/// Kills the process of each pod of a role, from its node.
fn kill(tenant: &Tenant, role: &str, namespace: &str) -> Result<()> {
    let pods = tenant.kubectl.list(namespace, "pods", &format!("clawlock.dev/role={role}"))?;
    assert!(!pods.is_empty(), "there is no {role}");
    pods.iter().try_for_each(|pod| {
        let container = pod.pointer("/spec/containers/0/name").and_then(Value::as_str).unwrap_or_default();
        node::kill(pod, container)
    })
}

#[test]
fn parts_that_are_killed_come_back_and_nothing_opens() -> Result<()> {
    let tenant = Tenant::create("kills")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    for (role, namespace) in [("gateway", tenant.platform.as_str()), ("operator", RELEASE), ("webhook", RELEASE)] {
        kill(&tenant, role, namespace)?;
        let killed = Instant::now();
        works(&agent, &tenant)?;
        println!("figure: {role} killed: an allowed request arrives after {:.1} s", killed.elapsed().as_secs_f64());
    }
    back("operator")?;
    back("webhook")?;
    // Their pods deleted as well, both at once, without a word to the processes.
    for role in ["operator", "webhook"] {
        let selector = format!("clawlock.dev/role={role}");
        let now = ["--grace-period=0", "--force"];
        tenant.kubectl.run(&[&["delete", "pods", "-n", RELEASE, "-l", &selector][..], &now].concat())?;
    }
    let deleted = Instant::now();
    let after = || deleted.elapsed().as_secs_f64();
    works(&agent, &tenant)?;
    println!("figure: operators and webhooks deleted: an allowed request arrives after {:.1} s", after());
    // While the webhook is away no agent is taken; then the next one is.
    let next = eventually("the next agent is taken", STARTS, || Agent::create(&tenant.name, "next", "app: agent"))?;
    println!("figure: operators and webhooks deleted: an agent is taken after {:.1} s", after());
    works(&next.ready(STARTS)?, &tenant)?;
    println!("figure: operators and webhooks deleted: that agent works after {:.1} s", after());
    println!("figure: parts killed: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}

/// An object that the operator makes for a tenant.
struct Made {
    namespace: String,
    kind: String,
    name: String,
    uid: String,
}

/// Everything that the operator has made for a tenant, keys aside.
fn made(tenant: &Tenant) -> Result<Vec<Made>> {
    let built = "statefulsets,services,serviceaccounts,rolebindings,poddisruptionbudgets,networkpolicies";
    let (ours, of_tenant) =
        ("app.kubernetes.io/managed-by=clawlock-operator", format!("clawlock.dev/tenant={}", tenant.name));
    let mut all = Vec::new();
    for (namespace, kinds, selector) in
        [(&tenant.platform, built, ours), (&tenant.name, built, ours), (&RELEASE.to_owned(), "configmaps", &of_tenant)]
    {
        for object in tenant.kubectl.list(namespace, kinds, selector)? {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (kind, name, uid) = (text("/kind"), text("/metadata/name"), text("/metadata/uid"));
            all.push(Made { namespace: namespace.clone(), kind, name, uid });
        }
    }
    Ok(all)
}

#[test]
fn objects_that_are_deleted_come_back_and_nothing_opens() -> Result<()> {
    let tenant = Tenant::create("deletes")?;
    let agent = tenant.agent("agent")?;
    let watch = Watch::start(&tenant, &agent)?;
    let objects = made(&tenant)?;
    assert!(objects.len() >= 9, "{} objects", objects.len());
    for Made { namespace, kind, name, uid } in &objects {
        tenant.kubectl.run(&["delete", kind, name, "-n", namespace, "--wait=false"])?;
        let deleted = Instant::now();
        let stays = eventually(&format!("{kind} {namespace}/{name} is there again"), Duration::from_secs(90), || {
            // A NetworkPolicy of agents stays, with its end marked, until the last one behind it is gone.
            let object = tenant.kubectl.get(namespace, kind, name)?.ok_or("it is not there")?;
            let ending = !object["metadata"]["deletionTimestamp"].is_null();
            match (kind.as_str(), ending, object["metadata"]["uid"] == **uid) {
                ("NetworkPolicy", true, true) => Ok(true),
                (_, false, false) => Ok(false),
                (_, ending, same) => Err(format!("ending: {ending}, the one of before: {same}")),
            }
        })?;
        let how = if stays { "stays in force" } else { "is there again" };
        println!("figure: {kind} {name} deleted: {how} after {:.1} s", deleted.elapsed().as_secs_f64());
        works(&agent, &tenant)?;
    }
    let (stored, deleted) = (["configmaps", "-n", RELEASE, "-l", "clawlock.dev/stored=object"], Instant::now());
    tenant.kubectl.run(&[&["delete"], &stored[..]].concat())?;
    eventually("what is in force is stored again", Duration::from_secs(90), || {
        let there = tenant.kubectl.run(&[&["get", "-o", "name"], &stored[..]].concat())?;
        if there.is_empty() { Err("it is not there".to_owned()) } else { Ok(()) }
    })?;
    println!("figure: all that is stored deleted: stored again after {:.1} s", deleted.elapsed().as_secs_f64());
    // What came back serves those who were there and those who come, also to operators that start anew.
    kill(&tenant, "operator", RELEASE)?;
    kill(&tenant, "gateway", &tenant.platform)?;
    works(&agent, &tenant)?;
    works(&tenant.agent("next")?, &tenant)?;
    println!("figure: {} objects deleted: packets past the sidecar: 0 of {}", objects.len(), watch.closed()?);
    Ok(())
}
