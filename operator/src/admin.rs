//! `/healthz`, `/readyz` and `/metrics` of every role. They only read, take no input, and answer the same
//! to everyone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once: the kubelet's, a scraper's, a person's, with room.
const CONNECTIONS: usize = 32;
/// Longest that a connection may last; probes and scrapes take milliseconds.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Longest wait for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The media type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a role says of itself.
pub(crate) trait Health: Send + Sync + 'static {
    /// Why it can never work again without being restarted; `None` as long as it can.
    fn dead(&self) -> Option<String> {
        None
    }
    /// Why it cannot do its work now; `None` when it can.
    fn not_ready(&self) -> Option<String>;
    /// Its metrics in the OpenMetrics text format.
    fn metrics(&self) -> String;
}

/// Listens.
///
/// # Errors
/// When the address cannot be had.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("admin address {address}: {error}; pass another"))
}

/// Serves until it is dropped.
pub(crate) async fn serve<H: Health>(listener: TcpListener, health: Arc<H>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, _)) => {
                let health = health.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    // A connection that ends early is the peer's business.
                    let _ = tokio::time::timeout(CONNECTION_TIME, connection(tcp, health)).await;
                });
            }
            // Out of descriptors, say: the next one may succeed, but not at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection<H: Health>(tcp: TcpStream, health: Arc<H>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, health.as_ref());
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(tcp), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "an admin connection ended");
    }
}

fn answer<B, H: Health>(request: &Request<B>, health: &H) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => match health.dead() {
            None => text(StatusCode::OK, "ok\n".to_owned()),
            Some(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("dead: {why}\n")),
        },
        "/readyz" => match health.not_ready() {
            None => text(StatusCode::OK, "ready\n".to_owned()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/metrics" => {
            let mut response = text(StatusCode::OK, health.metrics());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(Option<&'static str>);

    impl Health for Fake {
        fn not_ready(&self) -> Option<String> {
            self.0.map(str::to_owned)
        }

        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }
    }

    fn status(method: Method, path: &str, health: &Fake) -> StatusCode {
        answer(&Request::builder().method(method).uri(path).body(()).unwrap(), health).status()
    }

    #[test]
    fn readiness_says_why_not() {
        assert_eq!(status(Method::GET, "/readyz", &Fake(None)), StatusCode::OK);
        assert_eq!(status(Method::GET, "/readyz", &Fake(Some("starting"))), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Method::GET, "/healthz", &Fake(Some("starting"))), StatusCode::OK);
    }

    #[test]
    fn only_three_pages_and_only_reading() {
        assert_eq!(status(Method::GET, "/metrics", &Fake(None)), StatusCode::OK);
        assert_eq!(status(Method::GET, "/", &Fake(None)), StatusCode::NOT_FOUND);
        assert_eq!(status(Method::POST, "/metrics", &Fake(None)), StatusCode::METHOD_NOT_ALLOWED);
    }
}
