//! What agents did, each action once.

use std::collections::BTreeMap;

use crate::log::{LoggedAction, is_cut};
use crate::replay::Agent;
use clawlock_policy::RequestPath;
use clawlock_policy::pattern::{OperationPattern, PathPattern, ToolPattern};

/// Most different actions: bounds memory, and nobody reviews more.
const MAX_ACTIONS: usize = 50_000;

/// What agents did.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) agents: BTreeMap<Agent, Actions>,
    /// How many records were refused: nothing is proposed for them.
    pub(super) refused: u64,
    /// How many lines are no records.
    pub(super) other_lines: u64,
    actions: usize,
}

/// What one agent did, how many times.
#[derive(Debug, Default)]
pub(super) struct Actions {
    pub(super) tools: BTreeMap<String, u64>,
    /// By `upstream.operation`.
    pub(super) operations: BTreeMap<String, u64>,
    /// Requests that are no named operation: by upstream and method, the patterns of their paths.
    pub(super) requests: BTreeMap<(String, String), BTreeMap<String, u64>>,
    /// What no rule can name alone, and why.
    pub(super) left_out: BTreeMap<(String, &'static str), u64>,
}

impl Seen {
    /// Adds an action that was allowed.
    ///
    /// # Errors
    /// When there are more than a person could review.
    pub(super) fn add(&mut self, agent: Agent, action: LoggedAction) -> Result<(), String> {
        if self.agents.entry(agent).or_default().add(action) {
            self.actions += 1;
        }
        if self.actions > MAX_ACTIONS {
            return Err(format!(
                "more than {MAX_ACTIONS} different actions; choose an agent with --agent, or declare operations in the \
                 Upstreams, so that their paths count as one"
            ));
        }
        Ok(())
    }
}

impl Actions {
    /// Counts an action. Says whether it is new.
    fn add(&mut self, action: LoggedAction) -> bool {
        let count = match placed(&action) {
            Ok(Place::Tool(tool)) => self.tools.entry(tool).or_default(),
            Ok(Place::Operation(operation)) => self.operations.entry(operation).or_default(),
            Ok(Place::Request { upstream, method, path }) => {
                self.requests.entry((upstream, method)).or_default().entry(path).or_default()
            }
            Err(why) => self.left_out.entry((action.words(), why)).or_default(),
        };
        *count += 1;
        *count == 1
    }
}

/// Where an action stands in a rule.
enum Place {
    Tool(String),
    Operation(String),
    Request { upstream: String, method: String, path: String },
}

const CUT: &str = "it is not in the log as a whole";
const STAR: &str = "a '*' in it would stand for more than itself";
const UNNAMED: &str = "no rule can name it";

/// Where an action stands in a rule that is about nothing else.
fn placed(action: &LoggedAction) -> Result<Place, &'static str> {
    match action {
        LoggedAction::Other => Err("this program does not know its kind"),
        LoggedAction::Tool { tool } => {
            literal(tool)?;
            ToolPattern::parse(tool).map_err(|_| UNNAMED)?;
            Ok(Place::Tool(tool.clone()))
        }
        LoggedAction::Http { upstream: Some(_), operation: Some(operation), .. } => {
            literal(operation)?;
            OperationPattern::parse(operation).map_err(|_| UNNAMED)?;
            Ok(Place::Operation(operation.clone()))
        }
        LoggedAction::Http { upstream: Some(upstream), operation: None, method, target: _, path } => {
            [method, path].into_iter().try_for_each(|field| if is_cut(field) { Err(CUT) } else { Ok(()) })?;
            if !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
                return Err("rules name methods in upper case");
            }
            let path = pattern(path)?;
            Ok(Place::Request { upstream: upstream.clone(), method: method.clone(), path })
        }
        LoggedAction::Http { upstream: None, .. } => Err("no Upstream declares it"),
    }
}

fn literal(text: &str) -> Result<(), &'static str> {
    if text.contains('*') {
        return Err(STAR);
    }
    if is_cut(text) { Err(CUT) } else { Ok(()) }
}

/// The pattern that matches this path alone: patterns are written decoded.
fn pattern(path: &str) -> Result<String, &'static str> {
    let path = RequestPath::parse(path).map_err(|_| "no gate would take its path")?;
    let mut pattern = String::new();
    for segment in path.segments() {
        if segment.has_slash {
            return Err("its path has an encoded slash, which only '**' matches");
        }
        pattern.push('/');
        pattern.push_str(&segment.text);
    }
    if pattern.contains('*') {
        return Err(STAR);
    }
    let segments: Vec<_> = path.segments().collect();
    match PathPattern::parse(&pattern) {
        Ok(parsed) if parsed.matches(&segments) => Ok(pattern),
        Ok(_) | Err(_) => Err(UNNAMED),
    }
}
