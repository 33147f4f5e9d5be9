//! What a pod of an agents' namespace is refused for. Each row is a way past the sidecar.

use clawlock_compile::objects::sidecar::{Outcome, Reason, apply, inject, inject_ephemeral};
use serde_json::{Value, json};

use crate::common::set;
use crate::pods::{acme, openclaw};

/// Field, value, reason, the place that is told.
fn rows() -> Vec<(&'static str, Value, Reason, &'static str)> {
    let volume = |source: &str, value: Value| json!({"name": "home", source: value});
    let home = "/spec/volumes/0";
    let mut rows = vec![
        ("/spec/hostNetwork", json!(true), Reason::HostNamespace, "spec.hostNetwork"),
        ("/spec/hostPID", json!(true), Reason::HostNamespace, "spec.hostPID"),
        ("/spec/hostIPC", json!(true), Reason::HostNamespace, "spec.hostIPC"),
        ("/spec/shareProcessNamespace", json!(true), Reason::SharedProcesses, "spec.shareProcessNamespace"),
        ("/spec/nodeName", json!("node-1"), Reason::NodeName, "spec.nodeName"),
        ("/spec/priorityClassName", json!("system-node-critical"), Reason::Priority, "spec.priorityClassName"),
        ("/spec/tolerations", json!([{"key": "a"}, {"operator": "Exists"}]), Reason::Toleration, "spec.tolerations[1]"),
        (
            "/spec/tolerations",
            json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]),
            Reason::Toleration,
            "spec.tolerations[0]",
        ),
        (
            "/spec/tolerations",
            json!([{"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}]),
            Reason::Toleration,
            "spec.tolerations[0]",
        ),
        ("/spec/securityContext/runAsUser", json!(65515), Reason::ReservedUser, "spec.securityContext.runAsUser"),
        ("/spec/securityContext/runAsGroup", json!(65515), Reason::ReservedUser, "spec.securityContext.runAsGroup"),
        ("/spec/securityContext/fsGroup", json!(65515), Reason::ReservedUser, "spec.securityContext.fsGroup"),
        (
            "/spec/securityContext/supplementalGroups",
            json!([1, 65515]),
            Reason::ReservedUser,
            "spec.securityContext.supplementalGroups",
        ),
        (
            "/spec/securityContext/windowsOptions",
            json!({"hostProcess": true}),
            Reason::Privileged,
            "spec.securityContext.windowsOptions.hostProcess",
        ),
        (home, json!({"name": "clawlock-agent", "emptyDir": {}}), Reason::ReservedVolume, "spec.volumes[0]"),
        (
            home,
            json!({"name": "clawlock-private", "secret": {"secretName": "a"}}),
            Reason::ReservedVolume,
            "spec.volumes[0]",
        ),
        (
            home,
            volume(
                "projected",
                json!({"sources": [{"serviceAccountToken": {"audience": "clawlock.dev", "path": "t"}}]}),
            ),
            Reason::TokenAudience,
            "spec.volumes[0]",
        ),
        ("/spec/initContainers/0/name", json!("clawlock"), Reason::Sidecar, "spec.initContainers[0]"),
        ("/spec/containers/0/name", json!("clawlock"), Reason::Sidecar, "spec.containers[0].name"),
        (
            "/spec/containers/0/securityContext",
            json!({"privileged": true}),
            Reason::Privileged,
            "spec.containers[0].securityContext.privileged",
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"windowsOptions": {"hostProcess": true}}),
            Reason::Privileged,
            "spec.containers[0].securityContext.windowsOptions.hostProcess",
        ),
        (
            "/spec/initContainers/0/securityContext",
            json!({"capabilities": {"add": ["NET_BIND_SERVICE", "NET_ADMIN"]}}),
            Reason::Privileged,
            "spec.initContainers[0].securityContext.capabilities.add",
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"runAsUser": 65515}),
            Reason::ReservedUser,
            "spec.containers[0].securityContext.runAsUser",
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"runAsGroup": 65515}),
            Reason::ReservedUser,
            "spec.containers[0].securityContext.runAsGroup",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 1}, {"containerPort": 2, "hostPort": 2}]),
            Reason::HostPort,
            "spec.containers[0].ports[1].hostPort",
        ),
        ("/metadata/labels/clawlock.dev~1role", json!("agent"), Reason::ReservedLabel, "metadata.labels"),
        ("/metadata/labels/clawlock.dev~1tenant", json!("acme"), Reason::ReservedLabel, "metadata.labels"),
        ("/metadata/labels/clawlock.dev~1any", json!("a"), Reason::ReservedLabel, "metadata.labels"),
        ("/spec/serviceAccountName", json!("billing"), Reason::Image, "spec.initContainers[0].image"),
        ("/spec/containers", json!("nonsense"), Reason::Malformed, "spec"),
    ];
    for source in [
        "hostPath",
        "nfs",
        "iscsi",
        "gitRepo",
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cephfs",
        "cinder",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "glusterfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    ] {
        let value = json!({
            "path": "/", "server": "a", "targetPortal": "a", "iqn": "a", "lun": 1, "repository": "a", "volumeID": "a",
            "diskName": "a", "diskURI": "a", "secretName": "a", "shareName": "a", "monitors": [], "driver": "a",
            "pdName": "a", "endpoints": "a", "pdID": "a", "registry": "a", "volume": "a", "image": "a", "gateway": "a",
            "system": "a", "secretRef": {"name": "a"}, "volumePath": "a",
        });
        rows.push((home, volume(source, value), Reason::Volume, "spec.volumes[0]"));
    }
    for (mount, path) in [
        (json!({"name": "clawlock-private", "mountPath": "/x"}), "a volume of ours"),
        (json!({"name": "clawlock-token", "mountPath": "/x"}), "our token"),
        (json!({"name": "clawlock-agent", "mountPath": "/run/clawlock/agent"}), "not read-only"),
        (json!({"name": "clawlock-agent", "mountPath": "/x", "readOnly": true}), "elsewhere"),
        (
            json!({"name": "clawlock-agent", "mountPath": "/run/clawlock/agent", "readOnly": true, "subPath": "x"}),
            "a part of it",
        ),
        (json!({"name": "home", "mountPath": "/run/clawlock/agent"}), "over ours"),
        (json!({"name": "home", "mountPath": "/run/clawlock"}), "above ours"),
        (json!({"name": "home", "mountPath": "/run//x/../clawlock/agent/"}), "in another spelling"),
        (json!({"name": "home", "mountPath": "/var/run/clawlock/private"}), "behind a link"),
    ] {
        assert!(!path.is_empty());
        rows.push((
            "/spec/containers/0/volumeMounts/0",
            mount,
            Reason::ReservedVolume,
            "spec.containers[0].volumeMounts[0]",
        ));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        for action in ["httpGet", "tcpSocket"] {
            let value = json!({action: {"host": "10.0.0.1", "port": 80}});
            let (pointer, path): (&'static str, &'static str) = match probe {
                "livenessProbe" => ("/spec/containers/0/livenessProbe", "spec.containers[0].livenessProbe"),
                "readinessProbe" => ("/spec/containers/0/readinessProbe", "spec.containers[0].readinessProbe"),
                _ => ("/spec/containers/0/startupProbe", "spec.containers[0].startupProbe"),
            };
            rows.push((pointer, value, Reason::ProbeHost, path));
        }
    }
    for (hook, path) in
        [("postStart", "spec.containers[0].lifecycle.postStart"), ("preStop", "spec.containers[0].lifecycle.preStop")]
    {
        for action in ["httpGet", "tcpSocket"] {
            let value = json!({hook: {action: {"host": "127.0.0.1", "port": 80}}});
            rows.push(("/spec/containers/0/lifecycle", value, Reason::ProbeHost, path));
        }
    }
    rows
}

/// Sets a value, also below a label's key.
fn with(pointer: &str, value: Value) -> Value {
    let mut pod = openclaw();
    match pointer.strip_prefix("/metadata/labels/") {
        Some(key) => pod["metadata"]["labels"][key.replace("~1", "/")] = value,
        None => set(&mut pod, pointer, value),
    }
    pod
}

#[test]
fn each_way_past_the_sidecar_is_refused_with_its_reason_and_place() {
    for (pointer, value, reason, path) in rows() {
        let refusal = inject(&with(pointer, value.clone()), acme()).expect_err(&format!("{pointer} = {value}"));
        assert_eq!((refusal.reason, refusal.path.as_str()), (reason, path), "{pointer} = {value}: {refusal}");
        assert!(refusal.message.len() > 20 && refusal.message.len() < 1000, "{refusal}");
    }
}

/// An exemption takes away the sidecar, not the rules.
#[test]
fn an_exempted_pod_is_refused_for_the_same() {
    for (pointer, value, reason, _) in rows() {
        if reason == Reason::Malformed {
            continue;
        }
        let mut pod = with(pointer, value.clone());
        pod["metadata"]["labels"]["job"] = json!("batch");
        let refusal = inject(&pod, acme()).expect_err(&format!("{pointer} = {value}"));
        assert_eq!(refusal.reason, reason, "{pointer} = {value}");
    }
}

#[test]
fn what_is_harmless_is_injected() {
    for (pointer, value) in [
        ("/spec/hostNetwork", json!(false)),
        ("/spec/shareProcessNamespace", json!(false)),
        ("/spec/nodeName", json!("")),
        ("/spec/priorityClassName", json!("agents")),
        (
            "/spec/tolerations",
            json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]),
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"privileged": false, "capabilities": {"add": ["NET_BIND_SERVICE"]}}),
        ),
        ("/spec/containers/0/ports", json!([{"containerPort": 18789, "hostPort": 0}])),
        ("/spec/containers/0/livenessProbe", json!({"httpGet": {"path": "/", "port": 80, "host": ""}})),
        ("/spec/containers/0/lifecycle", json!({"preStop": {"exec": {"command": ["a"]}}})),
        ("/spec/volumes/0", json!({"name": "home", "csi": {"driver": "a"}})),
        ("/spec/volumes/0", json!({"name": "home", "image": {"reference": "a"}})),
        ("/spec/volumes/0", json!({"name": "home"})),
        ("/spec/containers/0/volumeMounts/0", json!({"name": "home", "mountPath": "/run/clawlocks"})),
        ("/metadata/labels/not.clawlock.dev~1role", json!("agent")),
        ("/metadata/labels/clawlock.dev", json!("agent")),
    ] {
        let result = inject(&with(pointer, value.clone()), acme());
        assert!(matches!(result, Ok(Outcome::Injected(_))), "{pointer} = {value}: {result:?}");
    }
}

#[test]
fn a_container_that_only_looks_like_the_sidecar_is_refused() {
    let mut injected = openclaw();
    let Ok(Outcome::Injected(operations)) = inject(&injected, acme()) else { panic!("not injected") };
    apply(&mut injected, &operations).unwrap();
    assert_eq!(inject(&injected, acme()), Ok(Outcome::Injected(Vec::new())), "it is accepted as it is");
    let sidecar = "/spec/initContainers/0";
    for (field, value) in [
        ("image", json!("registry.example/other:1")),
        ("args", json!(["run", "--tenant=acme"])),
        ("command", json!(["sh"])),
        ("env", json!([])),
        ("envFrom", json!([{"configMapRef": {"name": "a"}}])),
        ("restartPolicy", Value::Null),
        ("restartPolicyRules", json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}])),
        ("securityContext", json!({})),
        ("startupProbe", Value::Null),
        ("startupProbe", json!({"exec": {"command": ["true"]}})),
        ("lifecycle", json!({"postStart": {"exec": {"command": ["a"]}}})),
        ("ports", json!([{"containerPort": 1}])),
        ("stdin", json!(true)),
        ("tty", json!(true)),
        ("resources", json!({"claims": [{"name": "gpu"}]})),
        ("workingDir", json!("/x")),
        ("volumeMounts", json!([])),
        ("terminationMessagePath", json!("/run/clawlock/private/key")),
        ("volumeDevices", json!([{"name": "a", "devicePath": "/a"}])),
    ] {
        let mut other = injected.clone();
        set(&mut other, &format!("{sidecar}/{field}"), value.clone());
        let refusal = inject(&other, acme()).expect_err(&format!("{field} = {value}"));
        assert_eq!(refusal.reason, Reason::Sidecar, "{field} = {value}: {refusal}");
    }
    // One more mount, beside an own volume that pretends to be an API token.
    let mut other = injected.clone();
    other["spec"]["initContainers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "home", "mountPath": "/x"}));
    assert_eq!(inject(&other, acme()).unwrap_err().reason, Reason::Sidecar);
    // Two of them.
    let mut twice = injected.clone();
    let sidecar = twice["spec"]["initContainers"][0].clone();
    twice["spec"]["initContainers"].as_array_mut().unwrap().push(sidecar);
    assert_eq!(inject(&twice, acme()).unwrap_err().reason, Reason::Sidecar);
    // Of another tenant.
    let mut foreign = injected.clone();
    foreign["metadata"]["labels"]["clawlock.dev/tenant"] = json!("beta");
    assert_eq!(inject(&foreign, acme()).unwrap_err().reason, Reason::ReservedLabel);
}

#[test]
fn an_ephemeral_container_does_not_reach_the_sidecar() {
    let mut old = openclaw();
    let Ok(Outcome::Injected(operations)) = inject(&old, acme()) else { panic!("not injected") };
    apply(&mut old, &operations).unwrap();
    for (ephemeral, reason) in [
        (json!({"name": "a", "targetContainerName": "clawlock"}), Reason::SharedProcesses),
        (json!({"name": "clawlock"}), Reason::Sidecar),
        (json!({"name": "a", "securityContext": {"runAsUser": 65515}}), Reason::ReservedUser),
        (json!({"name": "a", "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}), Reason::Privileged),
        (json!({"name": "a", "securityContext": {"privileged": true}}), Reason::Privileged),
        (
            json!({"name": "a", "volumeMounts": [{"name": "clawlock-private", "mountPath": "/x"}]}),
            Reason::ReservedVolume,
        ),
        (json!({"name": "a", "volumeMounts": [{"name": "clawlock-token", "mountPath": "/x"}]}), Reason::ReservedVolume),
    ] {
        let mut new = old.clone();
        set(&mut new, "/spec/ephemeralContainers", json!([ephemeral]));
        let refusal = inject_ephemeral(&old, &new, acme()).expect_err(&ephemeral.to_string());
        assert_eq!(refusal.reason, reason, "{ephemeral}: {refusal}");
    }
    // A bound ServiceAccount runs no other image this way either.
    let mut old = openclaw();
    set(&mut old, "/spec/serviceAccountName", json!("billing"));
    let mut new = old.clone();
    set(&mut new, "/spec/ephemeralContainers", json!([{"name": "a", "image": "other"}]));
    assert_eq!(inject_ephemeral(&old, &new, acme()).unwrap_err().reason, Reason::Image);
}
