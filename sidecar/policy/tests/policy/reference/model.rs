//! The reference: DESIGN's rules, written down as they stand.

use std::collections::BTreeMap;

use clawlock_policy::document::{Document, MatchDoc, Mode, PolicyDoc, RuleDoc, TenantDoc, Tier};
use clawlock_policy::{Code, Verdict};

use super::world::{Case, Content, DECLARED, Declared};

/// What is compared: everything of a verdict but its words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow { rule: Option<(String, String)>, credential: bool, shadow: Option<Code> },
    Ask { rule: (String, String), code: Code },
    Deny { rule: Option<(String, String)>, code: Code },
}

impl Answer {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        let rule = verdict.rule().map(|rule| (rule.policy.to_string(), rule.rule.to_string()));
        match verdict {
            Verdict::Allow(permit) => Self::Allow { rule, credential: permit.credential(), shadow: permit.shadow() },
            Verdict::Ask(denial) => Self::Ask { rule: rule.unwrap(), code: denial.code },
            Verdict::Deny(denial) => Self::Deny { rule, code: denial.code },
        }
    }
}

/// An opinion: the tier, the rule, and whether it comes from a failed condition.
type Opinion = (Tier, (String, String), bool);

pub(crate) fn answer(documents: &[Document], case: &Case) -> Answer {
    if documents.iter().any(|document| matches!(document, Document::Halt(_))) {
        return Answer::Deny { rule: None, code: Code::Halted };
    }
    let known =
        DECLARED.iter().any(|(name, _)| *name == case.upstream && case.host.as_str() == format!("{name}.example"));
    if case.tool.is_none() && !known {
        return Answer::Deny { rule: None, code: Code::UnknownUpstream };
    }
    let tenant = tenant(documents);
    let audit = |doc: &PolicyDoc| {
        doc.mode == Mode::Audit
            && tenant.allowed_modes.contains(&Mode::Audit)
            && tenant.audit_until_ms.is_some_and(|until| case.now_ms < until)
    };
    let policies = policies(documents);
    let (audited, enforced): (Vec<&PolicyDoc>, Vec<&PolicyDoc>) = policies.iter().copied().partition(|doc| audit(doc));
    let said = |docs: &[&PolicyDoc]| -> Vec<Opinion> { docs.iter().flat_map(|doc| policy_says(doc, case)).collect() };
    let guardrails = guardrails_say(tenant, case);
    let from_audit = strictest(&said(&audited));
    if audited.is_empty() || !enforced.is_empty() {
        let mut all = said(&enforced);
        all.extend(guardrails);
        let shadow = from_audit.filter(|opinion| opinion.0 != Tier::Auto).map(|opinion| code_of(&opinion));
        return match strictest(&all) {
            None if policies.is_empty() => Answer::Deny { rule: None, code: Code::NoPolicy },
            None => Answer::Deny { rule: None, code: Code::NoMatch },
            // Rules that failed only tighten: when none matched, the answer is still no.
            Some((_, rule, _)) if all.iter().all(|(_, _, failed)| *failed) => {
                Answer::Deny { rule: Some(rule), code: Code::ConditionError }
            }
            Some(opinion) => settle(opinion, shadow),
        };
    }
    if let Some(opinion) = strictest(&guardrails) {
        return settle(opinion, None);
    }
    match from_audit {
        Some((Tier::Auto, rule, _)) => Answer::Allow { rule: Some(rule), credential: true, shadow: None },
        Some(opinion) => Answer::Allow { rule: None, credential: false, shadow: Some(code_of(&opinion)) },
        None => Answer::Allow { rule: None, credential: false, shadow: Some(Code::NoMatch) },
    }
}

/// The opinion of one policy, or of the guardrails.
pub(crate) fn opinion_of(documents: &[Document], case: &Case, name: &str) -> Option<Tier> {
    let said = match policies(documents).into_iter().find(|doc| doc.name == name) {
        Some(doc) => policy_says(doc, case),
        None => guardrails_say(tenant(documents), case),
    };
    said.iter().map(|opinion| opinion.0).max()
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

fn settle((tier, rule, failed): Opinion, shadow: Option<Code>) -> Answer {
    let code = code_of(&(tier, rule.clone(), failed));
    match tier {
        Tier::Auto => Answer::Allow { rule: Some(rule), credential: true, shadow },
        Tier::Ask => Answer::Ask { rule, code },
        Tier::Block => Answer::Deny { rule: Some(rule), code },
    }
}

fn code_of((tier, _, failed): &Opinion) -> Code {
    match (tier, failed) {
        (_, true) => Code::ConditionError,
        (Tier::Block, false) => Code::TierBlock,
        (_, false) => Code::ApprovalUnavailable,
    }
}

fn strictest(opinions: &[Opinion]) -> Option<Opinion> {
    let tier = opinions.iter().map(|opinion| opinion.0).max()?;
    opinions.iter().find(|opinion| opinion.0 == tier).cloned()
}

/// All that a policy's rules say, up to the one that decides.
fn policy_says(doc: &PolicyDoc, case: &Case) -> Vec<Opinion> {
    let mut said = Vec::new();
    for rule in doc.rules.iter().filter(|rule| is_about(rule, case)) {
        let name = (doc.name.clone(), rule.name.clone());
        match condition(rule, case) {
            Some(true) => {
                said.push((rule.tier, name, false));
                return said;
            }
            Some(false) => {}
            None if rule.tier == Tier::Auto => {}
            None => said.push((rule.tier, name, true)),
        }
    }
    said
}

fn guardrails_say(tenant: &TenantDoc, case: &Case) -> Vec<Opinion> {
    let about = tenant.guardrails.iter().filter(|rule| is_about(rule, case));
    let said = about.filter_map(|rule| {
        let name = (format!("tenantgateway/{}", tenant.name), rule.name.clone());
        match condition(rule, case) {
            Some(false) => None,
            outcome => Some((rule.tier, name, outcome.is_none())),
        }
    });
    said.collect()
}

fn is_about(rule: &RuleDoc, case: &Case) -> bool {
    match (&rule.matches, case.tool) {
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
