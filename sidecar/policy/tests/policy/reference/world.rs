//! Random policies and facts from small alphabets, so that rules and actions often meet.

use clawlock_policy::document::{
    ArgumentType, Category, CredentialDoc, Document, HaltDoc, LimitDoc, LimitScope, MatchDoc, Mode, OnDeny,
    OperationDoc, PolicyDoc, RuleDoc, TenantDoc, Tier, ToolCategoryDoc, UpstreamDoc,
};
use clawlock_policy::{Action, Body, Caller, Claims, Context, Facts, HostName, HttpAction, RequestPath, ToolAction};

use super::clock::random_schedule;
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

    pub(crate) fn some(&mut self, all: &[&str], most: usize) -> Vec<String> {
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

/// Tools and their categories; the others have none.
pub(crate) const TOOL_CATEGORIES: [(&str, Category); 4] =
    [("exec", Category::Shell), ("read", Category::Read), ("write", Category::Write), ("web_fetch", Category::Network)];

/// Operations with a category of their own, and upstreams with one for all the others.
pub(crate) const CATEGORIES: [(&str, Category); 8] = [
    ("s.list", Category::Read),
    ("s.get_x", Category::Shell),
    ("s.create", Category::Money),
    ("g.list", Category::Money),
    ("g.v.put", Category::Delete),
    ("g", Category::Read),
    ("n", Category::Money),
    ("zz", Category::Money),
];

/// Where upstreams keep data; `n` does not say.
pub(crate) fn residency_of(upstream: &str) -> Option<&'static str> {
    match upstream {
        "s" => Some("eu"),
        "g" => Some("us"),
        _ => None,
    }
}

pub(crate) fn category_of(name: &str) -> Option<Category> {
    CATEGORIES.iter().find(|(known, _)| *known == name).map(|(_, category)| *category)
}

/// Conditions over what the agent says, for rules about tools that do not allow.
pub(crate) const CLAIMS: [&str; 3] = ["requester.id == \"guest\"", "model.name != \"large\"", "run.id == \"r\""];

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
        let operations = declared.iter().map(|(short, method, path, amount)| {
            let typed: &[_] = if *amount { &[("amount", ArgumentType::Integer)] } else { &[] };
            let category = category_of(&format!("{name}.{short}"));
            OperationDoc { category, ..operation(short, method, path, typed) }
        });
        Document::Upstream(UpstreamDoc {
            category: category_of(name),
            residency: residency_of(name).map(str::to_owned),
            operations: operations.collect(),
            credential: CredentialDoc::None {},
            ..upstream_doc(name, &format!("{name}.example"))
        })
    });
    declared.collect()
}

fn random_match(dice: &mut Dice) -> MatchDoc {
    let matches = match dice.roll(7) {
        0 | 1 => tools(&[]),
        2 | 3 => operations(&[]),
        4 | 5 => http(&[], &[], &[]),
        _ => MatchDoc::Category(dice.pick(&Category::ALL)),
    };
    match matches {
        MatchDoc::Tools(_) => MatchDoc::Tools(dice.some(&TOOL_PATTERNS, 2)),
        MatchDoc::Operations(_) => MatchDoc::Operations(dice.some(&OPERATION_PATTERNS, 2)),
        MatchDoc::Http(mut doc) => {
            doc.upstreams = dice.some(&["s", "g", "n", "x"], 2);
            doc.methods =
                dice.pick(&[&[][..], &["GET"], &["POST"], &["GET", "POST"]]).iter().map(|m| (*m).into()).collect();
            doc.paths = if dice.roll(3) == 0 { vec![] } else { dice.some(&PATH_PATTERNS, 2) };
            MatchDoc::Http(doc)
        }
        MatchDoc::Category(category) => MatchDoc::Category(category),
    }
}

pub(crate) fn random_rule(dice: &mut Dice, name: &str, tiers: &[Tier]) -> RuleDoc {
    let matches = random_match(dice);
    let about_tools = matches!(matches, MatchDoc::Tools(_) | MatchDoc::Category(_));
    let condition = match dice.roll(8) {
        0..=2 => Some(dice.pick(&CONDITIONS)),
        3 if !about_tools => Some(dice.pick(&REQUEST_CONDITIONS)),
        _ => None,
    };
    let tier = dice.pick(tiers);
    let claims = matches!(matches, MatchDoc::Tools(_)) && tier != Tier::Auto && dice.roll(5) == 0;
    let condition = if claims { Some(dice.pick(&CLAIMS)) } else { condition };
    let schedule = if dice.roll(5) == 0 { Some(random_schedule(dice)) } else { None };
    let on_deny = if tier != Tier::Auto && dice.roll(4) == 0 { OnDeny::Halt } else { OnDeny::Continue };
    RuleDoc { when: condition.map(str::to_owned), schedule, on_deny, ..rule(name, matches, tier) }
}

pub(crate) const TIERS: [Tier; 3] = [Tier::Auto, Tier::Ask, Tier::Block];

fn random_rules(dice: &mut Dice, most: usize, tiers: &[Tier]) -> Vec<RuleDoc> {
    let count = dice.roll(most + 1);
    (0..count).map(|n| random_rule(dice, &format!("r{n}"), tiers)).collect()
}

fn random_categories(dice: &mut Dice) -> Vec<ToolCategoryDoc> {
    let count = dice.roll(4).saturating_sub(1);
    let entry = |dice: &mut Dice| ToolCategoryDoc {
        tools: dice.some(&TOOL_PATTERNS, 2),
        category: dice.pick(&[Category::Read, Category::Money, Category::Delete]),
    };
    (0..count).map(|_| entry(dice)).collect()
}

fn random_limits(dice: &mut Dice) -> Vec<LimitDoc> {
    let count = dice.roll(6).saturating_sub(3);
    let limit = |dice: &mut Dice, n: usize| LimitDoc {
        name: format!("l{n}"),
        scope: LimitScope::Agent,
        matches: if dice.roll(4) == 0 { None } else { Some(random_match(dice)) },
        requests: 1,
        interval_ms: 1000,
        burst: 1,
    };
    (0..count).map(|n| limit(dice, n)).collect()
}

/// The documents of one pod, upstreams last.
pub(crate) fn random_documents(dice: &mut Dice) -> Vec<Document> {
    let modes = dice.pick(&[&[][..], &[Mode::Enforce], &[Mode::Audit, Mode::Enforce], &[Mode::Audit]]);
    let mut documents = vec![Document::Tenant(TenantDoc {
        name: "acme".into(),
        guardrails: random_rules(dice, 2, &TIERS[1..]),
        limits: random_limits(dice),
        tool_categories: random_categories(dice),
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
            residency: if dice.roll(4) == 0 { Some(dice.some(&["eu", "us", "ch"], 2)) } else { None },
            limits: random_limits(dice),
        }));
    }
    if dice.roll(50) == 0 {
        documents.push(Document::Halt(HaltDoc { name: "acme/h".into(), reason: "because".into(), cause: None }));
    }
    documents.extend(upstreams());
    documents
}

/// Owns what facts borrow, in a form that a reference implementation can read without parsing.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) tool: Option<(&'static str, &'static str)>,
    /// What the agent says.
    pub(crate) requester: Option<&'static str>,
    pub(crate) model: Option<&'static str>,
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
        requester: dice.pick(&[None, Some("boss"), Some("guest")]),
        model: dice.pick(&[None, Some("small")]),
        upstream,
        host: host_of(if dice.roll(30) == 0 { "other" } else { upstream }),
        method: dice.pick(&METHODS),
        raw_path,
        path: RequestPath::parse(raw_path).unwrap(),
        query: if dice.roll(2) == 0 { "" } else { dice.pick(&QUERIES) },
        header,
        headers,
        body: random_body(dice),
        now_ms: random_time(dice),
    }
}

/// Within a minute of now, or of a change of clocks, or anywhere in the next two years.
pub(crate) fn random_time(dice: &mut Dice) -> u64 {
    // 2027: March 14 and November 7 in New York, March 28 and October 31 in Berlin.
    let changes = [1_805_007_600_000, 1_825_567_200_000, 1_806_195_600_000, 1_824_944_400_000];
    let seconds = |dice: &mut Dice, sides: usize| 1000 * u64::try_from(dice.roll(sides)).unwrap();
    match dice.roll(4) {
        0 | 1 => NOW + seconds(dice, 60),
        2 => dice.pick(&changes) - 7_200_000 + seconds(dice, 4 * 3600),
        _ => NOW + seconds(dice, 2 * 365 * 86_400),
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
            Some((name, args)) => {
                let claims = Claims { requester: self.requester, run: None, model: self.model, role: None };
                Action::Tool(ToolAction { name, args, claims })
            }
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
