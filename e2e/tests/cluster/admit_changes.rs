//! What somebody changes in an agents' namespace that the operator keeps: running pods, NetworkPolicies, tokens, ways in.

use clawlock_e2e::agent::TOOLS;
use clawlock_e2e::{Kubectl, Result, Tenant};
use serde_json::{Value, json};

use crate::attempts::{Attempts, with};

#[test]
fn running_pods_stay_what_they_are() -> Result<()> {
    let tenant = Tenant::create("admit-keep")?;
    let agent = tenant.agent("agent")?;
    let (mut attempts, namespace) = (Attempts::of(&tenant)?, tenant.name.as_str());
    let resize = r#"[{"op":"replace","path":"/spec/initContainers/0/resources/requests/cpu","value":"1m"}]"#;
    let toleration = r#"[{"op":"add","path":"/spec/tolerations/-","value":{"operator":"Exists"}}]"#;
    for (what, path, patch) in [
        ("the sidecar's image", "", r#"[{"op":"replace","path":"/spec/initContainers/0/image","value":"evil:1"}]"#),
        ("the sidecar's resources", "resize", resize),
        ("a toleration", "", toleration),
        ("the role", "", r#"[{"op":"add","path":"/metadata/labels/clawlock.dev~1role","value":"gateway"}]"#),
        (
            "the role, by status",
            "status",
            r#"[{"op":"add","path":"/metadata/labels/clawlock.dev~1role","value":"gateway"}]"#,
        ),
        ("the tenant", "", r#"[{"op":"add","path":"/metadata/labels/clawlock.dev~1tenant","value":"other"}]"#),
        ("the tenant taken off", "", r#"[{"op":"remove","path":"/metadata/labels/clawlock.dev~1tenant"}]"#),
        ("a label that a policy selects by", "", r#"[{"op":"add","path":"/metadata/labels/app","value":"other"}]"#),
        ("that label, by status", "status", r#"[{"op":"add","path":"/metadata/labels/app","value":"other"}]"#),
        (
            "an annotation of ours",
            "",
            r#"[{"op":"add","path":"/metadata/annotations","value":{"clawlock.dev/x":"y"}}]"#,
        ),
    ] {
        let mut args = vec!["patch", "pod", "agent", "-n", namespace, "--type=json", "-p", patch];
        if !path.is_empty() {
            args.extend(["--subresource", path]);
        }
        attempts.refused(what, &args, "");
    }

    let pod = with(&agent.get()?, "/spec/ephemeralContainers", json!([]));
    let path = format!("/api/v1/namespaces/{namespace}/pods/agent/ephemeralcontainers?dryRun=All");
    let put = ["replace", "--raw", &path, "-f", "-"];
    let debugger = json!({
        "name": "look", "image": TOOLS, "command": ["/tools", "wait"], "targetContainerName": "agent",
        "securityContext": {"runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let looked = |container: &Value| with(&pod, "/spec/ephemeralContainers/-", container.clone()).to_string();
    tenant.owner()?.run_with(&put, &looked(&debugger))?;
    let volume = json!([{"name": "clawlock-private", "mountPath": "/x"}]);
    for (what, pointer, value) in [
        ("an ephemeral container at the sidecar", "/targetContainerName", json!("clawlock")),
        ("an ephemeral container with its uid", "/securityContext/runAsUser", json!(65515)),
        ("an ephemeral container with its volume", "/volumeMounts", volume),
        (
            "an ephemeral container that writes the guard",
            "/volumeMounts",
            json!([{"name": "clawlock-openclaw", "mountPath": "/run/clawlock/openclaw"}]),
        ),
        ("a privileged ephemeral container", "/securityContext/privileged", json!(true)),
    ] {
        attempts.refused(what, &put, &looked(&with(&debugger, pointer, value)));
    }
    // The control: what is theirs, they may change.
    tenant.editor()?.run(&["annotate", "pod", "agent", "-n", namespace, "example.com/note=mine"])?;
    tenant.editor()?.run(&["label", "pod", "agent", "-n", namespace, "example.com/note=mine"])?;
    attempts.end()
}

#[test]
fn nobody_acts_as_the_agent_or_opens_its_network() -> Result<()> {
    let tenant = Tenant::create("admit-ways")?;
    let _agent = tenant.agent("agent")?;
    let (mut attempts, namespace) = (Attempts::of(&tenant)?, tenant.name.as_str());
    let open = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "open", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    });
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "t", "namespace": namespace, "annotations": {"kubernetes.io/service-account.name": "default"}},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": namespace},
        "spec": {"selector": {"app": "agent"}, "externalIPs": ["192.0.2.1"], "ports": [{"port": 15020}]},
    });
    attempts.create("a NetworkPolicy that opens", &open);
    attempts.create("a token Secret", &token);
    attempts.create("a Service with externalIPs", &service);
    let inside = with(&service, "/spec/externalIPs", json!([]));
    tenant.editor()?.run_with(&["create", "-f", "-"], &inside.to_string())?;

    let egress = r#"[{"op":"add","path":"/spec/egress","value":[{}]}]"#;
    let raw = |path: &str| format!("/api/v1/namespaces/{namespace}/{path}");
    let (pod, behind) = (raw("pods/agent:15020/proxy/readyz"), raw("services/s:15020/proxy/readyz"));
    for (what, args) in [
        ("our NetworkPolicy changed", &["patch", "networkpolicy", "clawlock-agents", "--type=json", "-p", egress][..]),
        ("the default deny deleted", &["delete", "networkpolicy", "clawlock-default-deny"]),
        ("all NetworkPolicies deleted", &["delete", "networkpolicy", "--all"]),
        ("a token of our audience", &["create", "token", "default", "--audience", "clawlock.dev"]),
        ("exec", &["exec", "agent", "-c", "agent", "--", "/tools", "raw"]),
        ("attach", &["attach", "agent", "-c", "agent"]),
        ("port-forward", &["port-forward", "agent", "0:15001"]),
        ("proxy to the pod", &["get", "--raw", &pod]),
        ("proxy to a Service before it", &["get", "--raw", &behind]),
    ] {
        // Before a `--`: what follows is not kubectl's.
        attempts.refused(what, &[&["-n", namespace], args].concat(), "");
    }

    // The same under the name of a ServiceAccount, which whoever is bound to edit may take on.
    let account = format!("system:serviceaccount:{namespace}:default");
    let bind = ["create", "rolebinding", "self", "-n", namespace, "--clusterrole=edit", "--serviceaccount"];
    tenant.kubectl.run(&[&bind[..], &[&format!("{namespace}:default")]].concat())?;
    let mint = ["create", "token", "default", "-n", namespace, "--audience"];
    Kubectl::user(&account).run(&[&mint[..], &["example.com"]].concat())?;
    let refused = Kubectl::user(&account).must_refuse(&[&mint[..], &["clawlock.dev"]].concat(), "")?;
    refused.says("clawlock-tokens")?;
    attempts.end()
}
