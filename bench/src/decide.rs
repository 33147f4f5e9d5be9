//! `decide()` alone, in this process: policies of 1 to 10,000 rules of which the last one decides,
//! without and with a CEL condition on it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use clawlock_policy::document::{
    ArgumentDoc, ArgumentType, Assignment, CredentialDoc, Document, HttpMatchDoc, MatchDoc, Mode, OnDeny, OperationDoc,
    PodDoc, PolicyDoc, Protocol, RuleDoc, Scheme, TenantDoc, Tier, UpstreamDoc,
};
use clawlock_policy::{
    Action, Body, Claims, Context, Facts, HostName, HttpAction, Policy, RequestPath, ToolAction, Verdict, codec, decide,
};
use serde::Serialize;

use crate::pki::{HOST, IDENTITY, TENANT};

/// Sizes of the policies.
pub(crate) const SIZES: [usize; 4] = [1, 100, 1_000, 10_000];

/// Rules of one `AgentPolicy`, so that large policies are many objects, as in a cluster.
const RULES_PER_POLICY: usize = 100;

/// Rules that name one upstream: teams write few rules about each of many upstreams.
const RULES_PER_UPSTREAM: usize = 20;

/// Calls between two looks at the clock.
const BATCH: u32 = 500;

/// Samples of which the median counts.
const SAMPLES: usize = 9;

/// The arguments of the measured tool call.
pub(crate) const TOOL_ARGS: &str =
    r#"{"command":"ls -la /workspace/src","workdir":"/workspace","timeout":30,"background":false}"#;

/// Nanoseconds per call at one size.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DecideRow {
    /// Rules of the policy.
    pub(crate) rules: usize,
    /// A tool call.
    pub(crate) tool_ns: f64,
    /// An HTTP operation.
    pub(crate) http_ns: f64,
    /// A tool call whose rule has a condition on its arguments.
    pub(crate) tool_cel_ns: f64,
    /// An HTTP operation whose rule has a condition on a typed query argument.
    pub(crate) http_cel_ns: f64,
}

/// Measures one size; `time` is spent on each of the four figures.
pub(crate) fn measure(rules: usize, time: Duration) -> Result<DecideRow, String> {
    let without = policy(rules, false)?;
    let with = policy(rules, true)?;
    Ok(DecideRow {
        rules,
        tool_ns: tool(&without, time)?,
        http_ns: http(&without, time)?,
        tool_cel_ns: tool(&with, time)?,
        http_cel_ns: http(&with, time)?,
    })
}

fn tool(policy: &Policy, time: Duration) -> Result<f64, String> {
    time_calls(policy, Action::Tool(ToolAction { name: "exec", args: TOOL_ARGS, claims: Claims::default() }), time)
}

fn http(policy: &Policy, time: Duration) -> Result<f64, String> {
    let host = HostName::parse(HOST).map_err(|e| e.to_string())?;
    let path = RequestPath::parse("/v1/items/42").map_err(|e| e.to_string())?;
    let headers = http::HeaderMap::new();
    let action = HttpAction {
        upstream: "bench",
        host: &host,
        port: 443,
        method: "GET",
        path: &path,
        query: "limit=20",
        headers: Some(&headers),
        body: Body::Empty,
    };
    time_calls(policy, Action::Http(action), time)
}

fn time_calls(policy: &Policy, action: Action<'_>, time: Duration) -> Result<f64, String> {
    let facts = Facts { caller: policy.caller(), action, context: Context { now_ms: NOW_MS } };
    let verdict = decide(policy, &facts);
    if !matches!(verdict, Verdict::Allow(_)) {
        return Err(format!("the benchmark's action should be allowed: {verdict:?}"));
    }
    let slice = time / u32::try_from(SAMPLES).expect("SAMPLES is small");
    let mut samples: Vec<f64> = (0..SAMPLES).map(|_| sample(policy, &facts, slice)).collect();
    samples.sort_by(f64::total_cmp);
    Ok(samples[SAMPLES / 2])
}

fn sample(policy: &Policy, facts: &Facts<'_>, slice: Duration) -> f64 {
    let start = Instant::now();
    let mut calls = 0.0;
    loop {
        for _ in 0..BATCH {
            black_box(decide(black_box(policy), black_box(facts)));
        }
        calls += f64::from(BATCH);
        let taken = start.elapsed();
        if taken >= slice {
            return taken.as_secs_f64() * 1e9 / calls;
        }
    }
}

/// The time of every decision.
const NOW_MS: u64 = 1_790_000_000_000;

/// Builds the policy of a size. One half of the rules is about tools, the other about operations
/// and paths of other upstreams, with a wildcard in every tenth; the last two allow the benchmark's actions.
fn policy(rules: usize, condition: bool) -> Result<Policy, String> {
    let mut list: Vec<RuleDoc> = (0..rules.saturating_sub(1)).map(other_rule).collect();
    list.extend(deciding_rules(condition));
    let upstreams = rules.div_ceil(RULES_PER_UPSTREAM);
    let mut documents: Vec<Document> = (0..upstreams).map(|n| Document::Upstream(other_upstream(n))).collect();
    documents.push(Document::Upstream(bench_upstream("bench", Scheme::Https, 443)));
    documents.push(Document::Tenant(tenant()));
    for (n, chunk) in list.chunks(RULES_PER_POLICY).enumerate() {
        documents.push(Document::Policy(PolicyDoc {
            name: format!("acme/bench-{n}"),
            mode: Mode::Enforce,
            rules: chunk.to_vec(),
            residency: None,
            limits: vec![],
        }));
    }
    let assignment = assignment(&documents, NOW_MS);
    Policy::build(assignment, documents).map_err(|e| format!("the benchmark's policy: {e}"))
}

fn other_rule(n: usize) -> RuleDoc {
    let upstream = format!("up{}", n / RULES_PER_UPSTREAM);
    let matches = match n % 4 {
        0 | 1 if n.is_multiple_of(10) => MatchDoc::Tools(vec![format!("tool{n}_*")]),
        0 | 1 => MatchDoc::Tools(vec![format!("tool{n}")]),
        2 if n.is_multiple_of(10) => MatchDoc::Operations(vec![format!("{upstream}.list_{n}_*")]),
        2 => MatchDoc::Operations(vec![format!("{upstream}.op_{n}")]),
        _ => MatchDoc::Http(HttpMatchDoc {
            upstreams: vec![upstream],
            methods: vec!["GET".to_owned()],
            paths: vec![format!("/area{n}/**")],
        }),
    };
    let tier = if n.is_multiple_of(5) { Tier::Block } else { Tier::Auto };
    RuleDoc { name: format!("rule-{n}"), matches, when: None, schedule: None, tier, on_deny: OnDeny::Continue }
}

fn deciding_rules(condition: bool) -> [RuleDoc; 2] {
    let when = |text: &str| condition.then(|| text.to_owned());
    [
        RuleDoc {
            name: "shell".to_owned(),
            matches: MatchDoc::Tools(vec!["exec".to_owned()]),
            when: when(r#"args.command.startsWith("ls ") && args.timeout <= 60"#),
            schedule: None,
            tier: Tier::Auto,
            on_deny: OnDeny::Continue,
        },
        RuleDoc {
            name: "read-items".to_owned(),
            matches: MatchDoc::Operations(vec!["bench.get_item".to_owned()]),
            when: when("args.limit <= 100"),
            schedule: None,
            tier: Tier::Auto,
            on_deny: OnDeny::Continue,
        },
    ]
}

fn other_upstream(n: usize) -> UpstreamDoc {
    let first = n * RULES_PER_UPSTREAM;
    let operations = (first..first + RULES_PER_UPSTREAM).map(|k| OperationDoc {
        name: if k % 10 == 0 { format!("list_{k}_all") } else { format!("op_{k}") },
        method: "POST".to_owned(),
        path: format!("/v1/things{k}/{{id}}"),
        category: None,
        arguments: Vec::new(),
    });
    let operations = operations.collect();
    UpstreamDoc {
        name: format!("up{n}"),
        hosts: vec![format!("up{n}.bench.test")],
        operations,
        ..bench_upstream("", Scheme::Https, 443)
    }
}

/// The upstream that the benchmarks call.
pub(crate) fn bench_upstream(name: &str, scheme: Scheme, port: u16) -> UpstreamDoc {
    let operation = OperationDoc {
        name: "get_item".to_owned(),
        method: "GET".to_owned(),
        path: "/v1/items/{id}".to_owned(),
        category: None,
        arguments: vec![ArgumentDoc { name: "limit".to_owned(), kind: ArgumentType::Integer }],
    };
    UpstreamDoc {
        name: name.to_owned(),
        protocol: Protocol::Http,
        scheme,
        hosts: vec![HOST.to_owned()],
        port,
        allowed_cidrs: vec!["127.0.0.0/8".to_owned()],
        ca_pem: None,
        credential: CredentialDoc::None {},
        residency: None,
        category: None,
        operations: vec![operation],
    }
}

/// The benchmark's tenant, with a guardrail that does not match.
pub(crate) fn tenant() -> TenantDoc {
    TenantDoc {
        name: TENANT.to_owned(),
        guardrails: vec![RuleDoc {
            name: "no-deletion".to_owned(),
            matches: MatchDoc::Operations(vec!["bench.delete_*".to_owned()]),
            when: None,
            schedule: None,
            tier: Tier::Block,
            on_deny: OnDeny::Continue,
        }],
        limits: vec![],
        tool_categories: vec![],
        audit_until_ms: None,
        allowed_modes: vec![Mode::Enforce],
    }
}

/// An assignment of documents to the benchmark's agent, good for a day.
pub(crate) fn assignment(documents: &[Document], issued_at_ms: u64) -> Assignment {
    let mut digests: Vec<String> = documents.iter().map(|document| codec::digest(&codec::encode(document))).collect();
    digests.sort();
    Assignment {
        tenant: TENANT.to_owned(),
        identity: IDENTITY.to_owned(),
        pod: PodDoc {
            namespace: "acme".to_owned(),
            name: "agent-0".to_owned(),
            uid: "1".to_owned(),
            service_account: "agent".to_owned(),
            labels: [("app".to_owned(), "bench".to_owned())].into(),
        },
        plugin_optional: None,
        digests,
        generation: 1,
        issued_at_ms,
        not_after_ms: issued_at_ms + 24 * 60 * 60 * 1000,
    }
}
