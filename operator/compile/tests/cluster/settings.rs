//! Mistakes in what a tenant's objects are made of.

use clawlock_compile::{Severity, check_gateway};
use serde_json::{Value, json};

use crate::common::{changed, compiled, find, read, set, told, world};

const ACME: &str = "TenantGateway acme";

/// Field, wrong value, the start of the problem's path and a part of its message.
fn mistakes() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let many = |count: usize, item: &dyn Fn(usize) -> Value| json!((0..count).map(item).collect::<Vec<_>>());
    let selector = || json!({"matchLabels": {"a": "b"}});
    let ingress = |name: &str| json!({"name": name, "from": [{"podSelector": {}}], "ports": [{"port": 1}]});
    let exemption = |name: &str| json!({"name": name, "podSelector": selector()});
    let account = |name: &str| json!({"name": name, "images": ["a"]});
    vec![
        ("/metadata/name", json!("acme.example"), "metadata.name", "a DNS label without dots"),
        ("/metadata/name", json!("a".repeat(64)), "metadata.name", "a DNS label without dots"),
        ("/spec/replicas", json!(51), "spec.replicas", "at most 50"),
        ("/spec/identity/certificateTTL", json!("59s"), "spec.identity.certificateTTL", "60s to 24h"),
        ("/spec/identity/certificateTTL", json!("24h1s"), "spec.identity.certificateTTL", "60s to 24h"),
        ("/spec/identity/certificateTTL", json!("1 day"), "spec.identity.certificateTTL", "no duration"),
        ("/spec/identity/certificateTTL", json!("86400"), "spec.identity.certificateTTL", "no duration"),
        ("/spec/agents/exemptions/0/name", json!("A b"), "spec.agents.exemptions[0].name", "DNS label"),
        ("/spec/agents/exemptions/0/podSelector", json!({}), "spec.agents.exemptions[0].podSelector", "every pod"),
        (
            "/spec/agents/exemptions/0/podSelector",
            json!({"matchLabels": {"clawlock.dev/role": "agent"}}),
            "spec.agents.exemptions[0].podSelector",
            "a label of your own",
        ),
        (
            "/spec/agents/exemptions/0/podSelector",
            json!({"matchExpressions": [{"key": "clawlock.dev/x", "operator": "DoesNotExist"}]}),
            "spec.agents.exemptions[0].podSelector",
            "a label of your own",
        ),
        (
            "/spec/agents/exemptions/0/podSelector",
            json!({"matchLabels": {"a b": "c"}}),
            "spec.agents.exemptions[0].podSelector.matchLabels",
            "no label's key",
        ),
        (
            "/spec/agents/exemptions",
            json!([exemption("one"), exemption("one")]),
            "spec.agents.exemptions[1].name",
            "twice",
        ),
        (
            "/spec/agents/exemptions",
            many(33, &|index| exemption(&format!("e{index}"))),
            "spec.agents.exemptions",
            "at most 32",
        ),
        ("/spec/agents/pluginOptional/0/name", json!("A b"), "spec.agents.pluginOptional[0].name", "DNS label"),
        (
            "/spec/agents/pluginOptional/0/podSelector",
            json!({}),
            "spec.agents.pluginOptional[0].podSelector",
            "no agent",
        ),
        (
            "/spec/agents/pluginOptional/0/podSelector",
            json!({"matchLabels": {"clawlock.dev/role": "agent"}}),
            "spec.agents.pluginOptional[0].podSelector",
            "a label of your own",
        ),
        (
            "/spec/agents/pluginOptional",
            json!([exemption("one"), exemption("one")]),
            "spec.agents.pluginOptional[1].name",
            "twice",
        ),
        (
            "/spec/agents/pluginOptional",
            many(33, &|index| exemption(&format!("e{index}"))),
            "spec.agents.pluginOptional",
            "at most 32",
        ),
        ("/spec/agents/ingress/0/name", json!(""), "spec.agents.ingress[0].name", "DNS label"),
        ("/spec/agents/ingress", json!([ingress("a"), ingress("a")]), "spec.agents.ingress[1].name", "twice"),
        ("/spec/agents/ingress", many(33, &|index| ingress(&format!("i{index}"))), "spec.agents.ingress", "at most 32"),
        ("/spec/agents/ingress/0/from", json!([]), "spec.agents.ingress[0].from", "1 to 16"),
        (
            "/spec/agents/ingress/0/from",
            many(17, &|_| json!({"podSelector": {}})),
            "spec.agents.ingress[0].from",
            "1 to 16",
        ),
        ("/spec/agents/ingress/0/from/0", json!({}), "spec.agents.ingress[0].from[0]", "nobody is selected"),
        (
            "/spec/agents/ingress/0/from/0/podSelector/matchExpressions/0/values",
            json!([]),
            "spec.agents.ingress[0].from[0].podSelector.matchExpressions[0].values",
            "need values",
        ),
        (
            "/spec/agents/ingress/0/from/0/namespaceSelector/matchLabels/team",
            json!("a b"),
            "spec.agents.ingress[0].from[0].namespaceSelector.matchLabels",
            "no label's value",
        ),
        ("/spec/agents/ingress/0/ports", json!([]), "spec.agents.ingress[0].ports", "1 to 16"),
        (
            "/spec/agents/ingress/0/ports",
            many(17, &|index| json!({"port": index + 1})),
            "spec.agents.ingress[0].ports",
            "1 to 16",
        ),
        ("/spec/agents/ingress/0/ports", json!([{"port": 1}, {"port": 1}]), "spec.agents.ingress[0].ports[1]", "twice"),
        (
            "/spec/agents/serviceAccounts/0/name",
            json!("Billing"),
            "spec.agents.serviceAccounts[0].name",
            "name of a ServiceAccount",
        ),
        (
            "/spec/agents/serviceAccounts",
            json!([account("a"), account("a")]),
            "spec.agents.serviceAccounts[1].name",
            "twice",
        ),
        (
            "/spec/agents/serviceAccounts",
            many(65, &|index| account(&format!("a{index}"))),
            "spec.agents.serviceAccounts",
            "at most 64",
        ),
        ("/spec/agents/serviceAccounts/0/images", json!([]), "spec.agents.serviceAccounts[0].images", "is empty"),
        (
            "/spec/agents/serviceAccounts/0/images",
            json!(["a", "a"]),
            "spec.agents.serviceAccounts[0].images[1]",
            "twice",
        ),
        (
            "/spec/agents/serviceAccounts/0/images",
            many(33, &|index| json!(format!("a{index}"))),
            "spec.agents.serviceAccounts[0].images",
            "at most 32",
        ),
        (
            "/spec/agents/apiAccess",
            json!([{"serviceAccount": "a"}, {"serviceAccount": "a"}]),
            "spec.agents.apiAccess[1].serviceAccount",
            "twice",
        ),
        (
            "/spec/agents/apiAccess/0/serviceAccount",
            json!("a/b"),
            "spec.agents.apiAccess[0].serviceAccount",
            "name of a ServiceAccount",
        ),
        (
            "/spec/agents/apiAccess",
            many(65, &|index| json!({"serviceAccount": format!("a{index}")})),
            "spec.agents.apiAccess",
            "at most 64",
        ),
    ]
}

#[test]
fn each_mistake_is_told_at_its_place() {
    for (pointer, value, path, part) in mistakes() {
        let gateway = read(&changed(ACME, pointer, value.clone())).unwrap().gateways.remove(0);
        let problems = check_gateway(&gateway).unwrap_err();
        let found = problems.iter().any(|problem| {
            problem.severity == Severity::Error && problem.path == path && problem.message.contains(part)
        });
        assert!(found, "{pointer} = {value}: {problems:#?}");
    }
}

#[test]
fn a_tenant_with_a_mistake_in_its_settings_has_no_pods_with_an_assignment() {
    let objects = changed(ACME, "/spec/agents/exemptions/0/podSelector", json!({}));
    let compilation = compiled(&objects);
    assert!(compilation.tenant("acme").is_none());
    let error = compilation.assign(&crate::common::pod("support"), crate::common::TICKET).unwrap_err();
    assert!(error.to_string().contains("spec.agents.exemptions[0].podSelector"), "{error}");
}

#[test]
fn images_are_references() {
    let hex = "a".repeat(64);
    let with = |image: &str| told(&compiled(&changed(ACME, "/spec/agents/serviceAccounts/0/images", json!([image]))));
    let pinned = format!("registry.example:5000/team/billing:v1@sha256:{hex}");
    assert_eq!(with(&pinned), "");
    assert_eq!(with(&format!("billing@sha512:{hex}{hex}")), "");
    for tagged in ["billing", "billing:1", "localhost:5000/a/b", "a/b_c.d-e:_x", "Registry.example/a"] {
        let told = with(tagged);
        assert!(told.starts_with("Warning: ") && told.contains("by its digest") && told.lines().count() == 1, "{told}");
    }
    for wrong in [
        "",
        " ",
        "a b",
        "a@",
        "a@sha256:",
        "a@sha256:abc",
        "a@md5:abc",
        ":1",
        "a:",
        "a:-1",
        "/a",
        "a/",
        "a//b",
        "-a",
        "a\n",
        "a@sha256",
        "a:1:2@x",
        "é",
        &format!("a@sha256:{}", "A".repeat(64)),
        &format!("a:{}", "b".repeat(129)),
        &"a".repeat(600),
        &format!("a@sha256:{hex}@sha256:{hex}"),
    ] {
        let told = with(wrong);
        assert!(told.contains("Error: "), "{wrong:?}: {told}");
    }
}

#[test]
fn what_a_tenant_does_not_say_is_closed() {
    let mut objects = world();
    let index = find(&objects, ACME);
    for field in ["replicas", "onboarding", "agents", "identity"] {
        objects[index]["spec"].as_object_mut().unwrap().remove(field);
    }
    let compilation = compiled(&objects);
    let settings = compilation.tenant("acme").unwrap().settings();
    assert_eq!(settings.replicas.get(), 2);
    assert_eq!(settings.onboarding, clawlock_crds::Onboarding::Observe);
    assert_eq!(settings.certificate_ttl.as_secs(), 24 * 60 * 60);
    assert_eq!(settings.agents, Default::default());
}

#[test]
fn the_order_of_lists_does_not_matter() {
    let account = |name: &str| json!({"name": name, "images": [name]});
    let entry = |name: &str| json!({"name": name, "from": [{"podSelector": {}}], "ports": [{"port": 1}]});
    let exemption = |name: &str| json!({"name": name, "podSelector": {"matchLabels": {"a": name}}});
    let settings = |names: [&str; 2]| {
        let mut objects = world();
        let index = find(&objects, ACME);
        let list = |item: &dyn Fn(&str) -> Value| json!(names.map(item));
        set(&mut objects[index], "/spec/agents/exemptions", list(&exemption));
        set(&mut objects[index], "/spec/agents/pluginOptional", list(&exemption));
        set(&mut objects[index], "/spec/agents/ingress", list(&entry));
        set(&mut objects[index], "/spec/agents/serviceAccounts", list(&account));
        set(&mut objects[index], "/spec/agents/apiAccess", list(&|name| json!({"serviceAccount": name})));
        let compilation = compiled(&objects);
        compilation.tenant("acme").unwrap().settings().clone()
    };
    assert_eq!(settings(["a", "b"]), settings(["b", "a"]));
}
