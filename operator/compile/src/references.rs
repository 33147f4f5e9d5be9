//! References between objects that are not there. They warn and never refuse, so that the order in
//! which objects are applied does not matter; what does not exist is not reachable anyway.

use std::collections::BTreeSet;

use clawlock_policy::document::{MatchDoc, UpstreamDoc};
use clawlock_policy::pattern::OperationPattern;

use crate::problem::Report;
use crate::text::quoted;

/// What is known beside an object: the upstreams of its tenant. By default nothing is.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    /// Name of the tenant; `None`: unknown, so that nothing can be said of references.
    pub(crate) tenant: Option<&'a str>,
    /// Those that hold, by name.
    pub(crate) valid: Vec<&'a UpstreamDoc>,
    /// Names of those that do not.
    pub(crate) invalid: BTreeSet<&'a str>,
}

/// Warns of upstreams and operations that a match names and that do not exist.
pub(crate) fn check(report: &mut Report, path: &str, matches: &MatchDoc, known: &Known<'_>) {
    let Some(tenant) = known.tenant else { return };
    match matches {
        MatchDoc::Tools(_) | MatchDoc::Category(_) => {}
        MatchDoc::Operations(patterns) => check_operations(report, path, patterns, tenant, known),
        MatchDoc::Http(http) => {
            for (index, name) in http.upstreams.iter().enumerate() {
                if let Some(message) = missing(name, tenant, known) {
                    report.missing_reference(format!("{path}.http.upstreams[{index}]"), message);
                }
            }
        }
    }
}

fn missing(name: &str, tenant: &str, known: &Known<'_>) -> Option<String> {
    if known.valid.iter().any(|upstream| upstream.name == name) {
        return None;
    }
    Some(if known.invalid.contains(name) {
        format!("Upstream {} of tenant {tenant} is invalid, so that nothing reaches it; mend it", quoted(name))
    } else {
        format!("{} is no Upstream of tenant {tenant}; ask the platform team for it", quoted(name))
    })
}

fn check_operations(report: &mut Report, path: &str, patterns: &[String], tenant: &str, known: &Known<'_>) {
    for (index, text) in patterns.iter().enumerate() {
        // A pattern that does not parse was reported as an error.
        let Ok(pattern) = OperationPattern::parse(text) else { continue };
        let found = known.valid.iter().any(|upstream| {
            upstream.operations.iter().any(|operation| pattern.matches(&upstream.name, &operation.name))
        });
        if found {
            continue;
        }
        let (path, named) = (format!("{path}.operations[{index}]"), quoted(text));
        if text.contains('*') {
            // It names nothing: a guardrail may well be about operations that are still to come.
            report.warning(path, format!("{named} matches no operation of tenant {tenant}'s Upstreams so far"));
        } else {
            let wanted = "ask the platform team for it";
            report.missing_reference(path, format!("{named} is no operation of tenant {tenant}'s Upstreams; {wanted}"));
        }
    }
}
