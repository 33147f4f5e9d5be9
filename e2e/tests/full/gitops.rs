//! What a GitOps controller does with the project's manifests and a tenant's objects: apply, compare, apply again, judge
//! their health. Nothing differs after the second time, whatever the operator has written meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clawlock_e2e::{Kubectl, Result, Tenant, agent, eventually, program};
use serde_json::Value;

/// The field manager of a GitOps controller.
const MANAGER: [&str; 3] = ["--server-side", "--field-manager=gitops", "--force-conflicts"];
/// Where the release is.
const RELEASE: &str = "clawlock-system";

fn apply(source: &[&str], input: &str) -> Result<String> {
    Kubectl::admin().run_with(&[&["apply"], &MANAGER[..], source].concat(), input)
}

/// Nothing, when what is applied is what is there; kubectl exits with 1 and prints when something differs.
fn diff(source: &[&str], input: &str) -> Result<()> {
    let differences = Kubectl::admin().run_with(&[&["diff"], &MANAGER[..], source].concat(), input)?;
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().ok_or("a file without a name")?;
        fs::copy(&path, to.join(name)).map_err(failed)?;
    }
    Ok(())
}

/// A copy of deploy/kustomize/base, with the release rendered for the values of the one that is installed: its images are here.
fn base(root: &Path) -> Result<String> {
    let (base, crds) = ("deploy/kustomize/base", "charts/clawlock-crds/templates");
    for folder in [base, crds] {
        copy(&project(folder), &root.join(folder))?;
    }
    let write =
        |file: &Path, text: String| fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()));
    let values = root.join("values.json");
    write(&values, program::run("helm", &["get", "values", "clawlock", "--namespace", RELEASE, "--output", "json"])?)?;
    let (chart, values) = (project("charts/clawlock"), values.display().to_string());
    let args =
        ["template", "clawlock", &chart.display().to_string(), "--namespace", RELEASE, "--no-hooks", "-f", &values];
    write(&root.join(base).join("release.yaml"), program::run("helm", &args)?)?;
    Ok(root.join(base).display().to_string())
}

/// The generations of the release's Deployments and webhook configurations: a change of what they say raises them.
fn generations() -> Result<Vec<String>> {
    let kinds = "deployments,mutatingwebhookconfigurations,validatingwebhookconfigurations,poddisruptionbudgets";
    let objects = Kubectl::admin().list(RELEASE, kinds, "app.kubernetes.io/instance=clawlock")?;
    let of = |object: &Value| format!("{} {}", object["metadata"]["name"], object["metadata"]["generation"]);
    Ok(objects.iter().map(of).collect())
}

#[test]
fn gitops_applied_twice_the_release_has_no_difference() -> Result<()> {
    let root = std::env::temp_dir().join(format!("clawlock-e2e-gitops-{}", std::process::id()));
    let source = ["-k", &base(&root)?];
    apply(&source, "")?;
    let before = generations()?;
    assert!(before.len() >= 5, "{before:?}");
    let objects = apply(&source, "")?;
    diff(&source, "")?;
    // The operator goes on: certificates of webhooks, parameters of policies, a tenant with an agent.
    let tenant = Tenant::create("gitops-release")?;
    tenant.agent("agent")?;
    diff(&source, "")?;
    apply(&source, "")?;
    assert_eq!(generations()?, before, "applying again changes nothing");
    fs::remove_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    println!("figure: {} objects of the release applied three times, no difference", objects.lines().count());
    Ok(())
}

#[test]
fn gitops_applied_twice_a_tenant_has_no_difference() -> Result<()> {
    let tenant = Tenant::create("gitops-tenant")?;
    let manifests = [tenant.gateway(""), tenant.policy(clawlock_e2e::tenant::RULES)].join("\n---\n");
    let source = ["-f", "-"];
    apply(&source, &manifests)?;
    tenant.agent("agent")?;
    for kind in [("tenantgateway", &tenant.platform, tenant.name.as_str()), ("agentpolicy", &tenant.name, "agent")] {
        tenant.condition(kind.0, kind.1, kind.2, "Ready", Duration::from_secs(60))?;
    }
    diff(&source, &manifests)?;
    apply(&source, &manifests)?;
    diff(&source, &manifests)?;

    // A workload without a number of replicas: an autoscaler writes it, and nobody takes it back.
    let pod = agent::manifest("x", "x", "app: agent");
    let spec = pod.split_once("spec:\n").map(|(_, spec)| spec).unwrap_or_default();
    let template = spec.lines().map(|line| format!("      {line}\n")).collect::<String>();
    let workload = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: scaled, namespace: {}}}\nspec:\n  selector: {{matchLabels: \
         {{app: agent}}}}\n  template:\n    metadata: {{labels: {{app: agent}}}}\n    spec:\n{template}",
        tenant.name
    );
    apply(&source, &workload)?;
    tenant.kubectl.run(&["scale", "deployment", "scaled", "-n", &tenant.name, "--replicas=2"])?;
    tenant.kubectl.run(&["rollout", "status", "deployment", "scaled", "-n", &tenant.name, "--timeout=180s"])?;
    apply(&source, &workload)?;
    diff(&source, &workload)?;
    let scaled = tenant.kubectl.get(&tenant.name, "deployment", "scaled")?.ok_or("the Deployment is gone")?;
    assert_eq!(scaled.pointer("/spec/replicas"), Some(&Value::from(2)), "{scaled}");

    // The operator does not write what it has written: no field of its objects fights with another.
    let managed = || -> Result<Vec<String>> {
        let kinds = "statefulsets,services,serviceaccounts,rolebindings,poddisruptionbudgets,networkpolicies";
        let mut found = Vec::new();
        for namespace in [&tenant.platform, &tenant.name] {
            for object in tenant.kubectl.list(namespace, kinds, "app.kubernetes.io/managed-by=clawlock-operator")? {
                let metadata = &object["metadata"];
                found.push(format!("{} {} {}", object["kind"], metadata["name"], metadata["generation"]));
            }
        }
        Ok(found)
    };
    let before = managed()?;
    let policy = tenant.policy("  - {name: looking, match: {tools: [read]}, tier: Block}\n");
    apply(&source, &policy)?;
    tenant.condition("agentpolicy", &tenant.name, "agent", "Programmed", Duration::from_secs(60))?;
    assert_eq!(managed()?, before, "an edit of a policy changes none of the tenant's objects");
    diff(&source, &policy)
}

/// What Argo CD says of an object: status and message.
fn health(object: &Value) -> Result<(String, String)> {
    let program = std::env::var("E2E_HEALTH").map_err(|_| "E2E_HEALTH is not set; run the tests with make e2e-full")?;
    let check = project("deploy/argocd/health.lua");
    let output = program::run_with(&program, &[&check.to_string_lossy()], &object.to_string())?;
    let answer: Value = serde_json::from_str(&output).map_err(|error| format!("health: {error}"))?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("message")))
}

#[test]
fn gitops_health_says_what_the_status_says() -> Result<()> {
    let tenant = Tenant::create("gitops-health")?;
    let (name, platform) = (tenant.name.as_str(), tenant.platform.as_str());
    let agent = tenant.agent("agent")?;
    let becomes = |kind: &str, namespace: &str, name: &str, status: &str, words: &str| -> Result<()> {
        eventually(&format!("{kind} {name} is {status}"), Duration::from_secs(60), || {
            let object = tenant.kubectl.get(namespace, kind, name)?.ok_or("it is not there")?;
            let (found, message) = health(&object)?;
            if found == status && message.contains(words) { Ok(message) } else { Err(format!("{found}: {message}")) }
        })
        .map(|message| println!("{kind} {name}: {status}, {message}"))
    };
    becomes("tenantgateway", platform, name, "Healthy", "")?;
    becomes("upstream", platform, "payments", "Healthy", "")?;
    becomes("agentpolicy", name, "agent", "Healthy", "")?;

    // As it was before anybody looked at it, and after an edit that nobody has looked at.
    let object = tenant.kubectl.get(name, "agentpolicy", "agent")?.ok_or("the policy is gone")?;
    let mut fresh = object.clone();
    fresh["status"].take();
    assert_eq!(health(&fresh)?.0, "Progressing");
    let mut edited = object;
    edited["metadata"]["generation"] = 4711.into();
    assert_eq!(health(&edited)?.0, "Progressing");

    let unknown = "  - {name: nowhere, match: {operations: [unknown.list]}, tier: Auto}\n";
    tenant.kubectl.apply(&tenant.policy(unknown))?;
    becomes("agentpolicy", name, "agent", "Degraded", "ResolvedRefs")?;
    tenant.kubectl.run(&["delete", "configmap", "payments-ca", "-n", platform])?;
    becomes("upstream", platform, "payments", "Degraded", "ResolvedRefs")?;
    let halt = format!(
        "apiVersion: clawlock.dev/v1alpha1\nkind: AgentHalt\nmetadata: {{name: stop, namespace: {name}}}\n\
         spec: {{agentSelector: {{}}, reason: \"a test\"}}\n"
    );
    tenant.kubectl.apply(&halt)?;
    becomes("agenthalt", name, "stop", "Healthy", "")?;

    // Its finalizer holds it as long as there is an agent.
    tenant.kubectl.run(&["delete", "tenantgateway", name, "-n", platform, "--wait=false"])?;
    becomes("tenantgateway", platform, name, "Progressing", "Being deleted")?;
    agent.delete()
}
