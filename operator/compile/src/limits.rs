//! Limits and residencies: from what a policy or a tenant says to what a document says.

use std::collections::BTreeSet;
use std::time::Duration;

use clawlock_crds::bounds::{MAX_LIMITS, MAX_NAME, MAX_REQUESTS, MAX_RESIDENCIES};
use clawlock_crds::{Limit, LimitScope, Rate, Residency};
use clawlock_policy::document;
use clawlock_policy::document::LimitDoc;

use crate::problem::Report;
use crate::references::{self, Known};
use crate::text::{Limits, is_dns_label, parse_set, quoted, refuse_empty};
use crate::{duration, rules};

/// Shortest and longest interval of a rate.
const INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Converts a list of limits, reporting every mistake in it.
pub(crate) fn convert(report: &mut Report, limits: &[Limit], known: &Known<'_>) -> Vec<LimitDoc> {
    let path = "spec.limits";
    let mut converted = Vec::new();
    if limits.len() > MAX_LIMITS {
        report.error(path, format!("{} limits; at most {MAX_LIMITS} are allowed", limits.len()));
        return converted;
    }
    let mut names = BTreeSet::new();
    for (index, limit) in limits.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let Limit { name, scope: LimitScope::Agent, matches, rate: Rate { requests, interval, burst } } = limit;
        if !is_dns_label(name) {
            report.error(format!("{at}.name"), format!("{} is no name; write a DNS label", quoted(name)));
        } else if !names.insert(name) {
            report.error(format!("{at}.name"), format!("two limits have the name {}; rename one", quoted(name)));
        }
        let matches = matches.as_ref().map(|matches| {
            let at = format!("{at}.match");
            let matches = rules::convert_match(report, &at, matches);
            if let Some(matches) = &matches {
                references::check(report, &at, matches, known);
            }
            matches
        });
        for (field, number) in [("requests", Some(requests)), ("burst", burst.as_ref())] {
            if number.is_some_and(|number| number.get() > MAX_REQUESTS) {
                report.error(format!("{at}.rate.{field}"), format!("at most {MAX_REQUESTS} are allowed"));
            }
        }
        let Some(interval) = duration::parse(interval).filter(|interval| INTERVAL.contains(interval)) else {
            report.error(format!("{at}.rate.interval"), "no duration from 1s to 24h; write one such as 1m");
            continue;
        };
        // A match that could not be read was reported; without it the limit would count everything.
        let matches = match matches {
            Some(None) => continue,
            Some(Some(matches)) => Some(matches),
            None => None,
        };
        converted.push(LimitDoc {
            name: name.clone(),
            scope: document::LimitScope::Agent,
            matches,
            requests: requests.get(),
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            burst: burst.unwrap_or(*requests).get(),
        });
    }
    // Their order has no meaning, so it must not show in the digest either.
    converted.sort_by(|one, two| one.name.cmp(&two.name));
    converted
}

/// Converts the places where data may be kept.
pub(crate) fn convert_residency(report: &mut Report, residency: &Residency) -> Vec<String> {
    let Residency { allow } = residency;
    let path = "spec.residency.allow";
    refuse_empty(report, path, allow, "name at least one place, or remove residency to allow all");
    parse_set(report, path, allow, Limits { items: MAX_RESIDENCIES, length: MAX_NAME }, check_place);
    let mut sorted = allow.clone();
    sorted.sort();
    sorted
}

/// Checks the name of a place: it is compared as it is.
pub(crate) fn check_place(text: &str) -> Result<(), &'static str> {
    if is_dns_label(text) { Ok(()) } else { Err("no name of a place; write a DNS label such as eu or us-east-1") }
}
