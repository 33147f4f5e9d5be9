//! Stored state: the bytes of what is in force, and the last good version of what is wrong.

use std::collections::BTreeSet;

use clawlock_compile::state::{Accepted, MAX_OBJECT, StateError, TenantState, of_tenant, resources, settle};
use clawlock_compile::{Compilation, Kind, ObjectRef, Resources, Unreadable};
use serde_json::{Value, json};

use crate::common::Probe::{Http, Tool, Upstream};
use crate::common::{changed, compiled, find, observe, pod, pod_in, read, set, told, world};
use clawlock_policy::document::Scheme::Https;

/// What the list of tenant acme holds.
fn accepted(objects: &[Value]) -> Vec<Accepted> {
    let resources = read(objects).unwrap();
    of_tenant(&resources, &compiled(objects), "acme").unwrap()
}

/// As it comes back from where it is stored.
fn stored(objects: &[Value]) -> Resources {
    resources(accepted(objects).iter().map(|object| Accepted::decode(&object.encode()).unwrap()))
}

fn digests(objects: &[Value]) -> BTreeSet<String> {
    accepted(objects).iter().map(Accepted::digest).collect()
}

const EXEC: crate::common::Probe = Tool("exec", r#"{"command":"ls"}"#);
const REFUND: crate::common::Probe = Http("POST", Https, "api.example", 443, "/v1/refunds/ch_1", r#"{"amount":50}"#);

/// Everything that pods of the world may do, in words.
fn observed(compilation: &Compilation) -> Vec<String> {
    let pods = [pod("support"), pod("trial"), pod("halted"), pod_in("acme-staging", "support")];
    let probes = [EXEC, REFUND, Upstream("api"), Upstream("keyed"), Upstream("basic"), Upstream("wiki")];
    pods.iter().flat_map(|pod| probes.map(|probe| observe(compilation, pod, probe))).collect()
}

#[test]
fn what_is_stored_decides_as_what_was_written() {
    let world = world();
    let again = stored(&world);
    assert_eq!(observed(&compiled(&world)), observed(&clawlock_compile::compile(&again)));
    let settings = |compilation: &Compilation| compilation.tenant("acme").unwrap().settings().clone();
    assert_eq!(settings(&compiled(&world)), settings(&clawlock_compile::compile(&again)));
    for object in accepted(&world) {
        assert_eq!(Accepted::decode(&object.encode()).unwrap().encode(), object.encode());
    }
}

#[test]
fn a_list_holds_what_the_tenant_needs_and_nothing_else() {
    let mut objects = world();
    let policy = |name: &str, namespace: &str| {
        json!({"kind": "AgentPolicy", "metadata": {"name": name, "namespace": namespace},
               "spec": {"agentSelector": {}, "rules": []}})
    };
    objects.push(policy("foreign", "elsewhere"));
    objects.push(policy("staging", "acme-staging"));
    let index = find(&objects, "ConfigMap corp-ca");
    objects[index]["data"]["notes.txt"] = json!("nobody's business");
    let told: Vec<String> =
        accepted(&objects).iter().map(|one| format!("{} {}/{}", one.kind(), one.namespace(), one.name())).collect();
    assert_eq!(
        told,
        [
            "AgentHalt acme/inc-42",
            "AgentHalt acme/pod-1",
            "AgentPolicy acme/careful",
            "AgentPolicy acme/halted",
            "AgentPolicy acme/payer",
            "AgentPolicy acme/support",
            "AgentPolicy acme/trial",
            "AgentPolicy acme-staging/staging",
            "ConfigMap acme-gateway/corp-ca",
            "TenantGateway acme-gateway/acme",
            "Upstream acme-gateway/api",
            "Upstream acme-gateway/basic",
            "Upstream acme-gateway/keyed",
            "Upstream acme-gateway/wiki",
        ]
    );
    let map = accepted(&objects).into_iter().find(|object| object.kind() == "ConfigMap").unwrap();
    let text = String::from_utf8(map.encode()).unwrap();
    assert!(text.contains("ca.crt") && !text.contains("next.crt") && !text.contains("notes.txt"), "{text}");
    assert_eq!(of_tenant(&read(&objects).unwrap(), &compiled(&objects), "beta"), None);
}

#[test]
fn only_what_decides_is_in_the_bytes() {
    let plain = digests(&world());
    for (pointer, value) in [
        ("/metadata/labels", json!({"a": "b"})),
        ("/metadata/annotations", json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"})),
        ("/metadata/resourceVersion", json!("7")),
        ("/metadata/uid", json!("a")),
        ("/metadata/generation", json!(3)),
        ("/metadata/finalizers", json!(["clawlock.dev/tenant"])),
        ("/status", json!({"observedGeneration": 3})),
    ] {
        for id in ["TenantGateway acme", "AgentPolicy support", "Upstream api", "AgentHalt inc-42", "ConfigMap corp-ca"]
        {
            assert_eq!(digests(&changed(id, pointer, value.clone())), plain, "{id} {pointer}");
        }
    }
    for (id, pointer, value) in [
        ("TenantGateway acme", "/spec/replicas", json!(4)),
        ("AgentPolicy support", "/spec/mode", json!("Audit")),
        ("Upstream api", "/spec/port", json!(444)),
        ("AgentHalt inc-42", "/spec/reason", json!("other")),
        ("ConfigMap corp-ca", "/data/ca.crt", json!("other")),
    ] {
        let objects = changed(id, pointer, value);
        let one = |objects: &[Value]| {
            let resources = read(objects).unwrap();
            of_tenant(&resources, &compiled(&world()), "acme").unwrap().iter().map(Accepted::digest).collect()
        };
        let other: BTreeSet<String> = one(&objects);
        assert_eq!(other.difference(&plain).count(), 1, "{id} {pointer}: one object is another one");
    }
}

/// What version 1 has written must be read by every later one.
#[test]
fn recorded_payloads_are_read() {
    let read = |recorded: &str| -> Vec<Accepted> {
        recorded.lines().map(|line| Accepted::decode(line.as_bytes()).unwrap()).collect()
    };
    let written = |objects: &[Accepted]| -> String {
        objects.iter().map(|one| String::from_utf8(one.encode()).unwrap() + "\n").collect()
    };
    // From before categories, schedules, limits and residency.
    let first = include_str!("recorded-state-v1.jsonl");
    // From before agents.pluginOptional.
    let second = include_str!("recorded-state-v1-language.jsonl");
    // From before onDeny, podUID and cause.
    let third = include_str!("recorded-state-v1-plugin.jsonl");
    for recorded in [first, second, third] {
        assert_eq!(written(&read(recorded)), recorded, "what says nothing new is written as it was");
        assert_eq!(told(&clawlock_compile::compile(&resources(read(recorded)))), "");
    }
    let recorded = include_str!("recorded-state-v1-halts.jsonl");
    let objects = read(recorded);
    let now = written(&accepted(&world()));
    assert_eq!(now, recorded, "the bytes changed: keep the old file, record a new one, and read both");
    assert_eq!(observed(&clawlock_compile::compile(&resources(objects))), observed(&compiled(&world())));
}

#[test]
fn bytes_that_are_no_object_are_refused() {
    let ok = json!({
        "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentPolicy", "metadata": {"namespace": "a", "name": "b"},
        "spec": {"agentSelector": {}, "mode": "Enforce", "rules": []},
    });
    Accepted::decode(ok.to_string().as_bytes()).unwrap();
    for (pointer, value) in [
        ("/apiVersion", json!("v1")),
        ("/apiVersion", json!("clawlock.dev/v2")),
        ("/kind", json!("Secret")),
        ("/kind", json!("ConfigMap")),
        ("/metadata/uid", json!("a")),
        ("/metadata", json!({})),
        ("/spec", Value::Null),
        ("/spec/schedule", json!({"from": "newer"})),
        ("/spec/rules", json!([{"name": "a", "match": {"tools": ["a"]}, "tier": "Auto", "limit": 1}])),
        ("/data", json!({"a": "b"})),
        ("/unreadable", json!({"message": "a"})),
        ("/other", json!(1)),
    ] {
        let mut wrong = ok.clone();
        set(&mut wrong, pointer, value.clone());
        let result = Accepted::decode(wrong.to_string().as_bytes());
        assert!(matches!(result, Err(StateError::Form(_))), "{pointer} = {value}: {result:?}");
    }
    for bytes in [&b""[..], b"null", b"[]", b"{}", b"\xff", &ok.to_string().as_bytes()[1..]] {
        assert!(matches!(Accepted::decode(bytes), Err(StateError::Form(_))));
    }
    assert!(matches!(Accepted::decode(&vec![b' '; MAX_OBJECT + 1]), Err(StateError::Size(_))));
}

#[test]
fn a_list_is_read_as_it_was_written() {
    let objects: Vec<String> = digests(&world()).into_iter().collect();
    let state = TenantState { tenant: "acme".to_owned(), generation: 41, objects };
    assert_eq!(TenantState::decode(&state.encode()).unwrap(), state);
    let mut wrong: Value = serde_json::from_slice(&state.encode()).unwrap();
    wrong["objects"][0] = json!("sha256:abc");
    assert!(TenantState::decode(wrong.to_string().as_bytes()).is_err());
    wrong["objects"] = json!([]);
    wrong["more"] = json!(1);
    assert!(TenantState::decode(wrong.to_string().as_bytes()).is_err());
    let many = TenantState { objects: vec![state.objects[0].clone(); 8001], ..state };
    assert!(TenantState::decode(&many.encode()).is_err());
}

#[test]
fn a_broken_edit_keeps_the_last_good_version() {
    let good = stored(&world());
    let before = observed(&compiled(&world()));
    for (id, pointer, value) in [
        ("TenantGateway acme", "/spec/trustDomain", json!("Not A Domain")),
        ("TenantGateway acme", "/spec/guardrails/0/match/operations", json!([])),
        ("TenantGateway acme", "/spec/agents/exemptions/0/podSelector", json!({})),
        ("Upstream api", "/spec/hosts", json!(["**"])),
        ("Upstream api", "/spec/tls/caRef/name", json!("nothing")),
        ("AgentPolicy support", "/spec/rules/0/when", json!("((")),
        ("AgentPolicy support", "/spec/agentSelector/matchLabels", json!({"a b": "c"})),
        ("ConfigMap corp-ca", "/data/ca.crt", json!("nonsense")),
        ("ConfigMap corp-ca", "/data", json!({})),
    ] {
        let settled = settle(&read(&changed(id, pointer, value.clone())).unwrap(), &good);
        assert_eq!(observed(&settled.compilation), before, "{id} {pointer} = {value}");
        assert_eq!(settled.kept.len(), 1, "{id} {pointer}: {:?}", settled.kept);
        assert!(!settled.problems.is_empty(), "{id} {pointer}: the mistake must be told");
    }
    // The ConfigMap is gone altogether.
    let mut objects = world();
    objects.remove(find(&world(), "ConfigMap corp-ca"));
    let settled = settle(&read(&objects).unwrap(), &good);
    assert_eq!(observed(&settled.compilation), before);
}

#[test]
fn what_is_settled_can_be_stored_and_settled_again() {
    let broken = changed("AgentPolicy support", "/spec/rules/0/when", json!("(("));
    let current = read(&broken).unwrap();
    let mut good = stored(&world());
    for _ in 0..3 {
        let settled = settle(&current, &good);
        assert_eq!(observed(&settled.compilation), observed(&compiled(&world())));
        let list = of_tenant(&settled.resources, &settled.compilation, "acme").unwrap();
        assert_eq!(list.iter().map(Accepted::digest).collect::<BTreeSet<_>>(), digests(&world()));
        good = resources(list.iter().map(|object| Accepted::decode(&object.encode()).unwrap()));
    }
}

#[test]
fn what_never_was_good_denies() {
    let broken = changed("AgentPolicy support", "/spec/rules/0/when", json!("(("));
    let settled = settle(&read(&broken).unwrap(), &Resources::default());
    assert!(settled.kept.is_empty());
    assert!(observe(&settled.compilation, &pod("support"), EXEC).starts_with("Deny: Halted"));
    // Stored, it still stops its agents, and it never becomes a good version of itself.
    let list = of_tenant(&settled.resources, &settled.compilation, "acme").unwrap();
    let again = settle(&read(&broken).unwrap(), &resources(list));
    assert!(again.kept.is_empty());
    assert!(observe(&again.compilation, &pod("support"), EXEC).starts_with("Deny: Halted"));
    // An upstream is not there, and its claims break nobody else's.
    let mut upstreams = changed("Upstream api", "/spec/credential/type", json!("None"));
    let mut twin = upstreams[find(&upstreams, "Upstream api")].clone();
    twin["metadata"]["name"] = json!("twin");
    twin["spec"].as_object_mut().unwrap().remove("credential");
    upstreams.push(twin);
    let settled = settle(&read(&upstreams).unwrap(), &Resources::default());
    assert_eq!(observe(&settled.compilation, &pod("support"), Upstream("api")), "no such upstream");
    // A tenant is none.
    let tenant = changed("TenantGateway acme", "/spec/replicas", json!(51));
    let settled = settle(&read(&tenant).unwrap(), &Resources::default());
    assert_eq!(observe(&settled.compilation, &pod("support"), EXEC), "no assignment");
}

#[test]
fn what_is_deleted_is_gone() {
    let good = stored(&world());
    let mut objects = changed("AgentPolicy trial", "/spec/rules/0/when", json!("(("));
    objects.remove(find(&objects, "AgentPolicy support"));
    objects.remove(find(&objects, "AgentHalt inc-42"));
    let settled = settle(&read(&objects).unwrap(), &good);
    assert_eq!(observe(&settled.compilation, &pod("support"), EXEC), "Deny: NoPolicy");
    assert_eq!(observe(&settled.compilation, &pod("halted"), EXEC), "Allow by acme/halted#everything");
}

#[test]
fn halts_never_wait() {
    let good = stored(&world());
    // A new one holds beside whatever else is broken, and so does one that is itself wrong.
    let mut objects = changed("TenantGateway acme", "/spec/replicas", json!(51));
    for reason in ["stop", "line\nbreak"] {
        objects.push(json!({
            "kind": "AgentHalt", "metadata": {"name": "now", "namespace": "acme"},
            "spec": {"agentSelector": {"matchLabels": {"app": "support"}}, "reason": reason},
        }));
        let settled = settle(&read(&objects).unwrap(), &good);
        assert!(observe(&settled.compilation, &pod("support"), EXEC).starts_with("Deny: Halted"), "{reason:?}");
        objects.pop();
    }
}

/// Resources with one object as the API server has it, unknown fields and all.
fn with_raw(id: &str, change: impl Fn(&mut Value)) -> Resources {
    let mut objects = world();
    let index = find(&objects, id);
    let mut raw = objects.remove(index);
    change(&mut raw);
    let mut resources = read(&objects).unwrap();
    let kind = match raw["kind"].as_str().unwrap() {
        "TenantGateway" => Kind::TenantGateway,
        "Upstream" => Kind::Upstream,
        "AgentPolicy" => Kind::AgentPolicy,
        _ => Kind::AgentHalt,
    };
    resources.add(kind, &raw);
    resources
}

#[test]
fn an_object_as_the_api_server_has_it_is_read() {
    for id in ["TenantGateway acme", "Upstream api", "AgentPolicy support", "AgentHalt inc-42"] {
        let resources = with_raw(id, |object| {
            object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
            object["status"] = json!({"conditions": "of another version"});
        });
        assert_eq!(resources.unreadable, [], "{id}");
        assert_eq!(observed(&clawlock_compile::compile(&resources)), observed(&compiled(&world())), "{id}");
    }
}

#[test]
fn an_object_that_cannot_be_read_keeps_its_last_good_version_or_denies() {
    let good = stored(&world());
    for id in ["TenantGateway acme", "Upstream api", "AgentPolicy support", "AgentHalt inc-42"] {
        let current = with_raw(id, |object| object["spec"]["fromTheFuture"] = json!({"a": 1}));
        assert_eq!(current.unreadable.len(), 1, "{id}");
        let settled = settle(&current, &good);
        assert_eq!(observed(&settled.compilation), observed(&compiled(&world())), "{id}");
        assert_eq!(settled.kept.len(), 1, "{id}");
        let told: Vec<String> = settled.problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|problem| problem.contains("unknown field `fromTheFuture`")), "{id}: {told:?}");
        let settled = settle(&current, &Resources::default());
        let seen = match id {
            "TenantGateway acme" => observe(&settled.compilation, &pod("support"), EXEC) == "no assignment",
            "Upstream api" => observe(&settled.compilation, &pod("support"), Upstream("api")) == "no such upstream",
            "AgentPolicy support" => observe(&settled.compilation, &pod("support"), EXEC).starts_with("Deny: Halted"),
            _ => observe(&settled.compilation, &pod("halted"), EXEC).starts_with("Deny: Halted"),
        };
        assert!(seen, "{id}");
        // It stops whom it selects, as far as that can be read.
        let others = observe(&settled.compilation, &pod("trial"), EXEC);
        assert!(!others.starts_with("Deny: Halted"), "{id}: {others}");
        if matches!(id, "AgentPolicy support" | "AgentHalt inc-42") {
            let list = of_tenant(&settled.resources, &settled.compilation, "acme").unwrap();
            let again = resources(list.iter().map(|object| Accepted::decode(&object.encode()).unwrap()));
            assert_eq!(again.unreadable, settled.resources.unreadable, "{id}: it is stored");
        }
    }
    // With an unreadable selector it stops all of its namespace.
    for selector in [json!({"matchLabels": 1}), json!({"labels": {}}), json!({"matchLabels": {"a b": "c"}})] {
        let current = with_raw("AgentPolicy support", |object| {
            object["spec"]["fromTheFuture"] = json!(1);
            object["spec"]["agentSelector"] = selector.clone();
        });
        let settled = settle(&current, &Resources::default());
        assert!(observe(&settled.compilation, &pod("trial"), EXEC).starts_with("Deny: Halted"), "{selector}");
        assert!(observe(&settled.compilation, &pod_in("acme-staging", "x"), EXEC).starts_with("Deny: NoPolicy"));
    }
}

#[test]
fn an_object_that_is_too_large_to_store_is_wrong() {
    let condition = format!("args.a == '{}'", "x".repeat(4000));
    let rule = |index: usize| json!({"name": format!("r{index}"), "match": {"tools": ["*"]}, "when": condition, "tier": "Auto"});
    let rules: Vec<Value> = (0..200).map(rule).collect();
    let large = changed("AgentPolicy support", "/spec/rules", json!(rules));
    let settled = settle(&read(&large).unwrap(), &stored(&world()));
    assert_eq!(observe(&settled.compilation, &pod("support"), EXEC), "Allow by acme/support#list");
    assert!(settled.problems.iter().any(|problem| problem.message.contains("split it")), "{:?}", settled.problems);
    let settled = settle(&read(&large).unwrap(), &Resources::default());
    assert!(observe(&settled.compilation, &pod("support"), EXEC).starts_with("Deny: Halted"));
    let list = of_tenant(&settled.resources, &settled.compilation, "acme").unwrap();
    assert!(list.iter().all(|object| object.encode().len() <= MAX_OBJECT));
}

#[test]
fn an_error_of_any_length_is_one_bounded_line() {
    let object = ObjectRef { kind: Kind::AgentPolicy, namespace: "a".to_owned(), name: "b".to_owned() };
    let unreadable = Unreadable::new(object, &format!("line\n{}", "x".repeat(10_000)));
    assert!(unreadable.message.len() < 600 && !unreadable.message.contains('\n'));
}
