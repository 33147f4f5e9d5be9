//! One tool call: what was asked, what was decided, and which results fit.

use serde::{Deserialize, Serialize};

use super::{Decided, Fits, Objection, WRAPPER, WRAPPER_TEXT, is_error_document, is_notice};
use crate::llm::{Arguments, ToolResult};

/// How much of an id is compared: OpenClaw cuts longer ones there, and replaces all that is no letter or digit.
const KEY: usize = 40;

/// Shortest beginning of an id that is taken for the id.
const KEY_BEGINNING: usize = 8;

/// Denials of one call that are kept: it may be decided by two hooks, with other arguments each.
const DENIALS: usize = 4;

/// Longest denial that is kept in bytes. The gate's sentences are shorter.
const DENIAL: usize = 4096;

/// Longest name or id that a message repeats.
const SHOWN: usize = 64;

/// An id in the one form that survives the agent: letters and digits, up to the separator behind which
/// OpenClaw keeps an id of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Key(Box<str>);

impl Key {
    pub(super) fn of(id: &str) -> Self {
        let own = id.split('|').next().unwrap_or_default();
        let key: String = own.chars().filter(char::is_ascii_alphanumeric).take(KEY).collect();
        // Of an id without any such character the whole of it counts.
        Self(if key.is_empty() { id.chars().take(KEY).collect() } else { key.into() })
    }

    /// Whether the other one may be this one with something behind.
    pub(super) fn begins(&self, other: &Self) -> bool {
        self.0.len() >= KEY_BEGINNING && other.0.starts_with(&*self.0)
    }
}

/// Decisions about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decisions {
    #[serde(default, rename = "a", skip_serializing_if = "std::ops::Not::not")]
    allowed: bool,
    // The sentences, trimmed. One denial counts more than any number of permissions.
    #[serde(default, rename = "d", skip_serializing_if = "Vec::is_empty")]
    denials: Vec<Box<str>>,
}

impl Decisions {
    fn add(&mut self, denial: Option<&str>) {
        match denial.map(str::trim) {
            None => self.allowed = true,
            Some(denial) => {
                let denial = denial.get(..DENIAL).unwrap_or(denial);
                if self.denials.len() < DENIALS && !self.denials.iter().any(|known| **known == *denial) {
                    self.denials.push(denial.into());
                }
            }
        }
    }

    fn allow(&self) -> bool {
        self.allowed && self.denials.is_empty()
    }
}

/// One call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    // As the model named it; `None` while no model has asked for it.
    #[serde(default, rename = "n", skip_serializing_if = "Option::is_none")]
    name: Option<Box<str>>,
    // The tool as which it was decided before a model was heard to ask for it.
    #[serde(default, rename = "t", skip_serializing_if = "Option::is_none")]
    tool: Option<Box<str>>,
    // The arguments are still being streamed.
    #[serde(skip)]
    open: bool,
    #[serde(skip)]
    arguments: Option<Arguments>,
    // The arguments of the first decision, which sees those of the model.
    #[serde(skip)]
    decided_arguments: Option<Arguments>,
    #[serde(default, rename = "v")]
    decisions: Decisions,
    // Decisions about calls that this one made.
    #[serde(default, rename = "i")]
    inner: Decisions,
    // What was decided when the same id was used before: some model servers count from 0 in every answer.
    #[serde(default, rename = "e")]
    earlier: Decisions,
    // It is from before the ledger.
    #[serde(default, rename = "o", skip_serializing_if = "std::ops::Not::not")]
    old: bool,
}

impl Entry {
    pub(super) fn inherited() -> Self {
        Self { old: true, ..Self::default() }
    }

    /// A model asks for it.
    pub(super) fn begin(&mut self, name: &str) {
        // The items of one answer are said more than once.
        if self.open && self.name.as_deref() == Some(name) {
            return;
        }
        if self.name.is_some() && self.decisions != Decisions::default() {
            let Decisions { allowed, denials } = std::mem::take(&mut self.decisions);
            self.earlier.allowed |= allowed && denials.is_empty();
            denials.iter().for_each(|denial| self.earlier.add(Some(denial)));
            (self.inner, self.decided_arguments) = (Decisions::default(), None);
        }
        if self.tool.take().is_some_and(|tool| !is_same_tool(name, &tool)) {
            self.decisions.allowed = false;
        }
        (self.name, self.open, self.arguments, self.old) = (Some(name.into()), true, None, false);
    }

    /// The model has said all of it.
    pub(super) fn whole(&mut self, arguments: Option<Arguments>) {
        let again = !std::mem::take(&mut self.open) && self.arguments != arguments;
        // Two calls of one answer under one id: there is nothing to compare with.
        self.arguments = arguments.filter(|_| !again);
    }

    pub(super) fn decide(&mut self, decided: Decided<'_>, inner: bool) {
        self.old = false;
        if inner {
            return self.inner.add(decided.denial);
        }
        // Decided as another tool: about this call nothing was decided.
        match self.name.as_deref() {
            Some(name) if decided.denial.is_none() && !is_same_tool(name, decided.tool) => return,
            Some(_) => {}
            None => self.tool = Some(decided.tool.into()),
        }
        if self.decided_arguments.is_none() {
            self.decided_arguments = Arguments::parse(decided.arguments);
        }
        self.decisions.add(decided.denial);
    }

    /// Whether it is known what happened to it.
    pub(super) fn is_of_here(&self) -> bool {
        !self.old
    }

    /// Whether nothing is lost when it is forgotten.
    pub(super) fn may_be_forgotten(&self) -> bool {
        self.old || self.decisions.allow()
    }

    /// Whether it is the call of this name and these arguments.
    pub(super) fn is_call(&self, name: &str, arguments: &[u8; 16]) -> bool {
        self.name.as_deref() == Some(name)
            && self.arguments.as_ref().is_some_and(|known| known.canonical() == *arguments)
    }

    /// Whether a result may stand in a request.
    pub(super) fn judge(&self, result: &ToolResult) -> Result<Fits, Objection> {
        if self.old {
            return Ok(Fits::Inherited);
        }
        if self.open {
            let detail = format!("the model is still asking for call {} that has a result already", shown(&result.id));
            return Err(Objection::Unknown(detail));
        }
        let text = result.text.as_deref();
        let same_arguments = match (&self.decided_arguments, &self.arguments) {
            (Some(decided), Some(asked)) => decided.are_among(asked),
            // Not known, or no JSON, which an agent may have mended.
            _ => true,
        };
        if (self.decisions.allow() && same_arguments && self.wrapped_fits(text)) || self.earlier.allowed {
            return Ok(Fits::Allowed);
        }
        let denials = self.decisions.denials.iter().chain(&self.earlier.denials);
        if text.is_some_and(|text| denials.clone().any(|denial| **denial == *text.trim())) {
            return Ok(Fits::Denial);
        }
        if text.is_some_and(|text| is_notice(text, self.name.as_deref(), self.arguments.as_ref())) {
            return Ok(Fits::Notice);
        }
        Err(self.objection(result, denials.count() > 0, same_arguments))
    }

    /// A call of `tool_call` is as good as the call that it made.
    fn wrapped_fits(&self, text: Option<&str>) -> bool {
        if self.name.as_deref() != Some(WRAPPER) || self.inner.allow() {
            return true;
        }
        let Some(text) = text else { return false };
        match self.inner.denials.as_slice() {
            // The agent knows no such tool, or its arguments were wrong.
            [] => text.len() <= WRAPPER_TEXT,
            denials => denials.iter().any(|denial| {
                // As it is, or within a document.
                let quoted = serde_json::Value::from(&**denial).to_string();
                let written = text.contains(&**denial) || text.contains(quoted.trim_matches('"'));
                written && text.len() <= quoted.len() + WRAPPER_TEXT
            }),
        }
    }

    /// Agents tidy arguments up in ways that are not all known here, and have errors of their own: where it may be one
    /// of these, the request is refused, and nobody is halted for it.
    fn objection(&self, result: &ToolResult, blocked: bool, same_arguments: bool) -> Objection {
        let (tool, id) = (shown(self.name.as_deref().unwrap_or("?")), shown(&result.id));
        let call = format!("call {id} of tool {tool}");
        if blocked {
            Objection::Disobeyed(format!("{call} was blocked, but what came back is not the denial"))
        } else if self.decisions.allowed && !same_arguments {
            Objection::Unknown(format!("{call} was decided with arguments that the model did not ask for"))
        } else if self.decisions.allowed && self.inner.denials.is_empty() {
            Objection::Unknown(format!("{call} has a result, but the call that it made was never decided"))
        } else if self.decisions.allowed {
            Objection::Disobeyed(format!("{call} made a call that was blocked, but what came back is not the denial"))
        } else if result.text.as_deref().is_some_and(|text| is_error_document(text, self.name.as_deref())) {
            Objection::Unknown(format!("{call} failed, but was never decided"))
        } else {
            Objection::Disobeyed(format!("{call} has a result, but was never decided"))
        }
    }
}

/// Names are the same to OpenClaw without their case, and some tools have an older one.
fn is_same_tool(asked: &str, decided: &str) -> bool {
    let canonical = |name: &str| match name.trim().to_lowercase() {
        name if name == "bash" => "exec".to_owned(),
        name if name == "apply-patch" => "apply_patch".to_owned(),
        name if name == "cron" => "automations".to_owned(),
        name => name,
    };
    canonical(asked) == canonical(decided)
}

/// A name or id for a message: quoted, without control characters, shortened.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    format!("{short:?}")
}
