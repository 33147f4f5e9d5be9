//! Reads the log of decisions: one JSON document per line, as `clawlock-audit` writes it. A log is megabytes to gigabytes
//! long, so it is never held; every line is bounded. Lines that are no records (a program's other output, half a line
//! after a full disk) are counted, never guessed at.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use clawlock_audit::record::{MAX_FIELD, RECORD_VERSION};
use serde::{Deserialize, Serialize};

use crate::output::Progress;

/// Longest line in bytes: a record has eight texts of at most [`MAX_FIELD`] bytes, each six times as long when every
/// character is escaped, and an identity of 2 KiB.
const MAX_LINE: usize = 64 * 1024;

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// It may happen.
    Allow,
    /// A person is asked.
    Ask,
    /// It may not happen.
    Deny,
}

impl Verdict {
    /// The word in files and outputs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// A record. Fields that a later version adds are skipped: they say more about a decision, not something else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Logged {
    version: u32,
    /// Trusted time of the decision in milliseconds since the Unix epoch.
    pub(crate) time_ms: u64,
    /// Identifies the request.
    pub(crate) request_id: String,
    /// The gate that decided: `agent` or `gateway`.
    pub(crate) gate: String,
    /// Name of the tenant; empty when the caller had no assignment.
    pub(crate) tenant: String,
    /// SPIFFE ID of the caller; empty when unknown.
    pub(crate) workload: String,
    /// What was decided on.
    pub(crate) action: LoggedAction,
    /// What was decided.
    pub(crate) outcome: LoggedOutcome,
}

/// What was decided on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum LoggedAction {
    /// A call of a tool; its arguments are not in the log.
    Tool {
        /// The tool's name.
        tool: String,
    },
    /// A request; its query, headers and body are not in the log.
    Http {
        /// The upstream's name, when it was one.
        #[serde(default)]
        upstream: Option<String>,
        /// The operation's name, when the upstream names one for it.
        #[serde(default)]
        operation: Option<String>,
        /// The method.
        method: String,
        /// `scheme://host:port`.
        target: String,
        /// The path.
        path: String,
    },
    /// Of a kind that this program does not know.
    #[serde(other)]
    Other,
}

impl LoggedAction {
    /// In words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Tool { tool } => format!("tool {tool}"),
            Self::Http { method, target, path, .. } => format!("{method} {target}{path}"),
            Self::Other => "an action of another kind".to_owned(),
        }
    }
}

/// Whether a field may have been cut when it was written: at most three bytes of a character are left off.
pub(crate) fn is_cut(field: &str) -> bool {
    field.len() + 3 >= MAX_FIELD
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoggedOutcome {
    /// The verdict.
    pub(crate) verdict: Verdict,
    /// Why not.
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// Under audit mode: why it would have been refused.
    #[serde(default)]
    pub(crate) shadow: Option<String>,
    /// Under audit mode: the policy by which it would have been refused.
    #[serde(default)]
    pub(crate) shadow_policy: Option<String>,
    /// The rule of that policy.
    #[serde(default)]
    pub(crate) shadow_rule: Option<String>,
    /// The policy that decided.
    #[serde(default)]
    pub(crate) policy: Option<String>,
    /// The rule that decided.
    #[serde(default)]
    pub(crate) rule: Option<String>,
    /// Digest of the policy's document.
    #[serde(default)]
    pub(crate) digest: Option<String>,
    /// Generation of the assignment.
    pub(crate) generation: u64,
}

/// A line of a log.
#[derive(Debug)]
pub(crate) enum Line {
    /// A record.
    Record(Box<Logged>),
    /// Something else, or a record of a version that this program does not know.
    Other,
}

/// A log that is being read.
pub(crate) struct Log {
    reader: Box<dyn BufRead + Send>,
    name: String,
    line: Vec<u8>,
    progress: Progress,
}

impl Log {
    /// Opens a file, or the standard input for `-`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        if name == "-" {
            return Ok(Self::new(BufReader::with_capacity(BUFFER, io::stdin()), "standard input"));
        }
        let file = File::open(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
        Ok(Self::new(BufReader::with_capacity(BUFFER, file), &name))
    }

    /// Reads from anywhere.
    pub(crate) fn new(reader: impl BufRead + Send + 'static, name: &str) -> Self {
        Self { reader: Box::new(reader), name: name.to_owned(), line: Vec::new(), progress: Progress::default() }
    }

    /// The next line; `None` at the end. Empty lines are skipped.
    ///
    /// # Errors
    /// When reading fails.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, String> {
        loop {
            self.line.clear();
            let bound = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
            let read = (&mut self.reader).take(bound).read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| self.failed(&error))?;
            if read == 0 {
                return Ok(None);
            }
            self.progress.step();
            if read == MAX_LINE && self.line.last() != Some(&b'\n') {
                self.skip_line()?;
                return Ok(Some(Line::Other));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(parse(&self.line)));
            }
        }
    }

    /// The line that was read last, as it stands there.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.line.trim_ascii()).into_owned()
    }

    /// Goes behind the end of a line without keeping it.
    fn skip_line(&mut self) -> Result<(), String> {
        loop {
            let available = self.reader.fill_buf().map_err(|error| format!("{}: {error}", self.name))?;
            let end = available.iter().position(|byte| *byte == b'\n');
            let (length, ended) = (available.len(), available.is_empty() || end.is_some());
            self.reader.consume(end.map_or(length, |end| end + 1));
            if ended {
                return Ok(());
            }
        }
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{} cannot be read: {error}", self.name)
    }
}

/// Reads one line.
pub(crate) fn parse(line: &[u8]) -> Line {
    match serde_json::from_slice::<Logged>(line) {
        Ok(logged) if logged.version == RECORD_VERSION => Line::Record(Box::new(logged)),
        Ok(_) | Err(_) => Line::Other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clawlock_audit::{ActionRecord, Gate, Latency, Outcome, Record};
    use clawlock_policy::Code;

    /// A record as the gates write it.
    pub(crate) fn record(action: ActionRecord) -> Record {
        Record {
            version: RECORD_VERSION,
            time_ms: 1_795_000_000_000,
            request_id: "0a1b-7".into(),
            gate: Gate::Gateway,
            tenant: "acme".into(),
            workload: "spiffe://acme.example/ns/acme/sa/default/pod/1".into(),
            action,
            outcome: Outcome {
                verdict: "deny",
                code: Some(Code::NoMatch),
                shadow: None,
                shadow_policy: None,
                shadow_rule: None,
                policy: None,
                rule: None,
                digest: None,
                generation: 3,
            },
            latency_us: Latency::default(),
        }
    }

    #[test]
    fn what_the_gates_write_is_read() {
        let http = ActionRecord::Http {
            upstream: Some("payments".into()),
            operation: None,
            method: "GET".to_owned(),
            target: "https://api.payments.example:443".to_owned(),
            path: "/v1/\u{1b}\"charges".to_owned(),
        };
        let mut text = String::new();
        for action in [http, ActionRecord::Tool { tool: "exec".to_owned(), call_id: None }] {
            text += &format!("{}\n", serde_json::to_string(&record(action)).unwrap());
        }
        let mut log = Log::new(io::Cursor::new(text.into_bytes()), "test");
        let Some(Line::Record(first)) = log.next().unwrap() else { panic!("no record") };
        assert_eq!(first.action.words(), "GET https://api.payments.example:443/v1/\u{1b}\"charges");
        assert_eq!((first.outcome.verdict, first.outcome.code.as_deref()), (Verdict::Deny, Some("NoMatch")));
        let Some(Line::Record(second)) = log.next().unwrap() else { panic!("no record") };
        assert_eq!(second.action, LoggedAction::Tool { tool: "exec".to_owned() });
        assert!(log.next().unwrap().is_none());
    }

    #[test]
    fn other_lines_are_told_apart_and_long_ones_are_not_kept() {
        let good = serde_json::to_string(&record(ActionRecord::Tool { tool: "a".to_owned(), call_id: None })).unwrap();
        let newer = good.replace("\"version\":1", "\"version\":99");
        let more =
            good.replace("{\"type\":\"tool\"", "{\"type\":\"sql\"").replace("\"version\":1", "\"version\":1,\"x\":{}");
        let long = "x".repeat(MAX_LINE * 5);
        let text = format!("{long}\n\n{}\n{newer}\n{good}\n[{{\n{more}\n{long}", &good[..40]);
        let mut log = Log::new(BufReader::with_capacity(100, io::Cursor::new(text.into_bytes())), "test");
        let mut kinds = String::new();
        while let Some(line) = log.next().unwrap() {
            kinds.push(match line {
                Line::Record(record) if record.action == LoggedAction::Other => 'o',
                Line::Record(_) => 'r',
                Line::Other => '-',
            });
        }
        assert_eq!(kinds, "---r-o-");
        assert!(log.line.capacity() <= 2 * MAX_LINE);
    }
}
