//! A network that stops enforcing: no agent starts, and those that run lose their proxy.

use std::time::{Duration, Instant};

use clawlock_e2e::tenant::STARTS;
use clawlock_e2e::{Agent, Result, Tenant, eventually};
use serde_json::Value;

use crate::node::{self, Unenforced};
use crate::watch::{upstream, works};

/// When the pod's agent started, as the API server has it.
fn started(agent: &Agent) -> Result<Option<String>> {
    let pod = agent.get()?;
    let state = pod.pointer("/status/containerStatuses/0/state/running/startedAt").and_then(Value::as_str);
    Ok(state.map(str::to_owned))
}

#[test]
fn without_an_enforcer_no_agent_starts_and_running_ones_close() -> Result<()> {
    let tenant = Tenant::create("unenforced")?;
    // The gateway is elsewhere: its own node would close what a pod of an unknown address sends to it.
    let node = &node::without_gateway(&tenant)?;
    let running = node::agent_on(node, &tenant, "running")?.ready(STARTS)?;
    let address = upstream(&tenant)?;
    works(&running, &tenant)?;
    assert_eq!(running.reach("tcp", &address)?, "dropped");

    let unenforced = Unenforced::on(node)?;
    // A pod that comes now is in no table of the node: its packets pass, so it must not start.
    let late = node::agent_on(node, &tenant, "late")?;
    let why = eventually("the late pod's sidecar says why it waits", Duration::from_secs(60), || {
        let log = late.logs("clawlock")?;
        log.lines().find(|line| line.contains("not isolated, closed")).map(str::to_owned).ok_or(log)
    })?;
    println!("figure: network agent stopped: the next pod's sidecar says: {}", why.trim());
    assert_eq!(started(&late)?, None, "an agent started on a node that does not enforce");
    works(&running, &tenant)?;
    assert_eq!(running.reach("tcp", &address)?, "dropped", "what runs is still in the table");

    // The table gone as well: what runs is open to the network, and its proxy closes.
    unenforced.forget()?;
    let gone = Instant::now();
    assert_eq!(running.reach("tcp", &address)?, "answered", "the table closed nothing");
    eventually("the running agent's proxy has closed", Duration::from_secs(60), || {
        let answer = running.request(&[&tenant.url("/v1/charges")])?;
        if answer["status"] == 200 { Err(answer.to_string()) } else { Ok(()) }
    })?;
    println!("figure: table gone: the running agent's proxy closed after {:.1} s", gone.elapsed().as_secs_f64());
    let call = running.say(&["decide", "read", "{}"])?;
    assert!(call["body"].as_str().is_some_and(|body| body.contains(r#""code":"NotIsolated""#)), "{call}");
    let seen = ("EgressIsolated", "False");
    let condition =
        tenant.condition_is("tenantgateway", &tenant.platform, &tenant.name, seen, Duration::from_secs(60))?;
    println!("figure: table gone: EgressIsolated says: {}", condition["message"]);
    assert_eq!(condition["reason"], "CanaryAnswered");
    assert_eq!(started(&late)?, None, "an agent started on a node that does not enforce");

    let before = clawlock_e2e::node::run(node, &["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"])?;
    drop(unenforced);
    let enforced = Instant::now();
    works(&running, &tenant)?;
    println!("figure: network agent back: requests arrive after {:.1} s", enforced.elapsed().as_secs_f64());
    assert_eq!(running.reach("tcp", &address)?, "dropped");
    let late = late.ready(STARTS)?;
    println!("figure: network agent back: the pod that waited starts after {:.1} s", enforced.elapsed().as_secs_f64());
    let started = started(&late)?.ok_or("it does not run")?;
    assert!(started.as_str() >= before.trim(), "it started at {started}, before the network enforced at {before}");
    let healed = ("EgressIsolated", "True");
    let condition =
        tenant.condition_is("tenantgateway", &tenant.platform, &tenant.name, healed, Duration::from_secs(60))?;
    println!("figure: network agent back: EgressIsolated says: {}", condition["message"]);
    // What no NetworkPolicy closes is named.
    assert!(condition["message"].as_str().is_some_and(|message| message.contains("their own node")), "{condition}");
    Ok(())
}
