//! `TenantGateway` to document.

use std::collections::BTreeSet;
use std::str::FromStr;

use clawlock_crds::bounds::{
    DATE_LENGTH, MAX_GUARDRAILS, MAX_NAME, MAX_NAMESPACES, MAX_PATTERN, MAX_PATTERNS, MAX_TOOL_CATEGORIES,
};
use clawlock_crds::{Guardrail, GuardrailTier, PolicyConstraints, TenantGateway, TenantGatewaySpec, ToolCategory};
use clawlock_policy::SpiffeId;
use clawlock_policy::category::of_tool;
use clawlock_policy::document::{Document, Mode, OnDeny, TenantDoc, Tier, ToolCategoryDoc};
use clawlock_policy::pattern::ToolPattern;
use k8s_openapi::jiff::civil::Date;
use k8s_openapi::jiff::tz::TimeZone;

use crate::limits;
use crate::policy::convert_mode;
use crate::problem::{Kind, Problem, Report};
use crate::references::Known;
use crate::rules::{self, Written};
use crate::settings::{self, Settings};
use crate::text::{Limits, is_dns_label, parse_set, quoted, refuse_empty, refuse_oversize};

/// Checks one tenant by itself: the arguments of operations have no known type.
///
/// # Errors
/// All mistakes in it.
pub fn check_gateway(gateway: &TenantGateway) -> Result<TenantDoc, Vec<Problem>> {
    let Checked { report, document, settings: _ } = check(gateway, &Known::default());
    report.finish(Some(document))
}

/// A tenant after its check. Document and settings hold only if the report has no error.
pub(crate) struct Checked {
    pub(crate) report: Report,
    pub(crate) document: TenantDoc,
    pub(crate) settings: Settings,
}

/// Checks one tenant beside its upstreams.
pub(crate) fn check(gateway: &TenantGateway, known: &Known<'_>) -> Checked {
    let mut report = Report::about(Kind::TenantGateway, &gateway.metadata);
    let TenantGatewaySpec {
        namespaces,
        trust_domain,
        replicas,
        onboarding,
        agents,
        identity,
        guardrails,
        tool_categories,
        limits,
        policy_constraints,
    } = &gateway.spec;
    check_namespaces(&mut report, namespaces);
    // The trust domain has the form that an identity in it needs.
    if let Err(error) = SpiffeId::of_pod(trust_domain, "namespace", "account", "uid") {
        report.error("spec.trustDomain", format!("{}: {error}", quoted(trust_domain)));
    }
    let settings = settings::check(&mut report, *replicas, *onboarding, agents.as_ref(), identity.as_ref());
    let written = guardrails.iter().map(|guardrail| {
        let Guardrail { name, matches, when, tier } = guardrail;
        let tier = match tier {
            GuardrailTier::Ask => Tier::Ask,
            GuardrailTier::Block => Tier::Block,
        };
        Written { name, matches, when: when.as_deref(), schedule: None, tier, on_deny: OnDeny::Continue }
    });
    let guardrails = rules::convert(&mut report, "spec.guardrails", MAX_GUARDRAILS, written, known);
    let tool_categories = check_categories(&mut report, tool_categories);
    let limits = limits::convert(&mut report, limits, known);
    let (allowed_modes, audit_until_ms) = match policy_constraints {
        Some(constraints) => check_constraints(&mut report, constraints),
        None => (vec![Mode::Enforce], None),
    };
    let name = report.object().name.clone();
    let mut document = TenantDoc { name, guardrails, limits, tool_categories, audit_until_ms, allowed_modes };
    // Their order has no meaning, so it must not show in the digest either.
    document.guardrails.sort_by(|a, b| a.name.cmp(&b.name));
    refuse_oversize(&mut report, &Document::Tenant(document.clone()));
    Checked { report, document, settings }
}

fn check_namespaces(report: &mut Report, namespaces: &[String]) {
    let path = "spec.namespaces";
    refuse_empty(report, path, namespaces, "name the namespaces where the tenant's agents run");
    let own = report.object().namespace.clone();
    parse_set(report, path, namespaces, Limits { items: MAX_NAMESPACES, length: MAX_NAME }, |text| {
        if !is_dns_label(text) {
            Err("no name of a namespace; write a DNS label such as acme")
        } else if text == own {
            Err("this is the platform namespace, where the tenant's credentials are; agents run elsewhere")
        } else {
            Ok(())
        }
    });
}

fn check_categories(report: &mut Report, written: &[ToolCategory]) -> Vec<ToolCategoryDoc> {
    let path = "spec.toolCategories";
    if written.len() > MAX_TOOL_CATEGORIES {
        report.error(path, format!("{} entries; at most {MAX_TOOL_CATEGORIES} are allowed", written.len()));
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    for (index, ToolCategory { name, tools, category: _ }) in written.iter().enumerate() {
        let at = format!("{path}[{index}]");
        if !is_dns_label(name) || !names.insert(name) {
            report.error(format!("{at}.name"), format!("{} is no DNS label, or stands here twice", quoted(name)));
        }
        let path = format!("{at}.tools");
        refuse_empty(report, &path, tools, "name a tool such as github__get_issue, or \"github__*\"");
        let limits = Limits { items: MAX_PATTERNS, length: MAX_PATTERN };
        parse_set(report, &path, tools, limits, |text| match of_tool(text) {
            Some(category) => Err(format!("this tool is one of OpenClaw's own, and is {}", category.as_str())),
            None => ToolPattern::parse(text).map(drop).map_err(|error| error.to_string()),
        });
    }
    let mut sorted: Vec<&ToolCategory> = written.iter().collect();
    sorted.sort_by(|one, two| one.name.cmp(&two.name));
    let convert = |entry: &ToolCategory| ToolCategoryDoc {
        tools: entry.tools.clone(),
        category: rules::convert_category(entry.category),
    };
    sorted.into_iter().map(convert).collect()
}

fn check_constraints(report: &mut Report, constraints: &PolicyConstraints) -> (Vec<Mode>, Option<u64>) {
    let PolicyConstraints { allowed_modes, audit_until } = constraints;
    let at = "spec.policyConstraints.allowedModes";
    let mut modes: Vec<Mode> = allowed_modes.iter().copied().map(convert_mode).collect();
    modes.sort();
    modes.dedup();
    if modes.is_empty() {
        report.error(at, "the list is empty; write [Enforce], or remove the field");
    } else if modes.len() != allowed_modes.len() {
        report.error(at, "a mode stands here twice; remove one");
    }
    let at = "spec.policyConstraints.auditUntil";
    let until = match audit_until.as_deref().map(start_of_day) {
        None => None,
        Some(Ok(until)) => Some(until),
        Some(Err(reason)) => {
            report.error(at, reason);
            None
        }
    };
    let audit = modes.contains(&Mode::Audit);
    if audit && audit_until.is_none() {
        report.error(at, "mode Audit is allowed without an end; write the day on which it ends, such as 2027-01-15");
    }
    if !audit && audit_until.is_some() {
        report.warning(at, "this says nothing while mode Audit is not allowed; add Audit to allowedModes or remove it");
    }
    (modes, until.filter(|_| audit))
}

/// The start of a day `YYYY-MM-DD` in UTC, in milliseconds since the Unix epoch.
fn start_of_day(text: &str) -> Result<u64, String> {
    let wrong = || format!("{} is no day; write it as YYYY-MM-DD, such as 2027-01-15", quoted(text));
    // The parser also takes other forms of ISO 8601; the API has this one.
    let digits = |at: std::ops::Range<usize>| text.get(at).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let dashes = text.as_bytes().get(4) == Some(&b'-') && text.as_bytes().get(7) == Some(&b'-');
    if text.len() != DATE_LENGTH || !dashes || !digits(0..4) || !digits(5..7) || !digits(8..10) {
        return Err(wrong());
    }
    let day = Date::from_str(text).map_err(|_| wrong())?;
    let start = day.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
    u64::try_from(start.timestamp().as_millisecond()).map_err(|_| wrong())
}
