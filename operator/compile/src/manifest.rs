//! Tool binding manifests (`manifest.json`, `claw.toml`): what a skill or an agent declares that it needs.
//!
//! One reader for everyone: pods that name a manifest, `clawlock dev --manifest` and `clawlock import`. It reads strictly
//! and takes every key at its word: what it does not know is a mistake with its place, and what nobody enforces is told
//! apart ([`Manifest::unsupported`]), so that whoever asks for it can deny. A key that is not there declares nothing.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use clawlock_policy::HostName;
use clawlock_policy::document::{FileAccess, HostDoc, ManifestDoc, RoleDoc};
use clawlock_policy::pattern::ToolPattern;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::text::quoted;
use read::{Fields, Node};

/// Most bytes of a manifest: some hundred hosts and tools, where real ones have ten. Everybody who may write ConfigMaps can
/// make the operator keep one of them each.
pub const MAX_MANIFEST: usize = 16 * 1024;

/// Key of a ConfigMap, and name of a file, of a manifest in JSON (RFC 8259).
pub const JSON: &str = "manifest.json";

/// The same in TOML 1.0.
pub const TOML: &str = "claw.toml";

/// The keys of a manifest that are enforced.
const KEYS: [&str; 7] = ["skill", "allowed_hosts", "file_access", "binary_access", "tool_scope", "on_failure", "roles"];

/// The keys that need the kernel, or a place of their own for each tool, and why they are not supported.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("allowed_binaries", "which programs run is not restricted by name here"),
    ("forbidden_syscalls", "system calls are not restricted one by one here"),
    ("writable_paths", "which files a program writes is not restricted here; say it with conditions on args.path"),
    ("env", "the environment of a tool is not restricted here"),
    ("input_schema", "arguments are not checked against a schema here; say it with conditions on args"),
    ("execution_mode", "tools have no place of their own to run in here"),
];

/// Longest name of a role in bytes: the longest that a client can send.
const MAX_ROLE: usize = 256;

/// The port of a host that names none.
const HTTPS: u16 = 443;

/// The keys that manifests have, for whoever guesses what was meant.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().chain(UNSUPPORTED.map(|(key, _)| key))
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is of.
    pub skill: String,
    /// Hosts and ports (`allowed_hosts`): exact, sorted, each once.
    pub hosts: Vec<(HostName, u16)>,
    /// Tools (`tool_scope`) by their exact names, sorted, each once; without the key, the one that `skill` names.
    pub tools: Vec<String>,
    /// What tools may do with files (`file_access`).
    pub files: FileAccess,
    /// Whether tools may run programs (`binary_access: all`).
    pub programs: bool,
    /// The tools that runs of a role keep (`roles`).
    pub roles: BTreeMap<String, Vec<String>>,
    /// What it says that nobody enforces.
    pub unsupported: Vec<Unsupported>,
}

/// Something in a manifest that nobody enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Where it stands.
    pub at: Place,
    /// The key.
    pub key: &'static str,
    /// Why not.
    pub why: &'static str,
}

/// A place in a text: from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Why a text is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {reason}", at.line, at.column)]
pub struct Mistake {
    /// Where.
    pub at: Place,
    /// What is wrong and what to do.
    pub reason: String,
    /// The key, when it is one that manifests do not have.
    pub unknown_key: Option<String>,
}

/// How a manifest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    Json,
    /// TOML.
    Toml,
}

impl Form {
    /// The form of a file, by the end of its name.
    #[must_use]
    pub fn of(file: &std::path::Path) -> Self {
        match file.extension() {
            Some(extension) if extension == "toml" => Self::Toml,
            _ => Self::Json,
        }
    }

    /// The key of a ConfigMap that has a manifest in this form.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Toml => TOML,
        }
    }
}

/// Reads a manifest.
///
/// # Errors
/// When it has more than [`MAX_MANIFEST`] bytes, is not in its form, has a key twice or one that manifests do not have,
/// or a value that cannot be one of its key.
pub fn parse(text: &str, form: Form) -> Result<Manifest, Mistake> {
    if text.len() > MAX_MANIFEST {
        return Err(Mistake::at_start(format!("more than {MAX_MANIFEST} bytes; a manifest has at most as many")));
    }
    let root = read::read(text, form)?;
    let known: Vec<&str> = keys().collect();
    let fields = Fields::of(text, &root, &known)?;
    let Some(skill) = fields.text("skill")? else {
        return Err(fields.mistake("there is no skill; write its name"));
    };
    let tools = match fields.get("tool_scope") {
        None => vec![tool(text, skill.node, skill.text)?],
        Some(_) => tools(text, &fields)?,
    };
    let mut unsupported = Vec::new();
    for (key, why) in UNSUPPORTED {
        unsupported.extend(fields.get(key).map(|entry| Unsupported { at: entry.place(text), key, why }));
    }
    let on_failure = fields.text("on_failure")?.filter(|on_failure| !["continue", "deny"].contains(&on_failure.text));
    unsupported.extend(on_failure.map(|on_failure| Unsupported {
        at: on_failure.node.place(text),
        key: "on_failure",
        why: "a call that fails is denied, and the agent goes on: write \"continue\"",
    }));
    unsupported.sort_by_key(|unsupported| unsupported.at);
    Ok(Manifest {
        skill: skill.text.to_owned(),
        hosts: hosts(text, &fields)?,
        roles: roles(text, &fields, &tools)?,
        tools,
        files: match fields.one_of("file_access", &["none", "read", "write"])? {
            Some("write") => FileAccess::Write,
            Some("read") => FileAccess::Read,
            _ => FileAccess::None,
        },
        programs: fields.one_of("binary_access", &["none", "all"])? == Some("all"),
        unsupported,
    })
}

impl Mistake {
    fn at_start(reason: String) -> Self {
        Self { at: Place { line: 1, column: 1 }, reason, unknown_key: None }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: Place { line, column }, key, why } = self;
        write!(f, "line {line}, column {column}: {key} is not supported: {why}")
    }
}

impl Manifest {
    /// The document for a pod. `name` is `namespace/name` of what it was read from.
    ///
    /// # Errors
    /// The first thing in it that nobody enforces: a pod that relies on it must not run without.
    pub fn document(self, name: String) -> Result<ManifestDoc, Unsupported> {
        let Self { skill: _, hosts, tools, files, programs, roles, unsupported } = self;
        if let Some(first) = unsupported.into_iter().next() {
            return Err(first);
        }
        let hosts = hosts.into_iter().map(|(host, port)| HostDoc { host: host.as_str().to_owned(), port });
        let roles = roles.into_iter().map(|(name, tools)| RoleDoc { name, tools });
        Ok(ManifestDoc { name, tools, hosts: hosts.collect(), files, programs, roles: roles.collect() })
    }
}

/// Reads the manifest of a ConfigMap. What else is in it says nothing.
///
/// # Errors
/// When it has none or two, or the one that it has cannot hold.
pub(crate) fn of_config_map(map: &ConfigMap) -> Result<ManifestDoc, String> {
    let named = |form: Form| Some((form, map.data.as_ref()?.get(form.key())?));
    let (form, text) = match (named(Form::Json), named(Form::Toml)) {
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Err(format!("it has neither {JSON} nor {TOML}; write one of them as text")),
        (Some(_), Some(_)) => return Err(format!("it has both {JSON} and {TOML}; remove one")),
    };
    let placed = |error: String| format!("{}, {error}", form.key());
    let manifest = parse(text, form).map_err(|mistake| placed(mistake.to_string()))?;
    let (namespace, name) = (map.metadata.namespace.as_deref(), map.metadata.name.as_deref());
    let name = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
    manifest.document(name).map_err(|unsupported| placed(format!("{unsupported}; remove it to run without")))
}

/// Hosts are exact: a pattern would reach more.
fn hosts(text: &str, fields: &Fields<'_>) -> Result<Vec<(HostName, u16)>, Mistake> {
    let mut hosts = BTreeSet::new();
    for host in fields.list("allowed_hosts")? {
        let (name, port) = match host.text.split_once(':') {
            None => (host.text, Some(HTTPS)),
            Some((name, port)) => (name, port.parse::<u16>().ok().filter(|port| *port > 0)),
        };
        let wrong = |reason: String| host.node.mistake(text, format!("{}: {reason}", quoted(host.text)));
        let port = port.ok_or_else(|| wrong("no port that exists follows the colon".to_owned()))?;
        hosts.insert((HostName::parse(name).map_err(|error| wrong(format!("no host name: {error}")))?, port));
    }
    Ok(hosts.into_iter().collect())
}

fn tools(text: &str, fields: &Fields<'_>) -> Result<Vec<String>, Mistake> {
    let names = fields.list("tool_scope")?;
    let names: BTreeSet<String> =
        names.into_iter().map(|name| tool(text, name.node, name.text)).collect::<Result<_, _>>()?;
    Ok(names.into_iter().collect())
}

/// A tool is named literally, since a `*` that was one letter would stand for any.
fn tool(text: &str, node: &Node, name: &str) -> Result<String, Mistake> {
    if name.contains('*') {
        let reason = format!("{}: write names without '*', which could stand for more here", quoted(name));
        return Err(node.mistake(text, reason));
    }
    match ToolPattern::parse(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(error) => Err(node.mistake(text, format!("{} is no name of a tool: {error}", quoted(name)))),
    }
}

/// A role names some of the manifest's tools. One that it does not have would look like a way to get it.
fn roles(text: &str, fields: &Fields<'_>, scope: &[String]) -> Result<BTreeMap<String, Vec<String>>, Mistake> {
    let Some(entry) = fields.get("roles") else { return Ok(BTreeMap::new()) };
    let mut roles = BTreeMap::new();
    for entry in Fields::any(text, &entry.value)?.entries() {
        let name = &entry.key;
        // It is compared with what clients send as the name of a role, and shown in denials.
        if name.is_empty() || name.len() > MAX_ROLE || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(entry.mistake(text, format!("{} is no name of a role", quoted(name))));
        }
        let role = Fields::of(text, &entry.value, &["tool_scope"])?;
        if role.get("tool_scope").is_none() {
            return Err(role.mistake("a role has a tool_scope; write [] for no tools"));
        }
        let tools = tools(text, &role)?;
        if let Some(more) = tools.iter().find(|tool| !scope.contains(tool)) {
            let reason = format!("role {} names {}, which tool_scope does not", quoted(name), quoted(more));
            return Err(entry.mistake(text, reason));
        }
        roles.insert(name.clone(), tools);
    }
    Ok(roles)
}

#[cfg(test)]
mod tests;
