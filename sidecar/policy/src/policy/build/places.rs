//! What an upstream document must be.

use std::sync::Arc;

use super::super::index::List;
use super::super::upstream::{Operation, UpstreamIndex};
use super::{At, Result};
use crate::document::{CredentialDoc, OperationDoc, Scheme};
use crate::pattern::{HostPattern, PathTemplate, check_operation_name};

/// Checks that an upstream is somewhere, and that its credential cannot go anywhere else.
pub(super) fn check_place(
    at: &At<'_>,
    scheme: Scheme,
    hosts: &[HostPattern],
    port: u16,
    credential: &CredentialDoc,
) -> Result<()> {
    if hosts.is_empty() || port == 0 {
        return at.refuse("an upstream has at least one host, and a port from 1 to 65535");
    }
    let secret = match credential {
        CredentialDoc::None {} => return Ok(()),
        CredentialDoc::Bearer { secret } => secret,
        CredentialDoc::Header { name, secret } => {
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return at.refuse(format!("{name:?} is no header name"));
            }
            secret
        }
        CredentialDoc::Basic { username, secret } => {
            // RFC 7617 section 2: a colon would move the border between name and password.
            if username.chars().any(|c| c == ':' || c.is_control()) {
                return at.refuse("a user name has no ':' and no control character");
            }
            secret
        }
    };
    if secret.name.is_empty() || secret.key.is_empty() {
        return at.refuse("a credential names a Secret and a key of it");
    }
    if scheme == Scheme::Http {
        return at.refuse("a credential is never sent in cleartext; use scheme https");
    }
    if let Some(host) = hosts.iter().find(|host| !host.is_exact()) {
        return at.refuse(format!("an upstream with a credential has no wildcard host such as {}", host.as_str()));
    }
    Ok(())
}

/// Parses and adds an operation.
pub(super) fn add_operation(index: &mut UpstreamIndex, object: &str, doc: OperationDoc) -> Result<()> {
    let OperationDoc { name, method, path, category, arguments } = doc;
    let object = format!("{object}, operation {name}");
    let at = At { object: &object, rule: None };
    check_operation_name(&name).map_err(|error| at.error(error))?;
    check_method(&at, &method)?;
    let template = PathTemplate::parse(&path).map_err(|error| at.error(error))?;
    if index.operations.iter().any(|other| *other.short == *name) {
        return at.refuse("another operation has the same name");
    }
    let mut declared: Vec<(Arc<str>, _)> = Vec::with_capacity(arguments.len());
    for argument in &arguments {
        at.name(&argument.name)?;
        declared.push((argument.name.as_str().into(), argument.kind));
    }
    declared.sort_by(|one, two| one.0.cmp(&two.0));
    if declared.windows(2).any(|pair| matches!(pair, [one, two] if one.0 == two.0)) {
        return at.refuse("an argument is declared twice");
    }
    let place = index.operations.len();
    let templates = index.templates.entry(method.as_str().into()).or_default();
    if let Err(other) = templates.insert(&template, place) {
        let other = index.operations.get(other).map_or("another", |other| &*other.short);
        return at.refuse(format!("operation {other} has the same method and a path of the same shape"));
    }
    index.operations.push(Operation {
        name: format!("{}.{name}", index.upstream.name).into(),
        short: name.into(),
        template,
        category: category.or(index.category),
        declared,
        arguments,
        rules: List::default(),
    });
    Ok(())
}

/// Methods are case-sensitive (RFC 9110 section 9.1): `get` would never match `GET`.
pub(super) fn check_method(at: &At<'_>, method: &str) -> Result<()> {
    if http::Method::from_bytes(method.as_bytes()).is_err() || method.bytes().any(|b| b.is_ascii_lowercase()) {
        return at.refuse(format!("{method:?} is no method in upper case"));
    }
    Ok(())
}
