//! Custom resources that are wrong: a clear error with its place, and what was there before stays.

use clawlock_e2e::{Result, Tenant};
use serde_json::{Value, json};

use crate::attempts::with;

#[test]
fn broken_resources_are_refused_with_their_place() -> Result<()> {
    let tenant = Tenant::create("admit-broken")?;
    let agent = tenant.agent("agent")?;
    let get = |kind: &str, namespace: &str, name: &str| -> Result<Value> {
        let object = tenant.kubectl.get(namespace, kind, name)?.ok_or_else(|| format!("{kind} {name} is not there"))?;
        let metadata = json!({"name": name, "namespace": namespace});
        Ok(with(&with(&object, "/metadata", metadata), "/status", Value::Null))
    };
    let policy = get("agentpolicy", &tenant.name, "agent")?;
    let gateway = get("tenantgateway", &tenant.platform, &tenant.name)?;
    let upstream = get("upstream", &tenant.platform, "payments")?;
    let rule = |value: Value| json!([value]);
    let many: Vec<Value> =
        (0..5000).map(|n| json!({"name": format!("r{n}"), "match": {"tools": ["x"]}, "tier": "Block"})).collect();
    let apply = ["apply", "--server-side", "--field-manager=e2e", "--force-conflicts", "-f", "-"];
    for (what, object, place) in [
        (
            "a condition that does not parse",
            with(&policy, "/spec/rules/0/when", json!("args.amount >")),
            "spec.rules[0].when",
        ),
        (
            "a condition of half a megabyte",
            with(&policy, "/spec/rules/0/when", json!("x".repeat(500_000))),
            "spec.rules[0].when",
        ),
        ("a field that nobody knows", with(&policy, "/spec/rules/0/schedule", json!({"at": "night"})), "schedule"),
        ("a tier that there is not", with(&policy, "/spec/rules/0/tier", json!("Maybe")), "spec.rules[0].tier"),
        ("rules that are a text", with(&policy, "/spec/rules", json!("all")), "spec.rules"),
        ("five thousand rules", with(&policy, "/spec/rules", json!(many)), "spec.rules"),
        (
            "a rule that matches nothing",
            with(&policy, "/spec/rules", rule(json!({"name": "x", "tier": "Auto"}))),
            "spec.rules[0]",
        ),
        ("a port of 70000", with(&upstream, "/spec/port", json!(70000)), "spec.port"),
        ("a host that is none", with(&upstream, "/spec/hosts", json!(["a b"])), "spec.hosts[0]"),
        ("a wildcard with a credential", with(&upstream, "/spec/hosts", json!(["*.example.com"])), "spec"),
        (
            "a network that is none",
            with(&upstream, "/spec/allowedCIDRs", json!(["10.0.0.0/33"])),
            "spec.allowedCIDRs[0]",
        ),
        ("a trust domain that is none", with(&gateway, "/spec/trustDomain", json!("A B")), "spec.trustDomain"),
        ("no gateway", with(&gateway, "/spec/replicas", json!(0)), "spec.replicas"),
        (
            "a guardrail that allows",
            with(&gateway, "/spec/guardrails/0/tier", json!("Auto")),
            "spec.guardrails[0].tier",
        ),
        (
            "a certificate for a year",
            with(&gateway, "/spec/identity", json!({"certificateTTL": "8760h"})),
            "certificateTTL",
        ),
    ] {
        let refused =
            tenant.kubectl.must_refuse(&apply, &object.to_string()).map_err(|why| format!("{what}: {why}"))?;
        let reason = refused.0.lines().find(|line| line.contains(place)).unwrap_or_default();
        println!("{what}: {}", reason.chars().take(300).collect::<String>());
        refused.says(place)?;
        assert!(refused.0.len() < 8 * 1024, "{what}: a reason of {} bytes", refused.0.len());
    }
    // No parser of ours reads as deep as that; the answer says so.
    let deep = (0..200).fold(json!({}), |inner, _| json!({"a": inner}));
    let refused = tenant.kubectl.must_refuse(&apply, &with(&policy, "/spec/rules/0/extra", deep).to_string())?;
    println!("two hundred levels: {}", refused.0);
    refused.says("agentpolicies.clawlock.dev")?;
    refused.says("at most 128 levels")?;
    // Nothing has changed.
    assert_eq!(get("agentpolicy", &tenant.name, "agent")?["spec"], policy["spec"]);
    assert_eq!(agent.request(&[&tenant.url("/v1/charges")])?["status"], 200);
    Ok(())
}
