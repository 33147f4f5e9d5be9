//! From a YAML document to one typed object. Strict: what the cluster would not read as it was meant is
//! refused here too (duplicate and unknown keys, unquoted values that are no text, tags, merge keys).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use clawlock_compile::{Kind, ObjectRef};
use clawlock_crds::{API_VERSION, AgentHalt, AgentPolicy, GROUP, TenantGateway, Upstream};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_saphyr::{DefaultMessageFormatter, MergeKeyPolicy, MessageFormatter as _, Options};

use super::schema;
use super::tree::{Document, MAX_NESTING, MAX_NODES, Mark, Node};
use crate::problem::Fix;
use crate::suggest::nearest;

/// Most values that aliases may add: a written file has no need for more than a few.
const MAX_ALIASED: usize = 10_000;

/// An object and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Which object it is.
    pub(crate) id: ObjectId,
    /// What it says.
    pub(crate) resource: Resource,
    /// Where it stands.
    pub(crate) source: Arc<Source>,
}

/// Where an object stands.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) file: PathBuf,
    /// The places of its fields.
    pub(crate) root: Node,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectId {
    /// Its kind, as in YAML.
    pub(crate) kind: &'static str,
    /// Its namespace; empty when it has none.
    pub(crate) namespace: String,
    /// Its name; empty when it has none.
    pub(crate) name: String,
}

impl ObjectId {
    fn new(kind: &'static str, metadata: &ObjectMeta) -> Self {
        Self {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl From<&ObjectRef> for ObjectId {
    fn from(object: &ObjectRef) -> Self {
        let ObjectRef { kind, namespace, name } = object;
        Self { kind: kind.as_str(), namespace: namespace.clone(), name: name.clone() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A typed object.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    /// A tenant.
    Gateway(Box<TenantGateway>),
    /// A place that agents may reach.
    Upstream(Box<Upstream>),
    /// What agents may do.
    Policy(Box<AgentPolicy>),
    /// Who is stopped.
    Halt(Box<AgentHalt>),
    /// Certificate authorities.
    ConfigMap(Box<ConfigMap>),
}

/// A mistake in a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where in the file.
    pub(crate) at: Mark,
    /// Where in the object, when it is known.
    pub(crate) path: Option<String>,
    /// What.
    pub(crate) reason: String,
    /// What to write instead, where that can be guessed.
    pub(crate) fix: Option<Fix>,
}

/// Keys that an object has at its top.
const OBJECT_KEYS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
/// Keys that a ConfigMap has at its top.
const CONFIG_MAP_KEYS: &[&str] = &["apiVersion", "kind", "metadata", "data", "binaryData", "immutable"];
/// Keys of the metadata of an object. The typed reader skips others, and a skipped `lables` selects.
const METADATA_KEYS: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Reads one document; `None` when it is empty.
///
/// # Errors
/// All mistakes of its outline, or of its structure, or the first of its values.
pub(crate) fn read(document: &Document<'_>) -> Result<Option<(ObjectId, Resource)>, Vec<Mistake>> {
    let root = &document.root;
    if matches!(root, Node::Scalar(_, text) if text.is_empty()) {
        return Ok(None);
    }
    if root.entries().is_none() {
        return Err(vec![mistake(root.at(), "not an object; write apiVersion, kind, metadata and spec".to_owned())]);
    }
    let kind = kind(root).map_err(|mistake| vec![mistake])?;
    let mut mistakes = Vec::new();
    let keys = if kind == "ConfigMap" { CONFIG_MAP_KEYS } else { OBJECT_KEYS };
    check_keys(root, "", keys, &mut mistakes);
    match root.get("metadata") {
        None => mistakes.push(mistake(root.at(), "there is no metadata; write metadata: {name, namespace}".to_owned())),
        Some(entry) if entry.value.entries().is_none() => {
            mistakes.push(mistake(entry.at, "metadata must be written out as a map".to_owned()));
        }
        Some(entry) => check_keys(&entry.value, "metadata.", METADATA_KEYS, &mut mistakes),
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mistakes = schema::check(root, kind);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let resource = match kind {
        "TenantGateway" => typed(document).map(Box::new).map(Resource::Gateway),
        "Upstream" => typed(document).map(Box::new).map(Resource::Upstream),
        "AgentPolicy" => typed(document).map(Box::new).map(Resource::Policy),
        "AgentHalt" => typed(document).map(Box::new).map(Resource::Halt),
        _ => typed(document).map(Box::new).map(Resource::ConfigMap),
    };
    let resource = resource.map_err(|mistake| vec![mistake])?;
    Ok(Some((ObjectId::new(kind, resource.metadata()), resource)))
}

impl Resource {
    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Gateway(object) => &object.metadata,
            Self::Upstream(object) => &object.metadata,
            Self::Policy(object) => &object.metadata,
            Self::Halt(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
        }
    }
}

/// The kind, when it is one of ours or a ConfigMap.
fn kind(root: &Node) -> Result<&'static str, Mistake> {
    const KINDS: [Kind; 4] = [Kind::TenantGateway, Kind::Upstream, Kind::AgentPolicy, Kind::AgentHalt];
    let field = |key: &str| match root.get(key) {
        Some(entry) => match entry.value.text() {
            Some(text) if !text.is_empty() => Ok((entry.value.at(), text)),
            _ => Err(mistake(entry.at, format!("{key} must be written out as text"))),
        },
        None => Err(mistake(root.at(), format!("there is no {key}; write {key}: {}", example(key)))),
    };
    let (version_at, version) = field("apiVersion")?;
    let (kind_at, kind) = field("kind")?;
    if version == "v1" && kind == "ConfigMap" {
        return Ok("ConfigMap");
    }
    if version == "v1" && kind == "Secret" {
        let reason = "credentials do not belong beside the policies; remove the Secret and pass \
                      --secret NAME/KEY=file:PATH or --secret NAME/KEY=env:VAR";
        return Err(mistake(kind_at, reason.to_owned()));
    }
    let known = KINDS.iter().map(|known| known.as_str()).find(|known| *known == kind);
    match (version == API_VERSION, known) {
        (true, Some(kind)) => Ok(kind),
        (true, None) => {
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.as_str()).collect();
            let reason = format!("kind {kind:?} is not one of {}; correct it", names.join(", "));
            Err(misspelt(kind_at, kind, names, reason))
        }
        (false, _) if version.split('/').next() == Some(GROUP) => {
            Err(mistake(version_at, format!("apiVersion {version:?} is not known; this program reads {API_VERSION}")))
        }
        (false, _) => {
            let reason = format!(
                "{kind:?} of {version:?} is not read here, only the kinds of {API_VERSION} and ConfigMap of v1; \
                 keep other objects in another folder"
            );
            Err(mistake(kind_at, reason))
        }
    }
}

fn example(key: &str) -> &'static str {
    if key == "kind" { "AgentPolicy" } else { API_VERSION }
}

fn check_keys(node: &Node, prefix: &str, known: &[&str], mistakes: &mut Vec<Mistake>) {
    for entry in node.entries().unwrap_or_default() {
        match entry.key.as_deref() {
            Some(key) if known.contains(&key) => {}
            Some(key) => {
                let reason = format!("unknown field {prefix}{key:?}; known here: {}", known.join(", "));
                mistakes.push(misspelt(entry.at, key, known.iter().copied(), reason));
            }
            None => mistakes.push(mistake(entry.at, "a key that is not text; write a field's name".to_owned())),
        }
    }
}

fn mistake(at: Mark, reason: String) -> Mistake {
    Mistake { at, path: None, reason, fix: None }
}

/// A mistake in a word of which the right ones are known.
fn misspelt<'a>(at: Mark, text: &str, known: impl IntoIterator<Item = &'a str>, reason: String) -> Mistake {
    let fix = nearest(text, known).map(|with| Fix { replace: text.to_owned(), with: with.to_owned() });
    Mistake { at, path: None, reason, fix }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: MAX_NESTING,
            max_nodes: MAX_NODES,
            flow_nesting_limit: MAX_NESTING,
            max_merge_keys: 0,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
        },
        merge_keys: MergeKeyPolicy::Error,
        // What is a number or truth value to the cluster's reader must not be text here.
        no_schema: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// Reads a document as a type, strictly.
///
/// # Errors
/// The first mistake.
pub(super) fn typed<T: DeserializeOwned>(document: &Document<'_>) -> Result<T, Mistake> {
    serde_saphyr::from_str_with_options(document.text, options()).map_err(|error| {
        let place = error.location().and_then(|location| {
            let line = usize::try_from(location.line()).ok()?.checked_add(document.lines_before)?;
            Some(Mark { line, column: usize::try_from(location.column()).ok()? })
        });
        let at = place.filter(|at| at.line > document.lines_before && at.column > 0);
        let reason = DefaultMessageFormatter.format_message(&error).into_owned();
        let at = at.unwrap_or_else(|| document.root.at());
        Mistake { at, path: document.root.path_of(at), reason, fix: None }
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn mistakes(text: &str) -> Vec<Mistake> {
        let documents = tree::parse(text).unwrap();
        read(&documents[0]).unwrap_err()
    }

    const HALT: &str = "apiVersion: clawlock.dev/v1alpha1\nkind: AgentHalt\nmetadata: {name: a, namespace: b}\n";

    #[test]
    fn an_object_is_read() {
        let text = format!("{HALT}spec: {{agentSelector: {{}}, reason: stop}}\nstatus: {{}}\n");
        let documents = tree::parse(&text).unwrap();
        let (id, resource) = read(&documents[0]).unwrap().unwrap();
        assert_eq!(id.to_string(), "AgentHalt b/a");
        let Resource::Halt(halt) = resource else { panic!("{resource:?}") };
        assert_eq!(halt.spec.reason, "stop");
    }

    #[test]
    fn empty_documents_are_nothing() {
        for text in ["---\n", "# only a comment\n---\n"] {
            let documents = tree::parse(text).unwrap();
            assert!(documents.iter().all(|document| read(document).unwrap().is_none()), "{text:?}");
        }
    }

    #[test]
    fn fields_that_are_wrong_are_placed() {
        for (spec, line, column, reason) in [
            ("spec:\n  agentSelector: {}\n  reson: x\n", 6, 3, "reson"),
            ("spec:\n  agentSelector: {}\n", 5, 3, "reason"),
            ("spec:\n  agentSelector: {}\n  reason: 12\n", 6, 11, ""),
            ("spec:\n  agentSelector: []\n  reason: x\n", 5, 3, "expected a map"),
            ("spec:\n  agentSelector: {}\n  reason: x\n  reason: y\n", 7, 3, "duplicate"),
            ("spec: {agentSelector: {}, reason: x}\nspecc: {}\n", 5, 1, "specc"),
            ("spec:\n  <<: {reason: x}\n  agentSelector: {}\n", 5, 3, "merge"),
        ] {
            let found = mistakes(&format!("{HALT}{spec}"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].at.line, line, "{spec:?}: {found:?}");
            assert_eq!(found[0].at.column, column, "{spec:?}: {found:?}");
            assert!(found[0].reason.contains(reason), "{spec:?}: {found:?}");
        }
    }

    #[test]
    fn places_count_from_the_file_and_not_from_the_document() {
        let text = format!("# first\n---\n---\n{HALT}spec:\n  agentSelector: {{}}\n  reson: x\n");
        let documents = tree::parse(&text).unwrap();
        let found = read(documents.last().unwrap()).unwrap_err();
        assert_eq!(found[0].at, Mark { line: 9, column: 3 });
    }

    #[test]
    fn other_kinds_are_refused_with_what_to_do() {
        for (version, kind, hint) in [
            ("v1", "Secret", "--secret NAME/KEY=file:PATH"),
            ("apps/v1", "Deployment", "another folder"),
            ("clawlock.dev/v1", "AgentPolicy", "clawlock.dev/v1alpha1"),
            ("clawlock.dev/v1alpha1", "AgentPolcy", "AgentPolicy"),
        ] {
            let found = mistakes(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n"));
            assert!(found[0].reason.contains(hint), "{found:?}");
        }
        assert!(mistakes("kind: AgentPolicy\n")[0].reason.contains("apiVersion"));
        assert!(mistakes("- a\n")[0].reason.contains("not an object"));
    }

    #[test]
    fn misspelt_metadata_is_refused() {
        let text = "apiVersion: clawlock.dev/v1alpha1\nkind: AgentHalt\nmetadata:\n  name: a\n  namspace: b\n";
        let found = mistakes(text);
        assert_eq!(found[0].at, Mark { line: 5, column: 3 });
        assert!(found[0].reason.contains("namspace"));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text =
            format!("{HALT}spec:\n  agentSelector:\n    matchLabels:\n      a0: &a0 [x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let above = level - 1;
            text.push_str(&format!(
                "      a{level}: &a{level} [*a{above}, *a{above}, *a{above}, *a{above}, *a{above}]\n"
            ));
        }
        text.push_str("  reason: x\n");
        assert_eq!(mistakes(&text).len(), 1);
    }
}
