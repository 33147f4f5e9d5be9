//! What of the ledger outlives the process: one line per call, the last one of a call counts.

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Key};
use super::{CALLS, Ledger};

/// One call, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    #[serde(rename = "k")]
    key: Key,
    #[serde(rename = "c")]
    entry: Entry,
    // A model asked for it, or it is from before: it is among those that `CALLS` counts.
    #[serde(default, rename = "m", skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
}

impl Ledger {
    /// What has changed since the last time.
    pub fn changes(&mut self) -> Vec<Line> {
        let keys = std::mem::take(&mut self.changed);
        keys.into_iter().filter_map(|key| self.line(key)).collect()
    }

    /// All of it, the least recently used first.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let line = |asked| move |(key, entry): (&Key, &Entry)| Line { key: key.clone(), entry: entry.clone(), asked };
        self.decided_only.iter().rev().map(line(false)).chain(self.calls.iter().rev().map(line(true))).collect()
    }

    /// Takes a line back.
    pub fn restore(&mut self, line: Line) {
        let Line { key, entry, asked } = line;
        if asked {
            self.decided_only.pop(&key);
            self.inherited += usize::from(!entry.is_of_here() && !self.calls.contains(&key));
            self.insert(key, entry);
            // What else there was is not known any more.
            self.forgot |= self.is_full();
        } else {
            self.decided_only.put(key, entry);
        }
    }

    /// Calls that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len() + self.decided_only.len()
    }

    /// Whether no call is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no more calls fit without one being forgotten.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.calls.len() == CALLS.get()
    }

    fn line(&self, key: Key) -> Option<Line> {
        let (entry, asked) = match self.calls.peek(&key) {
            Some(entry) => (entry, true),
            None => (self.decided_only.peek(&key)?, false),
        };
        Some(Line { entry: entry.clone(), asked, key })
    }
}
