//! Mistakes: each is found, at its place, with words that help.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/world.rs"]
mod common;

use clawlock_compile::{Severity, Topic, check_policy};
use common::{changed, compiled, find, objects, read, set, told, world};
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

/// Object, field, wrong value, the start of the problem's path and a part of its message.
fn mistakes() -> Vec<(&'static str, &'static str, Value, &'static str, &'static str)> {
    let rule =
        |index: usize| -> Value { json!({"name": format!("r{index}"), "match": {"tools": ["a"]}, "tier": "Auto"}) };
    let operation = |index: usize| json!({"name": format!("o{index}"), "method": "GET", "path": format!("/{index}")});
    let strings = |count: usize| (0..count).map(|index| format!("x{index}")).collect::<Vec<_>>();
    let payer = "AgentPolicy payer";
    let (policy, gateway, api, wiki, halt) =
        ("AgentPolicy support", "TenantGateway acme", "Upstream api", "Upstream wiki", "AgentHalt inc-42");
    vec![
        (policy, "/metadata/namespace", json!("Acme"), "metadata.namespace", "DNS label"),
        (
            policy,
            "/spec/agentSelector/matchLabels",
            json!({"a b": "c"}),
            "spec.agentSelector.matchLabels",
            "no label's key",
        ),
        (
            policy,
            "/spec/agentSelector/matchLabels/app",
            json!("a b"),
            "spec.agentSelector.matchLabels",
            "no label's value",
        ),
        (
            policy,
            "/spec/agentSelector/matchExpressions/0/values",
            json!([]),
            "spec.agentSelector.matchExpressions[0].values",
            "need values",
        ),
        (
            policy,
            "/spec/agentSelector/matchExpressions/0/operator",
            json!("Exists"),
            "spec.agentSelector.matchExpressions[0].values",
            "take no values",
        ),
        (
            policy,
            "/spec/agentSelector/matchExpressions/0/key",
            json!("-"),
            "spec.agentSelector.matchExpressions[0].key",
            "no label's key",
        ),
        (
            policy,
            "/spec/agentSelector/matchExpressions/0/values",
            json!(strings(65)),
            "spec.agentSelector.matchExpressions[0].values",
            "at most 64",
        ),
        (policy, "/spec/rules", json!((0..1001).map(rule).collect::<Vec<_>>()), "spec.rules", "at most 1000"),
        (policy, "/spec/rules/1/name", json!("list"), "spec.rules[1].name", "two rules"),
        (policy, "/spec/rules/1/name", json!("Small refund"), "spec.rules[1].name", "DNS label"),
        (policy, "/spec/rules/0/match", json!({}), "spec.rules[0].match", "nothing is matched"),
        (
            payer,
            "/spec/rules/2/when",
            json!("requester.id == 'boss'"),
            "spec.rules[2].when",
            "an Auto rule does not depend on requester",
        ),
        (payer, "/spec/limits/0/name", json!("A"), "spec.limits[0].name", "DNS label"),
        (payer, "/spec/limits/1/name", json!("tools"), "spec.limits[1].name", "two limits have the name"),
        (payer, "/spec/limits/0/match", json!({}), "spec.limits[0].match", "nothing is matched"),
        (payer, "/spec/limits/0/rate/requests", json!(1_000_001), "spec.limits[0].rate.requests", "at most 1000000"),
        (payer, "/spec/limits/0/rate/burst", json!(1_000_001), "spec.limits[0].rate.burst", "at most 1000000"),
        (payer, "/spec/limits/0/rate/interval", json!("25h"), "spec.limits[0].rate.interval", "from 1s to 24h"),
        (payer, "/spec/limits/0/rate/interval", json!("999ms"), "spec.limits[0].rate.interval", "from 1s to 24h"),
        (gateway, "/spec/toolCategories/0/name", json!("A"), "spec.toolCategories[0].name", "no DNS label"),
        (gateway, "/spec/toolCategories/0/tools", json!([]), "spec.toolCategories[0].tools", "name a tool"),
        (gateway, "/spec/toolCategories/0/tools", json!(["exec"]), "spec.toolCategories[0].tools[0]", "is Shell"),
        (gateway, "/spec/limits/0/rate/interval", json!("1 day"), "spec.limits[0].rate.interval", "from 1s to 24h"),
        (payer, "/spec/residency/allow", json!([]), "spec.residency.allow", "name at least one place"),
        (payer, "/spec/residency/allow", json!(["EU"]), "spec.residency.allow[0]", "no name of a place"),
        (wiki, "/spec/residency", json!("EU"), "spec.residency", "no name of a place"),
        (payer, "/spec/rules/1/match/tools", json!(["a"]), "spec.rules[1].match", "more than one kind"),
        (
            payer,
            "/spec/rules/1/when",
            json!("request.method == 'GET'"),
            "spec.rules[1].when",
            "a rule about a category has no request",
        ),
        (
            payer,
            "/spec/rules/2/schedule/timeZone",
            json!("Mars/Olympus"),
            "spec.rules[2].schedule.timeZone",
            "no time zone of the IANA database",
        ),
        (payer, "/spec/rules/2/schedule/windows", json!([]), "spec.rules[2].schedule.windows", "write 1 to 32 windows"),
        (
            payer,
            "/spec/rules/2/schedule/windows/0/days",
            json!([]),
            "spec.rules[2].schedule.windows[0].days",
            "name the days",
        ),
        (
            payer,
            "/spec/rules/2/schedule/windows/0/from",
            json!("24:00"),
            "spec.rules[2].schedule.windows[0].from",
            "from 00:00 to 23:59",
        ),
        (
            payer,
            "/spec/rules/2/schedule/windows/0/to",
            json!("22:00"),
            "spec.rules[2].schedule.windows[0].to",
            "never opens",
        ),
        (
            payer,
            "/spec/rules/2/schedule/excludedDates",
            json!(["2027-02-29"]),
            "spec.rules[2].schedule.excludedDates[0]",
            "no date",
        ),
        (
            policy,
            "/spec/rules/0/match/operations",
            json!(["api.create_refund"]),
            "spec.rules[0].match",
            "more than one kind",
        ),
        (policy, "/spec/rules/0/match/tools", json!([]), "spec.rules[0].match.tools", "empty"),
        (policy, "/spec/rules/0/match/tools", json!([""]), "spec.rules[0].match.tools[0]", "empty"),
        (policy, "/spec/rules/0/match/tools", json!(["a", "b", "a"]), "spec.rules[0].match.tools[2]", "twice"),
        (policy, "/spec/rules/0/match/tools", json!(["a b"]), "spec.rules[0].match.tools[0]", "white space"),
        (policy, "/spec/rules/0/match/tools", json!(["a\u{0}b"]), "spec.rules[0].match.tools[0]", "control"),
        (policy, "/spec/rules/0/match/tools", json!(strings(65)), "spec.rules[0].match.tools", "at most 64"),
        (
            policy,
            "/spec/rules/0/match/tools",
            json!(["a".repeat(10_000_000)]),
            "spec.rules[0].match.tools[0]",
            "at most 256",
        ),
        (
            policy,
            "/spec/rules/1/match/operations",
            json!(["create_refund"]),
            "spec.rules[1].match.operations[0]",
            "upstream.operation",
        ),
        (policy, "/spec/rules/2/match/http/upstreams", json!([]), "spec.rules[2].match.http.upstreams", "empty"),
        (
            policy,
            "/spec/rules/2/match/http/upstreams",
            json!(["wi*"]),
            "spec.rules[2].match.http.upstreams[0]",
            "patterns are not allowed",
        ),
        (policy, "/spec/rules/2/match/http/methods", json!([]), "spec.rules[2].match.http.methods", "empty"),
        (
            policy,
            "/spec/rules/2/match/http/methods",
            json!(["get"]),
            "spec.rules[2].match.http.methods[0]",
            "case-sensitive",
        ),
        (policy, "/spec/rules/2/match/http/paths", json!([]), "spec.rules[2].match.http.paths", "empty"),
        (
            policy,
            "/spec/rules/2/match/http/paths",
            json!(["wiki"]),
            "spec.rules[2].match.http.paths[0]",
            "start with '/'",
        ),
        (
            policy,
            "/spec/rules/2/match/http/paths",
            json!(["/a/../b"]),
            "spec.rules[2].match.http.paths[0]",
            "dot segment",
        ),
        (policy, "/spec/rules/0/when", json!(""), "spec.rules[0].when", ""),
        (policy, "/spec/rules/0/when", json!("args.command =="), "spec.rules[0].when", "line 1"),
        (policy, "/spec/rules/0/when", json!("argz.command == 'ls'"), "spec.rules[0].when", "argz"),
        (policy, "/spec/rules/0/when", json!("1 + 1"), "spec.rules[0].when", ""),
        (policy, "/spec/rules/0/when", json!("true || ".repeat(1000) + "true"), "spec.rules[0].when", "at most 4096"),
        (policy, "/spec/rules/1/when", json!("args.amount == 'many'"), "spec.rules[1].when", ""),
        (gateway, "/metadata/name", json!("a\nb"), "metadata.name", "no valid name"),
        (gateway, "/spec/namespaces", json!([]), "spec.namespaces", "empty"),
        (gateway, "/spec/namespaces", json!(["acme", "acme"]), "spec.namespaces[1]", "twice"),
        (gateway, "/spec/namespaces", json!(["Acme"]), "spec.namespaces[0]", "DNS label"),
        (gateway, "/spec/namespaces", json!(["acme-gateway"]), "spec.namespaces[0]", "platform namespace"),
        (gateway, "/spec/namespaces", json!(strings(65)), "spec.namespaces", "at most 64"),
        (gateway, "/spec/trustDomain", json!("Acme"), "spec.trustDomain", "trust domain"),
        (gateway, "/spec/trustDomain", json!(""), "spec.trustDomain", "trust domain"),
        (gateway, "/spec/trustDomain", json!("a/b"), "spec.trustDomain", ""),
        (gateway, "/spec/guardrails/1/name", json!("no-deletion"), "spec.guardrails[1].name", "two rules"),
        (gateway, "/spec/guardrails/1/when", json!("args.size >"), "spec.guardrails[1].when", "line 1"),
        (gateway, "/spec/policyConstraints/allowedModes", json!([]), "spec.policyConstraints.allowedModes", "empty"),
        (
            gateway,
            "/spec/policyConstraints/allowedModes",
            json!(["Audit", "Audit"]),
            "spec.policyConstraints.allowedModes",
            "twice",
        ),
        (
            gateway,
            "/spec/policyConstraints",
            json!({"allowedModes": ["Audit"]}),
            "spec.policyConstraints.auditUntil",
            "without an end",
        ),
        (
            gateway,
            "/spec/policyConstraints/auditUntil",
            json!("2027-02-30"),
            "spec.policyConstraints.auditUntil",
            "YYYY-MM-DD",
        ),
        (
            gateway,
            "/spec/policyConstraints/auditUntil",
            json!("20270115"),
            "spec.policyConstraints.auditUntil",
            "YYYY-MM-DD",
        ),
        (
            gateway,
            "/spec/policyConstraints/auditUntil",
            json!("2027-01-15T00:00:00Z"),
            "spec.policyConstraints.auditUntil",
            "YYYY-MM-DD",
        ),
        (
            gateway,
            "/spec/policyConstraints/auditUntil",
            json!("1969-12-31"),
            "spec.policyConstraints.auditUntil",
            "YYYY-MM-DD",
        ),
        (api, "/metadata/name", json!("api.v1"), "metadata.name", "without dots"),
        (api, "/spec/hosts", json!([]), "spec.hosts", "empty"),
        (api, "/spec/hosts", json!(["a.example", "a.example"]), "spec.hosts[1]", "twice"),
        (api, "/spec/hosts", json!(["127.0.0.1"]), "spec.hosts[0]", "IP address"),
        (api, "/spec/hosts", json!(["a.example."]), "spec.hosts[0]", "trailing dot"),
        (api, "/spec/hosts", json!(["a.example", "*.Example.com"]), "spec.hosts[1]", "pattern"),
        (api, "/spec/hosts", json!(strings(65)), "spec.hosts", "at most 64"),
        (api, "/spec/scheme", json!("http"), "spec.scheme", "https"),
        (api, "/spec/allowedCIDRs", json!(["10.1.2.3/16"]), "spec.allowedCIDRs[0]", "10.1.0.0/16"),
        (api, "/spec/allowedCIDRs", json!(["10.1.0.0"]), "spec.allowedCIDRs[0]", "no CIDR"),
        (api, "/spec/allowedCIDRs", json!(["10.1.0.0/33"]), "spec.allowedCIDRs[0]", "no CIDR"),
        (api, "/spec/allowedCIDRs", json!(["::ffff:10.0.0.0/104"]), "spec.allowedCIDRs[0]", "IPv4"),
        (api, "/spec/tls/caRef/name", json!("missing-ca"), "spec.tls.caRef", "no ConfigMap acme-gateway/missing-ca"),
        (api, "/spec/tls/caRef/name", json!("Corp CA"), "spec.tls.caRef.name", "no name"),
        (api, "/spec/tls/caRef/key", json!("missing.crt"), "spec.tls.caRef", "has no key"),
        (api, "/spec/tls/caRef/key", json!("../ca"), "spec.tls.caRef.key", "no key"),
        (api, "/spec/credential/type", json!("Basic"), "spec.credential.basic", "needs this field"),
        (api, "/spec/credential/type", json!("None"), "spec.credential.bearer", "not Bearer"),
        (
            api,
            "/spec/credential/basic",
            json!({"username": "a", "secretRef": {"name": "a", "key": "b"}}),
            "spec.credential.basic",
            "not Basic",
        ),
        (
            api,
            "/spec/credential/bearer/secretRef/name",
            json!("A b"),
            "spec.credential.bearer.secretRef.name",
            "no name",
        ),
        (api, "/spec/credential/bearer/secretRef/key", json!("a/b"), "spec.credential.bearer.secretRef.key", "no key"),
        ("Upstream keyed", "/spec/credential/header/name", json!("x api"), "spec.credential.header.name", "no name"),
        (
            "Upstream keyed",
            "/spec/credential/header/name",
            json!("Host"),
            "spec.credential.header.name",
            "frames or routes",
        ),
        (
            "Upstream keyed",
            "/spec/credential/header/name",
            json!("Clawlock-Upstream"),
            "spec.credential.header.name",
            "frames or routes",
        ),
        (
            "Upstream basic",
            "/spec/credential/basic/username",
            json!("a:b"),
            "spec.credential.basic.username",
            "no colon",
        ),
        (
            "Upstream basic",
            "/spec/credential/basic/username",
            json!("a\r\nb"),
            "spec.credential.basic.username",
            "no colon",
        ),
        (api, "/spec/operations", json!((0..501).map(operation).collect::<Vec<_>>()), "spec.operations", "at most 500"),
        (api, "/spec/operations/1/name", json!("create_refund"), "spec.operations[1].name", "two operations"),
        (api, "/spec/operations/1/name", json!("a*"), "spec.operations[1].name", "no name"),
        (api, "/spec/operations/1/method", json!("delete"), "spec.operations[1].method", "case-sensitive"),
        (api, "/spec/operations/1/path", json!("/v1/{a"), "spec.operations[1].path", "brace"),
        (
            api,
            "/spec/operations/1/path",
            json!("/".to_owned() + &"a".repeat(2000)),
            "spec.operations[1].path",
            "at most 1024",
        ),
        (
            api,
            "/spec/operations/1",
            json!({"name": "again", "method": "POST", "path": "/v1/refunds/{id}"}),
            "spec.operations[1].path",
            "same method and paths",
        ),
        (
            api,
            "/spec/operations/0/arguments",
            json!([{"name": "a", "type": "String"}, {"name": "a", "type": "Integer"}]),
            "spec.operations[0].arguments[1].name",
            "two arguments",
        ),
        (
            api,
            "/spec/operations/0/arguments",
            json!([{"name": "a b", "type": "String"}]),
            "spec.operations[0].arguments[0].name",
            "no name",
        ),
        (
            wiki,
            "/spec/tls",
            json!({"caRef": {"kind": "ConfigMap", "name": "corp-ca", "key": "ca.crt"}}),
            "spec.tls",
            "http",
        ),
        (wiki, "/spec/hosts", json!(["*.example.*"]), "spec.hosts[0]", "last label"),
        (halt, "/spec/reason", json!(" "), "spec.reason", "no reason"),
        (halt, "/spec/reason", json!("a\nb"), "spec.reason", "line break"),
        (halt, "/spec/reason", json!("a".repeat(513)), "spec.reason", "512"),
        (halt, "/spec/agentSelector/matchLabels/app", json!("-"), "spec.agentSelector.matchLabels", "no label's value"),
    ]
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
