//! Tool binding manifests: what one skill may do. Its tools are carried over. Its hosts are not: a policy opens a host to
//! the whole pod, and other skills in it would reach what only this one was to reach.

use super::source::{Fields, Source, tool_rules, tools};
use super::{AUTO, BLOCK, Imported, Mistakes, Policy, label, reach, upstream};
use crate::folder::Node;

const KEYS: [&str; 12] = [
    "skill",
    "allowed_hosts",
    "file_access",
    "binary_access",
    "tool_scope",
    "execution_mode",
    "on_failure",
    "allowed_binaries",
    "forbidden_syscalls",
    "writable_paths",
    "env",
    "input_schema",
];

/// OpenClaw's tools that change files, that read them, and that run programs.
const WRITING: [&str; 3] = ["apply_patch", "edit", "write"];
const READING: [&str; 4] = ["find", "grep", "ls", "read"];
const RUNNING: [&str; 3] = ["bash", "exec", "process"];

/// What needs the kernel, or a place of its own, and why it is not carried over.
const RESTRICTIONS: [(&str, &str); 7] = [
    ("allowed_binaries", "which programs run is not restricted by name here"),
    ("forbidden_syscalls", "system calls are not restricted one by one here"),
    ("writable_paths", "which files a program writes is not restricted here; say it with conditions on args.path"),
    ("env", "the environment of a tool is not restricted here"),
    ("input_schema", "arguments are not checked against a schema here; say it with conditions on args"),
    ("execution_mode", "tools have no place of their own to run in here"),
    ("on_failure", "what follows a failure is not said by a rule here"),
];

/// Why the hosts of a skill stay shut.
const ONE_SKILL: &str = "allowed_hosts: hosts are open to the whole pod here, not to one skill; write Auto if every tool of it may reach them";

/// Converts one.
pub(super) fn convert(source: &Source) -> Result<Imported, Mistakes> {
    let tree = source.tree()?;
    let root = Fields::of(source, &tree, &KEYS)?;
    let Some(skill) = root.text("skill")? else {
        return Err(source.mistake(tree.at(), "there is no skill; write its name"));
    };
    let scope = root.list("tool_scope")?;
    let own = [(root.get("skill").map_or(tree.at(), Node::at), skill)];
    let names =
        tools(source, if scope.is_empty() && root.get("tool_scope").is_none() { &own[..] } else { &scope[..] })?;
    let mut upstreams = Vec::new();
    for (at, host) in root.list("allowed_hosts")? {
        upstreams.push(upstream(host).map_err(|reason| source.mistake(at, reason))?);
    }
    upstreams.sort();
    upstreams.dedup();
    let mut refused: Vec<&str> = Vec::new();
    match root.one_of("file_access", &["none", "read", "write"])? {
        Some("none") => refused.extend(READING.iter().chain(&WRITING)),
        Some("read") => refused.extend(WRITING),
        _ => {}
    }
    if root.one_of("binary_access", &["none", "all"])? == Some("none") {
        refused.extend(RUNNING);
    }
    let refused: Vec<String> = refused.into_iter().map(str::to_owned).collect();
    let mut allowed = tool_rules("tools", &names, AUTO);
    let mut hosts = reach("hosts", &upstreams);
    hosts.iter_mut().for_each(|rule| rule.restrict(ONE_SKILL));
    allowed.extend(hosts);
    for (key, why) in RESTRICTIONS {
        if root.get(key).is_some() {
            allowed.iter_mut().for_each(|rule| rule.restrict(&format!("{key}: {why}")));
        }
    }
    let mut rules = tool_rules("refused-tools", &refused, BLOCK);
    rules.append(&mut allowed);
    Ok(Imported {
        upstreams,
        policies: vec![Policy { name: format!("skill-{}", label(skill)), rules }],
        ..Imported::default()
    })
}
