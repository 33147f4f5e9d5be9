//! Every field of every kind: changing that field, and nothing else, changes what is decided or what
//! the gateway does. A field that is missing here fails the last test.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "../common/world.rs"]
mod common;
mod halts;

use std::collections::BTreeSet;

use Probe::{Http, Identity, PluginOptional, Tool};
use clawlock_policy::document::Scheme::{self, Https};
use common::{Probe, changed, compiled, observe, pod, pod_in, read, world};
use serde_json::{Value, json};

/// A field and what its change does.
struct Field {
    /// The object, by kind and name.
    id: &'static str,
    /// The place of the field in the object.
    pointer: &'static str,
    /// Its other value.
    value: Value,
    /// The pod's label `app`.
    app: &'static str,
    /// What is tried.
    probe: Probe,
    /// What comes of it in the world as it is.
    before: &'static str,
    /// What comes of it with the other value.
    after: &'static str,
}

const EXEC: Probe = Tool("exec", r#"{"command":"ls"}"#);
const WRITE: Probe = Tool("write", r#"{"size":20}"#);
const REFUND: Probe = Http("POST", Https, "api.example", 443, "/v1/refunds/ch_1", r#"{"amount":50}"#);
const DELETE: Probe = Http("DELETE", Https, "api.example", 443, "/v1/repos/one", "");
const PAY: Probe = Http("POST", Https, "api.example", 443, "/v1/payments", "");
const SHOP: Probe = Tool("shop__remove", "{}");
const PAGE: Probe = Http("GET", Https, "api.example", 443, "/v1/pages/7", "");
const READ: Probe = Http("GET", Scheme::Http, "en.wiki.example", 8080, "/wiki/Cat", "");
const PUT: Probe = Http("PUT", Scheme::Http, "en.wiki.example", 8080, "/wiki/Cat", "");

const SUPPORT: &str = "AgentPolicy support";
const ACME: &str = "TenantGateway acme";
const NO_MATCH: &str = "Deny: NoMatch";
const NO_POLICY: &str = "Deny: NoPolicy";
const NOWHERE: &str = "no such upstream";
const LISTED: &str = "Allow by acme/support#list";
const REFUNDED: &str = "Allow by acme/support#small-refund";
const READS: &str = "Allow by acme/support#wiki";
const UNDELETED: &str = "Deny by tenantgateway/acme#no-deletion: TierBlock";
const UNPUT: &str = "Deny by tenantgateway/acme#no-put: TierBlock";
const ASKED: &str = "Ask by tenantgateway/acme#large-write: ApprovalUnavailable";
const HALTED: &str = "Deny: Halted";

fn field(
    id: &'static str,
    pointer: &'static str,
    value: Value,
    probe: Probe,
    before: &'static str,
    after: &'static str,
) -> Field {
    Field { id, pointer, value, app: "support", probe, before, after }
}

fn policy_fields() -> Vec<Field> {
    let field = |pointer, value, probe, before, after| field(SUPPORT, pointer, value, probe, before, after);
    vec![
        field("/spec/agentSelector/matchLabels/app", json!("other"), EXEC, LISTED, NO_POLICY),
        field("/spec/agentSelector/matchExpressions/0/key", json!("environment"), EXEC, LISTED, NO_POLICY),
        field("/spec/agentSelector/matchExpressions/0/operator", json!("NotIn"), EXEC, LISTED, NO_POLICY),
        field("/spec/agentSelector/matchExpressions/0/values", json!(["test"]), EXEC, LISTED, NO_POLICY),
        field("/spec/mode", json!("Audit"), Tool("rm", "{}"), NO_MATCH, "Allow, would be NoMatch"),
        field("/spec/rules/0/name", json!("renamed"), EXEC, LISTED, "Allow by acme/support#renamed"),
        field("/spec/rules/0/match/tools", json!(["exe"]), EXEC, LISTED, NO_MATCH),
        field("/spec/rules/0/when", json!("args.command == 'rm'"), EXEC, LISTED, NO_MATCH),
        field("/spec/rules/0/tier", json!("Block"), EXEC, LISTED, "Deny by acme/support#list: TierBlock"),
        field("/spec/rules/1/match/operations", json!(["api.create_other"]), REFUND, REFUNDED, NO_MATCH),
        field("/spec/rules/2/match/http/upstreams", json!(["api"]), READ, READS, NO_MATCH),
        field("/spec/rules/2/match/http/methods", json!(["PUT"]), READ, READS, NO_MATCH),
        field("/spec/rules/2/match/http/paths", json!(["/wiki/Dog"]), READ, READS, NO_MATCH),
    ]
}

/// Categories and schedules, with the pods of the app `payer`.
fn payer_fields() -> Vec<Field> {
    let payer = |id, pointer, value, probe, before, after| Field {
        app: "payer",
        ..field(id, pointer, value, probe, before, after)
    };
    let undeleted = "Deny by tenantgateway/acme#no-deleting-tools: TierBlock";
    let shopped = "Allow by acme/payer#shop";
    let unpaid = "Deny by tenantgateway/acme#money: TierBlock";
    let paid = "Allow by acme/payer#pay";
    let reads = "Allow by acme/payer#reading";
    let fetch = Tool("web_fetch", "{}");
    let night =
        |pointer, value| payer("AgentPolicy payer", pointer, value, fetch, "Allow by acme/payer#night", NO_MATCH);
    vec![
        payer(ACME, "/spec/guardrails/4/match/category", json!("Admin"), PAY, unpaid, paid),
        payer("AgentPolicy payer", "/spec/rules/1/match/category", json!("Write"), READ, reads, NO_MATCH),
        payer("Upstream wiki", "/spec/category", json!("Write"), READ, reads, NO_MATCH),
        payer("Upstream api", "/spec/operations/2/category", json!("Read"), PAY, unpaid, paid),
        payer(ACME, "/spec/toolCategories/0/category", json!("Admin"), SHOP, undeleted, shopped),
        payer(
            ACME,
            "/spec/toolCategories/0/tools",
            json!(["stop__*"]),
            SHOP,
            undeleted,
            "Deny by tenantgateway/acme#money: CategoryUnknown",
        ),
        night("/spec/rules/2/schedule/timeZone", json!("America/New_York")),
        night("/spec/rules/2/schedule/windows/0/days", json!(["Sat"])),
        night("/spec/rules/2/schedule/windows/0/from", json!("05:00")),
        night("/spec/rules/2/schedule/windows/0/to", json!("00:00")),
        night("/spec/rules/2/schedule/excludedDates", json!(["2026-11-20"])),
    ]
}

/// Limits of a policy and of the tenant, and residency.
fn limit_fields() -> Vec<Field> {
    let payer = |id, pointer, value, probe, before, after| Field {
        app: "payer",
        ..field(id, pointer, value, probe, before, after)
    };
    let elsewhere = "Deny by acme/payer#spec.residency: ResidencyRefused";
    let reads = "Allow by acme/payer#reading";
    let mut fields = vec![
        payer("AgentPolicy payer", "/spec/residency/allow", json!(["us"]), READ, reads, elsewhere),
        payer("Upstream wiki", "/spec/residency", json!("us"), READ, reads, elsewhere),
    ];
    const POLICY: [&str; 4] = [
        "acme/payer#tools 30/60000 at once 5",
        "acme/payer#pays 1/3600000 at once 1",
        "acme/payer#reads 9/1000 at once 9",
        "acme/payer#money 2/86400000 at once 2",
    ];
    let tenant = POLICY.map(|limit| limit.replace("acme/payer", "tenantgateway/acme"));
    let [tools, pays, reads, money] = [0, 1, 2, 3];
    let texts = |held: &[usize], other: &[String]| -> String {
        held.iter().map(|place| other[*place].clone()).collect::<Vec<_>>().join(", ")
    };
    let policy = POLICY.map(str::to_owned);
    for (id, own, other) in [("AgentPolicy payer", &policy, &tenant), (ACME, &tenant, &policy)] {
        // A policy's come first, by name.
        let both = |held: &[usize], own_text: String| {
            let other_text = texts(held, other);
            let pair = if id == ACME { [other_text, own_text] } else { [own_text, other_text] };
            pair.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ").leak() as &'static str
        };
        let mut add = |pointer: &'static str, value: Value, probe: &'static Probe, held: &[usize], after: String| {
            let before = both(held, texts(held, own));
            fields.push(payer(id, pointer, value, Probe::Counted(probe), before, both(held, after)));
        };
        let renamed = own[tools].replace("#tools", "#z");
        add("/spec/limits/0/name", json!("z"), &WRITE, &[tools], renamed);
        add("/spec/limits/0/match/tools", json!(["edit"]), &WRITE, &[tools], String::new());
        add("/spec/limits/0/rate/requests", json!(31), &WRITE, &[tools], own[tools].replace("30/", "31/"));
        add("/spec/limits/0/rate/interval", json!("2m"), &WRITE, &[tools], own[tools].replace("60000", "120000"));
        add("/spec/limits/0/rate/burst", json!(6), &WRITE, &[tools], own[tools].replace("once 5", "once 6"));
        add("/spec/limits/1/match/operations", json!(["api.x"]), &PAY, &[money, pays], own[money].clone());
        for (pointer, value) in [
            ("/spec/limits/2/match/http/upstreams", json!(["api"])),
            ("/spec/limits/2/match/http/methods", json!(["PUT"])),
            ("/spec/limits/2/match/http/paths", json!(["/wiki/Dog"])),
        ] {
            add(pointer, value, &READ, &[reads], String::new());
        }
        add("/spec/limits/3/match/category", json!("Read"), &PAY, &[money, pays], own[pays].clone());
    }
    fields
}

fn gateway_fields() -> Vec<Field> {
    let field = |pointer, value, probe, before, after| field(ACME, pointer, value, probe, before, after);
    let identity = "spiffe://acme.example/ns/acme/sa/agent/pod/0b6f7a3e-6d0c-4f0e-9a4e-1f2a3b4c5d6e";
    let other = "spiffe://other.example/ns/acme/sa/agent/pod/0b6f7a3e-6d0c-4f0e-9a4e-1f2a3b4c5d6e";
    let renamed = "Ask by tenantgateway/acme#renamed: ApprovalUnavailable";
    let blocked = "Deny by tenantgateway/acme#large-write: TierBlock";
    let writes = "Allow by acme/support#write";
    let trial = |pointer, value, before, after| Field { app: "trial", ..field(pointer, value, EXEC, before, after) };
    const REQUIRED: &str = "needs the plugin";
    let python =
        |pointer, value, after| Field { app: "python", ..field(pointer, value, PluginOptional, "python", after) };
    let shadowed = "Allow, would be TierBlock";
    let enforced = "Deny by acme/trial#nothing: TierBlock";
    vec![
        field("/spec/namespaces", json!(["acme-staging"]), EXEC, LISTED, "no assignment"),
        field("/spec/trustDomain", json!("other.example"), Identity, identity, other),
        field("/spec/guardrails/1/name", json!("renamed"), WRITE, ASKED, renamed),
        field("/spec/guardrails/1/match/tools", json!(["writes"]), WRITE, ASKED, writes),
        field("/spec/guardrails/1/when", json!("args.size > 100"), WRITE, ASKED, writes),
        field("/spec/guardrails/1/tier", json!("Block"), WRITE, ASKED, blocked),
        field(
            "/spec/guardrails/0/match/operations",
            json!(["api.remove_*"]),
            DELETE,
            UNDELETED,
            "Allow by acme/support#delete",
        ),
        field("/spec/guardrails/2/match/http/upstreams", json!(["api"]), PUT, UNPUT, READS),
        field("/spec/guardrails/2/match/http/methods", json!(["POST"]), PUT, UNPUT, READS),
        field("/spec/guardrails/2/match/http/paths", json!(["/wiki/Dog"]), PUT, UNPUT, READS),
        python("/spec/agents/pluginOptional/0/name", json!("other"), "other"),
        python("/spec/agents/pluginOptional/0/podSelector/matchLabels/app", json!("other"), REQUIRED),
        python("/spec/agents/pluginOptional/0/podSelector/matchExpressions/0/key", json!("other"), REQUIRED),
        python("/spec/agents/pluginOptional/0/podSelector/matchExpressions/0/operator", json!("NotIn"), REQUIRED),
        python("/spec/agents/pluginOptional/0/podSelector/matchExpressions/0/values", json!(["other"]), REQUIRED),
        trial("/spec/policyConstraints/allowedModes", json!(["Enforce"]), shadowed, enforced),
        trial("/spec/policyConstraints/auditUntil", json!("2026-11-20"), shadowed, enforced),
    ]
}

const BILLING: &str =
    "registry.example/billing@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Fields of a tenant that change objects, or what becomes of pods.
fn object_fields() -> Vec<Field> {
    const WEB: &str = "NetworkPolicy acme/clawlock-ingress-web";
    const BATCH: &str = "NetworkPolicy acme/clawlock-exempt-batch";
    const NAMESPACES: &str = "/spec/ingress/0/from/0/namespaceSelector";
    const PODS: &str = "/spec/ingress/0/from/0/podSelector";
    let field = |pointer, value, probe, before, after| field(ACME, pointer, value, probe, before, after);
    let web = |pointer, value, at, before, after| field(pointer, value, Probe::Object(WEB, at), before, after);
    let pod = |job, account, image| Probe::Pod(job, account, image);
    let exempt = "exempt by batch, without its token";
    let injected = "injected, without its token";
    let is_batch =
        r#"{"matchExpressions":[{"key":"job","operator":"In","values":["batch"]}],"matchLabels":{"job":"batch"}}"#;
    let exemption = |pointer, value| field(pointer, value, pod("batch", "agent", "any"), exempt, injected);
    let is_web_team =
        r#"{"matchExpressions":[{"key":"team","operator":"In","values":["web"]}],"matchLabels":{"team":"web"}}"#;
    let is_web = r#"{"matchExpressions":[{"key":"app","operator":"In","values":["web"]}],"matchLabels":{"app":"web"}}"#;
    vec![
        field(
            "/spec/replicas",
            json!(5),
            Probe::Object("StatefulSet acme-gateway/clawlock-gateway", "/spec/replicas"),
            "3",
            "5",
        ),
        field("/spec/onboarding", json!("Observe"), Probe::Closed, r#"{"acme", "acme-staging"}"#, "{}"),
        field("/spec/identity/certificateTTL", json!("90m"), Probe::Lifetime, "43200", "5400"),
        field(
            "/spec/agents/exemptions/0/name",
            json!("jobs"),
            Probe::Object(BATCH, "/spec/podSelector"),
            is_batch,
            "no such object",
        ),
        exemption("/spec/agents/exemptions/0/podSelector/matchLabels/job", json!("other")),
        exemption("/spec/agents/exemptions/0/podSelector/matchExpressions/0/key", json!("other")),
        exemption("/spec/agents/exemptions/0/podSelector/matchExpressions/0/operator", json!("NotIn")),
        exemption("/spec/agents/exemptions/0/podSelector/matchExpressions/0/values", json!(["other"])),
        web("/spec/agents/ingress/0/name", json!("other"), PODS, is_web, "no such object"),
        web(
            "/spec/agents/ingress/0/from/0/namespaceSelector/matchLabels/team",
            json!("b"),
            NAMESPACES,
            is_web_team,
            r#"{"matchExpressions":[{"key":"team","operator":"In","values":["web"]}],"matchLabels":{"team":"b"}}"#,
        ),
        web(
            "/spec/agents/ingress/0/from/0/namespaceSelector/matchExpressions/0/key",
            json!("b"),
            NAMESPACES,
            is_web_team,
            r#"{"matchExpressions":[{"key":"b","operator":"In","values":["web"]}],"matchLabels":{"team":"web"}}"#,
        ),
        web(
            "/spec/agents/ingress/0/from/0/namespaceSelector/matchExpressions/0/operator",
            json!("NotIn"),
            NAMESPACES,
            is_web_team,
            r#"{"matchExpressions":[{"key":"team","operator":"NotIn","values":["web"]}],"matchLabels":{"team":"web"}}"#,
        ),
        web(
            "/spec/agents/ingress/0/from/0/namespaceSelector/matchExpressions/0/values",
            json!(["b"]),
            NAMESPACES,
            is_web_team,
            r#"{"matchExpressions":[{"key":"team","operator":"In","values":["b"]}],"matchLabels":{"team":"web"}}"#,
        ),
        web(
            "/spec/agents/ingress/0/from/0/podSelector/matchLabels/app",
            json!("b"),
            PODS,
            is_web,
            r#"{"matchExpressions":[{"key":"app","operator":"In","values":["web"]}],"matchLabels":{"app":"b"}}"#,
        ),
        web(
            "/spec/agents/ingress/0/from/0/podSelector/matchExpressions/0/key",
            json!("b"),
            PODS,
            is_web,
            r#"{"matchExpressions":[{"key":"b","operator":"In","values":["web"]}],"matchLabels":{"app":"web"}}"#,
        ),
        web(
            "/spec/agents/ingress/0/from/0/podSelector/matchExpressions/0/operator",
            json!("NotIn"),
            PODS,
            is_web,
            r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}],"matchLabels":{"app":"web"}}"#,
        ),
        web(
            "/spec/agents/ingress/0/from/0/podSelector/matchExpressions/0/values",
            json!(["b"]),
            PODS,
            is_web,
            r#"{"matchExpressions":[{"key":"app","operator":"In","values":["b"]}],"matchLabels":{"app":"web"}}"#,
        ),
        web("/spec/agents/ingress/0/ports/0/port", json!(80), "/spec/ingress/0/ports/0/port", "18789", "80"),
        web(
            "/spec/agents/ingress/0/ports/0/protocol",
            json!("UDP"),
            "/spec/ingress/0/ports/0/protocol",
            r#""TCP""#,
            r#""UDP""#,
        ),
        field(
            "/spec/agents/serviceAccounts/0/name",
            json!("other"),
            pod("", "billing", "any"),
            "refused: Image",
            injected,
        ),
        field(
            "/spec/agents/serviceAccounts/0/images",
            json!(["any"]),
            pod("", "billing", BILLING),
            injected,
            "refused: Image",
        ),
        field(
            "/spec/agents/apiAccess/0/serviceAccount",
            json!("other"),
            pod("", "deployer", "any"),
            "injected, with its token",
            injected,
        ),
    ]
}

fn upstream_fields() -> Vec<Field> {
    const API: &str = "Upstream api";
    const KEYED: &str = "Upstream keyed";
    const BASIC: &str = "Upstream basic";
    const WIKI: &str = "Upstream wiki";
    let api = |pointer, value, after| field(API, pointer, value, Probe::Upstream("api"), API_NOW, after);
    const API_NOW: &str = r#"Http cidrs [10.1.0.0/16] ca Some("b25l") credential Bearer { secret: SecretKey { name: "api", key: "token" } }"#;
    let keyed = |pointer, value, after| field(KEYED, pointer, value, Probe::Upstream("keyed"), KEYED_NOW, after);
    const KEYED_NOW: &str = r#"Http cidrs [] ca None credential Header { name: "x-api-key", secret: SecretKey { name: "keyed", key: "value" } }"#;
    let basic = |pointer, value, after| field(BASIC, pointer, value, Probe::Upstream("basic"), BASIC_NOW, after);
    const BASIC_NOW: &str = r#"Http cidrs [] ca None credential Basic { username: "acme", secret: SecretKey { name: "basic", key: "password" } }"#;
    let page = "Allow by acme/support#page";
    vec![
        field(WIKI, "/spec/scheme", json!("https"), READ, READS, NOWHERE),
        field(WIKI, "/spec/hosts", json!(["*.books.example"]), READ, READS, NOWHERE),
        field(WIKI, "/spec/port", json!(8081), READ, READS, NOWHERE),
        api(
            "/spec/protocol",
            json!("LLM"),
            r#"Llm cidrs [10.1.0.0/16] ca Some("b25l") credential Bearer { secret: SecretKey { name: "api", key: "token" } }"#,
        ),
        api(
            "/spec/allowedCIDRs",
            json!([]),
            r#"Http cidrs [] ca Some("b25l") credential Bearer { secret: SecretKey { name: "api", key: "token" } }"#,
        ),
        api(
            "/spec/tls/caRef/name",
            json!("other-ca"),
            r#"Http cidrs [10.1.0.0/16] ca Some("dGhyZWU=") credential Bearer { secret: SecretKey { name: "api", key: "token" } }"#,
        ),
        api(
            "/spec/tls/caRef/key",
            json!("next.crt"),
            r#"Http cidrs [10.1.0.0/16] ca Some("dHdv") credential Bearer { secret: SecretKey { name: "api", key: "token" } }"#,
        ),
        // The union changes as a whole: its type alone is a mistake, which closes the upstream.
        api("/spec/credential", json!({"type": "None"}), r#"Http cidrs [10.1.0.0/16] ca Some("b25l") credential None"#),
        api("/spec/credential/type", json!("None"), NOWHERE),
        api(
            "/spec/credential/bearer/secretRef/name",
            json!("next"),
            r#"Http cidrs [10.1.0.0/16] ca Some("b25l") credential Bearer { secret: SecretKey { name: "next", key: "token" } }"#,
        ),
        api(
            "/spec/credential/bearer/secretRef/key",
            json!("next"),
            r#"Http cidrs [10.1.0.0/16] ca Some("b25l") credential Bearer { secret: SecretKey { name: "api", key: "next" } }"#,
        ),
        keyed(
            "/spec/credential/header/name",
            json!("x-token"),
            r#"Http cidrs [] ca None credential Header { name: "x-token", secret: SecretKey { name: "keyed", key: "value" } }"#,
        ),
        keyed(
            "/spec/credential/header/secretRef/name",
            json!("next"),
            r#"Http cidrs [] ca None credential Header { name: "x-api-key", secret: SecretKey { name: "next", key: "value" } }"#,
        ),
        keyed(
            "/spec/credential/header/secretRef/key",
            json!("next"),
            r#"Http cidrs [] ca None credential Header { name: "x-api-key", secret: SecretKey { name: "keyed", key: "next" } }"#,
        ),
        basic(
            "/spec/credential/basic/username",
            json!("next"),
            r#"Http cidrs [] ca None credential Basic { username: "next", secret: SecretKey { name: "basic", key: "password" } }"#,
        ),
        basic(
            "/spec/credential/basic/secretRef/name",
            json!("next"),
            r#"Http cidrs [] ca None credential Basic { username: "acme", secret: SecretKey { name: "next", key: "password" } }"#,
        ),
        basic(
            "/spec/credential/basic/secretRef/key",
            json!("next"),
            r#"Http cidrs [] ca None credential Basic { username: "acme", secret: SecretKey { name: "basic", key: "next" } }"#,
        ),
        field(API, "/spec/operations/0/name", json!("create_charge"), REFUND, REFUNDED, NO_MATCH),
        field(API, "/spec/operations/0/method", json!("PUT"), REFUND, REFUNDED, NO_MATCH),
        field(API, "/spec/operations/0/path", json!("/v2/refunds/{charge}"), REFUND, REFUNDED, NO_MATCH),
        // Undeclared, a path variable is a string, which is never equal to 7.
        field(API, "/spec/operations/3/arguments/0/name", json!("number"), PAGE, page, NO_MATCH),
        field(API, "/spec/operations/3/arguments/0/type", json!("String"), PAGE, page, HALTED),
    ]
}

fn fields() -> Vec<Field> {
    [
        policy_fields(),
        payer_fields(),
        limit_fields(),
        gateway_fields(),
        object_fields(),
        upstream_fields(),
        halts::fields(),
        halts::on_deny_fields(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether an observation is the expected one; a halt's goes on with its reason.
fn is(seen: &str, expected: &str) -> bool {
    if expected == HALTED { seen.starts_with(HALTED) } else { seen == expected }
}

#[test]
fn changing_one_field_changes_what_happens() {
    let before = compiled(&world());
    for Field { id, pointer, value, app, probe, before: expected, after } in fields() {
        let seen = observe(&before, &pod(app), probe);
        assert!(is(&seen, expected), "{id} {pointer} before: {seen}");
        let changed = observe(&compiled(&changed(id, pointer, value.clone())), &pod(app), probe);
        assert!(is(&changed, after), "{id} {pointer} = {value}: {changed}");
        assert_ne!(seen, changed, "{id} {pointer} = {value}: nothing changed");
    }
}

/// Fields with one value today: another one is refused.
#[test]
fn a_field_with_one_value_has_no_other() {
    for (id, pointer, value) in [
        ("Upstream api", "/spec/protocol", json!("TCP")),
        ("AgentPolicy payer", "/spec/limits/0/scope", json!("Tenant")),
        ("TenantGateway acme", "/spec/limits/0/scope", json!("Tenant")),
        ("Upstream api", "/spec/tls/caRef/kind", json!("Secret")),
        ("Upstream api", "/spec/scheme", json!("ftp")),
        ("Upstream api", "/spec/port", json!(65616)),
        ("Upstream api", "/spec/port", json!(0)),
    ] {
        let error = read(&changed(id, pointer, value.clone())).unwrap_err();
        let name = id.split(' ').nth(1).unwrap();
        assert!(error.starts_with(&format!("\"{name}\": ")), "{pointer} = {value}: {error}");
    }
}

#[test]
fn a_policy_holds_in_its_own_namespace_only() {
    let compilation = compiled(&world());
    assert_eq!(observe(&compilation, &pod_in("acme", "support"), EXEC), LISTED);
    assert_eq!(observe(&compilation, &pod_in("acme-staging", "support"), EXEC), NO_POLICY);
    assert_eq!(observe(&compilation, &pod_in("elsewhere", "support"), EXEC), "no assignment");
    assert_eq!(observe(&compilation, &pod_in("acme-gateway", "support"), EXEC), "no assignment");
}

/// The fields of the schemas, without those that only group others.
fn schema_fields() -> BTreeSet<String> {
    fn collect(kind: &str, path: &str, schema: &Value, found: &mut BTreeSet<String>) {
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{name}");
            let below = if child["items"].is_object() { &child["items"] } else { child };
            if below["properties"].is_object() {
                collect(kind, &path, below, found);
            } else {
                found.insert(format!("{kind} {path}"));
            }
        }
    }
    let mut found = BTreeSet::new();
    for definition in clawlock_crds::definitions() {
        let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        collect(&definition.spec.names.kind, "/spec", spec, &mut found);
    }
    found
}

#[test]
fn every_field_of_the_schemas_is_tested_here() {
    let without_indexes = |pointer: &str| -> String {
        pointer
            .split('/')
            .skip(1)
            .filter(|part| part.parse::<usize>().is_err())
            .map(|part| format!("/{part}"))
            .collect()
    };
    let mut tested: BTreeSet<String> = fields()
        .iter()
        .map(|field| format!("{} {}", field.id.split(' ').next().unwrap(), without_indexes(field.pointer)))
        .collect();
    // The key of a list, which nothing else refers to.
    tested.insert("TenantGateway /spec/toolCategories/name".to_owned());
    // Tested by `a_field_with_one_value_has_no_other`.
    let with_one_value =
        ["Upstream /spec/tls/caRef/kind", "AgentPolicy /spec/limits/scope", "TenantGateway /spec/limits/scope"];
    tested.extend(with_one_value.map(str::to_owned));
    for field in schema_fields() {
        // A map has keys below it.
        let known = tested.contains(&field) || tested.iter().any(|tested| tested.starts_with(&format!("{field}/")));
        assert!(known, "no test changes {field}");
    }
}
