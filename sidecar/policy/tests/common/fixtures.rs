//! Builds policies and facts for tests in few words.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use clawlock_policy::document::{
    ArgumentDoc, ArgumentType, Assignment, CredentialDoc, Document, HttpMatchDoc, MatchDoc, Mode, OnDeny, OperationDoc,
    PodDoc, PolicyDoc, Protocol, RuleDoc, Scheme, SecretKey, TenantDoc, Tier, UpstreamDoc,
};
use clawlock_policy::{
    Action, Body, BuildError, Caller, Claims, Code, Context, Facts, HostName, HttpAction, Policy, RequestPath,
    ToolAction, Verdict, codec, decide,
};

pub(crate) const NOW: u64 = 1_800_000_000_000;

pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn tools(patterns: &[&str]) -> MatchDoc {
    MatchDoc::Tools(strings(patterns))
}

pub(crate) fn operations(patterns: &[&str]) -> MatchDoc {
    MatchDoc::Operations(strings(patterns))
}

pub(crate) fn http(upstreams: &[&str], methods: &[&str], paths: &[&str]) -> MatchDoc {
    MatchDoc::Http(HttpMatchDoc { upstreams: strings(upstreams), methods: strings(methods), paths: strings(paths) })
}

pub(crate) fn rule(name: &str, matches: MatchDoc, tier: Tier) -> RuleDoc {
    RuleDoc { name: name.into(), matches, when: None, schedule: None, tier, on_deny: OnDeny::Continue }
}

pub(crate) fn when(name: &str, matches: MatchDoc, condition: &str, tier: Tier) -> RuleDoc {
    RuleDoc { when: Some(condition.into()), ..rule(name, matches, tier) }
}

pub(crate) fn policy(name: &str, mode: Mode, rules: Vec<RuleDoc>) -> Document {
    Document::Policy(PolicyDoc { name: name.into(), mode, rules, residency: None, limits: vec![] })
}

pub(crate) fn enforce(name: &str, rules: Vec<RuleDoc>) -> Document {
    policy(name, Mode::Enforce, rules)
}

pub(crate) fn audit(name: &str, rules: Vec<RuleDoc>) -> Document {
    policy(name, Mode::Audit, rules)
}

/// A tenant where audit mode is not allowed.
pub(crate) fn tenant(guardrails: Vec<RuleDoc>) -> Document {
    Document::Tenant(TenantDoc {
        name: "acme".into(),
        guardrails,
        limits: vec![],
        tool_categories: vec![],
        audit_until_ms: None,
        allowed_modes: vec![Mode::Enforce],
    })
}

/// A tenant where audit mode counts for a minute from [`NOW`].
pub(crate) fn auditing_tenant(guardrails: Vec<RuleDoc>) -> Document {
    Document::Tenant(TenantDoc {
        name: "acme".into(),
        guardrails,
        limits: vec![],
        tool_categories: vec![],
        audit_until_ms: Some(NOW + 60_000),
        allowed_modes: vec![Mode::Enforce, Mode::Audit],
    })
}

pub(crate) fn operation(name: &str, method: &str, path: &str, arguments: &[(&str, ArgumentType)]) -> OperationDoc {
    let arguments = arguments.iter().map(|(name, kind)| ArgumentDoc { name: (*name).into(), kind: *kind }).collect();
    OperationDoc { name: name.into(), method: method.into(), path: path.into(), category: None, arguments }
}

pub(crate) fn upstream_doc(name: &str, host: &str) -> UpstreamDoc {
    UpstreamDoc {
        name: name.into(),
        protocol: Protocol::Http,
        scheme: Scheme::Https,
        hosts: vec![host.into()],
        port: 443,
        allowed_cidrs: vec![],
        ca_pem: None,
        credential: CredentialDoc::Bearer { secret: SecretKey { name: name.into(), key: "token".into() } },
        residency: None,
        category: None,
        operations: vec![],
    }
}

/// The upstream that most tests use.
pub(crate) fn stripe() -> Document {
    Document::Upstream(UpstreamDoc {
        operations: vec![
            operation("create_refund", "POST", "/v1/refunds", &[("amount", ArgumentType::Integer)]),
            operation("get_customer", "GET", "/v1/customers/{id}", &[]),
            operation("list_customers", "GET", "/v1/customers", &[("limit", ArgumentType::Integer)]),
            operation("search", "GET", "/v1/customers/search", &[("exact", ArgumentType::Boolean)]),
            operation("set_rate", "PUT", "/v1/rates/{currency}", &[("rate", ArgumentType::Number)]),
        ],
        ..upstream_doc("stripe", "api.stripe.com")
    })
}

pub(crate) fn assignment(documents: &[Document]) -> Assignment {
    let mut digests: Vec<String> = documents.iter().map(|document| codec::digest(&codec::encode(document))).collect();
    digests.sort();
    Assignment {
        tenant: "acme".into(),
        identity: "spiffe://acme.example/ns/acme/sa/support/pod/0b5e".into(),
        pod: PodDoc {
            namespace: "acme".into(),
            name: "support-0".into(),
            uid: "0b5e".into(),
            service_account: "support".into(),
            labels: BTreeMap::from([("app".into(), "support-agent".into()), ("team".into(), "billing".into())]),
        },
        plugin_optional: None,
        digests,
        generation: 7,
        issued_at_ms: NOW - 1000,
        not_after_ms: NOW + 43_200_000,
    }
}

pub(crate) fn try_build(documents: Vec<Document>) -> Result<Policy, BuildError> {
    Policy::build(assignment(&documents), documents)
}

pub(crate) fn build(documents: Vec<Document>) -> Policy {
    try_build(documents).unwrap()
}

/// Owns what facts borrow.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) upstream: String,
    pub(crate) host: HostName,
    pub(crate) port: u16,
    pub(crate) method: String,
    pub(crate) path: RequestPath,
    pub(crate) query: String,
    pub(crate) headers: Option<http::HeaderMap>,
    pub(crate) body: Sent,
}

#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Unread,
    Empty,
    Full(String, Vec<u8>),
    Unusable,
}

pub(crate) fn request(method: &str, path: &str) -> Request {
    Request {
        upstream: "stripe".into(),
        host: HostName::parse("api.stripe.com").unwrap(),
        port: 443,
        method: method.into(),
        path: RequestPath::parse(path).unwrap(),
        query: String::new(),
        headers: Some(http::HeaderMap::new()),
        body: Sent::Empty,
    }
}

impl Request {
    pub(crate) fn json(self, body: &str) -> Self {
        Self { body: Sent::Full("application/json".into(), body.into()), ..self }
    }

    pub(crate) fn form(self, body: &str) -> Self {
        Self { body: Sent::Full("application/x-www-form-urlencoded".into(), body.into()), ..self }
    }

    pub(crate) fn query(self, query: &str) -> Self {
        Self { query: query.into(), ..self }
    }

    pub(crate) fn body(self, body: Sent) -> Self {
        Self { body, ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.get_or_insert_default().append(name, value.parse().unwrap());
        self
    }

    pub(crate) fn action(&self) -> HttpAction<'_> {
        HttpAction {
            upstream: &self.upstream,
            host: &self.host,
            port: self.port,
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: self.headers.as_ref(),
            body: match &self.body {
                Sent::Unread => Body::Unread,
                Sent::Empty => Body::Empty,
                Sent::Full(content_type, bytes) => Body::Full { content_type, bytes },
                Sent::Unusable => Body::Unusable("too large"),
            },
        }
    }

    pub(crate) fn facts<'a>(&'a self, caller: &'a Caller) -> Facts<'a> {
        Facts { caller, action: Action::Http(self.action()), context: Context { now_ms: NOW } }
    }

    pub(crate) fn decide(&self, policy: &Policy) -> Verdict {
        decide(policy, &self.facts(policy.caller()))
    }
}

pub(crate) fn tool_facts<'a>(caller: &'a Caller, name: &'a str, args: &'a str) -> Facts<'a> {
    let tool = ToolAction { name, args, claims: Claims::default() };
    Facts { caller, action: Action::Tool(tool), context: Context { now_ms: NOW } }
}

pub(crate) fn call(policy: &Policy, name: &str, args: &str) -> Verdict {
    let caller: Arc<Caller> = policy.caller().clone();
    decide(policy, &tool_facts(&caller, name, args))
}

/// A verdict in one word.
pub(crate) fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow(permit) => match (permit.shadow(), permit.credential()) {
            (None, true) => "allow".into(),
            (Some(code), true) => format!("allow, audited {code}"),
            (Some(code), false) => format!("allow without credential, audited {code}"),
            (None, false) => "allow without credential".into(),
        },
        Verdict::Ask(denial) => format!("ask {}", denial.code),
        Verdict::Deny(denial) => format!("deny {}", denial.code),
    }
}

pub(crate) fn code(verdict: &Verdict) -> Option<Code> {
    match verdict {
        Verdict::Allow(_) => None,
        Verdict::Ask(denial) | Verdict::Deny(denial) => Some(denial.code),
    }
}

/// The condition's outcome for a tool call: true, false, or an error.
pub(crate) fn outcome(condition: &str, args: &str) -> Result<bool, String> {
    let documents = vec![tenant(vec![]), enforce("acme/p", vec![when("r", tools(&["t"]), condition, Tier::Block)])];
    settle(&call(&build(documents), "t", args))
}

/// The same for a request.
pub(crate) fn http_outcome(matches: MatchDoc, condition: &str, request: &Request) -> Result<bool, String> {
    let rules = vec![when("r", matches, condition, Tier::Block)];
    settle(&request.decide(&build(vec![tenant(vec![]), stripe(), enforce("acme/p", rules)])))
}

fn settle(verdict: &Verdict) -> Result<bool, String> {
    match verdict {
        Verdict::Deny(denial) if denial.code == Code::TierBlock => Ok(true),
        Verdict::Deny(denial) if denial.code == Code::NoMatch => Ok(false),
        Verdict::Deny(denial) if denial.code == Code::ConditionError => Err(denial.detail.clone()),
        other => panic!("{other:?}"),
    }
}

/// How many cases a property is tried with: what it asks for, or what `CLAWLOCK_CASES` says.
pub(crate) fn cases<N: std::str::FromStr>(usual: N) -> N {
    match std::env::var("CLAWLOCK_CASES") {
        Ok(text) => text.parse().ok().unwrap(),
        Err(_) => usual,
    }
}
