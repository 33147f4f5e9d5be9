//! What a manifest document must be.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{At, MAX_PATTERNS, Result, assignment_error};
use crate::HostName;
use crate::document::{HostDoc, ManifestDoc, RoleDoc};
use crate::manifest::{MANIFEST, Manifest};
use crate::pattern::ToolPattern;

/// Reads the manifest of an assignment, if it has one.
pub(super) fn parse_manifest(docs: Vec<(ManifestDoc, Arc<str>)>) -> Result<Option<Manifest>> {
    let mut docs = docs.into_iter();
    let Some((doc, digest)) = docs.next() else { return Ok(None) };
    if docs.next().is_some() {
        return Err(assignment_error("it has more than one manifest"));
    }
    let ManifestDoc { name, tools, hosts, files, programs, roles } = doc;
    let object = format!("manifest {name}");
    let at = At { object: &object, rule: None };
    at.name(&name)?;
    if hosts.len().max(roles.len()) > MAX_PATTERNS {
        return at.refuse(format!("a list has at most {MAX_PATTERNS} entries"));
    }
    let host = |HostDoc { host, port }: &HostDoc| {
        if *port == 0 {
            return at.refuse("a port is from 1 to 65535");
        }
        Ok((HostName::parse(host).map_err(|error| at.error(format!("the host {host:?}: {error}")))?, *port))
    };
    let mut declared = HashMap::new();
    for RoleDoc { name, tools } in &roles {
        let at = At { object: &object, rule: Some(name) };
        at.name(name)?;
        if declared.insert(name.as_str().into(), exact(&at, tools)?).is_some() {
            return at.refuse("another role has the same name");
        }
    }
    Ok(Some(Manifest {
        name: format!("{MANIFEST}{name}").into(),
        digest,
        tools: exact(&at, &tools)?,
        hosts: hosts.iter().map(host).collect::<Result<_>>()?,
        files,
        programs,
        roles: declared,
    }))
}

/// Names of tools, which stand for nothing but themselves.
fn exact(at: &At<'_>, tools: &[String]) -> Result<HashSet<Box<str>>> {
    at.patterns(tools, ToolPattern::parse)?;
    if let Some(pattern) = tools.iter().find(|tool| tool.contains('*')) {
        return at.refuse(format!("{pattern:?} is a pattern; a manifest names each tool"));
    }
    Ok(tools.iter().map(|tool| tool.as_str().into()).collect())
}
