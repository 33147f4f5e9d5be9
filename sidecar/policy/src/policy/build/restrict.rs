//! What narrows beside rules: residency and limits.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::{Match, Rule};
use super::matches::parse_match;
use super::{At, Builder, MAX_PATTERNS, MAX_RULES, Result};
use crate::RuleRef;
use crate::document::{LimitDoc, Tier};
use crate::limit::{Limit, MAX_LIMITS, Residency};

/// The name of the rule that a policy's residency becomes. No rule that a person writes has a dot in it.
const RESIDENCY: &str = "spec.residency";

impl Builder {
    /// A policy's residency comes before its rules: a Block of what is elsewhere. So the policies of a pod come to
    /// the intersection of what they allow.
    pub(super) fn add_residency(&mut self, object: &str, allow: Option<Vec<String>>, digest: &Arc<str>) -> Result<()> {
        let Some(allow) = allow else { return Ok(()) };
        let at = At { object, rule: Some(RESIDENCY) };
        if allow.is_empty() || allow.len() > MAX_PATTERNS || self.rules.len() >= MAX_RULES {
            return at.refuse(format!("it allows 1 to {MAX_PATTERNS} places, and counts as a rule"));
        }
        allow.iter().try_for_each(|place| at.name(place))?;
        let policy = self.group().name.clone();
        let rule = Rule {
            reference: RuleRef { policy, rule: RESIDENCY.into(), digest: digest.clone() },
            group: self.groups.len() - 1,
            matches: Match::OutsideOf(Residency(allow.into_iter().map(Into::into).collect())),
            when: None,
            schedule: None,
            tier: Tier::Block,
            halts: false,
        };
        self.add_rule(rule, &[]);
        Ok(())
    }

    pub(super) fn add_limits(&mut self, object: &str, limits: &[LimitDoc], digest: &Arc<str>) -> Result<()> {
        let mut names = HashSet::new();
        for doc in limits {
            let at = At { object, rule: Some(&doc.name) };
            at.name(&doc.name)?;
            if !names.insert(&doc.name) || names.len() > MAX_LIMITS {
                return at.refuse(format!("two limits have one name, or there are more than {MAX_LIMITS}"));
            }
            let matches = doc.matches.clone().map(|matches| parse_match(&at, matches)).transpose()?;
            let policy = self.group().name.clone();
            let reference = RuleRef { policy, rule: doc.name.as_str().into(), digest: digest.clone() };
            let limit = Limit::new(doc, reference, self.groups.len() - 1, matches).map_err(|error| at.error(error))?;
            self.limits.push(limit);
        }
        Ok(())
    }
}
