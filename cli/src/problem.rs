//! A mistake in a file, with its place, as `lint` and `dev` print it.

use std::fmt;
use std::path::{Path, PathBuf};

use clawlock_compile::Severity;
use serde::Serialize;

use crate::folder::Mark;

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    /// The file, as it was named or found.
    pub(crate) file: PathBuf,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The column in characters, from 1.
    pub(crate) column: usize,
    /// What it does: an error keeps the object from holding.
    pub(crate) severity: Level,
    /// The object, for example `AgentPolicy acme/support`, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    /// The place in the object, for example `spec.rules[3].when`, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// What is wrong, why, and what to do.
    pub(crate) message: String,
    /// What to write instead, where that can be guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<Fix>,
}

/// What to write instead of a text that stands at the place of a problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fix {
    /// What is there.
    pub(crate) replace: String,
    /// What was probably meant.
    pub(crate) with: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Level {
    /// The object does not hold, which denies.
    Error,
    /// The object holds, but probably does not say what was meant.
    Warning,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
        }
    }
}

impl Level {
    /// The word in the output.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Problem {
    /// An error of a file as such.
    pub(crate) fn in_file(file: &Path, at: Mark, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            severity: Level::Error,
            object: None,
            path: None,
            message: message.into(),
            fix: None,
        }
    }

    /// Whether it keeps its object from holding.
    pub(crate) fn is_error(&self) -> bool {
        self.severity == Level::Error
    }

    /// `FILE:LINE:COLUMN`.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}:{}", plain(&self.file.display().to_string()), self.line, self.column)
    }

    /// What and where in the object, without the place in the file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for part in [&self.object, &self.path].into_iter().flatten() {
            text.push_str(part);
            text.push_str(": ");
        }
        text.push_str(&self.message);
        if let Some(Fix { replace: _, with }) = &self.fix {
            text.push_str(&format!("; did you mean {with:?}?"));
        }
        plain(&text)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place(), self.severity.as_str(), self.text())
    }
}

/// A foreign text on one line, with nothing in it that a terminal obeys.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Control characters, and those that reorder or break a line on a terminal.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class16_a_problem_is_one_harmless_line() {
        let mut problem = Problem::in_file(Path::new("a\n\u{1b}[31m.yaml"), Mark::START, "x\r\n\u{202e}y");
        problem.path = Some("spec.rules[0].when".to_owned());
        assert_eq!(problem.to_string(), "a\\n\\u{1b}[31m.yaml:1:1: error: spec.rules[0].when: x\\r\\n\\u{202e}y");
    }
}
