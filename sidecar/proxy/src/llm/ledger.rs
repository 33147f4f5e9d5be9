//! Which tool calls models asked for, what was decided about them, and whether the results that come back
//! fit: the proof that the agent obeys `/v1/decide`.
//!
//! A call that was allowed may come back with any result. One that was blocked must come back as its
//! denial, one that was never decided must not come back at all; either may come back as one of the
//! agent's own notices that the tool did not run. What cannot be known (a session from before this pod)
//! is taken over within bounds, but only in front of everything that is known: a conversation is written
//! in order, and since the ledger began every model's answer was read here.

mod entry;
mod record;

use std::collections::HashMap;
use std::num::NonZeroUsize;

use lru::LruCache;

use super::notices::{is_error_document, is_notice};
use super::{Asked, Call, Said, ToolResult};
use entry::{Entry, Key};

pub use record::Line;

/// Calls of models that are remembered. A session of a day has some hundred; the least recently used go first,
/// and every request of a session uses all that it still has.
pub const CALLS: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// Decided calls that no model asked for here, that are remembered: calls made through the agent's own
/// interfaces, or by a model in the pod. Apart, so that asking for decisions pushes no model's call out.
pub const DECIDED_ONLY: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Results of calls from before this ledger that are taken over: the sessions of a pod that was there before.
pub const INHERITED: usize = 4096;

/// What a call through OpenClaw's `tool_call` may say when the tool behind it did not run, in bytes.
pub const WRAPPER_TEXT: usize = 1024;

/// How OpenClaw names calls that a call made: `tool_search_code:PARENT:TOOL:N`.
const INNER: &str = "tool_search_code:";

/// The tool that calls one other tool, named in its arguments.
const WRAPPER: &str = "tool_call";

/// A tool call that was decided.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// The id that the agent says it has.
    pub call_id: &'a str,
    /// The tool's name.
    pub tool: &'a str,
    /// The arguments, as JSON.
    pub arguments: &'a str,
    /// Why not: the sentence that the model gets to read. `None`: allowed.
    pub denial: Option<&'a str>,
}

/// Why a request must not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// The agent did not do what was decided.
    #[error("{0}")]
    Disobeyed(String),
    /// It cannot be told.
    #[error("{0}")]
    Unknown(String),
}

/// How a result was found to be in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// Its call was allowed.
    Allowed,
    /// Its call was blocked, and it is the denial.
    Denial,
    /// The tool did not run, says the agent, and nothing more.
    Notice,
    /// It is from before this ledger.
    Inherited,
}

/// One request, while it is read.
#[derive(Debug, Default)]
pub struct Conversation {
    /// Something in it is known: what follows must be, too.
    known: bool,
    /// Calls of its history whose ids are not known: an agent rewrites ids that a provider would refuse.
    renamed: HashMap<Key, (Box<str>, [u8; 16])>,
}

/// What is known of a pod's calls.
#[derive(Debug)]
pub struct Ledger {
    calls: LruCache<Key, Entry>,
    decided_only: LruCache<Key, Entry>,
    inherited: usize,
    /// A call that was not allowed had to be forgotten: what is not known may be it.
    forgot: bool,
    // Calls of which something new is known that must outlive the process.
    changed: Vec<Key>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (calls, decided_only) = (LruCache::new(CALLS), LruCache::new(DECIDED_ONLY));
        Self { calls, decided_only, inherited: 0, forgot: false, changed: Vec::new() }
    }
}

impl Ledger {
    /// A model asks for calls.
    pub fn asked(&mut self, asked: &Asked) {
        match asked {
            Asked::Begun { id, name } => {
                let key = Key::of(id);
                match self.calls.get_mut(&key) {
                    Some(entry) => entry.begin(name),
                    None => {
                        let mut entry = self.decided_only.pop(&key).unwrap_or_default();
                        entry.begin(name);
                        self.insert(key.clone(), entry);
                    }
                }
                self.changed.push(key);
            }
            Asked::Whole { id, arguments } => {
                if let Some(entry) = self.calls.get_mut(&Key::of(id)) {
                    entry.whole(arguments.clone());
                }
            }
        }
    }

    /// A call was decided.
    pub fn decided(&mut self, decided: Decided<'_>) {
        let (key, inner) = match decided.call_id.strip_prefix(INNER).and_then(|rest| rest.rsplitn(3, ':').nth(2)) {
            Some(parent) => (self.parent(parent), true),
            None => (Key::of(decided.call_id), false),
        };
        let entry = match self.calls.get_mut(&key) {
            Some(entry) => entry,
            None => self.decided_only.get_or_insert_mut(key.clone(), Entry::default),
        };
        entry.decide(decided, inner);
        self.changed.push(key);
    }

    /// Reads on in a request. Answers how a result fits.
    ///
    /// # Errors
    /// When the request must not pass.
    pub fn said(&mut self, conversation: &mut Conversation, said: &Said) -> Result<Option<Fits>, Objection> {
        match said {
            Said::Call(call) => {
                self.in_history(conversation, call);
                Ok(None)
            }
            Said::Result(result) => self.result(conversation, result).map(Some),
        }
    }

    fn in_history(&mut self, conversation: &mut Conversation, call: &Call) {
        let key = Key::of(&call.id);
        if let Some(entry) = self.find(&key) {
            conversation.known |= entry.is_of_here();
        } else if let Some(arguments) = &call.arguments {
            conversation.renamed.insert(key, (call.name.as_str().into(), arguments.canonical()));
        }
    }

    fn result(&mut self, conversation: &mut Conversation, result: &ToolResult) -> Result<Fits, Objection> {
        let key = Key::of(&result.id);
        let renamed = conversation.renamed.get(&key);
        if let Some(entry) = self.find(&key) {
            conversation.known |= entry.is_of_here();
            return entry.judge(result);
        }
        let same = |entry: &&Entry| renamed.is_some_and(|(name, arguments)| entry.is_call(name, arguments));
        if let Some(entry) = self.calls.iter().map(|(_, entry)| entry).find(same) {
            conversation.known = true;
            return entry.judge(result);
        }
        let name = renamed.map(|(name, _)| &**name);
        if result.text.as_deref().is_some_and(|text| is_notice(text, name, None)) {
            return Ok(Fits::Notice);
        }
        if conversation.known {
            return Err(Objection::Disobeyed(format!(
                "the result of call {} follows calls that are known, but no model asked for it and it was never decided",
                entry::shown(&result.id)
            )));
        }
        if self.forgot || self.inherited == INHERITED {
            return Err(Objection::Unknown(format!(
                "the result of call {} is of a session that is older than what this gate remembers",
                entry::shown(&result.id)
            )));
        }
        self.inherited += 1;
        self.insert(key.clone(), Entry::inherited());
        self.changed.push(key);
        Ok(Fits::Inherited)
    }

    fn find(&mut self, key: &Key) -> Option<&Entry> {
        match self.calls.get(key) {
            Some(entry) => Some(entry),
            None => self.decided_only.get(key),
        }
    }

    /// The call that an inner call's id names as its parent. Some characters of it were replaced.
    fn parent(&self, written: &str) -> Key {
        let key = Key::of(written);
        if self.calls.contains(&key) {
            return key;
        }
        let parent = self.calls.iter().map(|(known, _)| known).find(|known| known.begins(&key));
        parent.cloned().unwrap_or(key)
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        if let Some((evicted, entry)) = self.calls.push(key.clone(), entry)
            && evicted != key
        {
            self.forgot |= !entry.may_be_forgotten();
        }
    }
}
