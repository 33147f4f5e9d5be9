//! What a pod declares that it needs, as it travels.

use serde::{Deserialize, Serialize};

/// The tool binding manifest of a pod: what it needs at most. An assignment has one or none. Whatever a manifest does
/// not declare is refused, also where policy allows it; it allows nothing. Not written when a pod has none: a reader
/// that does not know the kind refuses the document, and so denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestDoc {
    /// `namespace/name` of what it was read from.
    pub name: String,
    /// The tools, by their exact names.
    pub tools: Vec<String>,
    /// The places that requests go to.
    pub hosts: Vec<HostDoc>,
    /// What tools may do with files.
    pub files: FileAccess,
    /// Whether tools may run programs.
    pub programs: bool,
    /// What is left of the tools in runs that carry a role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleDoc>,
}

/// A place that requests go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostDoc {
    /// A host name; never a pattern.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What tools may do with files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileAccess {
    /// Nothing.
    #[default]
    None,
    /// Read them.
    Read,
    /// Read and change them.
    Write,
}

impl FileAccess {
    /// As it stands in a manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What is left of a manifest's tools in runs that carry a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleDoc {
    /// The role's name, unique within the manifest.
    pub name: String,
    /// The tools, by their exact names.
    pub tools: Vec<String>,
}
