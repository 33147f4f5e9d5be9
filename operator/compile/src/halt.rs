//! `AgentHalt` to document.

use clawlock_crds::bounds::{MAX_FULL_NAME, MAX_REASON, MAX_UID};
use clawlock_crds::{AgentHalt, AgentHaltSpec, AgentSelector, HaltCause, HaltCauseType, HaltDenial};
use clawlock_policy::document::{CauseDoc, HaltDoc};

use crate::problem::{Kind, Problem, Report};
use crate::selector::{self, Scope};
use crate::text::{is_dns_label, is_dns_subdomain, quoted};

/// Checks one halt.
///
/// # Errors
/// All mistakes in it.
pub fn check_halt(halt: &AgentHalt) -> Result<HaltDoc, Vec<Problem>> {
    let Checked { report, document, scope: _ } = check(halt);
    report.finish(Some(document))
}

/// A halt after its check. It holds also if the report has errors: a person wants agents to stop, and a
/// slip of the pen must not keep them going.
pub(crate) struct Checked {
    pub(crate) report: Report,
    pub(crate) document: HaltDoc,
    pub(crate) scope: Scope,
}

pub(crate) fn check(halt: &AgentHalt) -> Checked {
    let mut report = Report::about(Kind::AgentHalt, &halt.metadata);
    let AgentHaltSpec { agent_selector, reason, pod_uid, cause } = &halt.spec;
    let selected = selector::check(&mut report, selector::PATH, agent_selector);
    // With a mistake in it, whoever the selector selects is stopped.
    let pod = pod_uid.as_ref().and_then(|uid| check_pod(&mut report, uid, agent_selector));
    let scope = pod.map_or(selected, Scope::Pod);
    if cause.is_some() && pod_uid.is_none() {
        report.error("spec.cause", "a gate stops one pod, and podUID says which; people write a reason and no cause");
    }
    let cause = cause.as_ref().and_then(|cause| convert_cause(&mut report, cause));
    if reason.trim().is_empty() {
        report.error("spec.reason", "there is no reason; write one line for the people who read the denial");
    } else if reason.chars().count() > MAX_REASON {
        report.error("spec.reason", format!("longer than {MAX_REASON} characters; shorten it"));
    } else if reason.chars().any(char::is_control) {
        report.error("spec.reason", "a line break or control character; write one line of text");
    }
    let document = HaltDoc { name: report.object().full_name(), reason: one_line(reason), cause };
    Checked { report, document, scope }
}

fn check_pod(report: &mut Report, uid: &str, selector: &AgentSelector) -> Option<String> {
    if *selector != AgentSelector::default() {
        report.error("spec.podUID", "agentSelector selects by labels as well; write {} there, or remove podUID");
        return None;
    }
    if uid.len() > MAX_UID || !is_dns_label(uid) {
        report.error("spec.podUID", format!("{} is no UID of a pod; it is in the pod's metadata.uid", quoted(uid)));
        return None;
    }
    Some(uid.to_owned())
}

fn convert_cause(report: &mut Report, cause: &HaltCause) -> Option<CauseDoc> {
    let HaltCause { kind, denial } = cause;
    match (kind, denial) {
        (HaltCauseType::Disobedience, None) => Some(CauseDoc::Disobedience {}),
        (HaltCauseType::Denial, Some(HaltDenial { policy, rule })) => {
            let parts = policy.split_once('/').filter(|_| policy.len() <= MAX_FULL_NAME);
            if !parts.is_some_and(|(namespace, name)| is_dns_label(namespace) && is_dns_subdomain(name)) {
                let message = format!("{} is no policy; write it as namespace/name", quoted(policy));
                report.error("spec.cause.denial.policy", message);
                return None;
            }
            if !is_dns_label(rule) {
                report.error("spec.cause.denial.rule", format!("{} is no name of a rule", quoted(rule)));
                return None;
            }
            Some(CauseDoc::Denial { policy: policy.clone(), rule: rule.clone() })
        }
        (HaltCauseType::Denial, None) | (HaltCauseType::Disobedience, Some(_)) => {
            report.error("spec.cause.denial", "type Denial, and only it, needs denial");
            None
        }
    }
}

/// A text as one line of bounded length, as denials repeat it.
pub(crate) fn one_line(text: &str) -> String {
    let line: String =
        text.chars().take(MAX_REASON).map(|character| if character.is_control() { ' ' } else { character }).collect();
    let line = line.trim();
    if line.is_empty() { "no reason is given".to_owned() } else { line.to_owned() }
}
