//! `AgentHalt` to document.

use clawlock_crds::bounds::MAX_REASON;
use clawlock_crds::{AgentHalt, AgentHaltSpec};
use clawlock_policy::document::HaltDoc;

use crate::problem::{Kind, Problem, Report};
use crate::selector::{self, Scope};

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
    let AgentHaltSpec { agent_selector, reason } = &halt.spec;
    let scope = selector::check(&mut report, selector::PATH, agent_selector);
    if reason.trim().is_empty() {
        report.error("spec.reason", "there is no reason; write one line for the people who read the denial");
    } else if reason.chars().count() > MAX_REASON {
        report.error("spec.reason", format!("longer than {MAX_REASON} characters; shorten it"));
    } else if reason.chars().any(char::is_control) {
        report.error("spec.reason", "a line break or control character; write one line of text");
    }
    let document = HaltDoc { name: report.object().full_name(), reason: one_line(reason) };
    Checked { report, document, scope }
}

/// A text as one line of bounded length, as denials repeat it.
pub(crate) fn one_line(text: &str) -> String {
    let line: String =
        text.chars().take(MAX_REASON).map(|character| if character.is_control() { ' ' } else { character }).collect();
    let line = line.trim();
    if line.is_empty() { "no reason is given".to_owned() } else { line.to_owned() }
}
