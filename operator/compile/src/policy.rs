//! `AgentPolicy` to document.

use clawlock_crds::bounds::MAX_RULES;
use clawlock_crds::{AgentPolicy, AgentPolicySpec, Rule};
use clawlock_policy::document::{Document, Mode, OnDeny, PolicyDoc, Tier};

use crate::limits;
use crate::problem::{Kind, Problem, Report};
use crate::references::Known;
use crate::rules::{self, Written};
use crate::selector::{self, Scope};
use crate::text::refuse_oversize;

/// Checks one policy by itself: the arguments of operations have no known type.
///
/// # Errors
/// All mistakes in it.
pub fn check_policy(policy: &AgentPolicy) -> Result<PolicyDoc, Vec<Problem>> {
    let Checked { report, document, scope: _ } = check(policy, &Known::default());
    report.finish(Some(document))
}

/// A policy after its check. The document holds only if the report has no error.
pub(crate) struct Checked {
    pub(crate) report: Report,
    pub(crate) document: PolicyDoc,
    pub(crate) scope: Scope,
}

/// Checks one policy beside the upstreams of its tenant.
pub(crate) fn check(policy: &AgentPolicy, known: &Known<'_>) -> Checked {
    let mut report = Report::about(Kind::AgentPolicy, &policy.metadata);
    let AgentPolicySpec { agent_selector, mode, rules, limits, residency } = &policy.spec;
    let scope = selector::check(&mut report, selector::PATH, agent_selector);
    let written = rules.iter().map(|rule| {
        let Rule { name, matches, when, schedule, tier, on_deny } = rule;
        let (when, schedule, tier) = (when.as_deref(), schedule.as_ref(), convert_tier(*tier));
        Written { name, matches, when, schedule, tier, on_deny: convert_on_deny(*on_deny) }
    });
    let rules = rules::convert(&mut report, "spec.rules", MAX_RULES, written, known);
    let limits = limits::convert(&mut report, limits, known);
    let residency = residency.as_ref().map(|residency| limits::convert_residency(&mut report, residency));
    let name = report.object().full_name();
    let document = PolicyDoc { name, mode: convert_mode(*mode), rules, residency, limits };
    refuse_oversize(&mut report, &Document::Policy(document.clone()));
    Checked { report, document, scope }
}

pub(crate) fn convert_mode(mode: clawlock_crds::Mode) -> Mode {
    match mode {
        clawlock_crds::Mode::Enforce => Mode::Enforce,
        clawlock_crds::Mode::Audit => Mode::Audit,
    }
}

fn convert_on_deny(on_deny: Option<clawlock_crds::OnDeny>) -> OnDeny {
    match on_deny {
        None | Some(clawlock_crds::OnDeny::Continue) => OnDeny::Continue,
        Some(clawlock_crds::OnDeny::Halt) => OnDeny::Halt,
    }
}

fn convert_tier(tier: clawlock_crds::Tier) -> Tier {
    match tier {
        clawlock_crds::Tier::Auto => Tier::Auto,
        clawlock_crds::Tier::Ask => Tier::Ask,
        clawlock_crds::Tier::Block => Tier::Block,
    }
}
