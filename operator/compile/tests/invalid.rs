//! What is invalid denies, says why, and leaves everything else as it was.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/world.rs"]
mod common;

use clawlock_compile::{AssignError, Compilation, ConfigMaps, Ticket, check_gateway, check_halt, check_upstream};
use clawlock_policy::document::Document;
use clawlock_policy::document::Scheme::{Http as Plain, Https};
use common::Probe::{Http, Tool};
use common::{Probe, TICKET, changed, compiled, find, objects, observe, pod, pod_in, read, set, told, world};
use serde_json::{Value, json};

const EXEC: Probe = Tool("exec", r#"{"command":"ls"}"#);
const REFUND: Probe = Http("POST", Https, "api.example", 443, "/v1/refunds/ch_1", r#"{"amount":50}"#);
const READ: Probe = Http("GET", Plain, "en.wiki.example", 8080, "/wiki/Cat", "");

fn seen(compilation: &Compilation, app: &str, probe: Probe) -> String {
    observe(compilation, &pod(app), probe)
}

/// The world and one more object.
fn with(yaml: &str) -> Vec<Value> {
    let mut all = world();
    all.extend(objects(yaml));
    all
}

#[test]
fn an_invalid_policy_stops_the_pods_that_it_selects() {
    let compilation = compiled(&changed("AgentPolicy support", "/spec/rules/4/when", json!("args.x ==")));
    for probe in [EXEC, REFUND, READ] {
        let denied = seen(&compilation, "support", probe);
        assert!(denied.starts_with("Deny: Halted"), "{denied}");
        assert!(denied.contains("policy acme/support is invalid: spec.rules[4].when: "), "{denied}");
    }
    assert_eq!(seen(&compilation, "trial", EXEC), "Allow, would be TierBlock");
}

#[test]
fn an_invalid_policy_stops_also_what_another_policy_allows() {
    let wide = "kind: AgentPolicy\nmetadata: {name: wide, namespace: acme}\n\
                spec: {agentSelector: {}, rules: [{name: all, match: {tools: [\"*\"]}, tier: Auto}]}";
    let mut all = with(wide);
    assert_eq!(seen(&compiled(&all), "support", Tool("rm", "{}")), "Allow by acme/wide#all");
    let index = find(&all, "AgentPolicy support");
    set(&mut all[index], "/spec/rules/0/match/tools", json!([]));
    let compilation = compiled(&all);
    assert!(seen(&compilation, "support", Tool("rm", "{}")).starts_with("Deny: Halted"));
    assert_eq!(seen(&compilation, "other", Tool("rm", "{}")), "Allow by acme/wide#all");
}

#[test]
fn an_invalid_selector_stops_the_namespace() {
    let compilation = compiled(&changed("AgentPolicy support", "/spec/agentSelector/matchLabels", json!({"a b": "c"})));
    for app in ["support", "trial", "other"] {
        assert!(seen(&compilation, app, EXEC).contains("spec.agentSelector.matchLabels"), "{app}");
    }
    assert_eq!(observe(&compilation, &pod_in("acme-staging", "support"), EXEC), "Deny: NoPolicy");
}

#[test]
fn two_policies_of_one_name_stop_the_pods_of_both() {
    let compilation = compiled(&with(
        "kind: AgentPolicy\nmetadata: {name: support, namespace: acme}\n\
         spec: {agentSelector: {matchLabels: {app: other}}, rules: [{name: all, match: {tools: [\"*\"]}, tier: Auto}]}",
    ));
    for app in ["support", "other"] {
        assert!(seen(&compilation, app, EXEC).contains("have this name"), "{app}");
    }
}

/// A declared type that a condition does not fit makes the policy invalid, as it would at the gates.
#[test]
fn a_condition_is_checked_with_the_types_of_its_operations() {
    let objects = changed("AgentPolicy support", "/spec/rules/1/when", json!("args.amount.startsWith('1')"));
    let policy = &read(&objects).unwrap().policies[0];
    assert!(clawlock_compile::check_policy(policy).is_ok(), "by itself the type is unknown");
    let compilation = compiled(&objects);
    assert!(told(&compilation).contains("AgentPolicy acme/support, spec.rules[1].when: "), "{}", told(&compilation));
    assert!(seen(&compilation, "support", EXEC).starts_with("Deny: Halted"));
}

#[test]
fn an_invalid_tenant_has_no_assignments_and_says_why() {
    let compilation = compiled(&changed("TenantGateway acme", "/spec/guardrails/1/when", json!("args.size >")));
    assert_eq!(compilation.tenants().count(), 0);
    for namespace in ["acme", "acme-staging"] {
        let error = compilation.assign(&pod_in(namespace, "support"), TICKET).unwrap_err();
        assert!(matches!(error, AssignError::InvalidTenant { .. }));
        let text = error.to_string();
        assert!(text.contains("TenantGateway acme-gateway/acme, spec.guardrails[1].when: "), "{text}");
    }
    let error = compilation.assign(&pod_in("elsewhere", "support"), TICKET).unwrap_err();
    assert_eq!(error, AssignError::NoTenant { namespace: "elsewhere".to_owned() });
}

#[test]
fn an_invalid_upstream_is_not_reachable() {
    let compilation = compiled(&changed("Upstream api", "/spec/operations/0/path", json!("refunds")));
    assert_eq!(seen(&compilation, "support", REFUND), "no such upstream");
    assert_eq!(seen(&compilation, "support", READ), "Allow by acme/support#wiki");
    assert_eq!(seen(&compilation, "support", EXEC), "Allow by acme/support#list");
}

/// Without its bundle an upstream must not fall back to the public roots.
#[test]
fn a_bundle_that_is_missing_closes_the_upstream() {
    let mut objects = world();
    let index = find(&objects, "ConfigMap corp-ca");
    let bundle = objects.remove(index);
    assert_eq!(seen(&compiled(&objects), "support", REFUND), "no such upstream");
    let mut elsewhere = bundle.clone();
    elsewhere["metadata"]["namespace"] = json!("acme");
    objects.push(elsewhere);
    assert_eq!(seen(&compiled(&objects), "support", REFUND), "no such upstream", "a tenant's ConfigMap is another");
    objects.push(bundle);
    assert_eq!(seen(&compiled(&objects), "support", REFUND), "Allow by acme/support#small-refund");
}

/// An exact host with rules of its own, an overlapping pattern with wider ones: a mistake in the first
/// must not hand its host to the second.
#[test]
fn an_invalid_upstream_keeps_its_claim() {
    let narrow = "kind: Upstream\nmetadata: {name: narrow, namespace: acme-gateway}\n\
                  spec: {protocol: HTTP, scheme: http, hosts: [en.wiki.example], port: 8080, allowedCIDRs: [nonsense]}";
    let compilation = compiled(&with(narrow));
    assert_eq!(seen(&compilation, "support", READ), "no such upstream");
}

#[test]
fn two_upstreams_of_one_place_are_both_closed() {
    let compilation = compiled(&with(
        "kind: Upstream\nmetadata: {name: again, namespace: acme-gateway}\n\
         spec: {protocol: HTTP, scheme: https, hosts: [API.example], port: 443}",
    ));
    assert_eq!(seen(&compilation, "support", REFUND), "no such upstream");
    let tenant = compilation.tenants().next().unwrap();
    assert_eq!(
        tenant.upstreams().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>(),
        ["basic", "keyed", "wiki"]
    );
}

#[test]
fn an_upstream_belongs_to_the_tenant_of_its_namespace() {
    let compilation = compiled(&changed("Upstream wiki", "/metadata/namespace", json!("acme")));
    assert_eq!(seen(&compilation, "support", READ), "no such upstream");
}

#[test]
fn an_invalid_halt_holds_nevertheless() {
    let compilation = compiled(&changed("AgentHalt inc-42", "/spec/reason", json!("two\nlines")));
    assert!(seen(&compilation, "halted", EXEC).contains("two lines"));
    let compilation = compiled(&changed("AgentHalt inc-42", "/spec/agentSelector/matchLabels", json!({"a b": "c"})));
    for app in ["halted", "support", "trial"] {
        assert!(seen(&compilation, app, EXEC).starts_with("Deny: Halted"), "{app}");
    }
}

#[test]
fn an_assignment_is_bounded() {
    let halt = |index: usize| {
        format!(
            "kind: AgentHalt\nmetadata: {{name: h{index}, namespace: acme}}\nspec: {{agentSelector: {{}}, reason: r}}"
        )
    };
    let mut objects = world();
    let template = common::objects(&halt(0)).remove(0);
    for index in 0..4096 {
        let mut object = template.clone();
        object["metadata"]["name"] = json!(format!("h{index}"));
        objects.push(object);
    }
    let error = compiled(&objects).assign(&pod("support"), TICKET).unwrap_err();
    assert!(matches!(error, AssignError::TooLarge { what: "documents", .. }), "{error}");
}

#[test]
fn what_a_pod_is_called_and_a_ticket_are_checked() {
    let compilation = compiled(&world());
    let mut stranger = pod("support");
    stranger.service_account = "a/../b".to_owned();
    assert!(matches!(compilation.assign(&stranger, TICKET), Err(AssignError::Identity { .. })));
    let ticket = Ticket { not_after_ms: TICKET.issued_at_ms, ..TICKET };
    assert!(matches!(compilation.assign(&pod("support"), ticket), Err(AssignError::Ticket { .. })));
    let assigned = compilation.assign(&pod("support"), TICKET).unwrap();
    let assignment = &assigned.assignment;
    assert_eq!((assignment.generation, assignment.issued_at_ms), (TICKET.generation, TICKET.issued_at_ms));
    assert_eq!(assignment.not_after_ms, TICKET.not_after_ms);
    assert_eq!(assignment.pod.labels, pod("support").labels);
    assert_eq!(assignment.tenant, "acme");
}

/// A pod gets the documents that hold for it, and no others.
#[test]
fn a_pod_gets_its_own_documents() {
    let names = |app: &str| -> Vec<String> {
        let assigned = compiled(&world()).assign(&pod(app), TICKET).unwrap();
        let mut names: Vec<String> = assigned
            .documents
            .iter()
            .map(|document| match document {
                Document::Policy(policy) => format!("policy {}", policy.name),
                Document::Tenant(tenant) => format!("tenant {}", tenant.name),
                Document::Upstream(upstream) => format!("upstream {}", upstream.name),
                Document::Halt(halt) => format!("halt {}", halt.name),
                Document::Manifest(manifest) => format!("manifest {}", manifest.name),
            })
            .collect();
        names.sort();
        names
    };
    let shared = ["tenant acme", "upstream api", "upstream basic", "upstream keyed", "upstream wiki"];
    assert_eq!(names("support"), [&["policy acme/support"], shared.as_slice()].concat());
    assert_eq!(names("halted"), [&["halt acme/inc-42", "policy acme/halted"], shared.as_slice()].concat());
    assert_eq!(names("other"), shared);
}

#[test]
fn objects_can_be_checked_one_by_one() {
    let resources = read(&world()).unwrap();
    let maps = ConfigMaps::new(&resources.config_maps);
    for upstream in &resources.upstreams {
        assert!(check_upstream(upstream, &maps).is_ok());
    }
    assert!(check_upstream(&resources.upstreams[0], &ConfigMaps::default()).is_err());
    assert_eq!(check_halt(&resources.halts[0]).unwrap().name, "acme/inc-42");
    let tenant = check_gateway(&resources.gateways[0]).unwrap();
    // The start of the day in UTC.
    assert_eq!(tenant.audit_until_ms, Some(1_799_971_200_000));
    assert_eq!(
        tenant.guardrails.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(),
        ["large-write", "money", "no-deleting-tools", "no-deletion", "no-put"]
    );
}

#[test]
fn a_network_with_a_metadata_service_warns() {
    for network in ["0.0.0.0/0", "169.254.0.0/16", "fd00::/8"] {
        let compilation = compiled(&changed("Upstream api", "/spec/allowedCIDRs", json!([network])));
        assert!(told(&compilation).starts_with("Warning: Upstream acme-gateway/api, spec.allowedCIDRs: "), "{network}");
    }
    let compilation = compiled(&changed("Upstream api", "/spec/allowedCIDRs", json!(["10.0.0.0/8", "fd12::/16"])));
    assert_eq!(told(&compilation), "");
}
