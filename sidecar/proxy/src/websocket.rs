//! WebSocket handshakes (RFC 6455 over HTTP/1.1, RFC 8441 over HTTP/2). Other upgrades are not carried:
//! `Upgrade` is hop-by-hop, so such a request goes on as plain HTTP.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use hyper::ext::Protocol;

/// The one protocol that streams are upgraded to.
pub(crate) const WEBSOCKET: &str = "websocket";

/// Whether an HTTP/1.1 request asks for a WebSocket.
#[must_use]
pub(crate) fn is_upgrade<B>(request: &Request<B>) -> bool {
    let lists = |name, value: &str| {
        request
            .headers()
            .get_all(name)
            .iter()
            .filter_map(|field| field.to_str().ok())
            .any(|field| field.split(',').any(|item| item.trim().eq_ignore_ascii_case(value)))
    };
    request.version() == Version::HTTP_11
        && *request.method() == Method::GET
        && lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, WEBSOCKET)
}

/// Whether an HTTP/2 request is the extended CONNECT of a WebSocket.
#[must_use]
pub(crate) fn is_extended_connect<B>(request: &Request<B>) -> bool {
    *request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

/// Adds what an HTTP/1.1 handshake needs beside what the client sent.
///
/// # Errors
/// When there is no randomness for a key.
pub(crate) fn to_http1(fields: &mut HeaderMap) -> Result<(), &'static str> {
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    if !fields.contains_key(header::SEC_WEBSOCKET_KEY) {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| "no randomness")?;
        let key = HeaderValue::try_from(STANDARD.encode(nonce)).map_err(|_| "base64 is ASCII")?;
        fields.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    Ok(())
}
