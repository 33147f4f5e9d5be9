//! Limits: which of them count an action. How much room they have is the gate's to know: deciding keeps no state.

use std::sync::Arc;

use crate::document::{LimitDoc, LimitScope};
use crate::path::Segment;
use crate::policy::{Found, Match, Policy};
use crate::{Action, Facts, RuleRef};

/// Most actions per interval, and most at once: far beyond what one agent does, and small enough that a gate counts
/// in 64 bits.
pub const MAX_REQUESTS: u32 = 1_000_000;

/// Longest interval in milliseconds: a day. A gate keeps its counts in memory, so longer ones would mean little.
pub const MAX_INTERVAL_MS: u64 = 24 * 60 * 60 * 1000;

/// Most limits of one policy or tenant: each is counted on every action that it is about.
pub const MAX_LIMITS: usize = 32;

/// A limit on the actions of one pod.
#[derive(Debug)]
pub struct Limit {
    /// The policy or tenant, and the limit's name.
    pub reference: RuleRef,
    /// How many actions may happen per interval in the long run; 1 to [`MAX_REQUESTS`].
    pub requests: u32,
    /// The interval in milliseconds; 1 to [`MAX_INTERVAL_MS`].
    pub interval_ms: u64,
    /// How many may happen at once after a rest; 1 to [`MAX_REQUESTS`].
    pub burst: u32,
    pub(crate) group: usize,
    /// `None`: it counts every action.
    pub(crate) matches: Option<Match>,
}

impl Limit {
    /// Reads the numbers of a limit.
    pub(crate) fn new(
        doc: &LimitDoc,
        reference: RuleRef,
        group: usize,
        matches: Option<Match>,
    ) -> Result<Self, &'static str> {
        let LimitDoc { name: _, scope, matches: _, requests, interval_ms, burst } = doc;
        let LimitScope::Agent = scope;
        let counts = 1..=MAX_REQUESTS;
        if !counts.contains(requests) || !counts.contains(burst) || !(1..=MAX_INTERVAL_MS).contains(interval_ms) {
            return Err("a limit has 1 to 1000000 requests, as many at once, and an interval of at most 24h");
        }
        Ok(Self { reference, requests: *requests, interval_ms: *interval_ms, burst: *burst, group, matches })
    }
}

impl Policy {
    /// The limits that count an action: those of the tenant and of all policies in enforcement. An action that
    /// nobody knows the category of counts for every category.
    #[must_use]
    pub fn limits(&self, facts: &Facts<'_>) -> Vec<&Limit> {
        if self.all_limits().is_empty() {
            return Vec::new();
        }
        let Some(found) = self.find(&facts.action) else { return Vec::new() };
        let segments = segments(facts);
        let counting = self.all_limits().iter().filter(|limit| self.is_enforced(limit.group, facts.context.now_ms));
        counting
            .filter(|limit| limit.matches.as_ref().is_none_or(|matches| is_about(matches, facts, &found, &segments)))
            .collect()
    }
}

/// The segments of a request's path.
pub(crate) fn segments<'a>(facts: &Facts<'a>) -> Vec<Segment<'a>> {
    match facts.action {
        Action::Http(http) => http.path.segments().collect(),
        Action::Tool(_) => Vec::new(),
    }
}

/// Whether a match is about an action, or may be: told without the indexes that decisions go through.
pub(crate) fn is_about(matches: &Match, facts: &Facts<'_>, found: &Found<'_>, segments: &[Segment<'_>]) -> bool {
    match (matches, &facts.action) {
        (Match::Tools(patterns), Action::Tool(tool)) => patterns.iter().any(|pattern| pattern.matches(tool.name)),
        (Match::Operations(patterns), Action::Http(http)) => found
            .operation
            .is_some_and(|operation| patterns.iter().any(|pattern| pattern.matches(http.upstream, &operation.short))),
        (Match::Http { upstreams, methods, paths }, Action::Http(http)) => {
            upstreams.iter().any(|upstream| upstream == http.upstream)
                && (methods.is_empty() || methods.iter().any(|method| method == http.method))
                && (paths.is_empty() || paths.iter().any(|path| path.matches(segments)))
        }
        (Match::Category(category), _) => found.category.is_none_or(|own| own == *category),
        (Match::OutsideOf(allowed), Action::Http(_)) => !allowed.contains(found.residency),
        _ => false,
    }
}

/// The places where upstreams may keep data.
#[derive(Debug)]
pub(crate) struct Residency(pub(crate) Vec<Arc<str>>);

impl Residency {
    /// Whether a place is one of them. Nowhere is none of them.
    pub(crate) fn contains(&self, place: Option<&str>) -> bool {
        place.is_some_and(|place| self.0.iter().any(|allowed| **allowed == *place))
    }
}
