//! What happens to a pod that says nothing about Clawlock.

use clawlock_e2e::{Result, Tenant, agent};
use serde_json::Value;

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
    assert_eq!(mounted, ["clawlock-agent"]);
    assert_eq!(mounts[0]["readOnly"], true);
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
