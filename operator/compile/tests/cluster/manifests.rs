//! Manifests that pods name: what holds for the pods, what stops them, and what is stored.

use clawlock_compile::state::{Accepted, of_tenant, resources, settle};
use clawlock_compile::{Compilation, Pod, compile};
use clawlock_policy::document::Document;
use clawlock_policy::document::Scheme::{self, Https};
use serde_json::{Value, json};

use crate::common::Probe::{self, Http, Tool};
use crate::common::{TICKET, compiled, observe, pod, pod_in, read, told, world};

const EXEC: Probe = Tool("exec", r#"{"command":"ls"}"#);
const REFUND: Probe = Http("POST", Https, "api.example", 443, "/v1/refunds/ch_1", r#"{"amount":50}"#);
const READ: Probe = Http("GET", Scheme::Http, "en.wiki.example", 8080, "/wiki/Cat", "");

const EXECUTED: &str = "Allow by acme/support#list";
const REFUNDED: &str = "Allow by acme/support#small-refund";
const READS: &str = "Allow by acme/support#wiki";

fn map(namespace: &str, name: &str, data: Value) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data})
}

/// The world with a manifest of namespace acme.
fn with(data: Value) -> Vec<Value> {
    [world(), vec![map("acme", "m", data)]].concat()
}

fn naming(manifest: &str) -> Pod {
    Pod { manifest: Some(manifest.to_owned()), ..pod("support") }
}

fn seen(manifest: &Value, probe: Probe) -> String {
    observe(&compiled(&with(json!({"manifest.json": manifest.to_string()}))), &naming("m"), probe)
}

fn full() -> Value {
    json!({
        "skill": "support", "tool_scope": ["exec"], "file_access": "write", "binary_access": "all",
        "allowed_hosts": ["api.example", "en.wiki.example:8080"], "on_failure": "deny",
    })
}

#[test]
fn each_key_of_a_manifest_narrows_what_policy_allows() {
    assert_eq!(seen(&full(), EXEC), EXECUTED);
    assert_eq!(seen(&full(), REFUND), REFUNDED);
    assert_eq!(seen(&full(), READ), READS);
    let refused = |key: &str| format!("Deny by manifest/acme/m#{key}: NotDeclared");
    for (key, value, probe, by) in [
        ("tool_scope", json!(["read"]), EXEC, "tool_scope"),
        ("skill", json!("exec"), EXEC, ""),
        ("file_access", json!("read"), EXEC, "file_access"),
        ("binary_access", json!("none"), EXEC, "binary_access"),
        ("allowed_hosts", json!(["api.example"]), READ, "allowed_hosts"),
        ("allowed_hosts", json!(["en.wiki.example"]), READ, "allowed_hosts"),
        ("allowed_hosts", json!(["api.example:8443"]), REFUND, "allowed_hosts"),
        ("allowed_hosts", json!([]), REFUND, "allowed_hosts"),
    ] {
        let mut manifest = full();
        manifest[key] = value;
        let expected = if by.is_empty() { EXECUTED.to_owned() } else { refused(by) };
        assert_eq!(seen(&manifest, probe), expected, "{manifest}");
    }
    let mut scoped = full();
    scoped.as_object_mut().unwrap().remove("tool_scope");
    assert_eq!(seen(&scoped, EXEC), refused("tool_scope"));
    scoped["skill"] = json!("exec");
    assert_eq!(seen(&scoped, EXEC), EXECUTED, "without a scope the skill is its tool");
}

/// What policy refuses stays refused, whatever the manifest declares.
#[test]
fn a_manifest_opens_nothing() {
    let everything = json!({
        "skill": "a", "tool_scope": ["rm", "write", "exec"], "file_access": "write", "binary_access": "all",
        "allowed_hosts": ["api.example", "api.example:8443", "elsewhere.example"],
    });
    let bare = compiled(&world());
    for probe in [
        Tool("rm", "{}"),
        Tool("write", r#"{"size":20}"#),
        Http("DELETE", Https, "api.example", 443, "/v1/repos/one", ""),
        Http("GET", Https, "elsewhere.example", 443, "/", ""),
        Http("GET", Https, "api.example", 8443, "/", ""),
    ] {
        let before = observe(&bare, &pod("support"), probe);
        assert!(!before.starts_with("Allow"), "{before}");
        assert_eq!(seen(&everything, probe), before);
    }
}

fn stopped(compilation: &Compilation, pod: &Pod) -> String {
    let (exec, refund) = (observe(compilation, pod, EXEC), observe(compilation, pod, REFUND));
    assert!(exec.starts_with("Deny: Halted"), "{exec}");
    assert_eq!(exec, refund);
    assert!(compilation.manifest_problem(&pod.namespace, pod.manifest.as_deref().unwrap()).is_some());
    exec
}

#[test]
fn a_manifest_that_does_not_hold_stops_its_pods_and_no_others() {
    let deep = format!("{{\"skill\": {}", "[".repeat(10_000));
    let large = "x".repeat(10 << 20);
    for (data, reason) in [
        (json!({}), "neither manifest.json nor claw.toml"),
        (json!({"other.json": full().to_string()}), "neither manifest.json nor claw.toml"),
        (json!({"manifest.json": full().to_string(), "claw.toml": "skill = 'a'"}), "both manifest.json and claw.toml"),
        (json!({"manifest.json": ""}), "manifest.json, line 1"),
        (json!({"manifest.json": deep}), "manifest.json, line 1"),
        (json!({"manifest.json": large}), "more than 16384 bytes"),
        (
            json!({"manifest.json": "{\"skill\": \"a\",\n\"skill\": \"b\"}"}),
            "line 2, column 1: the key \"skill\" is there twice",
        ),
        (json!({"manifest.json": "{\"skill\": \"a\",\n\"hosts\": []}"}), "line 2, column 1: unknown key \"hosts\""),
        (json!({"manifest.json": "{\"skill\": \"a\u{0}\"}"}), "line 1"),
        (json!({"manifest.json": "{\"skill\": \"\\ud800\"}"}), "line 1"),
        (
            json!({"manifest.json": "{\"skill\": \"a\",\n \"forbidden_syscalls\": [\"ptrace\"]}"}),
            "line 2, column 2: forbidden_syscalls is not supported: system calls",
        ),
        (json!({"manifest.json": "{\"skill\": \"a\", \"on_failure\": \"halt\"}"}), "on_failure is not supported"),
        (json!({"claw.toml": "skill = 'a'\nallowed_binaries = []"}), "claw.toml, line 2, column 1: allowed_binaries"),
    ] {
        let objects = with(data);
        let compilation = compiled(&objects);
        let denial = stopped(&compilation, &naming("m"));
        assert!(denial.contains("ConfigMap acme/m") && denial.contains(reason), "{reason}: {denial}");
        assert_eq!(observe(&compilation, &pod("support"), EXEC), EXECUTED, "it names no manifest");
        // No last good version is kept: what nobody declares any more is closed.
        let good = read(&with(json!({"manifest.json": full().to_string()}))).unwrap();
        let settled = settle(&read(&objects).unwrap(), &good);
        stopped(&settled.compilation, &naming("m"));
    }
}

#[test]
fn a_manifest_that_is_not_there_stops_the_pod() {
    let elsewhere = [world(), vec![map("acme-gateway", "m", json!({"manifest.json": full().to_string()}))]].concat();
    let long = "a".repeat(300);
    for (objects, name) in [
        (world(), "m"),
        (elsewhere, "m"),
        (with(json!({"manifest.json": "{}"})), "M"),
        (world(), ""),
        (world(), &*long),
    ] {
        let denial = stopped(&compiled(&objects), &naming(name));
        assert!(denial.contains("clawlock.dev/manifest"), "{denial}");
    }
    let staging = Pod { manifest: Some("m".to_owned()), ..pod_in("acme-staging", "support") };
    stopped(&compiled(&with(json!({"manifest.json": full().to_string()}))), &staging);
    let twice =
        [with(json!({"claw.toml": "skill = 'a'"})), vec![map("acme", "m", json!({"claw.toml": "skill = 'a'"}))]];
    assert!(stopped(&compiled(&twice.concat()), &naming("m")).contains("it is there twice"));
}

#[test]
fn the_assignment_names_the_manifest_by_its_digest() {
    let digests = |data: Value, pod: &Pod| compiled(&with(data)).assign(pod, TICKET).unwrap().assignment.digests;
    let text = full().to_string();
    let one = digests(json!({"manifest.json": text}), &naming("m"));
    let without = digests(json!({"manifest.json": text}), &pod("support"));
    assert_eq!(one.len(), without.len() + 1);
    assert!(without.iter().all(|digest| one.contains(digest)));
    let toml = json!({"claw.toml": "skill = 'support'\ntool_scope = ['read']"});
    assert_ne!(one, digests(toml, &naming("m")), "an edit is another document");
    let compilation = compiled(&with(json!({"manifest.json": text})));
    let pod = naming("m");
    assert_eq!(compilation.digests("acme", &pod.uid, &pod.labels, pod.manifest.as_deref()), one);
    let documents = compilation.assign(&pod, TICKET).unwrap().documents;
    let manifests = documents.iter().filter(|document| matches!(document, Document::Manifest(_)));
    assert_eq!(manifests.count(), 1);
    assert_eq!(told(&compilation), told(&compiled(&world())), "a manifest is nobody else's problem");
}

#[test]
fn manifests_are_stored_with_the_tenant_and_bounded() {
    let mut objects = with(json!({"manifest.json": full().to_string(), "README": "x"}));
    objects.push(map("elsewhere", "m", json!({"manifest.json": full().to_string()})));
    let stored = |objects: &[Value]| {
        let resources = read(objects).unwrap();
        let accepted = of_tenant(&resources, &compile(&resources), "acme").unwrap();
        accepted.iter().map(|object| Accepted::decode(&object.encode()).unwrap()).collect::<Vec<_>>()
    };
    let of = |all: &[Accepted]| -> Vec<String> {
        let maps = all.iter().filter(|object| object.kind() == "ConfigMap" && object.namespace() != "acme-gateway");
        maps.map(|object| format!("{}/{}", object.namespace(), object.name())).collect()
    };
    let accepted = stored(&objects);
    assert_eq!(of(&accepted), ["acme/m"]);
    let manifest = accepted.iter().find(|object| object.namespace() == "acme" && object.name() == "m").unwrap();
    assert!(!String::from_utf8(manifest.encode()).unwrap().contains("README"));
    let again = compile(&resources(accepted));
    assert_eq!(observe(&again, &naming("m"), EXEC), EXECUTED);
    assert_eq!(observe(&again, &naming("m"), Tool("read", "{}")), "Deny by manifest/acme/m#tool_scope: NotDeclared");

    objects.extend((0..600).map(|number| map("acme", &format!("a{number:03}"), json!({"claw.toml": "skill = 'a'"}))));
    let many = stored(&objects);
    assert_eq!(of(&many).len(), 500);
    stopped(&compile(&resources(many)), &naming("m"));
}
