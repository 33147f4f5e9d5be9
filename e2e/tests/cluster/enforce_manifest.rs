//! A manifest that a pod names narrows what policy allows, at both gates and at once, and nobody takes it off the pod.

use std::time::Duration;

use clawlock_e2e::agent::{Agent, manifest};
use clawlock_e2e::tenant::STARTS;
use clawlock_e2e::{Result, Tenant, eventually};
use serde_json::{Value, json};

use crate::attempts::Attempts;

/// Puts the manifest beside the agent, or changes it.
fn declare(tenant: &Tenant, manifest: &Value) -> Result<()> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "support", "namespace": tenant.name, "labels": {"clawlock.dev/manifest": "true"}},
        "data": {"manifest.json": manifest.to_string()},
    });
    tenant.editor()?.run_with(&["apply", "-f", "-"], &map.to_string()).map(drop)
}

/// What the gate answers about the tool `read`, which policy allows.
fn decided(agent: &Agent) -> Result<Value> {
    let answer = agent.say(&["decide", "read", "{}"])?;
    let body = answer["body"].as_str().unwrap_or_default();
    serde_json::from_str(body).map_err(|error| format!("{answer}: {error}"))
}

#[test]
fn a_manifest_narrows_and_one_that_does_not_hold_stops_the_pod() -> Result<()> {
    let tenant = Tenant::create("manifest")?;
    let host = tenant.host();
    let full = json!({"skill": "support", "tool_scope": ["read"], "file_access": "read", "allowed_hosts": [host]});
    declare(&tenant, &full)?;
    let pod = manifest(&tenant.name, "agent", "app: agent");
    let pod = pod.replace("labels:", "annotations: {clawlock.dev/manifest: support}, labels:");
    tenant.kubectl.apply(&pod)?;
    let agent = Agent::existing(&tenant.name, "agent").ready(STARTS)?;
    let mut answers = agent.start(&["poll", "--every", "20ms", "--for", "600s", &tenant.url("/v1/charges")])?;
    answers.until(|line| line["status"] == 200)?;
    assert_eq!(decided(&agent)?["decision"], "allow");

    declare(&tenant, &json!({"skill": "support", "tool_scope": ["ls"]}))?;
    answers.until(|line| line["code"] == "NotDeclared")?;
    let refused = decided(&agent)?;
    assert_eq!((&refused["decision"], &refused["rule"]), (&json!("deny"), &json!("tool_scope")), "{refused}");

    let mut attempts = Attempts::of(&tenant)?;
    for (what, patch) in [
        ("another manifest", r#"{"metadata":{"annotations":{"clawlock.dev/manifest":"other"}}}"#),
        ("no manifest any more", r#"{"metadata":{"annotations":{"clawlock.dev/manifest":null}}}"#),
    ] {
        for part in [&[][..], &["--subresource", "status"]] {
            let patch = ["patch", "pod", "agent", "-n", &tenant.name, "--type=merge", "-p", patch];
            attempts.refused(what, &[&patch[..], part].concat(), "");
        }
    }
    attempts.end()?;

    let mut kernel = full.clone();
    kernel["forbidden_syscalls"] = json!(["ptrace"]);
    declare(&tenant, &kernel)?;
    answers.until(|line| line["code"] == "Halted")?;
    eventually("the pod's events say why", Duration::from_secs(60), || {
        let events = tenant.kubectl.list(&tenant.name, "events", "")?;
        let said =
            |event: &Value| event["reason"] == "ManifestRefused" && event.to_string().contains("forbidden_syscalls");
        if events.iter().any(said) { Ok(()) } else { Err(format!("{} events", events.len())) }
    })?;
    tenant.kubectl.run(&["delete", "configmap", "support", "-n", &tenant.name])?;
    let gone = decided(&agent)?;
    assert_eq!(gone["decision"], "deny", "{gone}");
    declare(&tenant, &full)?;
    answers.until(|line| line["status"] == 200)?;
    Ok(())
}
