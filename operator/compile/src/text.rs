//! Forms of names, and lists of them.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

use clawlock_crds::bounds::{
    MAX_IMAGE, MAX_KEY, MAX_LABEL_VALUE, MAX_METHOD, MAX_NAME, MAX_OBJECT_NAME, MAX_OPERATION_NAME,
};

use clawlock_policy::codec;
use clawlock_policy::document::Document;

use crate::problem::Report;

/// Characters of a foreign text that a message repeats: enough to find it.
const MAX_QUOTED: usize = 80;

/// A foreign text in quotes, without control characters, cut to a bounded length.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for (index, character) in text.chars().enumerate() {
        if index == MAX_QUOTED {
            out.push('…');
            break;
        }
        if character.is_control() || matches!(character, '"' | '\\' | '\u{2028}' | '\u{2029}') {
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    out.push('"');
    out
}

/// A DNS label (RFC 1123): names of namespaces, rules and upstreams.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS subdomain: names of most objects.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    // Kubernetes bounds the whole name only, not its labels.
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_OBJECT_NAME && text.split('.').all(label)
}

/// A key of a Secret or ConfigMap.
pub(crate) fn is_data_key(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= MAX_KEY && text.bytes().all(allowed) && text != "." && !text.starts_with("..")
}

/// The name part of a label's key, or a label's value that is not empty.
fn is_qualified(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    text.len() <= MAX_LABEL_VALUE && edge(bytes.first()) && edge(bytes.last()) && text.bytes().all(inner)
}

/// A label's key: a name, after an optional DNS subdomain and a slash.
pub(crate) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_qualified(name),
        None => is_qualified(text),
    }
}

/// A label's value, which may be empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified(text)
}

/// A reference of an image: a name, an optional tag and an optional digest. Compared as text, so that more
/// than its form need not be known.
pub(crate) fn is_image(text: &str) -> bool {
    let (tagged, digest) = match text.split_once('@') {
        Some((tagged, digest)) => (tagged, Some(digest)),
        None => (text, None),
    };
    let digest_ok = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            let length = match algorithm {
                "sha256" => 64,
                "sha512" => 128,
                _ => return false,
            };
            hex.len() == length && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    });
    // A colon behind the last slash starts a tag, one before it the port of a registry.
    let (name, tag) = match tagged.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (tagged, None),
    };
    let tag_ok = tag.is_none_or(|tag| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let first = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        tag.len() <= 128 && tag.bytes().next().as_ref().is_some_and(first) && tag.bytes().all(inner)
    });
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let component = |part: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        edge(part.as_bytes().first()) && edge(part.as_bytes().last()) && part.bytes().all(inner)
    };
    text.len() <= MAX_IMAGE && digest_ok && tag_ok && name.split('/').all(component)
}

/// A method in upper case. Methods are case-sensitive (RFC 9110 section 9.1), and all registered ones
/// are written so: `get` would match nothing.
pub(crate) fn is_method(text: &str) -> bool {
    text.len() <= MAX_METHOD
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
}

/// Name of an operation: one or more segments between dots.
pub(crate) fn is_operation_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let segment = |part: &str| !part.is_empty() && !part.starts_with('-') && part.bytes().all(allowed);
    text.len() <= MAX_OPERATION_NAME && text.split('.').all(segment)
}

/// Bounds of a list and of each of its texts.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) items: usize,
    pub(crate) length: usize,
}

/// Parses a list that is a set: bounded, without duplicates, each item of its form. Too long a list is
/// not looked into, so that the work stays bounded too.
pub(crate) fn parse_set<T, E: Display>(
    report: &mut Report,
    path: &str,
    items: &[String],
    limits: Limits,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Vec<T> {
    let mut parsed = Vec::new();
    if items.len() > limits.items {
        report.error(path, format!("{} entries; at most {} are allowed", items.len(), limits.items));
        return parsed;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let at = format!("{path}[{index}]");
        if item.len() > limits.length {
            report.error(at, format!("{} bytes; at most {} are allowed", item.len(), limits.length));
        } else if !seen.insert(item) {
            report.error(at, format!("{} stands here twice; remove one", quoted(item)));
        } else {
            match parse(item) {
                Ok(value) => parsed.push(value),
                Err(reason) => {
                    let reason = reason.to_string();
                    // Some reasons repeat the text themselves.
                    let told = reason.contains(&format!("{item:?}"));
                    report.error(at, if told { reason } else { format!("{}: {reason}", quoted(item)) });
                }
            }
        }
    }
    parsed
}

/// Refuses an empty list that is set: it would match nothing.
pub(crate) fn refuse_empty(report: &mut Report, path: &str, items: &[String], hint: &str) {
    if items.is_empty() {
        report.error(path, format!("the list is empty; {hint}"));
    }
}

/// Refuses an object whose document is larger than a gate accepts. Lists within their bounds can still
/// add up to more than that.
pub(crate) fn refuse_oversize(report: &mut Report, document: &Document) {
    if report.is_invalid() {
        return;
    }
    let size = codec::encode(document).len();
    if size > codec::MAX_DOCUMENT {
        report.error(
            "spec",
            format!("{size} bytes as a document; at most {} are allowed, so split it", codec::MAX_DOCUMENT),
        );
    }
}
