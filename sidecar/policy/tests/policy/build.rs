//! Building: everything is parsed again, and nothing that does not parse is left out.

use clawlock_policy::document::{
    Assignment, CredentialDoc, Document, HaltDoc, Mode, OperationDoc, PolicyDoc, Scheme, SecretKey, TenantDoc, Tier,
    UpstreamDoc,
};
use clawlock_policy::{HostName, Policy, codec};

use crate::fixtures::*;

fn refusal(documents: Vec<Document>) -> String {
    match try_build(documents) {
        Ok(_) => panic!("it was built"),
        Err(error) => error.to_string(),
    }
}

fn upstream_refusal(change: impl FnOnce(&mut UpstreamDoc)) -> String {
    let mut doc = upstream_doc("u", "u.example");
    change(&mut doc);
    refusal(vec![tenant(vec![]), Document::Upstream(doc)])
}

fn rule_refusal(rule: clawlock_policy::document::RuleDoc) -> String {
    refusal(vec![tenant(vec![]), stripe(), enforce("acme/p", vec![rule])])
}

#[test]
fn the_accessors_tell_what_the_assignment_says() {
    let policy = build(vec![tenant(vec![]), stripe()]);
    assert_eq!(&**policy.tenant(), "acme");
    assert_eq!(policy.generation(), 7);
    assert_eq!((policy.issued_at_ms(), policy.not_after_ms()), (NOW - 1000, NOW + 43_200_000));
    assert_eq!(&*policy.caller().workload.pod, "support-0");
    assert_eq!(&*policy.caller().workload.uid, "0b5e");
    assert_eq!(policy.caller().identity.as_str(), "spiffe://acme.example/ns/acme/sa/support/pod/0b5e");
    assert_eq!(policy.caller().workload.labels["team"], "billing");
    let upstream = policy.upstream_named("stripe").unwrap();
    assert_eq!(*upstream.digest, codec::digest(&codec::encode(&stripe())));
    let arguments: Vec<&str> = upstream.arguments.iter().map(|name| &**name).collect();
    assert_eq!(arguments, ["amount", "exact", "limit", "rate"]);
    assert_eq!(policy.upstreams().count(), 1);
    assert!(policy.upstream_named("github").is_none());
}

#[test]
fn the_documents_must_be_exactly_the_listed_ones() {
    let documents = || vec![tenant(vec![]), stripe(), enforce("acme/p", vec![])];
    let with = |change: &dyn Fn(&mut Assignment), documents: Vec<Document>| {
        let mut assignment = assignment(&fixtures_of(&documents));
        change(&mut assignment);
        Policy::build(assignment, documents).map_err(|error| error.to_string())
    };
    assert!(with(&|_| (), documents()).is_ok());
    let missing =
        with(&|a| a.digests = assignment(&[tenant(vec![]), stripe(), enforce("acme/q", vec![])]).digests, documents());
    assert!(missing.unwrap_err().contains("does not list sha256:"));
    let fewer = Policy::build(assignment(&documents()), documents().drain(..2).collect()).unwrap_err().to_string();
    assert!(fewer.contains("is missing"), "{fewer}");
    let more = Policy::build(assignment(&documents()[..2]), documents()).unwrap_err().to_string();
    assert!(more.contains("does not list") && more.contains("policy acme/p"), "{more}");
    let mut twice = documents();
    twice.push(stripe());
    assert!(Policy::build(assignment(&documents()), twice).unwrap_err().to_string().contains("is there twice"));
    assert!(with(&|a| a.digests.reverse(), documents()).unwrap_err().contains("not sorted"));
    assert!(with(&|a| a.digests.push(a.digests[2].clone()), documents()).unwrap_err().contains("listed twice"));
    assert!(with(&|a| a.not_after_ms = a.issued_at_ms, documents()).unwrap_err().contains("ends before"));
    assert!(with(&|a| a.tenant = "other".into(), documents()).unwrap_err().contains("its tenant is other"));
    assert!(with(&|a| a.identity = "spiffe://x/ns/a".into(), documents()).unwrap_err().contains("SPIFFE"));
    assert!(with(&|a| a.pod.uid = "ffff".into(), documents()).unwrap_err().contains("is not that of pod"));
    let any_order = with(&|_| (), vec![enforce("acme/p", vec![]), stripe(), tenant(vec![])]);
    assert!(any_order.is_ok());
}

fn fixtures_of(documents: &[Document]) -> Vec<Document> {
    documents.to_vec()
}

#[test]
fn there_is_one_tenant_and_one_version_of_each_object() {
    assert!(refusal(vec![stripe()]).contains("exactly one tenant document"));
    assert!(refusal(vec![tenant(vec![]), auditing_tenant(vec![])]).contains("exactly one tenant document"));
    let two = refusal(vec![tenant(vec![]), enforce("acme/p", vec![]), audit("acme/p", vec![])]);
    assert_eq!(two, "assignment: there are two versions of policy acme/p");
    let halt = |reason: &str| Document::Halt(HaltDoc { name: "acme/h".into(), reason: reason.into(), cause: None });
    assert!(refusal(vec![tenant(vec![]), halt("a"), halt("b")]).contains("two versions of halt acme/h"));
}

#[test]
fn a_rule_that_does_not_parse_refuses_everything_and_is_named() {
    for (rule, part) in [
        (rule("r", tools(&[]), Tier::Auto), "the list is empty"),
        (rule("r", tools(&[""]), Tier::Auto), "the tool pattern is empty"),
        (rule("r", operations(&["stripe"]), Tier::Auto), "names no operation"),
        (rule("r", operations(&[]), Tier::Auto), "the list is empty"),
        (rule("r", http(&[], &[], &[]), Tier::Auto), "the list is empty"),
        (rule("r", http(&["stripe"], &["get"], &[]), Tier::Auto), "is no method in upper case"),
        (rule("r", http(&["stripe"], &["GE T"], &[]), Tier::Auto), "is no method in upper case"),
        (rule("r", http(&["stripe"], &[], &["docs/**"]), Tier::Auto), "does not start with '/'"),
        (rule("r", http(&["stripe"], &[], &["/a%2e"]), Tier::Auto), "has '%'"),
        (when("r", tools(&["t"]), "args.x >", Tier::Block), "not a CEL expression"),
        (when("r", tools(&["t"]), "request.port == 1", Tier::Block), "has no request"),
        (when("r", operations(&["stripe.create_refund"]), "args.amount == \"5\"", Tier::Block), "int and string"),
        (when("r", operations(&["*.create_refund"]), "args.amount == \"5\"", Tier::Block), "int and string"),
    ] {
        let error = rule_refusal(rule);
        assert!(error.starts_with("policy acme/p, rule r: ") && error.contains(part), "{error}");
    }
    for name in ["", "a\nb", "a b", "a\u{a0}b", "a\u{1}b"] {
        assert!(rule_refusal(rule(name, tools(&["t"]), Tier::Auto)).contains("a name has 1 to 512 bytes"), "{name:?}");
    }
    let names = vec![rule("r", tools(&["a"]), Tier::Auto), rule("r", tools(&["b"]), Tier::Block)];
    assert_eq!(
        refusal(vec![tenant(vec![]), enforce("acme/p", names)]),
        "policy acme/p, rule r: another rule has the same name"
    );
    let many: Vec<String> = (0..1025).map(|n| format!("t{n}")).collect();
    assert!(
        rule_refusal(rule("r", clawlock_policy::document::MatchDoc::Tools(many), Tier::Auto)).contains("at most 1024")
    );
}

#[test]
fn a_guardrail_never_allows() {
    let error = refusal(vec![tenant(vec![rule("g", tools(&["t"]), Tier::Auto)])]);
    assert_eq!(error, "tenant acme, rule g: a guardrail says Ask or Block");
    let error = refusal(vec![tenant(vec![when("g", tools(&["t"]), "nope", Tier::Block)])]);
    assert!(error.starts_with("tenant acme, rule g: \"nope\" is not known"), "{error}");
}

#[test]
fn rules_may_name_upstreams_that_are_not_there_yet() {
    let rules = vec![
        rule("a", http(&["github"], &[], &[]), Tier::Auto),
        when("b", operations(&["github.list_*"]), "args.x == 1", Tier::Auto),
    ];
    build(vec![tenant(vec![]), enforce("acme/p", rules)]);
}

#[test]
fn an_upstream_that_does_not_parse_refuses_everything_and_is_named() {
    let header = |name: &str| CredentialDoc::Header {
        name: name.into(),
        secret: SecretKey { name: "s".into(), key: "k".into() },
    };
    let basic = |name: &str| CredentialDoc::Basic {
        username: name.into(),
        secret: SecretKey { name: "s".into(), key: "k".into() },
    };
    for (error, part) in [
        (upstream_refusal(|u| u.name = "a.b".into()), "has no '.'"),
        (upstream_refusal(|u| u.name = String::new()), "a name has 1"),
        (upstream_refusal(|u| u.hosts = vec![]), "at least one host"),
        (upstream_refusal(|u| u.hosts = strings(&["127.0.0.1"])), "an IP address is not a host name"),
        (upstream_refusal(|u| u.hosts = strings(&["a.example."])), "no trailing dot"),
        (upstream_refusal(|u| u.port = 0), "a port from 1"),
        (upstream_refusal(|u| u.allowed_cidrs = strings(&["10.0.0.0"])), "is no CIDR"),
        (upstream_refusal(|u| u.allowed_cidrs = strings(&["10.0.0.0/33"])), "is no CIDR"),
        (upstream_refusal(|u| u.scheme = Scheme::Http), "never sent in cleartext"),
        (upstream_refusal(|u| u.hosts = strings(&["*.example.com"])), "no wildcard host"),
        (upstream_refusal(|u| u.credential = header("x y")), "is no header name"),
        (upstream_refusal(|u| u.credential = header("")), "is no header name"),
        (upstream_refusal(|u| u.credential = basic("a:b")), "has no ':'"),
        (upstream_refusal(|u| u.credential = basic("a\tb")), "has no ':'"),
        (
            upstream_refusal(|u| {
                u.credential = CredentialDoc::Bearer { secret: SecretKey { name: String::new(), key: "k".into() } }
            }),
            "names a Secret",
        ),
    ] {
        assert!(error.starts_with("upstream ") && error.contains(part), "{error}");
    }
    for credential in [header("x-api-key"), basic("user"), basic(""), CredentialDoc::None {}] {
        build(vec![tenant(vec![]), Document::Upstream(UpstreamDoc { credential, ..upstream_doc("u", "u.example") })]);
    }
}

#[test]
fn operations_that_cannot_be_told_apart_are_refused() {
    let refused = |operations: Vec<OperationDoc>| upstream_refusal(|u| u.operations = operations);
    let get = |name: &str, path: &str| operation(name, "GET", path, &[]);
    let error = refused(vec![get("a", "/v1/{id}"), get("b", "/v1/{name}")]);
    assert_eq!(error, "upstream u, operation b: operation a has the same method and a path of the same shape");
    assert!(refused(vec![get("a", "/x"), get("a", "/y")]).contains("another operation has the same name"));
    assert!(refused(vec![get("a b", "/x")]).contains("white space"));
    assert!(refused(vec![get("a*", "/x")]).contains("'*'"));
    assert!(refused(vec![get("", "/x")]).contains("is empty"));
    assert!(refused(vec![get("a", "x")]).contains("does not start with '/'"));
    assert!(refused(vec![operation("a", "get", "/x", &[])]).contains("upper case"));
    let twice = [("x", clawlock_policy::document::ArgumentType::String); 2];
    assert!(refused(vec![operation("a", "GET", "/x", &twice)]).contains("declared twice"));
    let fine = vec![get("a", "/v1/{id}"), get("b", "/v1/me"), operation("c", "POST", "/v1/{id}", &[])];
    let doc = UpstreamDoc { operations: fine, ..upstream_doc("u", "u.example") };
    build(vec![tenant(vec![]), Document::Upstream(doc)]);
}

fn open(name: &str, scheme: Scheme, hosts: &[&str], port: u16) -> Document {
    let doc = upstream_doc(name, "x");
    Document::Upstream(UpstreamDoc { scheme, hosts: strings(hosts), port, credential: CredentialDoc::None {}, ..doc })
}

#[test]
fn two_upstreams_with_one_address_are_refused_and_both_named() {
    for (one, two) in [
        ("a.example", "a.example"),
        ("a.example", "A.example"),
        ("a.example", "*.example"),
        ("*.example", "a.example"),
        ("a*.example", "*b.example"),
    ] {
        let error = refusal(vec![
            tenant(vec![]),
            open("one", Scheme::Https, &[one], 443),
            open("two", Scheme::Https, &[two], 443),
        ]);
        assert!(error.starts_with("upstream two: https://") && error.contains("upstream one"), "{error}");
    }
    build(vec![
        tenant(vec![]),
        open("one", Scheme::Https, &["a.example", "*.a.example"], 443),
        open("two", Scheme::Http, &["a.example"], 443),
        open("three", Scheme::Https, &["a.example"], 8443),
        open("four", Scheme::Https, &["*.example"], 9443),
        open("five", Scheme::Https, &["x.example", "x.example", "x*.y.example", "*z.y.example"], 443),
    ]);
}

#[test]
fn wildcard_hosts_are_found() {
    let policy = build(vec![tenant(vec![]), open("wiki", Scheme::Https, &["*.wikipedia.org"], 443)]);
    let find =
        |host: &str| policy.upstream(Scheme::Https, &HostName::parse(host).unwrap(), 443).map(|u| u.name.to_string());
    assert_eq!(find("en.wikipedia.org").as_deref(), Some("wiki"));
    assert_eq!(find("en.m.wikipedia.org"), None);
    for other in ["wikipedia.org", "en.wikipedia", "en.wikipedia.com", "en.wiki.org", "en.wikipedia.org.x"] {
        assert_eq!(find(other), None, "{other}");
    }
}

/// Each field flips a decision: nothing in a document is without effect.
#[test]
fn every_field_of_a_policy_flips_a_decision() {
    let verdict = |doc: PolicyDoc| {
        let policy = build(vec![auditing_tenant(vec![]), stripe(), Document::Policy(doc)]);
        short(&request("GET", "/docs/a").query("q=1").decide(&policy))
    };
    let base = || PolicyDoc {
        name: "acme/p".into(),
        mode: Mode::Enforce,
        rules: vec![when("r", http(&["stripe"], &["GET"], &["/docs/*"]), "args.q == \"1\"", Tier::Auto)],
        residency: None,
        limits: vec![],
    };
    assert_eq!(verdict(base()), "allow");
    assert_eq!(verdict(PolicyDoc { rules: vec![], ..base() }), "deny NoMatch");
    assert_eq!(
        verdict(PolicyDoc { rules: vec![], mode: Mode::Audit, ..base() }),
        "allow without credential, audited NoMatch"
    );
    for rule in [
        when("r", http(&["other"], &["GET"], &["/docs/*"]), "args.q == \"1\"", Tier::Auto),
        when("r", http(&["stripe"], &["POST"], &["/docs/*"]), "args.q == \"1\"", Tier::Auto),
        when("r", http(&["stripe"], &["GET"], &["/other/*"]), "args.q == \"1\"", Tier::Auto),
        when("r", http(&["stripe"], &["GET"], &["/docs/*"]), "args.q == \"2\"", Tier::Auto),
    ] {
        assert_eq!(verdict(PolicyDoc { rules: vec![rule], ..base() }), "deny NoMatch");
    }
    let block = vec![when("r", http(&["stripe"], &["GET"], &["/docs/*"]), "args.q == \"1\"", Tier::Block)];
    assert_eq!(verdict(PolicyDoc { rules: block, ..base() }), "deny TierBlock");
}

#[test]
fn a_tenant_document_keeps_what_it_says() {
    let doc = TenantDoc {
        name: "acme".into(),
        guardrails: vec![],
        limits: vec![],
        tool_categories: vec![],
        audit_until_ms: Some(NOW + 1),
        allowed_modes: vec![],
    };
    let policy = build(vec![Document::Tenant(doc), audit("acme/p", vec![])]);
    assert_eq!(short(&call(&policy, "t", "{}")), "deny NoMatch", "a mode that is not allowed is enforced");
    assert_eq!(policy.audit_until_ms(), None, "and so it has no end");
    assert_eq!(build(vec![auditing_tenant(vec![])]).audit_until_ms(), Some(NOW + 60_000));
    assert_eq!(build(vec![tenant(vec![])]).audit_until_ms(), None);
}
