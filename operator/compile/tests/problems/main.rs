//! Mistakes: each is found, at its place, with words that help.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "../common/world.rs"]
mod common;
mod mistakes;

use clawlock_compile::{Severity, Topic, check_policy};
use common::{changed, compiled, find, objects, read, set, told, world};
use mistakes::mistakes;
use serde_json::{Value, json};

/// The problems of one object, as `path: message`.
fn problems_of(objects: &[Value], id: &str, severity: Severity) -> Vec<String> {
    let compilation = compiled(objects);
    let (kind, name) = id.split_once(' ').unwrap();
    let of_object = compilation.problems.iter().filter(|problem| {
        problem.object.kind.as_str() == kind && problem.object.name == name && problem.severity == severity
    });
    of_object.map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn the_world_has_no_problem() {
    assert_eq!(told(&compiled(&world())), "");
}

#[test]
fn each_mistake_is_told_at_its_place() {
    for (id, pointer, value, path, part) in mistakes() {
        let short = value.to_string().chars().take(60).collect::<String>();
        let objects = changed(id, pointer, value);
        let id = match pointer {
            "/metadata/name" => format!("{} {}", id.split(' ').next().unwrap(), objects_name(&objects, id)),
            _ => id.to_owned(),
        };
        let told = problems_of(&objects, &id, Severity::Error);
        assert!(
            told.iter().any(|text| text.starts_with(&format!("{path}: ")) && text.contains(part)),
            "{id} {pointer} = {short}: {told:#?}"
        );
        for text in told {
            assert!(text.len() < 2000 && !text.contains(['\n', '\0']), "{text:.200}");
        }
    }
}

/// The changed name of an object.
fn objects_name(objects: &[Value], id: &str) -> String {
    let index = find(&world(), id);
    objects[index]["metadata"]["name"].as_str().unwrap().to_owned()
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut objects = changed("AgentPolicy support", "/spec/rules/0/when", json!("args.command =="));
    let index = find(&objects, "AgentPolicy support");
    set(&mut objects[index], "/spec/rules/2/match/http/methods", json!(["get"]));
    set(&mut objects[index], "/spec/rules/3/match/tools", json!([]));
    let policy = read(&objects).unwrap().policies.remove(0);
    let problems = check_policy(&policy).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["spec.rules[0].when", "spec.rules[2].match.http.methods[0]", "spec.rules[3].match.tools"]);
    assert!(problems[0].to_string().starts_with("AgentPolicy acme/support, spec.rules[0].when: "));
}

#[test]
fn problems_of_one_object_are_bounded() {
    let rules: Vec<Value> =
        (0..1000).map(|_| json!({"name": "A b", "match": {"tools": []}, "when": "(", "tier": "Auto"})).collect();
    let told = problems_of(
        &changed("AgentPolicy support", "/spec/rules", json!(rules)),
        "AgentPolicy support",
        Severity::Error,
    );
    assert_eq!(told.len(), 100);
}

#[test]
fn numbers_in_paths_sort_by_value() {
    let rules: Vec<Value> =
        (0..12).map(|index| json!({"name": format!("r{index}"), "match": {}, "tier": "Auto"})).collect();
    let told = problems_of(
        &changed("AgentPolicy support", "/spec/rules", json!(rules)),
        "AgentPolicy support",
        Severity::Error,
    );
    let expected: Vec<String> = (0..12).map(|index| format!("spec.rules[{index}].match")).collect();
    let paths: Vec<&str> = told.iter().map(|text| text.split(": ").next().unwrap()).collect();
    assert_eq!(paths, expected);
}

#[test]
fn a_private_key_in_a_bundle_is_refused_and_not_shown() {
    let pem = "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n";
    let mut objects = world();
    let index = find(&objects, "ConfigMap corp-ca");
    objects[index]["data"]["ca.crt"] = json!(pem);
    let told = problems_of(&objects, "Upstream api", Severity::Error).join("\n");
    assert!(told.contains("keep only the certificates") && !told.contains("Y2FuYXJ5"), "{told}");
}

#[test]
fn a_bundle_is_certificates_within_a_bound() {
    for (pem, part) in [
        ("", "no certificate"),
        ("nonsense", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\n", "PEM"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "PEM"),
        (&" ".repeat(70_000), "at most 65536"),
    ] {
        let mut objects = world();
        let index = find(&objects, "ConfigMap corp-ca");
        objects[index]["data"]["ca.crt"] = json!(pem);
        let told = problems_of(&objects, "Upstream api", Severity::Error).join("\n");
        assert!(told.starts_with("spec.tls.caRef: ") && told.contains(part), "{pem:.40}: {told}");
    }
}

#[test]
fn a_reference_to_what_is_not_there_warns_only() {
    for (pointer, value, path, part) in [
        (
            "/spec/rules/2/match/http/upstreams",
            json!(["wiki", "wikki"]),
            "spec.rules[2].match.http.upstreams[1]",
            "no Upstream of tenant acme",
        ),
        (
            "/spec/rules/1/match/operations",
            json!(["api.create_*", "api.creat"]),
            "spec.rules[1].match.operations[1]",
            "is no operation of",
        ),
        ("/metadata/namespace", json!("elsewhere"), "metadata.namespace", "no TenantGateway lists"),
    ] {
        let objects = changed("AgentPolicy support", pointer, value);
        assert_eq!(problems_of(&objects, "AgentPolicy support", Severity::Error), Vec::<String>::new());
        let told = problems_of(&objects, "AgentPolicy support", Severity::Warning);
        assert!(told.iter().any(|text| text.starts_with(path) && text.contains(part)), "{told:?}");
    }
    let objects = changed("Upstream wiki", "/spec/hosts", json!([]));
    let told = problems_of(&objects, "AgentPolicy support", Severity::Warning).join("\n");
    assert!(told.contains("is invalid, so that nothing reaches it"), "{told}");
}

#[test]
fn a_pattern_that_matches_nothing_names_nothing_that_is_missing() {
    let topics = |pattern: &str| -> Vec<Topic> {
        let objects = changed("TenantGateway acme", "/spec/guardrails/0/match/operations", json!([pattern]));
        let problems = compiled(&objects).problems;
        let told = problems.iter().filter(|problem| problem.path == "spec.guardrails[0].match.operations[0]");
        told.map(|problem| problem.topic).collect()
    };
    assert_eq!(topics("*.purge_*"), [Topic::Content]);
    assert_eq!(topics("api.purge"), [Topic::Reference]);
}

/// Guardrails are sorted in the document, and a rule without a match is none; places are those of the
/// object all the same.
#[test]
fn places_are_those_of_the_object() {
    let path = "/spec/guardrails/0/match/operations";
    let objects = changed("TenantGateway acme", path, json!(["api.remove_*"]));
    let told = problems_of(&objects, "TenantGateway acme", Severity::Warning).join("\n");
    assert!(told.starts_with("spec.guardrails[0].match.operations[0]: "), "{told}");
    let mut objects = changed("AgentPolicy support", "/spec/rules/0/match", json!({}));
    let index = find(&objects, "AgentPolicy support");
    set(&mut objects[index], "/spec/rules/2/match/http/upstreams", json!(["wikki"]));
    let told = problems_of(&objects, "AgentPolicy support", Severity::Warning).join("\n");
    assert!(told.starts_with("spec.rules[2].match.http.upstreams[0]: "), "{told}");
}

#[test]
fn what_holds_for_nobody_warns() {
    for (id, pointer, value, part) in [
        ("AgentHalt inc-42", "/metadata/namespace", json!("elsewhere"), "stops nobody"),
        ("Upstream wiki", "/metadata/namespace", json!("elsewhere"), "nobody can use"),
        ("TenantGateway acme", "/spec/policyConstraints/allowedModes", json!(["Enforce"]), "says nothing"),
    ] {
        let told = problems_of(&changed(id, pointer, value), id, Severity::Warning).join("\n");
        assert!(told.contains(part), "{id}: {told}");
    }
    let objects = changed("TenantGateway acme", "/spec/policyConstraints", json!({}));
    let told = problems_of(&objects, "AgentPolicy trial", Severity::Warning).join("\n");
    assert!(told.starts_with("spec.mode") && told.contains("is enforced"), "{told}");
}

/// Two objects that claim the same thing are both refused, whichever comes first.
#[test]
fn claims_of_two_are_refused_on_both() {
    let second = |text: &str| -> Vec<Value> {
        let mut all = world();
        all.extend(objects(text));
        all
    };
    let upstream = |name: &str, hosts: &str, port: u16, scheme: &str| {
        second(&format!(
            "kind: Upstream\nmetadata: {{name: {name}, namespace: acme-gateway}}\n\
             spec: {{protocol: HTTP, scheme: {scheme}, hosts: [{hosts}], port: {port}}}"
        ))
    };
    let gateway = |name: &str, namespace: &str, agents: &str, domain: &str| {
        second(&format!(
            "kind: TenantGateway\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{namespaces: [{agents}], trustDomain: {domain}}}"
        ))
    };
    for (objects, one, two, part) in [
        (upstream("again", "b.example, API.example", 443, "https"), "Upstream api", "Upstream again", "also declared"),
        (upstream("again", "a.wiki.example", 8080, "http"), "Upstream wiki", "Upstream again", "also declared"),
        (upstream("again", "\"a*.wiki.example\"", 8080, "http"), "Upstream wiki", "Upstream again", "also declared"),
        (upstream("api", "b.example", 443, "https"), "Upstream api", "Upstream api", "have this name"),
        (
            gateway("other", "other-gateway", "acme", "other.example"),
            "TenantGateway acme",
            "TenantGateway other",
            "two TenantGateways",
        ),
        (
            gateway("other", "other-gateway", "other", "acme.example"),
            "TenantGateway acme",
            "TenantGateway other",
            "trust domain",
        ),
        (
            gateway("other", "acme-gateway", "other", "other.example"),
            "TenantGateway acme",
            "TenantGateway other",
            "in this namespace",
        ),
        (
            gateway("acme", "other-gateway", "other", "other.example"),
            "TenantGateway acme",
            "TenantGateway acme",
            "have this name",
        ),
    ] {
        for id in [one, two] {
            let told = problems_of(&objects, id, Severity::Error).join("\n");
            assert!(told.contains(part), "{id}: {told:?}");
        }
    }
    for free in [
        upstream("again", "api.example", 8443, "https"),
        upstream("again", "api.example", 443, "http"),
        upstream("again", "a.b.wiki.example", 8080, "http"),
        gateway("other", "other-gateway", "other", "other.example"),
    ] {
        assert_eq!(told(&compiled(&free)), "");
    }
    let listed = gateway("other", "other-gateway", "acme-gateway", "other.example");
    let told = problems_of(&listed, "TenantGateway other", Severity::Error).join("\n");
    assert!(told.contains("platform namespace of a tenant"), "{told}");
    assert!(problems_of(&listed, "TenantGateway acme", Severity::Error).is_empty());
}
