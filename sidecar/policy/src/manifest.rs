//! Manifests: what a pod declares that it needs. They are compared before any rule is asked, and can only refuse.
//!
//! Hosts and tools are compared by name. What a tool does with files, and whether it runs programs, nobody can tell from
//! its arguments alone: [`file_access_of`] and [`runs_programs`] know it of OpenClaw's own tools, by name, and count a tool
//! that could do either for both. Of other tools, such as those of MCP servers, their name in the manifest is all there is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::document::FileAccess;
use crate::{Action, HostName, Policy, RuleRef, ToolAction};

/// OpenClaw's tools that read files.
const READING: [&str; 7] = ["dir_fetch", "dir_list", "file_fetch", "find", "grep", "ls", "read"];
/// Those that change files.
const WRITING: [&str; 4] = ["apply_patch", "edit", "file_write", "write"];
/// Those that run programs or code, which can read and change whatever the agent can.
const RUNNING: [&str; 6] = ["bash", "code_execution", "exec", "process", "terminal", "tool_search_code"];
/// Those that take files along, or act on another machine, and whose arguments do not tell which files.
const CARRYING: [&str; 5] = ["browser", "canvas", "message", "nodes", "portal"];

/// What a tool may do with files, as far as that is known by its name; `None`: it is none of OpenClaw's file tools.
#[must_use]
pub fn file_access_of(tool: &str) -> Option<FileAccess> {
    if WRITING.contains(&tool) || RUNNING.contains(&tool) || CARRYING.contains(&tool) {
        return Some(FileAccess::Write);
    }
    READING.contains(&tool).then_some(FileAccess::Read)
}

/// Whether a tool is one of OpenClaw's that run programs or code.
#[must_use]
pub fn runs_programs(tool: &str) -> bool {
    RUNNING.contains(&tool)
}

/// The tools of [`file_access_of`], sorted.
#[must_use]
pub fn file_tools() -> Vec<&'static str> {
    let mut all = [&READING[..], &WRITING, &RUNNING, &CARRYING].concat();
    all.sort_unstable();
    all
}

/// What the name of a manifest starts with where rules are named.
pub(crate) const MANIFEST: &str = "manifest/";

/// The manifest of a pod.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// [`MANIFEST`], then `namespace/name`.
    pub(crate) name: Arc<str>,
    /// Of its document.
    pub(crate) digest: Arc<str>,
    pub(crate) tools: HashSet<Box<str>>,
    pub(crate) hosts: HashSet<(HostName, u16)>,
    pub(crate) files: FileAccess,
    pub(crate) programs: bool,
    pub(crate) roles: HashMap<Box<str>, HashSet<Box<str>>>,
}

/// Why an action is not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undeclared<'a> {
    /// A request to another host or port.
    Host,
    /// Another tool.
    Tool,
    /// A tool that does more with files.
    Files { needs: FileAccess, has: FileAccess },
    /// A tool that runs programs.
    Programs,
    /// A tool that runs of this role do not have.
    Role(&'a str),
}

impl Manifest {
    /// Why it does not declare an action; `None`: it does.
    fn refuses(&self, action: &Action<'_>) -> Option<Undeclared<'static>> {
        let tool = match action {
            Action::Http(http) => {
                let declared = self.hosts.contains(&(http.host.clone(), http.port));
                return (!declared).then_some(Undeclared::Host);
            }
            Action::Tool(tool) => tool.name,
        };
        if !self.tools.contains(tool) {
            return Some(Undeclared::Tool);
        }
        if runs_programs(tool) && !self.programs {
            return Some(Undeclared::Programs);
        }
        let needs = file_access_of(tool).filter(|needs| *needs > self.files);
        needs.map(|needs| Undeclared::Files { needs, has: self.files })
    }

    /// What a refusal names as its rule: the key of the manifest.
    pub(crate) fn reference(&self, undeclared: &Undeclared<'_>) -> RuleRef {
        let key = match undeclared {
            Undeclared::Host => "allowed_hosts",
            Undeclared::Tool => "tool_scope",
            Undeclared::Files { .. } => "file_access",
            Undeclared::Programs => "binary_access",
            Undeclared::Role(_) => "roles",
        };
        RuleRef { policy: self.name.clone(), rule: key.into(), digest: self.digest.clone() }
    }
}

impl Policy {
    /// Why an action is not declared; `None`: it is, or the pod has no manifest. The role of a run, which the agent states
    /// itself, narrows what is declared; a role that is declared nowhere has no tools.
    pub(crate) fn undeclared<'a>(&self, action: &Action<'a>) -> Option<Undeclared<'a>> {
        let manifest = self.manifest();
        if let Some(undeclared) = manifest.and_then(|manifest| manifest.refuses(action)) {
            return Some(undeclared);
        }
        let Action::Tool(ToolAction { name, args: _, claims }) = action else { return None };
        let role = claims.role?;
        let left = manifest.and_then(|manifest| manifest.roles.get(role));
        let declared = left.is_some_and(|tools| tools.contains(*name));
        (!declared).then_some(Undeclared::Role(role))
    }
}
