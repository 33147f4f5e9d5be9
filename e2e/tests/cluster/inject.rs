//! What happens to a pod that says nothing about Clawlock.

use std::time::Duration;

use clawlock_e2e::{Result, Tenant, agent, eventually};
use serde_json::Value;

/// How long a pod may take to start, or to be found wanting.
const STARTED: Duration = Duration::from_secs(120);

/// A pod whose OpenClaw has its configuration from a ConfigMap, and looks for it at `path`.
fn configured(tenant: &Tenant, name: &str, path: &str) -> String {
    let pod = agent::manifest(&tenant.name, name, "app: agent");
    let more = format!(
        "    env: [{{name: OPENCLAW_CONFIG_PATH, value: {path}}}]\n    \
             volumeMounts: [{{name: config, mountPath: /config}}]\n  \
           volumes: [{{name: config, configMap: {{name: config}}}}]\n"
    );
    format!("{}{more}", pod.trim_end_matches(' '))
}

/// The last words of OpenClaw's installer.
fn last_words(pod: &Value) -> Option<&str> {
    let statuses = pod.pointer("/status/initContainerStatuses")?.as_array()?;
    let installer = statuses.iter().find(|status| status["name"] == "clawlock-openclaw")?;
    let ended = ["/state", "/lastState"].map(|state| installer.pointer(&format!("{state}/terminated/message")));
    ended.into_iter().flatten().find_map(Value::as_str)
}

#[test]
fn openclaw_gets_its_guard_and_its_author_is_told_what_does_not_hold() -> Result<()> {
    let tenant = Tenant::create("inject-guard")?;
    let config = "{gateway: {mode: 'local'}, plugins: {enabled: false}} // by its author";
    let literal = format!("--from-literal=openclaw.json={config}");
    tenant.kubectl.run(&["create", "configmap", "config", "-n", &tenant.name, &literal])?;
    tenant.kubectl.apply(&configured(&tenant, "guarded", "/config/openclaw.json"))?;
    let pod = agent::Agent::existing(&tenant.name, "guarded").ready(STARTED)?.get()?;
    let words = last_words(&pod).unwrap_or_default();
    assert!(words.contains("plugins.enabled: true"), "{words:?} {}", pod["status"]);
    println!("the installer's last words: {words}");
    eventually("an event says so", STARTED, || {
        let events = tenant.kubectl.list(&tenant.name, "events.events.k8s.io", "")?;
        let mut told = events.iter().filter(|event| event["reason"] == "ConfigurationOverridden");
        told.find(|event| event["note"].as_str().is_some_and(|note| note.contains("plugins.enabled")))
            .map(drop)
            .ok_or_else(|| format!("{} other events", events.len()))
    })?;
    // This is no OpenClaw, so that nothing is heard of its plugin.
    let told = tenant.condition_is(
        "tenantgateway",
        &tenant.platform,
        &tenant.name,
        ("PluginReporting", "Unknown"),
        STARTED,
    )?;
    assert_eq!(told["reason"], "Awaited", "{told}");
    // Where the configuration cannot be seen the pod does not start, and says why.
    tenant.kubectl.apply(&configured(&tenant, "elsewhere", "/in-the-image/openclaw.json"))?;
    eventually("the pod says that it finds no configuration", STARTED, || {
        let pod = agent::Agent::existing(&tenant.name, "elsewhere").get()?;
        let words = last_words(&pod).unwrap_or_default();
        if words.contains("is on none of the volumes") { Ok(()) } else { Err(pod["status"].to_string()) }
    })
}

#[test]
fn an_unchanged_pod_gets_the_sidecar_first() -> Result<()> {
    let tenant = Tenant::create("inject")?;
    let pod = tenant.agent("agent")?.get()?;
    let init = pod.pointer("/spec/initContainers/0").cloned().unwrap_or_default();
    assert_eq!((&init["name"], &init["restartPolicy"]), (&"clawlock".into(), &"Always".into()), "{init}");
    assert_eq!(pod.pointer("/metadata/labels/clawlock.dev~1role"), Some(&Value::from("agent")));
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let names: Vec<&str> = volumes.iter().filter_map(|volume| volume["name"].as_str()).collect();
    assert!(!names.iter().any(|name| name.starts_with("kube-api-access")), "{names:?}");
    // Only the sidecar has the token and its private folder.
    let mounts = pod.pointer("/spec/containers/0/volumeMounts").and_then(Value::as_array).cloned().unwrap_or_default();
    let mounted: Vec<&str> = mounts.iter().filter_map(|mount| mount["name"].as_str()).collect();
    assert_eq!(mounted, ["clawlock-openclaw", "clawlock-agent"]);
    assert!(mounts.iter().all(|mount| mount["readOnly"] == true), "{mounts:?}");
    Ok(())
}

#[test]
fn controllers_pods_are_injected_too() -> Result<()> {
    let tenant = Tenant::create("controllers")?;
    let pod = agent::manifest("x", "x", "app: agent");
    let spec = pod.split_once("spec:\n").map(|(_, spec)| spec).unwrap_or_default();
    let template = spec.lines().map(|line| format!("      {line}\n")).collect::<String>();
    for (kind, api, more) in [
        ("Deployment", "apps/v1", "selector: {matchLabels: {app: agent}}"),
        ("StatefulSet", "apps/v1", "selector: {matchLabels: {app: agent}}\n  serviceName: agent"),
    ] {
        let name = kind.to_lowercase();
        let manifest = format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  {more}\n  template:\n    \
             metadata: {{labels: {{app: agent}}}}\n    spec:\n{template}",
            tenant.name
        );
        tenant.kubectl.apply(&manifest)?;
        tenant.kubectl.run(&["rollout", "status", &name, &name, "-n", &tenant.name, "--timeout=120s"])?;
    }
    for pod in tenant.kubectl.list(&tenant.name, "pods", "app=agent")? {
        assert_eq!(
            pod.pointer("/spec/initContainers/0/name"),
            Some(&Value::from("clawlock")),
            "{}",
            pod["metadata"]["name"]
        );
    }
    Ok(())
}
