//! Checks of an agent selector.

use clawlock_crds::bounds::{MAX_SELECTOR_TERMS, MAX_SELECTOR_VALUES};
use clawlock_crds::{AgentSelector, Operator, Requirement};

use crate::problem::Report;
use crate::text::{is_label_key, is_label_value, quoted};

/// Where policies and halts have their selector.
pub(crate) const PATH: &str = "spec.agentSelector";

/// Which pods something is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Those that the selector selects.
    Selected(AgentSelector),
    /// The pod with this UID.
    Pod(String),
    /// All, because the selector is a mistake and what it was meant to select is unknown.
    All,
}

impl Scope {
    pub(crate) fn has(&self, uid: &str, labels: &std::collections::BTreeMap<String, String>) -> bool {
        match self {
            Self::Selected(selector) => selector.matches(labels),
            Self::Pod(pod) => pod == uid,
            Self::All => true,
        }
    }

    /// A label that whoever is selected has.
    pub(crate) fn needed_label(&self) -> Option<(&str, &str)> {
        match self {
            Self::Selected(selector) => selector.match_labels.iter().next().map(|(key, value)| (&**key, &**value)),
            Self::Pod(_) | Self::All => None,
        }
    }
}

/// Checks a selector; a wrong one selects everything, which callers use only to deny.
pub(crate) fn check(report: &mut Report, path: &str, selector: &AgentSelector) -> Scope {
    let before = report.error_count();
    let AgentSelector { match_labels, match_expressions } = selector;
    if match_labels.len() > MAX_SELECTOR_TERMS || match_expressions.len() > MAX_SELECTOR_TERMS {
        report.error(path, format!("more than {MAX_SELECTOR_TERMS} labels or expressions; use fewer labels"));
        return Scope::All;
    }
    for (key, value) in match_labels {
        let path = format!("{path}.matchLabels");
        check_key(report, &path, key);
        check_value(report, &path, value);
    }
    for (index, requirement) in match_expressions.iter().enumerate() {
        check_requirement(report, &format!("{path}.matchExpressions[{index}]"), requirement);
    }
    if report.error_count() > before { Scope::All } else { Scope::Selected(selector.clone()) }
}

fn check_requirement(report: &mut Report, path: &str, requirement: &Requirement) {
    let Requirement { key, operator, values } = requirement;
    check_key(report, &format!("{path}.key"), key);
    let path = format!("{path}.values");
    if values.len() > MAX_SELECTOR_VALUES {
        report.error(path, format!("{} values; at most {MAX_SELECTOR_VALUES} are allowed", values.len()));
        return;
    }
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            report.error(&*path, "In and NotIn need values; write at least one");
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            report.error(&*path, "Exists and DoesNotExist take no values; remove them, or use In or NotIn");
        }
        _ => {}
    }
    for (index, value) in values.iter().enumerate() {
        check_value(report, &format!("{path}[{index}]"), value);
    }
}

fn check_key(report: &mut Report, path: &str, key: &str) {
    if !is_label_key(key) {
        report.error(path, format!("{} is no label's key; write one such as app or example.com/app", quoted(key)));
    }
}

fn check_value(report: &mut Report, path: &str, value: &str) {
    if !is_label_value(value) {
        report.error(
            path,
            format!("{} is no label's value: at most 63 letters, digits, '-', '_' and '.'", quoted(value)),
        );
    }
}
