//! Random policies and facts from small alphabets, so that rules and actions often meet.

use clawlock_policy::document::{
    ArgumentType, CredentialDoc, Document, HaltDoc, MatchDoc, Mode, PolicyDoc, RuleDoc, TenantDoc, Tier, UpstreamDoc,
};
use clawlock_policy::{Action, Body, Caller, Context, Facts, HostName, HttpAction, RequestPath, ToolAction};

use crate::fixtures::{NOW, http, operation, operations, rule, tools, upstream_doc};

/// A small random number generator (SplitMix64): a case is its seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }

    fn some(&mut self, all: &[&str], most: usize) -> Vec<String> {
        (0..1 + self.roll(most)).map(|_| self.pick(all).to_owned()).collect()
    }
}

pub(crate) const TOOLS: [&str; 6] = ["exec", "read", "write", "a.b", "web_fetch", ""];
const TOOL_PATTERNS: [&str; 10] = ["exec", "read", "*", "e*", "*e", "r*d", "web_*", "*.*", "w*t*", "nothing"];
const OPERATION_PATTERNS: [&str; 10] =
    ["s.list", "s.get_*", "s.*", "g.*", "*.list", "*.*", "*.v.*", "g.v.get", "s.put", "x.list"];
const PATH_PATTERNS: [&str; 12] =
    ["/", "/a", "/*", "/**", "/a/**", "/**/b", "/a*/b", "/*/b", "/a/", "/*/*", "/**/b/**", "/ab"];
pub(crate) const PATHS: [&str; 14] =
    ["/", "/a", "/a/", "/b", "/a/b", "/a/c", "/x/b", "/a%2Fb", "/%61", "/x/c", "/a/b/c", "/ab/b", "/a/a%2Fb", "/x/b/"];
pub(crate) const METHODS: [&str; 4] = ["GET", "POST", "PUT", "get"];
pub(crate) const QUERIES: [&str; 7] = ["", "amount=5", "amount=50", "x=1", "amount=5&amount=6", "X=1", "amount=few"];
pub(crate) const TOOL_ARGS: [&str; 8] = [
    "{}",
    r#"{"amount":5}"#,
    r#"{"amount":50}"#,
    r#"{"amount":"50"}"#,
    r#"{"x":1}"#,
    r#"{"X":1}"#,
    r#"{"amount":5,"amount":50}"#,
    "[]",
];

/// Conditions that every rule can have, and those for rules about requests.
pub(crate) const CONDITIONS: [&str; 8] = [
    "true",
    "false",
    "args.amount > 10",
    "has(args.x)",
    "args.missing == 1",
    "agent.namespace == \"acme\"",
    "agent.labels.tier == \"gold\"",
    "time.now.getSeconds() < 30",
];
pub(crate) const REQUEST_CONDITIONS: [&str; 4] = [
    "request.method == \"GET\"",
    "request.headers[\"x-k\"] == \"a\"",
    "request.path.startsWith(\"/a\")",
    "request.query.x == \"1\"",
];

/// An operation of an upstream: name, method, path, and whether `amount` is declared an integer.
pub(crate) type Declared = (&'static str, &'static str, &'static str, bool);

/// The operations of upstreams `s`, `g` and `n`.
pub(crate) const DECLARED: [(&str, &[Declared]); 3] = [
    (
        "s",
        &[
            ("list", "GET", "/a", true),
            ("get_x", "GET", "/a/{x}", false),
            ("get_b", "GET", "/{x}/b", true),
            ("get_ab", "GET", "/a/b", false),
            ("put", "PUT", "/{x}", true),
            ("create", "POST", "/a", true),
        ],
    ),
    ("g", &[("list", "GET", "/{x}", false), ("v.get", "GET", "/{y}/{x}", true), ("v.put", "POST", "/a/{x}", false)]),
    ("n", &[]),
];

pub(crate) fn host_of(upstream: &str) -> HostName {
    HostName::parse(&format!("{upstream}.example")).unwrap()
}

pub(crate) fn upstreams() -> Vec<Document> {
    let declared = DECLARED.iter().map(|(name, declared)| {
        let operations = declared.iter().map(|(name, method, path, amount)| {
            let typed: &[_] = if *amount { &[("amount", ArgumentType::Integer)] } else { &[] };
            operation(name, method, path, typed)
        });
        Document::Upstream(UpstreamDoc {
            operations: operations.collect(),
            credential: CredentialDoc::None {},
            ..upstream_doc(name, &format!("{name}.example"))
        })
    });
    declared.collect()
}

pub(crate) fn random_rule(dice: &mut Dice, name: &str, tiers: &[Tier]) -> RuleDoc {
    let matches = match dice.roll(3) {
        0 => tools(&[]),
        1 => operations(&[]),
        _ => http(&[], &[], &[]),
    };
    let matches = match matches {
        MatchDoc::Tools(_) => MatchDoc::Tools(dice.some(&TOOL_PATTERNS, 2)),
        MatchDoc::Operations(_) => MatchDoc::Operations(dice.some(&OPERATION_PATTERNS, 2)),
        MatchDoc::Http(mut doc) => {
            doc.upstreams = dice.some(&["s", "g", "n", "x"], 2);
            doc.methods =
                dice.pick(&[&[][..], &["GET"], &["POST"], &["GET", "POST"]]).iter().map(|m| (*m).into()).collect();
            doc.paths = if dice.roll(3) == 0 { vec![] } else { dice.some(&PATH_PATTERNS, 2) };
            MatchDoc::Http(doc)
        }
    };
    let about_tools = matches!(matches, MatchDoc::Tools(_));
    let condition = match dice.roll(8) {
        0..=2 => Some(dice.pick(&CONDITIONS)),
        3 if !about_tools => Some(dice.pick(&REQUEST_CONDITIONS)),
        _ => None,
    };
    RuleDoc { when: condition.map(str::to_owned), ..rule(name, matches, dice.pick(tiers)) }
}

pub(crate) const TIERS: [Tier; 3] = [Tier::Auto, Tier::Ask, Tier::Block];

fn random_rules(dice: &mut Dice, most: usize, tiers: &[Tier]) -> Vec<RuleDoc> {
    let count = dice.roll(most + 1);
    (0..count).map(|n| random_rule(dice, &format!("r{n}"), tiers)).collect()
}

/// The documents of one pod, upstreams last.
pub(crate) fn random_documents(dice: &mut Dice) -> Vec<Document> {
    let modes = dice.pick(&[&[][..], &[Mode::Enforce], &[Mode::Audit, Mode::Enforce], &[Mode::Audit]]);
    let mut documents = vec![Document::Tenant(TenantDoc {
        name: "acme".into(),
        guardrails: random_rules(dice, 2, &TIERS[1..]),
        audit_until_ms: dice.pick(&[None, Some(NOW - 1), Some(NOW), Some(NOW + 3_600_000), Some(NOW + 3_600_000)]),
        allowed_modes: modes.to_vec(),
    })];
    let count = dice.roll(4);
    for name in dice.pick(&[["acme/a", "acme/b", "acme/c"], ["acme/c", "acme/a", "acme/b"]]).iter().take(count) {
        let mode = dice.pick(&[Mode::Enforce, Mode::Audit]);
        documents.push(Document::Policy(PolicyDoc {
            name: (*name).into(),
            mode,
            rules: random_rules(dice, 5, &TIERS),
        }));
    }
    if dice.roll(50) == 0 {
        documents.push(Document::Halt(HaltDoc { name: "acme/h".into(), reason: "because".into() }));
    }
    documents.extend(upstreams());
    documents
}

/// Owns what facts borrow, in a form that a reference implementation can read without parsing.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) tool: Option<(&'static str, &'static str)>,
    pub(crate) upstream: &'static str,
    pub(crate) host: HostName,
    pub(crate) method: &'static str,
    pub(crate) raw_path: &'static str,
    pub(crate) path: RequestPath,
    pub(crate) query: &'static str,
    /// The values of `x-k`; `None`: headers are not known.
    pub(crate) header: Option<&'static [&'static str]>,
    pub(crate) headers: Option<::http::HeaderMap>,
    pub(crate) body: Content,
    pub(crate) now_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Unread,
    Unusable,
    Empty,
    Json(&'static str),
    Form(&'static str),
    Text,
}

pub(crate) fn random_case(dice: &mut Dice) -> Case {
    let upstream = dice.pick(&["s", "g", "n", "s", "g", "zz"]);
    let raw_path = dice.pick(&PATHS);
    let header = dice.pick(&[None, Some(&[][..]), Some(&["a"]), Some(&["b"]), Some(&["a", "a"])]);
    let headers = header.map(|values: &[&str]| {
        let mut headers = ::http::HeaderMap::new();
        for value in values {
            headers.append("x-k", value.parse().unwrap());
        }
        headers
    });
    Case {
        tool: if dice.roll(2) == 0 { Some((dice.pick(&TOOLS), dice.pick(&TOOL_ARGS))) } else { None },
        upstream,
        host: host_of(if dice.roll(30) == 0 { "other" } else { upstream }),
        method: dice.pick(&METHODS),
        raw_path,
        path: RequestPath::parse(raw_path).unwrap(),
        query: if dice.roll(2) == 0 { "" } else { dice.pick(&QUERIES) },
        header,
        headers,
        body: random_body(dice),
        now_ms: NOW + 1000 * u64::try_from(dice.roll(60)).unwrap(),
    }
}

pub(crate) fn random_body(dice: &mut Dice) -> Content {
    match dice.roll(8) {
        0 => Content::Unread,
        1 => Content::Unusable,
        2 | 3 => Content::Empty,
        4 | 5 => Content::Json(dice.pick(&TOOL_ARGS)),
        6 => Content::Form(dice.pick(&QUERIES)),
        _ => Content::Text,
    }
}

impl Case {
    pub(crate) fn facts<'a>(&'a self, caller: &'a Caller) -> Facts<'a> {
        let action = match self.tool {
            Some((name, args)) => Action::Tool(ToolAction { name, args }),
            None => Action::Http(HttpAction {
                upstream: self.upstream,
                host: &self.host,
                port: 443,
                method: self.method,
                path: &self.path,
                query: self.query,
                headers: self.headers.as_ref(),
                body: match self.body {
                    Content::Unread => Body::Unread,
                    Content::Unusable => Body::Unusable("compressed"),
                    Content::Empty => Body::Empty,
                    Content::Json(text) => Body::Full { content_type: "application/json", bytes: text.as_bytes() },
                    Content::Form(text) => {
                        Body::Full { content_type: "application/x-www-form-urlencoded", bytes: text.as_bytes() }
                    }
                    Content::Text => Body::Full { content_type: "text/plain", bytes: b"hello" },
                },
            }),
        };
        Facts { caller, action, context: Context { now_ms: self.now_ms } }
    }
}
