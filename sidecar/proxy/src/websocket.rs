//! WebSocket handshakes (RFC 6455 over HTTP/1.1, RFC 8441 over HTTP/2). Other upgrades are not carried:
//! `Upgrade` is hop-by-hop, so such a request goes on as plain HTTP.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use hyper::ext::Protocol;

/// The one protocol that streams are upgraded to.
pub(crate) const WEBSOCKET: &str = "websocket";

/// Whether an HTTP/1.1 request asks for a WebSocket. Without a key it does not, and goes on as plain HTTP.
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
        && request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
}

/// Whether an HTTP/2 request is the extended CONNECT of a WebSocket.
#[must_use]
pub(crate) fn is_extended_connect<B>(request: &Request<B>) -> bool {
    *request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

/// The gateway's own side of a handshake: the key that it sends and the answer that proves that the server
/// speaks WebSocket, and is not one that was made to echo `101` (RFC 6455 section 1.3).
pub(crate) struct Handshake {
    key: HeaderValue,
    accept: HeaderValue,
}

impl Handshake {
    /// A handshake with a fresh key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn new() -> Result<Self, &'static str> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| "no randomness for a WebSocket key")?;
        let key = HeaderValue::try_from(STANDARD.encode(nonce)).map_err(|_| "base64 is ASCII")?;
        let accept = accept(&key);
        Ok(Self { key, accept })
    }

    /// Writes the handshake into a request over HTTP/1.1.
    pub(crate) fn write(&self, fields: &mut HeaderMap) {
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        fields.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
    }

    /// Whether a `101` answers this handshake. Takes the proof off: it is this hop's alone.
    pub(crate) fn is_answered(&self, fields: &mut HeaderMap) -> bool {
        let protocol =
            fields.get(header::UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
        protocol && fields.remove(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|answer| answer == self.accept)
    }
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2).
pub(crate) fn accept(key: &HeaderValue) -> HeaderValue {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    HeaderValue::try_from(STANDARD.encode(context.finish())).expect("base64 is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
