//! `offboard` against a `kubectl` that plays a cluster: what it would do, what it does, in which order, and when it stops.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/kubectl.rs"]
mod common;

use std::fs;
use std::process::{Command, Output};

use common::Cluster;
use serde_json::{Value, json};

/// Answers from files, writes down what it was asked. Deletions of workloads take the pods with them.
const KUBECTL: &str = r#"case "$*" in
    *refuse-me*) echo 'Error from server (Forbidden): you may not' >&2; exit 1 ;;
    *delete*TenantGateway/*) rm gateways ;;
    *delete*) [ -f sticky ] || rm -f pods workloads ;;
    wait*|*" wait "*) [ -f pods ] || { echo 'error: no matching resources found' >&2; exit 1; } ;;
    *get*tenantgateways*) answer gateways ;;
    *get*cronjobs*) answer workloads ;;
    *get*pods*) answer pods ;;
    *get*namespaces*) answer namespaces ;;
    *get*upstreams*) answer upstreams ;;
    *) answer nothing ;;
esac
"#;

/// A cluster with a tenant whose Deployment, CronJob and bare pod run agents.
fn with_tenant() -> Cluster {
    let cluster = Cluster::playing(KUBECTL);
    let meta = |name: &str| json!({"name": name, "namespace": "acme"});
    let owned =
        json!({"name": "bot-1", "namespace": "acme", "ownerReferences": [{"kind": "ReplicaSet", "controller": true}]});
    let gateway = json!({
        "kind": "TenantGateway", "metadata": {"name": "acme", "namespace": "acme-gateway"},
        "spec": {"namespaces": ["acme"]},
    });
    let other = json!({"kind": "TenantGateway", "metadata": {"name": "other", "namespace": "acme-gateway"}});
    cluster.put("gateways", &[other, gateway]);
    cluster.put("namespaces", &[json!({"kind": "Namespace", "metadata": {"name": "acme"}})]);
    let pod = json!({"kind": "Pod", "metadata": owned});
    let bare = json!({"kind": "Pod", "metadata": meta("bare")});
    let deployment = json!({"kind": "Deployment", "metadata": meta("bot")});
    let cron = json!({"kind": "CronJob", "metadata": meta("nightly")});
    cluster.put("workloads", &[pod.clone(), deployment, bare.clone(), cron]);
    cluster.put("pods", &[pod, bare]);
    let metadata = json!({"name": "stripe", "namespace": "acme-gateway"});
    cluster.put("upstreams", &[json!({"kind": "Secret", "metadata": metadata})]);
    cluster
}

/// Runs `offboard`.
fn offboard(cluster: &Cluster, arguments: &[&str]) -> Output {
    cluster.run(&[&["offboard"], arguments].concat())
}

/// The commands that change something, in their order, without their fixed flags.
fn changes(cluster: &Cluster) -> Vec<String> {
    let changes = cluster.asked("delete --ignore").into_iter();
    changes.map(|line| line.split_once("--namespace ").unwrap().1.to_owned()).collect()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn without_yes_it_says_what_is_there_and_changes_nothing() {
    let cluster = with_tenant();
    let output = offboard(&cluster, &["acme", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(changes(&cluster), [""; 0]);
    let report = json(&output);
    assert_eq!(report["offboarded"], false);
    assert_eq!(report["gateway"], json!({"kind": "TenantGateway", "namespace": "acme-gateway", "name": "acme"}));
    assert_eq!((&report["namespaces"], &report["pods"]), (&json!(["acme"]), &json!(2)));
    let workloads: Vec<_> = report["workloads"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    assert_eq!(workloads, ["nightly", "bot", "bare"], "what has an owner goes with it");
    let left: Vec<_> = report["leftOver"].as_array().unwrap().iter().map(|item| item["kind"].clone()).collect();
    assert_eq!(left, ["Secret", "Namespace", "Namespace"]);
    assert_eq!(report["next"], json!(["clawlock offboard acme --yes"]));
    let text = String::from_utf8(offboard(&cluster, &["acme"]).stdout).unwrap();
    assert!(text.starts_with("tenant acme is still there; nothing was changed\n"), "{text}");
    assert!(text.contains("  Deployment acme/bot\n") && text.contains("  2 pod(s) run in acme\n"), "{text}");
}

#[test]
fn with_yes_agents_go_first_and_the_gateway_last() {
    let cluster = with_tenant();
    let output = offboard(&cluster, &["acme", "--yes", "--context", "prod", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        changes(&cluster),
        ["acme CronJob/nightly", "acme Deployment/bot", "acme Pod/bare", "acme-gateway TenantGateway/acme"]
    );
    let asked = fs::read_to_string(cluster.0.path().join("asked")).unwrap();
    assert!(asked.lines().all(|line| line.starts_with("--context prod ")), "{asked}");
    let report = json(&output);
    assert_eq!(report["offboarded"], true);
    assert_eq!(report["next"], json!(["kubectl --context=prod label namespace acme clawlock.dev/tenant-"]));
    // Once more there is nothing left to do.
    let again = offboard(&cluster, &["acme"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(changes(&cluster).len(), 4);
}

#[test]
fn while_pods_are_left_the_gateway_stays() {
    let cluster = with_tenant();
    fs::write(cluster.0.path().join("sticky"), "").unwrap();
    let output = offboard(&cluster, &["acme", "--yes"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("2 pod(s) are left or made again, the first is bot-1"), "{output:?}");
    assert!(!changes(&cluster).iter().any(|change| change.contains("TenantGateway")), "{:?}", changes(&cluster));
}

#[test]
fn what_cannot_be_asked_or_is_not_there_is_an_error() {
    let output = offboard(&Cluster::playing(KUBECTL), &["acme"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("tenant acme is not in this cluster"), "{output:?}");
    let output = offboard(&Cluster::playing(KUBECTL), &["acme", "--context", "refuse-me"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("you may not"), "{output:?}");
    let output = offboard(&Cluster::playing(KUBECTL), &["--all"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // No kubectl at all.
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawlock"));
    let output = command.args(["offboard", "acme"]).env("PATH", "/nowhere").output().unwrap();
    assert!(stderr(&output).contains("kubectl cannot be run"), "{output:?}");
}

#[test]
fn class16_names_from_the_cluster_cannot_command_a_terminal() {
    let cluster = with_tenant();
    let metadata = json!({"name": "\u{1b}[31mred", "namespace": "acme"});
    cluster.put("workloads", &[json!({"kind": "Deployment", "metadata": metadata})]);
    let output = offboard(&cluster, &["acme"]);
    assert!(!output.stdout.contains(&0x1b), "{output:?}");
}
