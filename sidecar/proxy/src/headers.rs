//! What must not pass a gate in a request's or response's headers and query: fields of one connection
//! only, names that belong to the gates, claims about where a request came from, and every carrier in
//! which a client could send a credential of its own.
//!
//! Pure functions; nothing here decides or logs. A name is compared in one reading: servers and the
//! gateways in front of them treat `X_Api.Key` as `x-api-key`, so both are the same name here. Where a
//! harmless field looks like a credential it is taken off as well: the credential that an upstream
//! sees is the gateway's or none. The lists of words and exceptions stand in [`carrier`].

mod carrier;

use std::borrow::Cow;

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

pub use carrier::is_carrier;
use carrier::{is_subprotocol_carrier, takes_next};

/// Why a set of headers was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// `Connection` names a field that every recipient must see. Taking it off, as RFC 9110 section
    /// 7.6.1 asks, would let a client remove what the gates or the upstream rely on.
    #[error("the Connection header names {0:?}, which is not a field of one connection")]
    Nominated(String),
    /// `Connection` is not a list of tokens.
    #[error("the Connection header is not a list of field names")]
    Connection,
    /// A field with one value stands more than once, so that two readers could differ.
    #[error("the header {0} stands more than once")]
    Repeated(HeaderName),
}

/// Fields of one connection (RFC 9110 section 7.6.1, RFC 7230 appendix A, RFC 9113 section 8.2.2).
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Fields of one connection that the http crate has no constants for.
const HOP_BY_HOP_NAMES: [&str; 4] = ["keep-alive", "proxy-connection", "http2-settings", "proxy-authentication-info"];

/// Fields that `Connection` must not name, beside the prefixes of [`PROTECTED_PREFIXES`].
const PROTECTED: [&str; 16] = [
    "accept",
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "location",
    "origin",
    "range",
    "set-cookie",
    "user-agent",
    "via",
    "www-authenticate",
];

/// Families of fields that `Connection` must not name.
const PROTECTED_PREFIXES: [&str; 7] = ["accept-", "clawlock", "content-", "if-", "sec-", "x-forwarded-", "x-request-"];

/// Names that no check of this module takes off or refuses when they stand once.
const PLAIN: [HeaderName; 14] = [
    header::HOST,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::ORIGIN,
    header::SERVER,
    header::USER_AGENT,
    header::VARY,
];

/// Whether every field is one of [`PLAIN`] and stands once: most responses, and the requests of small
/// clients. Nothing but `Host` is then to be removed.
#[must_use]
pub fn are_plain(fields: &HeaderMap) -> bool {
    fields.len() == fields.keys_len() && fields.keys().all(|name| PLAIN.contains(name))
}

/// Takes off the fields of one connection, and those that `Connection` names. Of `TE` only `trailers`
/// stays, which gRPC needs.
///
/// # Errors
/// When `Connection` is malformed or names a field that is not of one connection.
pub fn strip_hop_by_hop(fields: &mut HeaderMap) -> Result<(), HeaderError> {
    for nominated in nominated(fields)? {
        fields.remove(nominated);
    }
    for name in &HOP_BY_HOP {
        fields.remove(name);
    }
    for name in HOP_BY_HOP_NAMES {
        fields.remove(name);
    }
    let trailers = fields.get_all(header::TE).iter().any(|value| {
        value.as_bytes().split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if trailers {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        fields.remove(header::TE);
    }
    Ok(())
}

/// The names in `Connection` that stand for a field to be removed. `TE` is judged on its own.
fn nominated(fields: &HeaderMap) -> Result<Vec<HeaderName>, HeaderError> {
    let mut names = Vec::new();
    for value in fields.get_all(header::CONNECTION) {
        for option in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
        {
            let name = HeaderName::from_bytes(option).map_err(|_| HeaderError::Connection)?;
            if is_protected(name.as_str()) {
                return Err(HeaderError::Nominated(name.as_str().to_owned()));
            }
            if name != header::TE {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn is_protected(name: &str) -> bool {
    let name = canonical(name);
    let hop = HOP_BY_HOP_NAMES.contains(&&*name) || HOP_BY_HOP.iter().any(|hop| hop.as_str() == name);
    !hop && (PROTECTED.contains(&&*name) || PROTECTED_PREFIXES.iter().any(|p| name.starts_with(p)) || is_carrier(&name))
}

/// Lower case, and `-` for every character that is not a letter or digit: the reading that servers
/// with a CGI-like interface make of a name.
fn canonical(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Cow::Borrowed(name);
    }
    let map = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    Cow::Owned(name.chars().map(map).collect())
}

/// Claims about who sent a request and from where. Only a proxy that the upstream trusts may make
/// them, and the agent is none. `Via` stays: it proves nothing to anybody and ends loops.
const FORWARDING: [&str; 16] = [
    "cf-connecting-ip",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "remote-addr",
    "remote-user",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-host",
    "x-originating-ip",
    "x-real-ip",
];

/// Fields by which servers replace the method or path that was decided.
const REWRITING: [&str; 9] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-rewrite-url",
    "x-envoy-original-path",
];

/// Families of the same two kinds.
const INTERNAL_PREFIXES: [&str; 4] = ["clawlock-", "x-clawlock-", "x-forwarded-", "x-remote-"];

/// Takes off the names that only the gates may use (in every spelling that a server could read as
/// one), claims about the origin of the request, and fields that would replace its method or path.
pub fn strip_internal(fields: &mut HeaderMap) {
    retain(fields, |name| {
        let name = canonical(name.as_str());
        name != "clawlock"
            && !FORWARDING.contains(&&*name)
            && !REWRITING.contains(&&*name)
            && !INTERNAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
}

/// Removes every field whose name does not pass; returns how many names went.
fn retain(fields: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> usize {
    let gone: Vec<HeaderName> = fields.keys().filter(|name| !keep(name)).cloned().collect();
    for name in &gone {
        fields.remove(name);
    }
    gone.len()
}

/// Takes off every header in which a client could send a credential of its own, the one that the
/// gateway itself will set included, and such values of `Sec-WebSocket-Protocol`. Returns how many
/// names and values went.
pub fn strip_carriers(fields: &mut HeaderMap, credential_header: Option<&HeaderName>) -> usize {
    let own = credential_header.map(|name| canonical(name.as_str()));
    let names = retain(fields, |name| {
        !is_carrier(name.as_str()) && own.as_deref().is_none_or(|own| own != canonical(name.as_str()))
    });
    names + strip_subprotocols(fields)
}

/// Browsers cannot set headers on a WebSocket, so some servers take a credential as a subprotocol:
/// `openai-insecure-api-key.VALUE`, `base64url.bearer.authorization.k8s.io.VALUE`, or `bearer, VALUE`.
fn strip_subprotocols(fields: &mut HeaderMap) -> usize {
    let Entry::Occupied(entry) = fields.entry(header::SEC_WEBSOCKET_PROTOCOL) else { return 0 };
    let (mut kept, mut gone, mut next) = (Vec::new(), 0, false);
    for value in entry.iter() {
        for protocol in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            // Bytes beyond ASCII are no token of a subprotocol (RFC 6455 section 4.1).
            let carrier = next || std::str::from_utf8(protocol).map_or(true, is_subprotocol_carrier);
            next = std::str::from_utf8(protocol).is_ok_and(takes_next);
            if carrier {
                gone += 1;
            } else {
                kept.push(protocol.to_vec());
            }
        }
    }
    if gone == 0 {
        return 0;
    }
    entry.remove_entry_mult();
    if !kept.is_empty() {
        // Parts of valid values, joined by valid characters, are a valid value.
        let value = HeaderValue::from_bytes(&kept.join(b", ".as_slice())).expect("made of valid header values");
        fields.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    gone
}

/// Takes off the query's parameters in which a client could send a credential of its own, unless
/// `keep` says of the decoded name that the operation declares it as an argument. The other
/// parameters stay byte for byte and in order.
///
/// `;` separates parameters here as well as `&`: some servers read it so, and a name that is hidden
/// behind it must not pass.
#[must_use]
pub fn strip_query_carriers<'a>(query: &'a str, keep: &dyn Fn(&str) -> bool) -> Cow<'a, str> {
    let carries = |parameter: &str| {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name).replace('+', " ");
        let name = percent_decode_str(&name).decode_utf8_lossy();
        is_carrier(&name) && !keep(&name)
    };
    if !query.split(['&', ';']).any(carries) {
        return Cow::Borrowed(query);
    }
    let mut kept = String::with_capacity(query.len());
    let mut first = true;
    let mut rest = query;
    let mut separator = "";
    loop {
        let end = rest.find(['&', ';']).unwrap_or(rest.len());
        let parameter = &rest[..end];
        if !carries(parameter) {
            if !first {
                kept.push_str(separator);
            }
            kept.push_str(parameter);
            first = false;
        }
        if end == rest.len() {
            return Cow::Owned(kept);
        }
        separator = &rest[end..=end];
        rest = &rest[end + 1..];
    }
}

/// Fields with one value on which a gate, a rule or the framing of a message rests.
const SINGLE: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::EXPECT,
    header::ORIGIN,
    header::RANGE,
    header::REFERER,
    header::SEC_WEBSOCKET_KEY,
    header::USER_AGENT,
];

/// Checks that no field with one value stands more than once, in any spelling of its name.
///
/// # Errors
/// Names the field.
pub fn check_single(fields: &HeaderMap) -> Result<(), HeaderError> {
    for single in &SINGLE {
        if fields.get_all(single).iter().nth(1).is_some() {
            return Err(HeaderError::Repeated(single.clone()));
        }
    }
    // `Content_Type` beside `Content-Type` is two readings too, and alone it hides one.
    for name in fields.keys() {
        if let Cow::Owned(name) = canonical(name.as_str())
            && let Some(single) = SINGLE.iter().find(|single| single.as_str() == name)
        {
            return Err(HeaderError::Repeated(single.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
