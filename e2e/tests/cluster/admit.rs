//! What somebody who is bound to `edit` in the agents' namespace creates there, and the answer: the rows of the page on
//! threats. Each attempt has a control: the same object without its point is taken.

use std::time::Duration;

use clawlock_e2e::agent::TOOLS;
use clawlock_e2e::{Result, Tenant, eventually};
use serde_json::{Value, json};

use crate::attempts::{Attempts, OURS, with};

/// A pod as a tenant writes it.
fn pod(tenant: &Tenant) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "attempt", "namespace": tenant.name, "labels": {"app": "agent"}, "annotations": {}},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "agent", "image": TOOLS, "command": ["/tools", "wait"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

#[test]
fn pods_that_would_leave_their_fence_are_refused() -> Result<()> {
    let tenant = Tenant::create("admit-pods")?;
    // Whatever the namespace's Pod Security label says: nothing here.
    tenant.kubectl.run(&["label", "namespace", &tenant.name, "pod-security.kubernetes.io/enforce-"])?;
    let (mut attempts, pod, worker) = (Attempts::of(&tenant)?, pod(&tenant), tenant.kubectl.worker()?);
    tenant.editor()?.would_create(&tenant.name, &pod.to_string()).map_err(|refused| refused.0)?;
    let control_plane = "node-role.kubernetes.io/control-plane";
    let elsewhere = json!({"httpGet": {"host": "10.96.0.1", "port": 443}});
    let token = json!({"serviceAccountToken": {"audience": "clawlock.dev", "path": "t"}});
    for (what, pointer, value) in [
        ("hostNetwork", "/spec/hostNetwork", json!(true)),
        ("hostPID", "/spec/hostPID", json!(true)),
        ("hostIPC", "/spec/hostIPC", json!(true)),
        ("shareProcessNamespace", "/spec/shareProcessNamespace", json!(true)),
        ("nodeName", "/spec/nodeName", json!(worker)),
        ("toleration of control planes", "/spec/tolerations", json!([{"key": control_plane, "operator": "Exists"}])),
        ("toleration of everything", "/spec/tolerations", json!([{"operator": "Exists"}])),
        ("priority above the gateways'", "/spec/priorityClassName", json!("system-node-critical")),
        ("hostPath", "/spec/volumes", json!([{"name": "host", "hostPath": {"path": "/"}}])),
        ("nfs, which the kubelet mounts", "/spec/volumes", json!([{"name": "n", "nfs": {"server": "a", "path": "/"}}])),
        ("hostPort", "/spec/containers/0/ports", json!([{"containerPort": 80, "hostPort": 80}])),
        ("privileged", "/spec/containers/0/securityContext/privileged", json!(true)),
        ("NET_RAW", "/spec/containers/0/securityContext/capabilities/add", json!(["NET_RAW"])),
        (
            "sysctl for ICMP",
            "/spec/securityContext/sysctls",
            json!([{"name": "net.ipv4.ping_group_range", "value": "0 1"}]),
        ),
        ("probe with a host", "/spec/containers/0/livenessProbe", elsewhere.clone()),
        ("hook with a host", "/spec/containers/0/lifecycle", json!({"postStart": elsewhere})),
        ("no runAsUser", "/spec/securityContext/runAsUser", Value::Null),
        ("the sidecar's uid", "/spec/securityContext/runAsUser", json!(65515)),
        ("the sidecar's uid in a container", "/spec/containers/0/securityContext/runAsUser", json!(65515)),
        ("the sidecar's gid", "/spec/containers/0/securityContext/runAsGroup", json!(65515)),
        ("the sidecar's gid as fsGroup", "/spec/securityContext/fsGroup", json!(65515)),
        ("the sidecar's gid among others", "/spec/securityContext/supplementalGroups", json!([1, 65515])),
        ("a token of our audience", "/spec/volumes", json!([{"name": "t", "projected": {"sources": [token]}}])),
    ] {
        attempts.create(what, &with(&pod, pointer, value));
    }
    let unmasked = with(&pod, "/spec/containers/0/securityContext/procMount", json!("Unmasked"));
    attempts.create("unmasked /proc", &with(&unmasked, "/spec/hostUsers", json!(false)));
    let windows = with(&pod, "/spec/securityContext", json!({"runAsNonRoot": true}));
    let windows = with(&windows, "/spec/containers/0/securityContext", json!({}));
    attempts.create("a pod for Windows", &with(&windows, "/spec/os", json!({"name": "windows"})));
    attempts.end()
}

#[test]
fn pods_that_look_injected_are_refused() -> Result<()> {
    let tenant = Tenant::create("admit-likes")?;
    let (mut attempts, pod, editor) = (Attempts::of(&tenant)?, pod(&tenant), tenant.editor()?);
    let sidecar = json!({"name": "clawlock", "image": "evil:1", "restartPolicy": "Always"});
    let mount = json!([{"name": "clawlock-private", "mountPath": "/x"}]);
    for (what, pointer, value) in [
        ("a sidecar of one's own", "/spec/initContainers", json!([sidecar])),
        ("a container of the sidecar's name", "/spec/containers/-", sidecar),
        ("a mount of the sidecar's volume", "/spec/containers/0/volumeMounts", mount),
        ("a volume of the sidecar's name", "/spec/volumes", json!([{"name": "clawlock-private", "emptyDir": {}}])),
        ("the gateway's label", "/metadata/labels/clawlock.dev~1role", json!("gateway")),
        ("the label of an injected pod", "/metadata/labels/clawlock.dev~1role", json!("agent")),
        ("another tenant's label", "/metadata/labels/clawlock.dev~1tenant", json!("other")),
    ] {
        attempts.create(what, &with(&pod, pointer, value));
    }

    // What injection makes of the pod, as if the tenant had written it. The control: unchanged it is taken.
    let injected = editor.would_create(&tenant.name, &pod.to_string()).map_err(|refused| refused.0)?;
    let metadata = json!({"name": "again", "namespace": tenant.name, "labels": injected["metadata"]["labels"]});
    let injected = with(&with(&injected, "/metadata", metadata), "/status", Value::Null);
    editor.would_create(&tenant.name, &injected.to_string()).map_err(|refused| refused.0)?;
    let variable = json!({"name": "RUST_LOG", "value": "trace"});
    for (what, pointer, value) in [
        ("another image", "/spec/initContainers/0/image", json!("evil:1")),
        ("another argument", "/spec/initContainers/0/args/-", json!("--anything")),
        ("another command", "/spec/initContainers/0/command", json!(["/evil"])),
        ("another variable", "/spec/initContainers/0/env/-", variable),
        ("another uid", "/spec/initContainers/0/securityContext/runAsUser", json!(1000)),
        ("another probe", "/spec/initContainers/0/startupProbe", json!({"tcpSocket": {"port": 15020}})),
        ("a hook", "/spec/initContainers/0/lifecycle", json!({"postStart": {"exec": {"command": ["/evil"]}}})),
        ("no restart", "/spec/initContainers/0/restartPolicy", Value::Null),
        ("the agent writes OpenClaw's guard", "/spec/containers/0/volumeMounts/0/readOnly", json!(false)),
        ("the agent writes the gate's folder", "/spec/containers/0/volumeMounts/1/readOnly", json!(false)),
        ("OpenClaw's guard elsewhere", "/spec/containers/0/volumeMounts/0/mountPath", json!("/run/other")),
    ] {
        attempts.create(&format!("injected: {what}"), &with(&injected, pointer, value));
    }
    // OpenClaw's installer is made anew, whatever stands there.
    assert_eq!(injected["spec"]["initContainers"][1]["name"], "clawlock-openclaw", "{injected}");
    let evil = with(&injected, "/spec/initContainers/1/image", json!("evil:1"));
    let evil = with(&evil, "/spec/initContainers/1/command", json!(["/evil"]));
    let mended = editor.would_create(&tenant.name, &evil.to_string()).map_err(|refused| refused.0)?;
    assert_eq!(mended["spec"]["initContainers"], injected["spec"]["initContainers"], "{mended}");
    // In another place it is put into the first one again.
    let first = with(&injected["spec"]["containers"][0], "/name", json!("first"));
    let last = with(&injected, "/spec/initContainers", json!([first, injected["spec"]["initContainers"][0]]));
    let mended = editor.would_create(&tenant.name, &last.to_string()).map_err(|refused| refused.0)?;
    assert_eq!(mended["spec"]["initContainers"][0]["name"], "clawlock", "{mended}");
    attempts.end()
}

#[test]
fn a_service_account_runs_the_images_that_the_platform_team_lists() -> Result<()> {
    let tenant = Tenant::create("admit-images")?;
    let editor = tenant.editor()?;
    let listed = format!("  agents:\n    serviceAccounts:\n    - {{name: billing, images: [\"{TOOLS}\"]}}\n");
    tenant.kubectl.apply(&tenant.gateway(&listed))?;
    editor.run(&["create", "serviceaccount", "billing", "-n", &tenant.name])?;
    let billing = with(&pod(&tenant), "/spec/serviceAccountName", json!("billing"));
    let other = with(&billing, "/spec/containers/0/image", json!("evil:1"));
    let refused = eventually("another image is refused", Duration::from_secs(30), || {
        match editor.would_create(&tenant.name, &other.to_string()) {
            Ok(_) => Err("it was taken".to_owned()),
            Err(refused) => Ok(refused),
        }
    })?;
    refused.says(OURS)?;
    println!("another image under the ServiceAccount: {}", refused.0);
    editor.would_create(&tenant.name, &billing.to_string()).map_err(|refused| refused.0)?;
    Ok(())
}

#[test]
fn workloads_get_no_pod_that_would_be_refused() -> Result<()> {
    let tenant = Tenant::create("admit-works")?;
    let editor = tenant.editor()?;
    let pod = with(&pod(&tenant), "/spec/hostNetwork", json!(true));
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "set", "namespace": tenant.name},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": pod["spec"]},
        },
    });
    editor.run_with(&["create", "-f", "-"], &set.to_string())?;
    eventually("the ReplicaSet says why it has no pod", Duration::from_secs(60), || {
        let set = editor.get(&tenant.name, "replicaset", "set")?.ok_or("it is not there")?;
        let message = set.pointer("/status/conditions/0/message").and_then(Value::as_str).unwrap_or_default();
        if message.contains(OURS) {
            println!("a ReplicaSet with hostNetwork: {message}");
            Ok(())
        } else {
            Err(set.to_string())
        }
    })?;
    assert!(tenant.kubectl.list(&tenant.name, "pods", "app=agent")?.is_empty());
    Ok(())
}
