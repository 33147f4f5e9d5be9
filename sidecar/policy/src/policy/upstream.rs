//! Upstreams: where they are, their operations, and the rules about them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::index::{List, join};
use super::paths::{PathIndex, TemplateIndex};
use super::{Group, Rule, RuleId};
use crate::HostName;
use crate::document::{ArgumentDoc, ArgumentType, Category, CredentialDoc, Protocol, Scheme};
use crate::path::Segment;
use crate::pattern::{HostPattern, PathPattern, PathTemplate};

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name.
    pub name: Arc<str>,
    /// Digest of its document.
    pub digest: Arc<str>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Scheme.
    pub scheme: Scheme,
    /// Hosts; patterns only without a credential.
    pub hosts: Vec<HostPattern>,
    /// Port.
    pub port: u16,
    /// Networks beyond public addresses that may be dialled.
    pub allowed_cidrs: Vec<IpNet>,
    /// PEM bundle that replaces the public roots.
    pub ca_pem: Option<Arc<str>>,
    /// The credential's place.
    pub credential: CredentialDoc,
    /// Where it keeps data.
    pub residency: Option<Arc<str>>,
    /// Names of the arguments that its operations declare, sorted.
    pub arguments: Vec<Arc<str>>,
}

impl Upstream {
    /// Whether a host is one of its.
    #[must_use]
    pub fn has_host(&self, host: &HostName) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

/// A named operation.
#[derive(Debug)]
pub(crate) struct Operation {
    /// `upstream.operation`.
    pub(crate) name: Arc<str>,
    /// The name within the upstream.
    pub(crate) short: Box<str>,
    pub(crate) template: PathTemplate,
    /// Its own category, or else that of its upstream.
    pub(crate) category: Option<Category>,
    /// Declared arguments, sorted by name.
    pub(crate) declared: Vec<(Arc<str>, ArgumentType)>,
    /// The same, as the document has them.
    pub(super) arguments: Vec<ArgumentDoc>,
    /// The rules that name it, and those about its category.
    pub(super) rules: List,
}

/// An upstream with its operations and the HTTP rules about it.
#[derive(Debug)]
pub(super) struct UpstreamIndex {
    pub(super) upstream: Arc<Upstream>,
    /// The category of requests that are no operation.
    pub(super) category: Option<Category>,
    /// The rules about the category of requests that are no operation.
    pub(super) unnamed: List,
    pub(super) operations: Vec<Operation>,
    pub(super) templates: HashMap<Box<str>, TemplateIndex>,
    /// Rules about every method.
    any_method: PathIndex,
    by_method: HashMap<Box<str>, PathIndex>,
}

impl UpstreamIndex {
    pub(super) fn new(upstream: Arc<Upstream>, category: Option<Category>) -> Self {
        Self {
            upstream,
            category,
            unnamed: List::default(),
            operations: Vec::new(),
            templates: HashMap::new(),
            any_method: PathIndex::default(),
            by_method: HashMap::new(),
        }
    }

    /// Adds a rule about a category: to all that is of it, and to all of which nobody knows.
    pub(super) fn insert_category(&mut self, category: Category, id: RuleId, rule: &Rule, group: &Group) {
        let all = self.operations.iter_mut().map(|operation| (operation.category, &mut operation.rules));
        for (own, list) in all.chain([(self.category, &mut self.unnamed)]) {
            list.push_category(category, own, id, rule, group);
        }
    }

    /// Adds a rule about every request.
    pub(super) fn insert_all(&mut self, id: RuleId, rule: &Rule, group: &Group) {
        self.any_method.insert_all(id, rule, group);
    }

    /// Adds an HTTP rule: one entry per method and path pattern.
    pub(super) fn insert(&mut self, methods: &[String], paths: &[PathPattern], id: RuleId, rule: &Rule, group: &Group) {
        let insert = |index: &mut PathIndex| {
            if paths.is_empty() {
                index.insert_all(id, rule, group);
            }
            for path in paths {
                index.insert(path, id, rule, group);
            }
        };
        if methods.is_empty() {
            insert(&mut self.any_method);
        }
        for method in methods {
            insert(self.by_method.entry(method.as_str().into()).or_default());
        }
    }

    /// Whether anything depends on the path of a request with this method.
    pub(super) fn looks_at_paths(&self, method: &str) -> bool {
        self.any_method.has_patterns()
            || self.templates.contains_key(method)
            || self.by_method.get(method).is_some_and(PathIndex::has_patterns)
    }

    pub(super) fn operation(&self, method: &str, segments: &[Segment<'_>]) -> Option<&Operation> {
        self.templates.get(method)?.find(segments).and_then(|place| self.operations.get(place))
    }

    pub(super) fn candidates<'a>(
        &'a self,
        method: &str,
        segments: &[Segment<'_>],
        named: &'a [RuleId],
    ) -> Cow<'a, [RuleId]> {
        let mut lists = vec![named];
        self.any_method.find(segments, &mut lists);
        if let Some(index) = self.by_method.get(method) {
            index.find(segments, &mut lists);
        }
        join(&lists)
    }
}

/// Which upstream a (scheme, host, port) belongs to.
#[derive(Debug, Default)]
pub(super) struct Reach(BTreeMap<(Scheme, u16), Hosts>);

#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<Box<str>, usize>,
    patterns: Vec<(HostPattern, usize)>,
}

impl Reach {
    /// Adds a host of an upstream, or says which other upstream already has it.
    pub(super) fn insert(&mut self, scheme: Scheme, host: &HostPattern, port: u16, place: usize) -> Result<(), usize> {
        let hosts = self.0.entry((scheme, port)).or_default();
        let taken = if host.is_exact() {
            hosts.exact.get(host.as_str()).copied()
        } else {
            let overlapping = hosts.exact.iter().find(|(exact, other)| {
                **other != place && HostPattern::parse(exact).is_ok_and(|exact| exact.overlaps(host))
            });
            overlapping.map(|(_, other)| *other)
        };
        let pattern = hosts.patterns.iter().find(|(known, other)| *other != place && known.overlaps(host));
        if let Some(other) = taken.or(pattern.map(|(_, other)| *other)).filter(|other| *other != place) {
            return Err(other);
        }
        if host.is_exact() {
            hosts.exact.insert(host.as_str().into(), place);
        } else {
            hosts.patterns.push((host.clone(), place));
        }
        Ok(())
    }

    pub(super) fn find(&self, scheme: Scheme, host: &HostName, port: u16) -> Option<usize> {
        let hosts = self.0.get(&(scheme, port))?;
        let pattern = || hosts.patterns.iter().find(|(pattern, _)| pattern.matches(host)).map(|(_, place)| *place);
        hosts.exact.get(host.as_str()).copied().or_else(pattern)
    }
}
