//! A sidecar that is killed: the pod is closed until it is ready again, and its agent goes on.

use std::time::Duration;

use clawlock_e2e::{Agent, Load, Result, Tenant};
use serde_json::Value;

use crate::node;
use crate::watch::Watch;

/// A container's state in the pod.
fn container(pod: &Value, list: &str, name: &str) -> Result<Value> {
    let all = pod.pointer(list).and_then(Value::as_array);
    let found = all.into_iter().flatten().find(|status| status["name"] == name);
    found.cloned().ok_or_else(|| format!("no {name} in {list}"))
}

fn containers(agent: &Agent) -> Result<[Value; 2]> {
    let pod = agent.get()?;
    Ok([
        container(&pod, "/status/initContainerStatuses", "clawlock")?,
        container(&pod, "/status/containerStatuses", "agent")?,
    ])
}

#[test]
fn a_sidecar_killed_under_load_closes_until_it_is_ready_again() -> Result<()> {
    let tenant = Tenant::create("sidecar")?;
    let agent = tenant.agent("agent")?;
    let url = tenant.url("/v1/charges");
    let watch = Watch::start(&tenant, &agent)?;
    // One process that lives on through it all, with the roots that it read when it began.
    let mut answers = agent.start(&["poll", "--every", "20ms", "--for", "90s", &url])?;
    let load = Load::start(&agent, 50, Duration::from_secs(30), &url)?;
    answers.until(|line| line["status"] == 200)?;
    let [_, before] = containers(&agent)?;

    node::kill(&agent.get()?, "clawlock")?;
    let closed = answers.until(|line| line["status"] != 200)?;
    let open = answers.until(|line| line["status"] == 200)?;
    let at = |line: &Value| line["atMs"].as_i64().ok_or_else(|| format!("no time: {line}"));
    println!("figure: sidecar killed under load: closed for {} ms, {}", at(&open)? - at(&closed)?, closed["error"]);
    let total = load.finish()?;
    println!("figure: sidecar killed under load: {total}");
    assert_ne!(total.failed, 0, "no request met the sidecar's absence");

    assert_eq!(agent.request(&[&url])?["status"], 200);
    let [sidecar, after] = containers(&agent)?;
    assert_eq!(sidecar["restartCount"], 1, "{sidecar}");
    assert_eq!(sidecar["ready"], true, "{sidecar}");
    assert_eq!(after["containerID"], before["containerID"], "the agent was restarted");
    println!("figure: sidecar killed under load: packets past the sidecar: 0 of {}", watch.closed()?);
    Ok(())
}
