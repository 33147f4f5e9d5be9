//! Rules: from what a policy or a tenant says to what a document says.

use std::collections::BTreeSet;

use clawlock_crds::bounds::{MAX_CONDITION, MAX_METHOD, MAX_METHODS, MAX_NAME, MAX_PATH, MAX_PATTERN, MAX_PATTERNS};
use clawlock_crds::{HttpMatch, Match, Schedule};
use clawlock_policy::condition::{Condition, Target};
use clawlock_policy::document::{ArgumentDoc, Category, HttpMatchDoc, MatchDoc, OnDeny, RuleDoc, Tier, UpstreamDoc};
use clawlock_policy::pattern::{OperationPattern, PathPattern, ToolPattern};
use clawlock_policy::policy::UNTRUSTED;

use crate::problem::Report;
use crate::references::{self, Known};
use crate::schedule;
use crate::text::{Limits, is_dns_label, is_method, parse_set, quoted, refuse_empty};

const PATTERNS: Limits = Limits { items: MAX_PATTERNS, length: MAX_PATTERN };

/// A rule as either kind of object writes it.
pub(crate) struct Written<'a> {
    pub(crate) name: &'a str,
    pub(crate) matches: &'a Match,
    pub(crate) when: Option<&'a str>,
    pub(crate) schedule: Option<&'a Schedule>,
    pub(crate) tier: Tier,
    pub(crate) on_deny: OnDeny,
}

/// Converts a list of rules, reporting every mistake in it. The operations that are known give the
/// arguments in conditions their types.
pub(crate) fn convert<'a>(
    report: &mut Report,
    path: &str,
    max: usize,
    rules: impl ExactSizeIterator<Item = Written<'a>>,
    known: &Known<'_>,
) -> Vec<RuleDoc> {
    let mut converted = Vec::new();
    if rules.len() > max {
        report.error(path, format!("{} rules; at most {max} are allowed, so split them", rules.len()));
        return converted;
    }
    let mut names = BTreeSet::new();
    for (index, rule) in rules.enumerate() {
        let at = format!("{path}[{index}]");
        let Written { name, matches, when, schedule, tier, on_deny } = rule;
        if !is_dns_label(name) {
            report.error(
                format!("{at}.name"),
                format!("{} is no name of a rule; write a DNS label such as large-refund", quoted(name)),
            );
        } else if !names.insert(name) {
            report.error(format!("{at}.name"), format!("two rules have the name {}; rename one", quoted(name)));
        }
        let matched = convert_match(report, &format!("{at}.match"), matches);
        if let Some(text) = when {
            check_condition(report, &format!("{at}.when"), text, (matched.as_ref(), tier), &known.valid);
        }
        if tier == Tier::Auto && on_deny == OnDeny::Halt {
            let message = "a rule of tier Auto refuses nothing; remove onDeny, or put it on the rule that refuses";
            report.error(format!("{at}.onDeny"), message);
        }
        let schedule = schedule.map(|schedule| schedule::convert(report, &format!("{at}.schedule"), schedule));
        if let Some(matches) = matched {
            references::check(report, &format!("{at}.match"), &matches, known);
            let (name, when) = (name.to_owned(), when.map(str::to_owned));
            converted.push(RuleDoc { name, matches, when, schedule, tier, on_deny });
        }
    }
    converted
}

pub(crate) fn convert_match(report: &mut Report, path: &str, matches: &Match) -> Option<MatchDoc> {
    let Match { tools, operations, http, category } = matches;
    match (tools, operations, http, category) {
        (Some(tools), None, None, None) => {
            let path = format!("{path}.tools");
            refuse_empty(report, &path, tools, "name a tool, or \"*\" for all of them");
            parse_set(report, &path, tools, PATTERNS, ToolPattern::parse);
            Some(MatchDoc::Tools(tools.clone()))
        }
        (None, Some(operations), None, None) => {
            let path = format!("{path}.operations");
            refuse_empty(report, &path, operations, "name an operation such as stripe.create_refund");
            parse_set(report, &path, operations, PATTERNS, OperationPattern::parse);
            Some(MatchDoc::Operations(operations.clone()))
        }
        (None, None, Some(http), None) => Some(MatchDoc::Http(convert_http(report, &format!("{path}.http"), http))),
        (None, None, None, Some(category)) => Some(MatchDoc::Category(convert_category(*category))),
        (None, None, None, None) => {
            report.error(path, "nothing is matched; set one of tools, operations, http and category");
            None
        }
        _ => {
            report.error(
                path,
                "more than one kind is matched; set one of tools, operations, http and category, and split the rule",
            );
            None
        }
    }
}

pub(crate) fn convert_category(category: clawlock_crds::Category) -> Category {
    match category {
        clawlock_crds::Category::Read => Category::Read,
        clawlock_crds::Category::Write => Category::Write,
        clawlock_crds::Category::Delete => Category::Delete,
        clawlock_crds::Category::Money => Category::Money,
        clawlock_crds::Category::Shell => Category::Shell,
        clawlock_crds::Category::Network => Category::Network,
        clawlock_crds::Category::Admin => Category::Admin,
    }
}

fn convert_http(report: &mut Report, path: &str, http: &HttpMatch) -> HttpMatchDoc {
    let HttpMatch { upstreams, methods, paths } = http;
    let at = format!("{path}.upstreams");
    refuse_empty(report, &at, upstreams, "name at least one Upstream");
    parse_set(report, &at, upstreams, Limits { items: MAX_PATTERNS, length: MAX_NAME }, |text| {
        if is_dns_label(text) { Ok(()) } else { Err("no name of an Upstream; patterns are not allowed here") }
    });
    if let Some(methods) = methods {
        let at = format!("{path}.methods");
        refuse_empty(report, &at, methods, "name a method, or remove the field to match every method");
        parse_set(report, &at, methods, Limits { items: MAX_METHODS, length: MAX_METHOD }, |text| {
            if is_method(text) { Ok(()) } else { Err("no method; methods are case-sensitive, such as GET") }
        });
    }
    if let Some(paths) = paths {
        let at = format!("{path}.paths");
        refuse_empty(report, &at, paths, "write a pattern, or remove the field to match every path");
        parse_set(report, &at, paths, Limits { items: MAX_PATTERNS, length: MAX_PATH }, PathPattern::parse);
    }
    HttpMatchDoc {
        upstreams: upstreams.clone(),
        methods: methods.clone().unwrap_or_default(),
        paths: paths.clone().unwrap_or_default(),
    }
}

fn check_condition(
    report: &mut Report,
    path: &str,
    text: &str,
    (matches, tier): (Option<&MatchDoc>, Tier),
    upstreams: &[&UpstreamDoc],
) {
    if text.len() > MAX_CONDITION {
        report.error(path, format!("{} bytes; at most {MAX_CONDITION} are allowed, so split the rule", text.len()));
        return;
    }
    // Without a match it is unknown what the condition may read; the match was reported already.
    let Some(matches) = matches else { return };
    let target = match matches {
        MatchDoc::Tools(_) => Target::tools(),
        MatchDoc::Operations(patterns) => Target::operations(declared(patterns, upstreams)),
        MatchDoc::Http(_) => Target::http(),
        MatchDoc::Category(_) => Target::category(),
    };
    match Condition::parse(text, &target) {
        Ok(condition) if tier == Tier::Auto && condition.reads_claims() => report.error(path, UNTRUSTED),
        Ok(_) => {}
        Err(error) => report.error(path, error.to_string()),
    }
}

/// The declared arguments of every known operation that the patterns name.
fn declared<'a>(patterns: &[String], upstreams: &[&'a UpstreamDoc]) -> Vec<&'a [ArgumentDoc]> {
    // Patterns that do not parse were reported already; they name nothing here.
    let patterns: Vec<OperationPattern> = patterns.iter().flat_map(|text| OperationPattern::parse(text)).collect();
    let mut found = Vec::new();
    for upstream in upstreams {
        for operation in &upstream.operations {
            if patterns.iter().any(|pattern| pattern.matches(&upstream.name, &operation.name)) {
                found.push(operation.arguments.as_slice());
            }
        }
    }
    found
}
