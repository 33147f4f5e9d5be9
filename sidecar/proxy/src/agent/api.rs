//! The gate's own API, for the agent's pod alone, over a Unix socket or loopback: `/v1/decide`, and what the guard
//! plugin reports to it.
//!
//! An answer is 200; anything else means that nothing happened: no tool may run on it, and no report counts. The
//! listeners answer only requests that name them (DNS rebinding) and come from no web page.

use std::sync::Arc;

use bytes::Bytes;
use clawlock_policy::Code;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::AgentGate;
use crate::body::{GateBody, ReadError, read};
use crate::drain::Watcher;
use crate::limits::{BODY_TIMEOUT, DECIDE_REQUEST, REPORT_REQUEST};

/// Version of every request and answer.
pub const API_VERSION: u32 = 1;

/// What is asked for.
#[derive(Clone, Copy)]
enum Route {
    Decide,
    Heartbeat,
    Outcome,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/decide" => Some(Self::Decide),
            "/v1/heartbeat" => Some(Self::Heartbeat),
            "/v1/outcome" => Some(Self::Outcome),
            _ => None,
        }
    }

    /// Largest body.
    const fn limit(self) -> usize {
        match self {
            Self::Decide => DECIDE_REQUEST,
            Self::Heartbeat | Self::Outcome => REPORT_REQUEST,
        }
    }
}

/// Which listener a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Unix,
}

/// Why nothing happened.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    code: Code,
    pub(super) detail: String,
    #[serde(skip)]
    status: StatusCode,
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { kind: "https://clawlock.dev/bad-request", title, code: Code::BadRequest, detail: detail.into(), status }
    }

    /// A body that is not what its path takes.
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    }
}

/// Serves one connection.
pub(super) async fn serve<S>(gate: Arc<AgentGate>, stream: S, transport: Transport, drain: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    super::http::serve(stream, drain, move |request| {
        let gate = gate.clone();
        async move {
            match gate.answer(request, transport).await {
                Ok(answer) => json(StatusCode::OK, "application/json", answer),
                Err(problem) => {
                    let body = serde_json::to_vec(&problem).expect("a problem has only strings");
                    json(problem.status, "application/problem+json", body.into())
                }
            }
        }
    })
    .await;
}

fn json(status: StatusCode, kind: &'static str, body: Bytes) -> Response<GateBody> {
    let mut response = Response::new(GateBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl AgentGate {
    async fn answer(&self, request: Request<Incoming>, transport: Transport) -> Result<Bytes, Problem> {
        let (parts, body) = request.into_parts();
        check_origin(&parts.headers, transport)?;
        let Some(route) = Route::of(parts.uri.path()).filter(|_| parts.uri.query().is_none()) else {
            let detail = "the paths here are /v1/decide, /v1/heartbeat and /v1/outcome";
            return Err(Problem::new(StatusCode::NOT_FOUND, "Not found", detail));
        };
        if parts.method != Method::POST {
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "use POST"));
        }
        if !is_json(&parts.headers) {
            let detail = "the Content-Type must be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Wrong content type", detail));
        }
        let body = read(body, route.limit(), BODY_TIMEOUT, |_| true).await.map_err(|error| match error {
            ReadError::TooLarge(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", error.to_string()),
            ReadError::Timeout(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "Body too slow", error.to_string()),
            ReadError::Broken | ReadError::NoRoom => {
                Problem::new(StatusCode::BAD_REQUEST, "Body broke off", error.to_string())
            }
        })?;
        match route {
            Route::Decide => self.decide_once(&body).await,
            Route::Heartbeat => self.heartbeat(&body),
            Route::Outcome => self.outcome(&body).await,
        }
    }
}

fn is_json(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A page in a browser can reach loopback, but it always says where it comes from, or it reaches it
/// under the page's own name.
fn check_origin(fields: &HeaderMap, transport: Transport) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, "Refused", detail));
    if fields.contains_key(header::ORIGIN) || fields.contains_key("sec-fetch-site") {
        return refuse("web pages may not ask");
    }
    if transport == Transport::Unix {
        return Ok(());
    }
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if hosts.next().is_some() || !matches!(name, "127.0.0.1" | "[::1]" | "localhost") {
        return refuse("the Host must be 127.0.0.1, [::1] or localhost");
    }
    Ok(())
}

/// Checks the version of a body.
pub(super) fn check_version(version: u32) -> Result<(), Problem> {
    if version == API_VERSION {
        return Ok(());
    }
    Err(Problem::bad(format!("version: {version} is not known; this gate speaks {API_VERSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn class14_host_and_origin_matrix() {
        for host in ["127.0.0.1:15021", "localhost:15021", "[::1]:15021", "localhost"] {
            assert!(check_origin(&fields(&[("host", host)]), Transport::Tcp).is_ok(), "{host}");
            let with_origin = fields(&[("host", host), ("origin", "http://evil.example")]);
            assert!(check_origin(&with_origin, Transport::Tcp).is_err(), "{host}");
            let fetch = fields(&[("host", host), ("sec-fetch-site", "cross-site")]);
            assert!(check_origin(&fetch, Transport::Tcp).is_err(), "{host}");
        }
        for host in
            ["evil.example", "evil.example:15021", "localhost.evil.example", "0.0.0.0:15021", "127.0.0.1.evil:1", ""]
        {
            assert!(check_origin(&fields(&[("host", host)]), Transport::Tcp).is_err(), "{host}");
        }
        assert!(check_origin(&fields(&[]), Transport::Tcp).is_err());
        assert!(check_origin(&fields(&[]), Transport::Unix).is_ok());
        assert!(check_origin(&fields(&[("origin", "null")]), Transport::Unix).is_err());
    }
}
