//! The credential of an upstream: a union, of which exactly the field that `type` names is set.

use clawlock_crds::bounds::{MAX_HEADER_NAME, MAX_USERNAME};
use clawlock_crds::{BasicCredential, BearerCredential, Credential, CredentialType, HeaderCredential, SecretRef};
use clawlock_policy::document::{CredentialDoc, SecretKey};

use crate::problem::Report;
use crate::text::{is_data_key, is_dns_subdomain, quoted};

const PATH: &str = "spec.credential";

/// Headers that frame or route a request, or that the gates set themselves: a value that the gateway
/// adds there would change what was decided or how the response can be redacted.
const RESERVED_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Prefix of the gates' own headers.
const RESERVED_PREFIX: &str = "clawlock-";

/// Converts a credential; `None` where it is wrong, which was reported.
pub(crate) fn convert(report: &mut Report, credential: Option<&Credential>) -> Option<CredentialDoc> {
    let Some(credential) = credential else { return Some(CredentialDoc::None {}) };
    let Credential { kind, bearer, header, basic } = credential;
    let set = [
        ("bearer", bearer.is_some(), CredentialType::Bearer),
        ("header", header.is_some(), CredentialType::Header),
        ("basic", basic.is_some(), CredentialType::Basic),
    ];
    for (field, is_set, wanted) in set {
        if is_set && *kind != wanted {
            report.error(format!("{PATH}.{field}"), format!("type is {kind:?}, not {wanted:?}; change one of the two"));
        }
        if !is_set && *kind == wanted {
            report.error(format!("{PATH}.{field}"), format!("type is {kind:?}, which needs this field"));
        }
    }
    match kind {
        CredentialType::None => Some(CredentialDoc::None {}),
        CredentialType::Bearer => {
            let BearerCredential { secret_ref } = bearer.as_ref()?;
            Some(CredentialDoc::Bearer { secret: convert_ref(report, &format!("{PATH}.bearer"), secret_ref) })
        }
        CredentialType::Header => {
            let HeaderCredential { name, secret_ref } = header.as_ref()?;
            check_header(report, &format!("{PATH}.header.name"), name);
            let secret = convert_ref(report, &format!("{PATH}.header"), secret_ref);
            Some(CredentialDoc::Header { name: name.to_ascii_lowercase(), secret })
        }
        CredentialType::Basic => {
            let BasicCredential { username, secret_ref } = basic.as_ref()?;
            check_username(report, &format!("{PATH}.basic.username"), username);
            let secret = convert_ref(report, &format!("{PATH}.basic"), secret_ref);
            Some(CredentialDoc::Basic { username: username.clone(), secret })
        }
    }
}

fn convert_ref(report: &mut Report, path: &str, reference: &SecretRef) -> SecretKey {
    let SecretRef { name, key } = reference;
    if !is_dns_subdomain(name) {
        report.error(format!("{path}.secretRef.name"), format!("{} is no name of a Secret", quoted(name)));
    }
    if !is_data_key(key) {
        report.error(
            format!("{path}.secretRef.key"),
            format!("{} is no key: letters, digits, '-', '_' and '.', at most 253", quoted(key)),
        );
    }
    SecretKey { name: name.clone(), key: key.clone() }
}

fn check_header(report: &mut Report, path: &str, name: &str) {
    // RFC 9110 section 5.6.2.
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_HEADER_NAME || !name.bytes().all(token) {
        report.error(path, format!("{} is no name of a header; write one such as x-api-key", quoted(name)));
    } else if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with(RESERVED_PREFIX) {
        report.error(
            path,
            format!("{} frames or routes a request and cannot carry a credential; use another header", quoted(name)),
        );
    }
}

fn check_username(report: &mut Report, path: &str, username: &str) {
    // RFC 7617 section 2.
    let wrong = |c: char| c == ':' || c.is_control();
    if username.is_empty() || username.chars().count() > MAX_USERNAME || username.contains(wrong) {
        report.error(
            path,
            format!(
                "{} is no user name: 1 to {MAX_USERNAME} characters, no colon, no control character",
                quoted(username)
            ),
        );
    }
}
