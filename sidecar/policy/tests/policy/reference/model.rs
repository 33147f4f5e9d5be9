//! The reference: DESIGN's rules, written down as they stand.

use std::collections::BTreeMap;

use clawlock_policy::document::{
    Category, Document, LimitDoc, MatchDoc, Mode, OnDeny, PolicyDoc, RuleDoc, TenantDoc, Tier,
};
use clawlock_policy::{Code, Verdict};

use super::clock;
use super::world::{CLAIMS, Case, Content, DECLARED, Declared, TOOL_CATEGORIES, category_of, residency_of};

/// What is compared: everything of a verdict but its words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow { rule: Option<(String, String)>, credential: bool, shadow: Option<Code> },
    Ask { rule: (String, String), code: Code, halts: bool },
    Deny { rule: Option<(String, String)>, code: Code, halts: bool },
}

impl Answer {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        let rule = verdict.rule().map(|rule| (rule.policy.to_string(), rule.rule.to_string()));
        match verdict {
            Verdict::Allow(permit) => Self::Allow { rule, credential: permit.credential(), shadow: permit.shadow() },
            Verdict::Ask(denial) => Self::Ask { rule: rule.unwrap(), code: denial.code, halts: denial.halts },
            Verdict::Deny(denial) => Self::Deny { rule, code: denial.code, halts: denial.halts },
        }
    }
}

/// An opinion: the tier and whether it halts, the rule, and where it comes from.
type Opinion = ((Tier, bool), (String, String), Why);

fn strictness(rule: &RuleDoc) -> (Tier, bool) {
    (rule.tier, rule.on_deny == OnDeny::Halt)
}

/// A refusal that no rule says.
fn denied(code: Code) -> Answer {
    Answer::Deny { rule: None, code, halts: false }
}

/// Where an opinion comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Matched,
    /// It matched by what the agent says.
    Claimed,
    Elsewhere,
    ConditionFailed,
    NoCategory,
}

pub(crate) fn answer(documents: &[Document], case: &Case) -> Answer {
    if documents.iter().any(|document| matches!(document, Document::Halt(_))) {
        return denied(Code::Halted);
    }
    let known =
        DECLARED.iter().any(|(name, _)| *name == case.upstream && case.host.as_str() == format!("{name}.example"));
    if case.tool.is_none() && !known {
        return denied(Code::UnknownUpstream);
    }
    let tenant = tenant(documents);
    let audit = |doc: &PolicyDoc| is_audited(doc, tenant, case);
    let policies = policies(documents);
    let (audited, enforced): (Vec<&PolicyDoc>, Vec<&PolicyDoc>) = policies.iter().copied().partition(|doc| audit(doc));
    let said =
        |docs: &[&PolicyDoc]| -> Vec<Opinion> { docs.iter().flat_map(|doc| policy_says(doc, tenant, case)).collect() };
    let guardrails = guardrails_say(tenant, case);
    let from_audit = strictest(&said(&audited));
    if audited.is_empty() || !enforced.is_empty() {
        let mut all = said(&enforced);
        all.extend(guardrails);
        let shadow = from_audit.filter(|opinion| opinion.0.0 != Tier::Auto).map(|opinion| code_of(&opinion));
        return match strictest(&all) {
            None if policies.is_empty() => denied(Code::NoPolicy),
            None => denied(Code::NoMatch),
            // Rules that failed only tighten: when none matched, the answer is still no.
            Some(opinion)
                if all
                    .iter()
                    .all(|(_, _, why)| matches!(why, Why::ConditionFailed | Why::NoCategory | Why::Claimed)) =>
            {
                Answer::Deny { code: code_of(&opinion), halts: opinion.0.1, rule: Some(opinion.1) }
            }
            Some(opinion) => settle(opinion, shadow),
        };
    }
    if let Some(opinion) = strictest(&guardrails) {
        return settle(opinion, None);
    }
    match from_audit {
        Some(((Tier::Auto, _), rule, _)) => Answer::Allow { rule: Some(rule), credential: true, shadow: None },
        Some(opinion) => Answer::Allow { rule: None, credential: false, shadow: Some(code_of(&opinion)) },
        None => Answer::Allow { rule: None, credential: false, shadow: Some(Code::NoMatch) },
    }
}

fn is_audited(doc: &PolicyDoc, tenant: &TenantDoc, case: &Case) -> bool {
    doc.mode == Mode::Audit
        && tenant.allowed_modes.contains(&Mode::Audit)
        && tenant.audit_until_ms.is_some_and(|until| case.now_ms < until)
}

/// The opinion of one policy, or of the guardrails.
pub(crate) fn opinion_of(documents: &[Document], case: &Case, name: &str) -> Option<Tier> {
    let said = match policies(documents).into_iter().find(|doc| doc.name == name) {
        Some(doc) => policy_says(doc, tenant(documents), case),
        None => guardrails_say(tenant(documents), case),
    };
    said.iter().map(|opinion| opinion.0.0).max()
}

fn tenant(documents: &[Document]) -> &TenantDoc {
    documents.iter().find_map(|document| if let Document::Tenant(doc) = document { Some(doc) } else { None }).unwrap()
}

fn policies(documents: &[Document]) -> Vec<&PolicyDoc> {
    let mut found: Vec<&PolicyDoc> = documents
        .iter()
        .filter_map(|document| if let Document::Policy(doc) = document { Some(doc) } else { None })
        .collect();
    found.sort_by_key(|doc| &doc.name);
    found
}

fn settle(opinion: Opinion, shadow: Option<Code>) -> Answer {
    let code = code_of(&opinion);
    let ((tier, halts), rule, _) = opinion;
    match tier {
        Tier::Auto => Answer::Allow { rule: Some(rule), credential: true, shadow },
        Tier::Ask => Answer::Ask { rule, code, halts },
        Tier::Block => Answer::Deny { rule: Some(rule), code, halts },
    }
}

fn code_of(((tier, _), _, why): &Opinion) -> Code {
    match (tier, why) {
        (_, Why::ConditionFailed) => Code::ConditionError,
        (_, Why::NoCategory) => Code::CategoryUnknown,
        (_, Why::Elsewhere) => Code::ResidencyRefused,
        (Tier::Block, Why::Matched | Why::Claimed) => Code::TierBlock,
        (_, Why::Matched | Why::Claimed) => Code::ApprovalUnavailable,
    }
}

fn strictest(opinions: &[Opinion]) -> Option<Opinion> {
    let most = opinions.iter().map(|opinion| opinion.0).max()?;
    opinions.iter().find(|opinion| opinion.0 == most).cloned()
}

/// All that a policy's rules say, up to the one that decides.
fn policy_says(doc: &PolicyDoc, tenant: &TenantDoc, case: &Case) -> Vec<Opinion> {
    let mut said = Vec::new();
    if let (Some(allowed), None) = (&doc.residency, case.tool)
        && !residency_of(case.upstream).is_some_and(|place| allowed.iter().any(|allowed| allowed == place))
    {
        return vec![((Tier::Block, false), (doc.name.clone(), "spec.residency".to_owned()), Why::Elsewhere)];
    }
    for rule in doc.rules.iter().filter(|rule| is_about(rule, tenant, case)) {
        let name = (doc.name.clone(), rule.name.clone());
        match holds(rule, tenant, case) {
            Some(Why::Matched | Why::Elsewhere) => {
                said.push((strictness(rule), name, Why::Matched));
                return said;
            }
            None => {}
            Some(_) if rule.tier == Tier::Auto => {}
            Some(why) => said.push((strictness(rule), name, why)),
        }
    }
    said
}

fn guardrails_say(tenant: &TenantDoc, case: &Case) -> Vec<Opinion> {
    let about = tenant.guardrails.iter().filter(|rule| is_about(rule, tenant, case));
    let said = about.filter_map(|rule| {
        let name = (format!("tenantgateway/{}", tenant.name), rule.name.clone());
        holds(rule, tenant, case).map(|why| (strictness(rule), name, why))
    });
    said.collect()
}

/// Whether a rule that is, or may be, about the action holds for it.
fn holds(rule: &RuleDoc, tenant: &TenantDoc, case: &Case) -> Option<Why> {
    if rule.schedule.as_ref().is_some_and(|schedule| !clock::is_open(schedule, case.now_ms)) {
        return None;
    }
    let doubtful = matches!(rule.matches, MatchDoc::Category(_)) && category(tenant, case).is_none();
    match condition(rule, case) {
        Some(false) => None,
        _ if doubtful => Some(Why::NoCategory),
        Some(true) if rule.when.as_deref().is_some_and(reads_claims) => Some(Why::Claimed),
        Some(true) => Some(Why::Matched),
        None => Some(Why::ConditionFailed),
    }
}

pub(crate) fn reads_claims(condition: &str) -> bool {
    CLAIMS.contains(&condition)
}

/// The category of an action: a tool's, an operation's, or what its upstream says of the rest.
fn category(tenant: &TenantDoc, case: &Case) -> Option<Category> {
    if let Some((tool, _)) = case.tool {
        if let Some((_, category)) = TOOL_CATEGORIES.iter().find(|(name, _)| *name == tool) {
            return Some(*category);
        }
        let stated = tenant.tool_categories.iter().filter(|entry| entry.tools.iter().any(|tools| glob(tools, tool)));
        let stated: std::collections::BTreeSet<Category> = stated.map(|entry| entry.category).collect();
        return if stated.len() == 1 { stated.into_iter().next() } else { None };
    }
    let own = operation(case).and_then(|(name, ..)| category_of(&format!("{}.{name}", case.upstream)));
    own.or(category_of(case.upstream))
}

/// The limits that count an action, as policy and name.
pub(crate) fn limits(documents: &[Document], case: &Case) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let known = case.tool.is_some()
        || (DECLARED.iter().any(|(name, _)| *name == case.upstream)
            && case.host.as_str() == format!("{}.example", case.upstream));
    if !known {
        return found;
    }
    let tenant_doc = tenant(documents);
    for doc in policies(documents).into_iter().filter(|doc| !is_audited(doc, tenant_doc, case)) {
        found.extend(
            doc.limits
                .iter()
                .filter(|limit| counts(limit, tenant_doc, case))
                .map(|l| (doc.name.clone(), l.name.clone())),
        );
    }
    let name = format!("tenantgateway/{}", tenant_doc.name);
    found.extend(
        tenant_doc
            .limits
            .iter()
            .filter(|limit| counts(limit, tenant_doc, case))
            .map(|l| (name.clone(), l.name.clone())),
    );
    found
}

fn counts(limit: &LimitDoc, tenant: &TenantDoc, case: &Case) -> bool {
    limit.matches.as_ref().is_none_or(|matches| matches_case(matches, tenant, case))
}

fn is_about(rule: &RuleDoc, tenant: &TenantDoc, case: &Case) -> bool {
    matches_case(&rule.matches, tenant, case)
}

fn matches_case(matches: &MatchDoc, tenant: &TenantDoc, case: &Case) -> bool {
    match (matches, case.tool) {
        (MatchDoc::Tools(patterns), Some((name, _))) => patterns.iter().any(|pattern| glob(pattern, name)),
        (MatchDoc::Operations(patterns), None) => operation(case).is_some_and(|(name, ..)| {
            let full: Vec<&str> = [case.upstream].into_iter().chain(name.split('.')).collect();
            patterns.iter().any(|pattern| {
                let parts: Vec<&str> = pattern.split('.').collect();
                parts.len() == full.len() && parts.iter().zip(&full).all(|(part, text)| glob(part, text))
            })
        }),
        (MatchDoc::Http(doc), None) => {
            let segments = segments(case.raw_path);
            doc.upstreams.iter().any(|name| name == case.upstream)
                && (doc.methods.is_empty() || doc.methods.iter().any(|method| method == case.method))
                && (doc.paths.is_empty() || doc.paths.iter().any(|path| path_matches(&parts(path), &segments)))
        }
        (MatchDoc::Category(about), _) => category(tenant, case).is_none_or(|own| own == *about),
        _ => false,
    }
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|cut| text.is_char_boundary(cut) && glob(&pattern[1..], &text[cut..])),
        Some(c) => text.starts_with(c) && glob(&pattern[c.len_utf8()..], &text[c.len_utf8()..]),
    }
}

fn parts(path: &str) -> Vec<&str> {
    path[1..].split('/').collect()
}

/// Decoded segments, each with whether it holds an encoded slash. The paths of the random world have
/// two escapes only.
fn segments(path: &str) -> Vec<(String, bool)> {
    parts(path).iter().map(|part| (part.replace("%61", "a").replace("%2F", "/"), part.contains("%2F"))).collect()
}

fn path_matches(pattern: &[&str], path: &[(String, bool)]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => (0..=path.len()).any(|cut| path_matches(rest, &path[cut..])),
        (Some((part, rest)), Some(((text, slash), others))) => !slash && glob(part, text) && path_matches(rest, others),
        _ => false,
    }
}

/// The operation of a request: of all templates that match, the one with the earliest literals.
fn operation(case: &Case) -> Option<Declared> {
    let (_, declared) = DECLARED.iter().find(|(name, _)| *name == case.upstream)?;
    let segments = segments(case.raw_path);
    let matching = declared.iter().filter(|(_, method, path, _)| {
        *method == case.method
            && parts(path).len() == segments.len()
            && parts(path).iter().zip(&segments).all(|(part, (text, slash))| {
                !slash && if part.starts_with('{') { !text.is_empty() } else { part == text }
            })
    });
    let literals = |path: &str| parts(path).iter().map(|part| !part.starts_with('{')).collect::<Vec<_>>();
    matching.max_by_key(|(_, _, path, _)| literals(path)).copied()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Int(i64),
    Text,
}

type Args = BTreeMap<&'static str, Value>;

/// The arguments, or nothing when they are not usable.
fn args(case: &Case) -> Option<Args> {
    if let Some((_, text)) = case.tool {
        return json(text);
    }
    let operation = operation(case);
    let typed = operation.is_some_and(|(_, _, _, amount)| amount);
    let mut all: Vec<(&'static str, Value)> = Vec::new();
    if let Some((_, _, path, _)) = operation {
        let variables = parts(path).into_iter().filter(|part| part.starts_with('{'));
        all.extend(variables.map(|part| (part.trim_matches(['{', '}']), Value::Text)));
    }
    all.extend(fields(case.query, typed)?);
    match case.body {
        Content::Unread | Content::Unusable | Content::Text => return None,
        Content::Empty => {}
        Content::Form(text) => all.extend(fields(text, typed)?),
        Content::Json(text) => {
            for (name, value) in json(text)? {
                if typed && name == "amount" && value == Value::Text {
                    return None;
                }
                all.push((name, value));
            }
        }
    }
    let mut names: Vec<String> = all.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    Some(all.into_iter().collect())
}

/// The JSON texts of the random world, read by hand.
fn json(text: &str) -> Option<Args> {
    Some(match text {
        "{}" => Args::new(),
        r#"{"amount":5}"# => Args::from([("amount", Value::Int(5))]),
        r#"{"amount":50}"# => Args::from([("amount", Value::Int(50))]),
        r#"{"amount":"50"}"# => Args::from([("amount", Value::Text)]),
        r#"{"x":1}"# => Args::from([("x", Value::Int(1))]),
        r#"{"X":1}"# => Args::from([("X", Value::Int(1))]),
        _ => return None,
    })
}

/// The queries and forms of the random world, read by hand.
fn fields(text: &str, typed: bool) -> Option<Vec<(&'static str, Value)>> {
    let amount = |n: i64| if typed { Value::Int(n) } else { Value::Text };
    Some(match text {
        "" => vec![],
        "amount=5" => vec![("amount", amount(5))],
        "amount=50" => vec![("amount", amount(50))],
        "amount=few" if !typed => vec![("amount", Value::Text)],
        "x=1" => vec![("x", Value::Text)],
        "X=1" => vec![("X", Value::Text)],
        _ => return None,
    })
}

/// A condition's outcome; `None`: it cannot be evaluated.
fn condition(rule: &RuleDoc, case: &Case) -> Option<bool> {
    let Some(text) = &rule.when else { return Some(true) };
    match text.as_str() {
        "true" | "agent.namespace == \"acme\"" => Some(true),
        "false" => Some(false),
        "requester.id == \"guest\"" => case.requester.map(|requester| requester == "guest"),
        "model.name != \"large\"" => case.model.map(|model| model != "large"),
        "run.id == \"r\"" => None,
        "args.amount > 10" => match args(case)?.get("amount")? {
            Value::Int(amount) => Some(*amount > 10),
            Value::Text => None,
        },
        "has(args.x)" => {
            let args = args(case)?;
            if args.contains_key("X") { None } else { Some(args.contains_key("x")) }
        }
        "time.now.getSeconds() < 30" => Some(case.now_ms / 1000 % 60 < 30),
        "request.method == \"GET\"" => Some(case.method == "GET"),
        "request.headers[\"x-k\"] == \"a\"" => match case.header? {
            [one] => Some(*one == "a"),
            _ => None,
        },
        "request.path.startsWith(\"/a\")" => {
            let segments = segments(case.raw_path);
            if segments.iter().any(|(_, slash)| *slash) { None } else { Some(segments[0].0.starts_with('a')) }
        }
        "request.query.x == \"1\"" => {
            if case.query == "x=1" {
                Some(true)
            } else {
                None
            }
        }
        "args.missing == 1" | "agent.labels.tier == \"gold\"" | "agent.labels[\"no such label\"] == \"x\"" => None,
        other => panic!("the reference does not know {other}"),
    }
}
