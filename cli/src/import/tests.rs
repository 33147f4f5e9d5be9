//! What is imported allows nothing that the source did not: random sources of each format, through YAML, the compiler and
//! the engine, against a plain reading of the source. And mistakes have their lines.

use std::path::Path;

use clawlock_policy::{Policy, Verdict as Decided, decide};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::action::Asked;
use crate::args::{AgentArgs, AgentName};
use crate::engine::Rules;
use crate::folder::{self, Folder};

const TENANT: &str = "apiVersion: clawlock.dev/v1alpha1\nkind: TenantGateway\nmetadata: {name: acme, namespace: acme-gateway}\n\
    spec: {namespaces: [acme], trustDomain: acme.example}\n---\n\
    apiVersion: clawlock.dev/v1alpha1\nkind: Upstream\nmetadata: {name: stripe, namespace: acme-gateway}\n\
    spec:\n  protocol: HTTP\n  scheme: https\n  hosts: [stripe.example]\n  port: 443\n  operations:\n  \
    - {name: list, method: GET, path: /list}\n  - {name: refund, method: POST, path: /refund}\n  - {name: INSERT, method: POST, path: /insert}\n";

fn source(file: &str, text: &str) -> Source {
    Source { file: file.into(), text: text.to_owned() }
}

fn place() -> Place<'static> {
    Place { namespace: "acme", platform: "acme-gateway", labels: BTreeMap::new() }
}

/// The policy that an import comes to.
fn compiled(imported: &Imported) -> Rules {
    let yaml = render::yaml(imported, &place());
    render::check(imported, &place()).unwrap();
    let files = vec![folder::parse("tenant.yaml".into(), TENANT), folder::parse("imported.yaml".into(), &yaml)];
    Rules::of(&Folder { files, problems: Vec::new() }, Path::new(".")).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// The policies of a few agents, each built once.
struct Built(BTreeMap<&'static str, Policy>);

fn built(imported: &Imported) -> Built {
    let rules = compiled(imported);
    let policy = |account: &'static str| {
        let agent = AgentName { namespace: "acme".to_owned(), service_account: account.to_owned() };
        (account, rules.policy_of(&AgentArgs { agent: Some(agent), labels: Vec::new() }, 1).unwrap())
    };
    Built(["default", "bot"].map(policy).into())
}

fn allowed(built: &Built, account: &str, now_ms: u64, asked: &Asked) -> bool {
    let policy = &built.0[account];
    let Ok(routed) = asked.route(policy) else { return false };
    asked.with_facts(policy, &routed, now_ms, |facts| matches!(decide(policy, facts), Decided::Allow(_)))
}

fn tool(name: &str) -> Asked {
    Asked::tool(name, "{}").unwrap()
}

fn get(url: &str) -> Asked {
    Asked::http("GET", url, "", Vec::new()).unwrap()
}

/// Each case asks about some ten actions; there are five properties.
fn cases() -> u32 {
    std::env::var("CLAWLOCK_CASES").ok().and_then(|cases| cases.parse::<u32>().ok()).map_or(2_500, |cases| cases / 50)
}

const TOOLS: [&str; 10] =
    ["exec", "read", "write", "Exec", "github_read", "slack_post", "true", "web_search", "1e3", "memory_get"];

fn quoted(names: &[&str]) -> String {
    serde_json::to_string(names).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn agentport_with_overlays_never_widens(
        allow in subsequence(TOOLS.to_vec(), 0..TOOLS.len()), deny in subsequence(TOOLS.to_vec(), 0..3),
        over in proptest::option::of(subsequence(TOOLS.to_vec(), 0..4)), module in select(vec!["tool_allowlist.wasm", "other.wasm"]),
        event in select(vec!["beforeToolCall", "afterMemoryWrite", "beforeMemoryWrite"]), signed in any::<bool>(), budgets in any::<bool>(),
    ) {
        let mut base = format!("enforcement: fail-close\nhooks:\n- {{event: {event}, module: {module}}}\ntools: {{allow: {}, deny: {}}}\n", quoted(&allow), quoted(&deny));
        if budgets {
            base += "budgets: {shell: 3}\n";
        }
        let mut sources = vec![source("agentport.yaml", &base)];
        let mut listed = allow;
        if let Some(over) = over {
            sources.push(source("agentport.prod.yaml", &format!("tools:\n  allow: {}\n", quoted(&over))));
            listed = over;
        }
        sources.push(source("claw.json", &format!("{{\"plugins\": {{\"requireSignedManifests\": {signed}}}}}")));
        let rules = built(&agentport::convert(&sources).unwrap());
        let shut = signed || budgets || (event == "beforeToolCall" && module == "other.wasm") || event == "beforeMemoryWrite";
        for name in TOOLS {
            let expected = !shut && listed.contains(&name) && !deny.contains(&name);
            prop_assert_eq!(allowed(&rules, "default", 1, &tool(name)), expected, "{} {}", name, base);
        }
        prop_assert!(!allowed(&rules, "default", 1, &get("https://stripe.example/list")));
    }

    #[test]
    fn bindings_never_widen(
        skill in select(TOOLS.to_vec()), scope in proptest::option::of(subsequence(TOOLS.to_vec(), 0..3)),
        hosts in subsequence(vec!["api.duckduckgo.com", "a.example", "b.example:8443"], 0..3),
        files in proptest::option::of(select(vec!["none", "read", "write"])), binaries in proptest::option::of(select(vec!["none", "all"])),
        more in proptest::option::of(select(vec!["\"env\": {}", "\"on_failure\": \"halt\"", "\"input_schema\": {\"type\": \"object\"}", "\"forbidden_syscalls\": [\"ptrace\"]"])),
    ) {
        let mut fields = vec![format!("\"skill\": {skill:?}"), format!("\"allowed_hosts\": {}", quoted(&hosts))];
        fields.extend(scope.as_ref().map(|scope| format!("\"tool_scope\": {}", quoted(scope))));
        fields.extend(files.map(|files| format!("\"file_access\": {files:?}")));
        fields.extend(binaries.map(|binaries| format!("\"binary_access\": {binaries:?}")));
        fields.extend(more.map(str::to_owned));
        let text = format!("{{\n\t{}\n}}\n", fields.join(",\n\t"));
        let rules = built(&binding::convert(&source("manifest.json", &text)).unwrap());
        for name in TOOLS {
            let named = scope.as_ref().map_or(name == skill, |scope| scope.contains(&name));
            // What is not there declares nothing.
            let refused = (binaries != Some("all") && name == "exec")
                || (files != Some("write") && ["exec", "write"].contains(&name))
                || (!matches!(files, Some("read" | "write")) && name == "read");
            prop_assert_eq!(allowed(&rules, "default", 1, &tool(name)), named && !refused && more.is_none(), "{} {}", name, text);
        }
        // One skill's hosts: the pod may have others.
        for url in ["https://api.duckduckgo.com/", "https://a.example/x", "https://b.example:8443/", "https://b.example/", "https://x.a.example/"] {
            prop_assert!(!allowed(&rules, "default", 1, &get(url)), "{} {}", url, text);
        }
    }

    #[test]
    fn destinations_never_widen(
        listed in proptest::option::of(subsequence(vec!["api.openai.com", "api.github.com", "a.example"], 0..3)),
        variables in proptest::option::of(subsequence(vec!["api.openai.com", "api.github.com", "a.example"], 0..3)),
        id in proptest::option::of(select(vec!["bot", "default"])), exp in proptest::option::of(1_000u64..2_000),
    ) {
        let mut fields = vec!["\"tenant\": \"acme\"".to_owned()];
        fields.extend(listed.as_ref().map(|listed| format!("\"allowed_destinations\": {}", quoted(listed))));
        fields.extend(id.map(|id| format!("\"agent_id\": {id:?}")));
        fields.extend(exp.map(|exp| format!("\"exp\": {exp}")));
        let mut sources = vec![source("policy.json", &format!("{{{}}}", fields.join(", ")))];
        if let Some(variables) = &variables {
            sources.push(source(".env", &format!("# comment\nALLOWED_DESTINATIONS={}\nAGENTPORT_TOKEN=secret\n", variables.join(","))));
        }
        let imported = destinations::convert(&sources).unwrap();
        prop_assert!(!render::yaml(&imported, &place()).contains("secret"));
        let rules = built(&imported);
        for host in ["api.openai.com", "api.github.com", "a.example", "openai.com", "stripe.example"] {
            for (account, now_ms) in [("bot", 1_500_000), ("default", 1_500_000), ("default", 900_000)] {
                let said = [&listed, &variables].into_iter().flatten().collect::<Vec<_>>();
                let expected = !said.is_empty() && said.iter().all(|said| said.contains(&host))
                    && id.is_none_or(|id| id == account) && exp.is_none_or(|exp| now_ms < exp * 1000);
                prop_assert_eq!(allowed(&rules, account, now_ms, &get(&format!("https://{host}/x"))), expected);
            }
        }
    }

    #[test]
    fn tiers_never_widen(list in select(vec!["auto", "ask", "block"]), refund in select(vec!["auto", "ask", "block"]), insert in select(vec!["auto", "ask", "block"])) {
        let text = format!("stripe: {{list: {list}, refund: {refund}, INSERT: {insert}}}\npostgres: {{SELECT: auto}}\n");
        let rules = built(&tiers::convert(&source("tiers.yaml", &text)).unwrap());
        let post = |path: &str| Asked::http("POST", &format!("https://stripe.example{path}"), "", Vec::new()).unwrap();
        prop_assert_eq!(allowed(&rules, "default", 1, &get("https://stripe.example/list")), list == "auto");
        prop_assert_eq!(allowed(&rules, "default", 1, &post("/refund")), refund == "auto");
        prop_assert!(!allowed(&rules, "default", 1, &post("/insert")));
        prop_assert!(!allowed(&rules, "default", 1, &get("https://stripe.example/refund")));
        prop_assert!(!allowed(&rules, "default", 1, &tool("exec")));
    }

    #[test]
    fn any_text_is_a_document_or_a_mistake_with_its_place(text in "([-{}\\[\\]:,&*!|>'\"%@` \n~a0.=\t]|tools: |skill: |agent: |stripe: |allow: |auto){0,40}") {
        let sources = [source("a", &text)];
        for format in [ImportFormat::Agentport, ImportFormat::AgentManifest, ImportFormat::Binding, ImportFormat::Destinations, ImportFormat::Tiers, ImportFormat::Network] {
            match convert(format, &sources) {
                Ok(imported) => {
                    if render::check(&imported, &place()).is_ok() {
                        compiled(&imported);
                    }
                }
                Err(mistakes) => prop_assert!(!mistakes.is_empty() && mistakes.iter().all(|mistake| mistake.line > 0)),
            }
        }
    }
}

#[test]
fn a_key_that_is_not_known_is_an_error_with_its_line() {
    for (format, text, line, meant) in [
        (ImportFormat::Agentport, "enforcement: block\ntools:\n  alow: [exec]\n", 3, Some("allow")),
        (ImportFormat::Agentport, "enforcement: block\nhooks:\n- {event: x, modul: y}\n", 3, Some("module")),
        (ImportFormat::Agentport, "enforcement: blok\n", 1, None),
        (ImportFormat::Agentport, "tools: {allow: [a], allow: [b]}\n", 1, None),
        (ImportFormat::Agentport, "tools:\n  allow:\n  - \"exec*\"\n", 3, None),
        (ImportFormat::AgentManifest, "agent:\n  name: a\n  gatway: {}\n", 3, Some("gateway")),
        (ImportFormat::Binding, "{\n \"skill\": \"a\",\n \"allowed_host\": []\n}", 3, Some("allowed_hosts")),
        (ImportFormat::Binding, "{\n \"skill\": \"a\",\n \"allowed_hosts\": [\"*.example\"]\n}", 3, None),
        (
            ImportFormat::Binding,
            "{\"skill\": \"a\",\n\"roles\": {\"b\": {\n\"tool_scop\": []}}}",
            3,
            Some("tool_scope"),
        ),
        (
            ImportFormat::Destinations,
            "{\"tenant\": \"a\",\n\"allowed_destination\": []}",
            2,
            Some("allowed_destinations"),
        ),
        (ImportFormat::Destinations, "ALLOWED_DESTINATIONS=a.example\nALLOWED=b\n", 2, None),
        (ImportFormat::Tiers, "stripe:\n  list: auto\n  refund: aks\n", 3, None),
        (ImportFormat::Tiers, "stripe:\n  \"*\": auto\n", 2, None),
    ] {
        let mistakes = convert(format, &[source("a", text)]).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        assert_eq!(mistakes[0].line, line, "{text}: {mistakes:?}");
        assert_eq!(mistakes[0].fix.as_ref().map(|fix| fix.with.as_str()), meant, "{text}: {mistakes:?}");
    }
}

#[test]
fn what_cannot_be_carried_over_says_why() {
    let imported = agentport::convert(&[source("a", "tools: {allow: [exec]}\nbudgets: {shell: 1}\n")]).unwrap();
    let yaml = render::yaml(&imported, &place());
    assert!(yaml.contains("  # budgets: budgets per category"), "{yaml}");
    assert!(yaml.contains("tier: Block"), "{yaml}");
    let manifest = "agent:\n  name: \"invoice-processor\"\n  gateway:\n    endpoint: \"https://a:8443\"\n    mTLS: {certPath: /a, keyPath: /b}\n  \
                    binary_security: {enforcement: strict, signature_algorithm: Ed25519, trusted_registries: [\"https://r:5000\"]}\n  \
                    logging: {audit_target: \"x\", local_retention_hours: 0}\n";
    let imported = agent_manifest::convert(&source("a", manifest)).unwrap();
    assert_eq!((imported.policies[0].name.as_str(), imported.policies[0].rules[0].tier), ("invoice-processor", BLOCK));
    assert!(!allowed(&built(&imported), "default", 1, &tool("exec")));
    let network = network::convert(&[
        source("np.yaml", "kind: NetworkPolicy\nmetadata: {name: a}\n"),
        source("nginx.conf", "stream { server { proxy_pass api.example.com:443; } }\n# see conf.d/x.conf 10.0.0.1\n"),
    ]);
    assert!(network.notes[0].contains("keep it as it is"), "{network:?}");
    assert_eq!(network.notes.last().map(String::as_str), Some("  api.example.com"), "{network:?}");
}
