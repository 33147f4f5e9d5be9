//! A policy that can decide: the documents of one pod, parsed again and indexed.
//!
//! Whoever holds a [`Policy`] holds only text that was understood: every host, pattern, template and
//! condition was parsed by [`Policy::build`], and one that did not parse refused the whole set. The
//! indexes find the rules that are about an action without looking at the others; what those rules say
//! is weighed in [`decide`](crate::decide).

mod build;
mod index;
mod paths;
mod upstream;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::condition::{Condition, Typing};
use crate::document::{Category, Mode, Scheme, Tier};
use crate::limit::{Limit, Residency};
use crate::manifest::Manifest;
use crate::path::Segment;
use crate::pattern::{OperationPattern, PathPattern, ToolPattern};
use crate::schedule::Schedule;
use crate::{Action, Caller, Facts, HostName, HttpAction, RuleRef, category};
pub use build::{MAX_DOCUMENTS, MAX_NAME, MAX_PATTERNS, MAX_RULES, UNTRUSTED};
use index::ToolIndex;
pub use upstream::Upstream;
use upstream::{Operation, Reach, UpstreamIndex};

/// Why documents are no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}{}: {reason}", rule.as_ref().map(|rule| format!(", rule {rule}")).unwrap_or_default())]
pub struct BuildError {
    /// The object, for example `policy acme/support`.
    pub object: String,
    /// The rule, when it is about one.
    pub rule: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// Everything that holds for one pod, ready to decide.
#[derive(Debug)]
pub struct Policy {
    caller: Arc<Caller>,
    generation: u64,
    issued_at_ms: u64,
    not_after_ms: u64,
    plugin_optional: Option<Arc<str>>,
    /// Halts by name.
    halts: Vec<Halt>,
    manifest: Option<Manifest>,
    /// From when on audit mode does not count any more; `None`: it never does.
    audit_until_ms: Option<u64>,
    /// All rules: policies by name, their rules in order, then the guardrails.
    rules: Vec<Rule>,
    /// Which rules belong together, in the order of `rules`.
    groups: Vec<Group>,
    limits: Vec<Limit>,
    /// The schedules of all rules, each once.
    schedules: Vec<Arc<Schedule>>,
    tools: ToolIndex,
    /// The categories of tools that are not OpenClaw's own.
    tool_categories: Vec<(ToolPattern, Category)>,
    upstreams: Vec<Arc<Upstream>>,
    by_name: HashMap<Arc<str>, UpstreamIndex>,
    reach: Reach,
    reads_headers: bool,
    /// Whether a rule halts.
    may_halt: bool,
}

/// An `AgentHalt`.
#[derive(Debug)]
pub(crate) struct Halt {
    pub(crate) name: String,
    pub(crate) reason: String,
    pub(crate) cause: Option<Cause>,
}

/// What a gate halted a pod for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This rule refused something, and says that it halts. Once an `AgentHalt` says so, the digest is that of its
    /// document.
    Denial(RuleRef),
    /// The agent did what was never decided, or was blocked.
    Disobedience,
}

/// The rules of one policy, or the guardrails.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    /// `None`: guardrails, which always count and are all weighed.
    pub(crate) mode: Option<Mode>,
    pub(crate) rules: std::ops::Range<RuleId>,
}

/// Place of a rule in [`Policy::rules`]. Places ascend with the order in which rules are weighed.
pub(crate) type RuleId = u32;

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) reference: RuleRef,
    pub(crate) group: usize,
    pub(crate) matches: Match,
    pub(crate) when: Option<Condition>,
    pub(crate) schedule: Option<Arc<Schedule>>,
    pub(crate) tier: Tier,
    /// Whether what it refuses halts the pod.
    pub(crate) halts: bool,
}

/// What a rule is about. Decisions go through the indexes; explanations look here.
#[derive(Debug)]
pub(crate) enum Match {
    Tools(Vec<ToolPattern>),
    Operations(Vec<OperationPattern>),
    Http {
        upstreams: Vec<String>,
        methods: Vec<String>,
        paths: Vec<PathPattern>,
    },
    Category(Category),
    /// Requests to upstreams that keep data elsewhere: what a policy's residency becomes.
    OutsideOf(Residency),
}

/// An action as far as the indexes know it.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) operation: Option<&'a Operation>,
    /// What is known to be its category. Without one, rules about categories cannot be answered.
    pub(crate) category: Option<Category>,
    /// Where its upstream keeps data.
    pub(crate) residency: Option<&'a str>,
    /// The path's segments; empty when nothing needs them.
    pub(crate) segments: Vec<Segment<'a>>,
    /// The rules that are about the action, ascending.
    pub(crate) candidates: Cow<'a, [RuleId]>,
}

impl<'a> Found<'a> {
    /// What its operation declares.
    pub(crate) fn typing(&'a self) -> Typing<'a> {
        match self.operation {
            Some(operation) => {
                Typing { template: Some(&operation.template), segments: &self.segments, declared: &operation.declared }
            }
            None => Typing::default(),
        }
    }
}

impl Policy {
    /// The caller that the assignment names.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Name of the tenant.
    #[must_use]
    pub fn tenant(&self) -> &Arc<str> {
        &self.caller.tenant
    }

    /// Generation of the assignment.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the assignment was signed, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn issued_at_ms(&self) -> u64 {
        self.issued_at_ms
    }

    /// From when on everything is denied, in milliseconds since the Unix epoch.
    /// [`decide`](crate::decide) does not look at it: the holder of the policy does, with trusted time.
    #[must_use]
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }

    /// Name of the entry of `agents.pluginOptional` by which the agent reaches language models without a guard
    /// plugin. [`decide`](crate::decide) does not look at it: the agent gate does, which hears the plugin.
    #[must_use]
    pub fn plugin_optional(&self) -> Option<&str> {
        self.plugin_optional.as_deref()
    }

    /// From when on audit mode does not count any more, in milliseconds since the Unix epoch; `None`:
    /// it never does.
    #[must_use]
    pub fn audit_until_ms(&self) -> Option<u64> {
        self.audit_until_ms
    }

    /// Which of the schedules of its rules are open at a time. When that changes, what was allowed must be decided
    /// again.
    #[must_use]
    pub fn open_schedules(&self, now_ms: u64) -> Vec<bool> {
        self.schedules.iter().map(|schedule| schedule.is_open(now_ms) == Some(true)).collect()
    }

    /// The upstream of a scheme, host and port.
    #[must_use]
    pub fn upstream(&self, scheme: Scheme, host: &HostName, port: u16) -> Option<&Arc<Upstream>> {
        self.reach.find(scheme, host, port).and_then(|place| self.upstreams.get(place))
    }

    /// The upstream of a name.
    #[must_use]
    pub fn upstream_named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name).map(|index| &index.upstream)
    }

    /// All upstreams, by name.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.iter()
    }

    /// Whether a condition reads `request.headers`.
    #[must_use]
    pub fn reads_headers(&self) -> bool {
        self.reads_headers
    }

    /// The operation that a request is, as `upstream.operation`.
    #[must_use]
    pub fn operation(&self, action: &HttpAction<'_>) -> Option<&Arc<str>> {
        let index = self.by_name.get(action.upstream)?;
        let segments: Vec<Segment<'_>> = action.path.segments().collect();
        index.operation(action.method, &segments).map(|operation| &operation.name)
    }

    /// Whether the request's body must be read to decide: a rule that could still match, given the
    /// facts without the body, reads `args`.
    #[must_use]
    pub fn needs_body(&self, facts: &Facts<'_>) -> bool {
        crate::decide::needs_body(self, facts)
    }

    /// Looks an action up. `None`: its upstream is not declared, or not with that host and port.
    pub(crate) fn find<'a>(&'a self, action: &'a Action<'a>) -> Option<Found<'a>> {
        let http = match action {
            Action::Tool(tool) => {
                let category = self.tool_category(tool.name);
                let candidates = self.tools.find(tool.name, category);
                return Some(Found { operation: None, category, residency: None, segments: Vec::new(), candidates });
            }
            Action::Http(http) => http,
        };
        let index = self.by_name.get(http.upstream)?;
        if index.upstream.port != http.port || !index.upstream.has_host(http.host) {
            return None;
        }
        let segments: Vec<Segment<'a>> =
            if index.looks_at_paths(http.method) { http.path.segments().collect() } else { Vec::new() };
        let operation = index.operation(http.method, &segments);
        let (category, named) = match operation {
            Some(operation) => (operation.category, operation.rules.as_slice()),
            None => (index.category, index.unnamed.as_slice()),
        };
        let candidates = index.candidates(http.method, &segments, named);
        let residency = index.upstream.residency.as_deref();
        Some(Found { operation, category, residency, segments, candidates })
    }

    /// The category of a tool: that of OpenClaw's own, or else the one that the tenant's entries agree on.
    fn tool_category(&self, name: &str) -> Option<Category> {
        if let Some(category) = category::of_tool(name) {
            return Some(category);
        }
        let mut stated =
            self.tool_categories.iter().filter(|(tools, _)| tools.matches(name)).map(|(_, category)| *category);
        let first = stated.next()?;
        stated.all(|category| category == first).then_some(first)
    }

    pub(crate) fn halts(&self) -> &[Halt] {
        &self.halts
    }

    /// Whether an `AgentHalt` that a gate asked for stops the pod: until that one is deleted, no gate need remember by
    /// itself that it halted the pod.
    #[must_use]
    pub fn is_halted_by_gate(&self) -> bool {
        self.halts.iter().any(|halt| halt.cause.is_some())
    }

    /// What the agent did, when an `AgentHalt` stops the pod because it disobeyed.
    #[must_use]
    pub fn disobeyed(&self) -> Option<&str> {
        let halt = self.halts.iter().find(|halt| halt.cause == Some(Cause::Disobedience))?;
        Some(&halt.reason)
    }

    pub(crate) fn may_halt(&self) -> bool {
        self.may_halt
    }

    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(usize::try_from(id).ok()?)
    }

    pub(crate) fn all_limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Whether a group, by its place, counts as enforced at a time.
    pub(crate) fn is_enforced(&self, group: usize, now_ms: u64) -> bool {
        self.groups.get(group).is_none_or(|group| self.mode_at(group, now_ms) == Mode::Enforce)
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The mode in which a group counts at a time; guardrails count as `Enforce`.
    pub(crate) fn mode_at(&self, group: &Group, now_ms: u64) -> Mode {
        let audit = self.audit_until_ms.is_some_and(|until| now_ms < until);
        if group.mode == Some(Mode::Audit) && audit { Mode::Audit } else { Mode::Enforce }
    }
}
