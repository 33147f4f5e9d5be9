//! What is wrong with an object, in words for the person who wrote it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::text::{is_dns_label, is_dns_subdomain, quoted};

/// Most problems that are told of one object: more are not read, and a message has to stay bounded.
const MAX_PROBLEMS: usize = 100;

/// Kinds of objects that problems are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A tenant.
    TenantGateway,
    /// A place that agents may reach.
    Upstream,
    /// What agents may do.
    AgentPolicy,
    /// Who is stopped.
    AgentHalt,
}

impl Kind {
    /// The kind as it stands in YAML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantGateway => "TenantGateway",
            Self::Upstream => "Upstream",
            Self::AgentPolicy => "AgentPolicy",
            Self::AgentHalt => "AgentHalt",
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty where it has none, which is a problem.
    pub namespace: String,
    /// Its name; empty where it has none, which is a problem.
    pub name: String,
}

impl ObjectRef {
    /// The object that has this metadata.
    #[must_use]
    pub fn new(kind: Kind, metadata: &ObjectMeta) -> Self {
        Self {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// `namespace/name`, as documents name it.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from files that nobody checked yet; quotes keep line breaks out of the output.
        let plain = |text: &str| if is_dns_subdomain(text) { text.to_owned() } else { quoted(text) };
        write!(f, "{} {}/{}", self.kind.as_str(), plain(&self.namespace), plain(&self.name))
    }
}

/// What a problem does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object does not hold, which denies.
    Error,
    /// The object holds, but probably does not say what was meant.
    Warning,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// What the object says itself.
    Content,
    /// Another object that it names, which is not there or is wrong. Admission warns of it and never
    /// refuses, so that the order in which objects are applied does not matter.
    Reference,
}

/// A problem of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: ObjectRef,
    /// Where in it, for example `spec.rules[3].when`.
    pub path: String,
    /// What is wrong, why, and what to do.
    pub message: String,
    /// What it does to the object.
    pub severity: Severity,
    /// What it is about.
    pub topic: Topic,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, path, message, severity: _, topic: _ } = self;
        write!(f, "{object}, {path}: {message}")
    }
}

/// Sorts problems by object and path (numbers by value), and removes what is told twice.
pub(crate) fn sort(problems: &mut Vec<Problem>) {
    problems.sort_by_cached_key(|problem| {
        let Problem { object, path, message, severity, topic } = problem;
        (object.clone(), natural(path), message.clone(), *severity, *topic)
    });
    problems.dedup();
}

/// A path whose numbers are padded, so that `rules[2]` comes before `rules[10]`.
fn natural(path: &str) -> String {
    let mut key = String::with_capacity(path.len() + 8);
    let mut digits = String::new();
    // Every number of a path is followed by a bracket, so none is left over at its end.
    for character in path.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>8}"));
            digits.clear();
        }
        key.push(character);
    }
    key
}

/// Collects the problems of one object.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    object: ObjectRef,
    problems: Vec<Problem>,
    errors: usize,
}

impl Report {
    pub(crate) fn new(object: ObjectRef) -> Self {
        Self { object, problems: Vec::new(), errors: 0 }
    }

    /// A report on an object whose name and namespace are checked first.
    pub(crate) fn about(kind: Kind, metadata: &ObjectMeta) -> Self {
        let mut report = Self::new(ObjectRef::new(kind, metadata));
        let ObjectRef { namespace, name, .. } = report.object.clone();
        if !is_dns_label(&namespace) {
            report.error(
                "metadata.namespace",
                format!("{} is no name of a namespace; write a DNS label such as acme", quoted(&namespace)),
            );
        }
        // Upstreams are named in `upstream.operation`, so that their names have no dot. A tenant's name is a
        // label of pods and a part of the DNS names of its gateway.
        let (valid, wanted) = match kind {
            Kind::TenantGateway => (is_dns_label(&name), "a DNS label without dots such as acme"),
            Kind::Upstream => (is_dns_label(&name), "a DNS label without dots such as stripe"),
            _ => (is_dns_subdomain(&name), "a DNS name such as support"),
        };
        if !valid {
            report.error("metadata.name", format!("{} is no valid name; write {wanted}", quoted(&name)));
        }
        report
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    pub(crate) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path.into(), message.into(), Severity::Error, Topic::Content);
    }

    pub(crate) fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path.into(), message.into(), Severity::Warning, Topic::Content);
    }

    /// Another object that is needed is not there, or is wrong: this one does not hold.
    pub(crate) fn broken_reference(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path.into(), message.into(), Severity::Error, Topic::Reference);
    }

    /// Another object that is named is not there, or is wrong: this one holds nevertheless.
    pub(crate) fn missing_reference(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path.into(), message.into(), Severity::Warning, Topic::Reference);
    }

    fn push(&mut self, path: String, message: String, severity: Severity, topic: Topic) {
        self.errors += usize::from(severity == Severity::Error);
        // The first error is told in any case: it is what makes the object invalid.
        if self.problems.len() >= MAX_PROBLEMS && !(severity == Severity::Error && self.errors == 1) {
            return;
        }
        self.problems.push(Problem { object: self.object.clone(), path, message, severity, topic });
    }

    pub(crate) fn is_invalid(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there were so far, told or not.
    pub(crate) fn error_count(&self) -> usize {
        self.errors
    }

    /// The first error in the order of the object's fields.
    pub(crate) fn first_error(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.severity == Severity::Error)
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The value, unless something is wrong with it.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if !self.is_invalid() => Ok(value),
            _ => Err(self.problems),
        }
    }
}
