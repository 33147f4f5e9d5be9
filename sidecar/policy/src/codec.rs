//! The encoding of documents and assignments: JSON with a version, and nothing that is not understood.
//!
//! A reader refuses a version, a field or a variant that it does not know, because a part of a policy
//! that is silently dropped may be the part that forbids.

use aws_lc_rs::digest::{SHA256, digest as hash};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::{Assignment, Document, VERSION};
use crate::json;

/// Largest encoding of a document in bytes: ten thousand rules with room to spare.
pub const MAX_DOCUMENT: usize = 8 * 1024 * 1024;

/// Largest encoding of an assignment in bytes: its digests and a pod's labels.
pub const MAX_ASSIGNMENT: usize = 1024 * 1024;

/// The member that holds the version.
const VERSION_MEMBER: &str = "version";

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

/// Encodes a document. Equal documents have equal encodings.
#[must_use]
pub fn encode(document: &Document) -> Vec<u8> {
    write(document)
}

/// Decodes a document.
///
/// # Errors
/// When it is larger than [`MAX_DOCUMENT`], not strict JSON, of an unknown version, or has an unknown,
/// missing or ill-typed field.
pub fn decode(bytes: &[u8]) -> Result<Document, CodecError> {
    read(bytes, MAX_DOCUMENT, "document")
}

/// Encodes an assignment. Equal assignments have equal encodings.
#[must_use]
pub fn encode_assignment(assignment: &Assignment) -> Vec<u8> {
    write(assignment)
}

/// Decodes an assignment.
///
/// # Errors
/// As [`decode`], with [`MAX_ASSIGNMENT`].
pub fn decode_assignment(bytes: &[u8]) -> Result<Assignment, CodecError> {
    read(bytes, MAX_ASSIGNMENT, "assignment")
}

/// `sha256:` and the SHA-256 of the bytes in hex. A document's address is the digest of its encoding.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity("sha256:".len() + 64);
    text.push_str("sha256:");
    for &byte in hash(&SHA256, bytes).as_ref() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(HEX[usize::from(nibble)]));
        }
    }
    text
}

/// A value with its version, in the order of the fields: the encoding is a function of the value.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    value: &'a T,
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(&Versioned { version: VERSION, value }).expect("documents have string keys only")
}

fn read<T: DeserializeOwned>(bytes: &[u8], max: usize, what: &str) -> Result<T, CodecError> {
    let refuse = |reason: String| CodecError(format!("{what}: {reason}"));
    if bytes.len() > max {
        return Err(refuse(format!("{} bytes, more than the {max} that are read", bytes.len())));
    }
    let Value::Object(mut members) = json::parse(bytes).map_err(|error| refuse(error.to_string()))? else {
        return Err(refuse("not a JSON object".into()));
    };
    match members.remove(VERSION_MEMBER) {
        Some(version) if version == VERSION => {}
        Some(version) if version.is_u64() => {
            return Err(refuse(format!("version {version} is not known here, only {VERSION}; update this program")));
        }
        _ => return Err(refuse("no version".into())),
    }
    serde_json::from_value(Value::Object(members)).map_err(|error| refuse(error.to_string()))
}
