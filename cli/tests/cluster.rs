//! `status`, `logs`, `halt`, `resume` and `doctor` against a `kubectl` that plays a cluster, and `shadow`.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/kubectl.rs"]
mod common;

use std::fs;
use std::process::{Command, Output};

use common::Cluster;
use serde_json::{Value, json};

/// Answers from files, writes down what it was asked.
const KUBECTL: &str = r#"case "$*" in
    *create*) cat >created; echo '{"metadata": {"name": "halt-x7", "namespace": "acme-gateway"}}' ;;
    *wait*) if [ -f slow ]; then echo 'error: timed out waiting for the condition' >&2; exit 1; fi ;;
    *delete*) ;;
    logs*agent-1*) cat records ;;
    logs*) ;;
    version*) cat version ;;
    *get*tenantgateways*) answer gateways ;;
    *get*upstreams*) answer objects ;;
    *get*agenthalts*) answer halts ;;
    *get*role=gateway*) answer gateway-pods ;;
    *get*role=agent*) answer agent-pods ;;
    *get*pods*) answer pods ;;
    *get*nodes*) answer nodes ;;
    *get*leases*) answer leases ;;
    *) echo "not played: $*" >&2; exit 1 ;;
esac
"#;

/// A cluster with a tenant.
fn cluster() -> Cluster {
    let cluster = Cluster::playing(KUBECTL);
    cluster.put("gateways", &[gateway("True")]);
    cluster
}

fn conditions(status: &str) -> Value {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Because", "message": "node \u{1b}[31mb answers"});
    json!([condition("Ready", status), condition("EgressIsolated", status), condition("Accepted", "True")])
}

fn gateway(ready: &str) -> Value {
    json!({
        "kind": "TenantGateway", "metadata": {"name": "acme", "namespace": "acme-gateway"},
        "spec": {"namespaces": ["acme"]},
        "status": {
            "conditions": conditions(ready), "agents": {"total": 3, "governed": 2, "ungoverned": 1},
            "policy": {"generation": 7, "programmed": 4},
        },
    })
}

fn object(kind: &str, namespace: &str, name: &str, more: Value) -> Value {
    let mut object = json!({"kind": kind, "metadata": {"name": name, "namespace": namespace, "uid": name}, "status": {"conditions": conditions("True")}});
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const RECORD: &str = r#"{"version":1,"timeMs":1795000000000,"requestId":"a-1","gate":"agent","tenant":"acme","workload":"spiffe://a.example/ns/acme/sa/default/pod/1","action":{"type":"tool","tool":"exec"},"outcome":{"verdict":"allow","shadow":"NoMatch","generation":7},"latencyUs":{"agentGate":1,"gateway":0}}"#;

#[test]
fn status_says_what_is_not_in_force() {
    let cluster = cluster();
    cluster.put(
        "objects",
        &[
            object(
                "AgentPolicy",
                "acme",
                "support",
                json!({"status": {"conditions": conditions("True"), "agents": 2, "observedMode": "Audit"}}),
            ),
            object("AgentPolicy", "elsewhere", "other", json!({"status": {"conditions": conditions("False")}})),
        ],
    );
    let output = cluster.run(&["status"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let words = text(&output.stdout);
    assert!(words.contains("3, 2 governed, 1 without a sidecar, in acme"), "{words}");
    assert!(words.contains("AgentPolicy acme/support, 2 agents, audited ready"), "{words}");
    assert!(!words.contains("elsewhere"));

    cluster.put("gateways", &[gateway("False")]);
    let output = cluster.run(&["status", "acme"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stdout).contains("EgressIsolated is False (Because): node \\u{1b}[31mb answers"),
        "{output:?}"
    );
    let report = json_of(&cluster.run(&["status", "--output", "json", "--context", "prod"]));
    assert_eq!((&report[0]["generation"], &report[0]["programmed"]), (&7.into(), &4.into()));
    assert!(cluster.asked("--context prod").len() >= 2);
    // An object that nobody has looked at is not in force.
    cluster.put("gateways", &[gateway("True")]);
    cluster.put("objects", &[object("Upstream", "acme-gateway", "new", json!({"status": {}}))]);
    assert_eq!(cluster.run(&["status"]).status.code(), Some(1));
    assert_eq!(cluster.run(&["status", "other"]).status.code(), Some(2));
}

#[test]
fn logs_are_decoded_or_raw() {
    let cluster = cluster();
    let running = json!({"status": {"phase": "Running"}});
    cluster.put(
        "agent-pods",
        &[
            object("Pod", "acme", "agent-1", running.clone()),
            object("Pod", "acme", "ended", json!({"status": {"phase": "Failed"}})),
        ],
    );
    cluster.put("gateway-pods", &[object("Pod", "acme-gateway", "clawlock-gateway-0", running)]);
    fs::write(cluster.0.path().join("records"), format!("listening on 8443\n{RECORD}\n")).unwrap();
    let output = cluster.run(&["logs", "acme", "--since", "10m"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let line = text(&output.stdout);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("allow acme/default: tool exec, Enforce would refuse it: NoMatch a-1"), "{line}");
    let mut asked = cluster.asked("logs");
    asked.sort();
    assert_eq!(
        asked,
        [
            "logs --namespace acme agent-1 --container clawlock --since=10m",
            "logs --namespace acme-gateway clawlock-gateway-0 --container gateway --since=10m",
        ]
    );
    let output = cluster.run(&["logs", "acme", "--output", "json"]);
    assert_eq!(text(&output.stdout), format!("{RECORD}\n"));
    assert_eq!(self::cluster().run(&["logs", "acme"]).status.code(), Some(2));
}

#[test]
fn halt_makes_one_and_says_how_to_resume() {
    let cluster = cluster();
    let output = cluster.run(&["halt", "acme", "--reason", "INC-1", "--label", "app=bot"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("resume with: clawlock resume acme acme-gateway/halt-x7"), "{output:?}");
    let created: Value = serde_json::from_slice(&fs::read(cluster.0.path().join("created")).unwrap()).unwrap();
    assert_eq!(created["metadata"], json!({"generateName": "halt-", "namespace": "acme-gateway"}));
    assert_eq!(created["spec"], json!({"agentSelector": {"matchLabels": {"app": "bot"}}, "reason": "INC-1"}));
    assert_eq!(cluster.run(&["halt", "acme", "--reason", "x", "--namespace", "other"]).status.code(), Some(2));
    fs::write(cluster.0.path().join("slow"), "").unwrap();
    let output = cluster.run(&["halt", "acme", "--reason", "x", "--namespace", "acme", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(json_of(&output), json!({"namespace": "acme", "name": "halt-x7", "inForce": false}));
}

#[test]
fn resume_deletes_what_is_named_and_nothing_else() {
    let cluster = cluster();
    let halt = |namespace: &str, name: &str| object("AgentHalt", namespace, name, json!({"spec": {"reason": "INC-1"}}));
    cluster.put("halts", &[halt("acme", "a"), halt("acme-gateway", "b"), halt("other", "c")]);
    let output = cluster.run(&["resume", "acme"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stdout).contains("acme/a in force INC-1") && !text(&output.stdout).contains("other/c"),
        "{output:?}"
    );
    for wrong in ["other/c", "acme/b"] {
        assert_eq!(cluster.run(&["resume", "acme", "acme/a", wrong]).status.code(), Some(2));
    }
    assert!(cluster.asked("delete").is_empty());
    let output = cluster.run(&["resume", "acme", "acme/a"]);
    assert_eq!(output.status.code(), Some(1), "one is left");
    assert_eq!(cluster.asked("delete").len(), 1);
    assert_eq!(cluster.run(&["resume", "acme", "--all"]).status.code(), Some(0));
    assert_eq!(cluster.asked("delete").len(), 3);
}

#[test]
fn a_pod_that_a_gate_halted_is_shown_with_its_rule_and_resumed_like_any_other() {
    let cluster = cluster();
    let reason = "pod bot-0: tool rm is blocked by rule no-rm of policy acme/support";
    let spec = json!({
        "agentSelector": {}, "podUID": "u", "reason": reason,
        "cause": {"type": "Denial", "denial": {"policy": "acme/support", "rule": "no-rm"}},
    });
    let mut halt = object("AgentHalt", "acme", "pod-u", json!({ "spec": spec }));
    halt["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "bot-0", "uid": "u"}]);
    cluster.put("halts", std::slice::from_ref(&halt));
    cluster.put("objects", &[halt]);
    let shown = cluster.run(&["resume", "acme"]);
    let words = text(&shown.stdout);
    assert!(words.contains(&format!("acme/pod-u in force {reason}")), "{shown:?}");
    assert!(words.contains("pod bot-0, refused by acme/support#no-rm"), "{shown:?}");
    let listed = json_of(&cluster.run(&["resume", "acme", "--output", "json"]));
    assert_eq!((&listed[0]["pod"], &listed[0]["rule"]), (&"bot-0".into(), &"acme/support#no-rm".into()));
    let status = cluster.run(&["status", "acme"]);
    assert!(text(&status.stdout).contains(&format!("AgentHalt acme/pod-u, {reason}")), "{status:?}");
    assert_eq!(cluster.run(&["resume", "acme", "acme/pod-u"]).status.code(), Some(0));
    assert!(cluster.asked("delete").iter().any(|asked| asked.contains("pod-u")), "{:?}", cluster.asked("delete"));
}

fn lease(node: &str, seconds_ago: u64) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let time = Command::new("date")
        .args(["-u", "-d", &format!("@{}", now - seconds_ago), "+%Y-%m-%dT%H:%M:%S.000000Z"])
        .output()
        .unwrap();
    object("Lease", "kube-node-lease", node, json!({"spec": {"renewTime": text(&time.stdout).trim()}}))
}

fn state<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let check = report.as_array().unwrap().iter().find(|check| check["name"] == name).unwrap();
    (check["state"].as_str().unwrap(), check["message"].as_str().unwrap())
}

#[test]
fn doctor_names_what_weakens_a_cluster() {
    let cluster = cluster();
    let node =
        |name: &str, kernel: &str| object("Node", "", name, json!({"status": {"nodeInfo": {"kernelVersion": kernel}}}));
    let version = |version: &str| {
        fs::write(cluster.0.path().join("version"), json!({"serverVersion": {"gitVersion": version}}).to_string())
            .unwrap();
    };
    version("v1.34.2");
    cluster.put("nodes", &[node("n1", "6.12.1-generic")]);
    cluster.put("leases", &[lease("n1", 5)]);
    let good = json!({"metadata": {"name": "bot", "namespace": "acme", "labels": {"clawlock.dev/role": "agent"}}, "spec": {
        "securityContext": {"seccompProfile": {"type": "Localhost"}}, "containers": [{"name": "bot"}],
    }});
    cluster.put("pods", std::slice::from_ref(&good));
    let output = cluster.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout).lines().count(), 7);

    version("v1.31.0");
    cluster.put("nodes", &[node("n1", "6.1.0-40-amd64"), node("n2", "")]);
    cluster.put("leases", &[lease("n1", 600)]);
    cluster.put("gateways", &[gateway("False")]);
    let mut bad = good.clone();
    bad["metadata"] = json!({"name": "old", "namespace": "acme"});
    bad["spec"] = json!({
        "volumes": [{"secret": {"secretName": "keys"}}, {"projected": {"sources": [{"secret": {"name": "more"}}]}}],
        "containers": [{"name": "bot", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "token"}}}], "envFrom": [{"secretRef": {"name": "all"}}]}],
    });
    cluster.put("pods", &[good, bad]);
    let output = cluster.run(&["doctor", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = json_of(&output);
    for (name, part) in [
        ("kubernetes", "older than 1.33"),
        ("landlock", "node n2"),
        ("clocks", "a clock is wrong"),
        ("network", "EgressIsolated is False"),
        ("secrets", "acme/old has the Secrets all, keys, more, token"),
        ("sidecars", "acme/old"),
        ("vsock", "acme/old"),
    ] {
        let (state, message) = state(&report, name);
        assert_eq!(state, "weak", "{report}");
        assert!(message.contains(part), "{name}: {message}");
    }
    // This machine: whatever it has, it is said.
    let report = json_of(&cluster.run(&["doctor", "--local", "--output", "json"]));
    assert!(["good", "weak"].contains(&state(&report, "vsock").0) && state(&report, "landlock").1.len() > 3);
}

#[test]
fn shadow_sums_up_what_audit_mode_let_pass() {
    let cluster = cluster();
    let log = cluster.0.path().join("log");
    let log = log.to_str().unwrap();
    let by_rule =
        RECORD.replace(r#""shadow":"NoMatch","#, r#""shadow":"TierBlock","shadowPolicy":"acme/a","shadowRule":"r","#);
    fs::write(log, format!("{by_rule}\n")).unwrap();
    let output = cluster.run(&["shadow", "--from", log]);
    assert!(
        text(&output.stdout).contains("TierBlock            acme/default: tool exec, by rule r of acme/a"),
        "{output:?}"
    );
    let enforced = RECORD.replace(r#""shadow":"NoMatch","#, "");
    fs::write(log, format!("{RECORD}\n{enforced}\n{RECORD}\n{}\nstarted\n", RECORD.replace("exec", "write"))).unwrap();
    let output = cluster.run(&["shadow", "--from", log]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = text(&output.stdout);
    assert!(words.starts_with("       2 x  NoMatch              acme/default: tool exec\n"), "{words}");
    assert!(words.contains("3 of 4 records passed only because of mode Audit, 1 lines are no records"), "{words}");
    let report = json_of(&cluster.run(&["shadow", "--from", log, "--output", "json"]));
    assert_eq!((&report["wouldRefuse"], &report["sums"][0]["count"]), (&3.into(), &2.into()));
    fs::write(log, format!("{enforced}\n")).unwrap();
    assert_eq!(cluster.run(&["shadow", "--from", log]).status.code(), Some(0));
}
